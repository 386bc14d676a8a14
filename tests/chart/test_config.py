"""The configuration in the values is the program's own: checked as strictly, and handed over as it was written."""

import re
from copy import deepcopy
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pydantic import BaseModel

from config import yaml_document
from config.loader import load
from config.settings import Settings
from config.sinks import AnySink
from config.sources import AnySource
from tests.chart.conftest import Rendered
from tests.chart.generated_files import CASES, values_of
from tests.chart.manifests import laid_over, of_kind, only, workload
from tests.servers.certificates import make_certificates
from tests.servers.helm import CHART, Helm, HelmRefusedError

Values = dict[str, Any]
_ON_THE_VOLUME = {"ledger": {"path": "/var/lib/lineage-collector/lineage.db"}}
_OURS = {
    "http": {"listen": "0.0.0.0:17817"},
    "control_socket": "/tmp/lineage-collector.sock",
}


def _config(objects: list[dict[str, Any]]) -> str:
    name = workload(objects)["metadata"]["name"]
    [found] = of_kind(objects, "ConfigMap", name)
    return str(found["data"]["config.yaml"])


@cache
def _certificate() -> str:
    with TemporaryDirectory() as folder:
        return make_certificates(Path(folder)).ca.read_text()


def _loaded(text: str, folder: Path, monkeypatch: pytest.MonkeyPatch) -> Settings:
    """By the program, with each file and variable that the text refers to."""
    for name in re.findall(r"\$\{env:(\w+)\}", text):
        monkeypatch.setenv(name, "http://proxy.example.com:3128" if "PROXY" in name else "s3cret-value")
    for place in ("/run/secrets", "/etc/lineage-collector-ca"):
        for path in re.findall(rf"{place}/[\w./-]+", text):
            file = folder / path.lstrip("/")
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(_certificate() if file.suffix in {".crt", ".pem"} else "s3cret-value")
        text = text.replace(place, str(folder / place.lstrip("/")))
    config = folder / "config.yaml"
    config.write_text(text)
    return load(config)


@pytest.mark.parametrize("case", CASES)
def test_the_program_reads_what_the_values_say(
    rendered: Rendered, case: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    values = yaml.safe_load(values_of(case).read_text())
    said = laid_over({"stop_within": "25s", "sinks": []}, values["config"])
    if "url" not in said.get("ledger", {}):
        said = laid_over(said, _ON_THE_VOLUME)
    handed_over = _config(rendered(case))
    shared = "caBundle" in values or "proxy" in values
    if not shared and "web" not in values:
        assert yaml.safe_load(handed_over) == laid_over(said, _OURS)
    there = _loaded(handed_over, tmp_path, monkeypatch).public()
    here = _loaded(yaml.safe_dump(laid_over(said, _OURS)), tmp_path, monkeypatch).public()
    if shared:
        for settings_ in (there, here):
            for target in (*settings_["sources"], *settings_["sinks"]):
                del target["network"]
        if case == "postgres":
            assert there["ledger"].pop("url").startswith(here["ledger"].pop("url"))
    if "web" in values:
        del there["http"], here["http"]
    assert there == here


def test_authorities_and_proxy_are_defaults(helm: Helm, minimal: Values) -> None:
    values = laid_over(
        minimal, {"caBundle": {"existingConfigMap": "ca"}, "proxy": {"url": "http://p.example.com:3128"}}
    )
    own = {"proxy": "http://other.example.com:1", "ca_file": "/etc/ssl/own.pem", "headers": {"X-Team": "data"}}
    values["config"]["sources"].append({**values["config"]["sources"][0], "name": "b", "network": own})
    kafka = {"type": "kafka", "bootstrap_servers": "k.example.com:9092"}
    values["config"]["sinks"] += [
        {**kafka, "name": "clear"},
        {**kafka, "name": "switched", "tls": True},
        {**kafka, "name": "off", "tls": False},
        {**kafka, "name": "own", "tls": {"ca_file": "/etc/ssl/own.pem"}},
    ]
    made = yaml.safe_load(_config(helm.objects(values)))
    first, second = made["sources"]
    assert first["network"] == {"ca_file": "/etc/lineage-collector-ca/ca.crt", "proxy": "http://p.example.com:3128"}
    assert second["network"] == own
    sinks = {sink["name"]: sink for sink in made["sinks"]}
    assert sinks["marquez"]["network"] == {"ca_file": "/etc/lineage-collector-ca/ca.crt"}
    assert "tls" not in sinks["clear"]
    assert sinks["off"]["tls"] is False
    assert sinks["switched"]["tls"] == {"ca_file": "/etc/lineage-collector-ca/ca.crt"}
    assert sinks["own"]["tls"] == {"ca_file": "/etc/ssl/own.pem"}


_TRAPS = ["no", "yes", "on", "off", "~", "null", "true", "1", "1.0", "1e3", "0x1F", "0o17", "1_000", "12:30", "2026-01-31", ".inf", "=", "-", "?", "|", ">", "!", "&", "*", "%", "@", "`", "#", ":", ","]  # fmt: skip
_TRAPS += [
    "# no comment",
    "a: b",
    "- x",
    " outside ",
    "{{ .Values }}",
    "{",
    "[",
    "'",
    '"',
    "\\",
    "back\\slash",
    "a\nb\n",
    "\u2028é😀",
]


@settings(max_examples=6, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    texts=st.lists(
        st.sampled_from(_TRAPS) | st.text(st.characters(codec="utf-8", exclude_categories=("Cc", "Cs")), min_size=1),
        min_size=30,
        max_size=60,
    )
)
def test_every_text_arrives_as_it_was_written(helm: Helm, tmp_path: Path, minimal: Values, texts: list[str]) -> None:
    """Through Helm's YAML and the program's, which take different words for numbers and truth values."""
    values = deepcopy(minimal)
    values["config"]["sources"][0]["include"] = [*_TRAPS, *texts]
    file = tmp_path / "config.yaml"
    file.write_text(_config(helm.objects(values)), encoding="utf-8")
    document = yaml_document.read(file)
    assert document.mistakes == []
    assert document.values["sources"][0]["include"] == [*_TRAPS, *texts]


def test_numbers_arrive_as_they_were_written(helm: Helm, minimal: Values) -> None:
    values = laid_over(minimal, {"config": {"ledger": {"max_size": 1_500_000_001}}})
    values["config"]["sources"][0] |= {"project": 12345678901, "burst": 1000}
    made = yaml.safe_load(_config(helm.objects(values)))
    assert made["ledger"]["max_size"] == 1_500_000_001
    assert {key: made["sources"][0][key] for key in ("project", "burst")} == {
        "project": 12345678901, "burst": 1000,
    }  # fmt: skip


@pytest.mark.parametrize(
    ("written", "seconds"),
    [("25s", 35), ("1m30s", 100), ("500ms", 11), ("1h", 3610), ("1d", 86410), ("2m1s1ms", 132), (None, 35)],
)
def test_one_value_sets_how_long_stopping_takes(helm: Helm, minimal: Values, written: str | None, seconds: int) -> None:
    if written:
        minimal["config"]["stop_within"] = written
    pod = only(helm.objects(minimal), "StatefulSet")["spec"]["template"]["spec"]
    assert pod["terminationGracePeriodSeconds"] == seconds


_CHANGES: list[tuple[str, str]] = [
    ("config.sinks.0.ulr=x", r"config\.sinks\[0\]\.ulr is not a known key; did you mean url\?"),
    (
        "config.sources.0.auth.client_idd=x",
        r"config\.sources\[0\]\.auth\.client_idd is not a known key; did you mean client_id\?",
    ),
    ("config.sources.0.poll_interval=5", r"/config/sources/0/poll_interval.*string"),
    (
        "config.sources.0.poll_interval=5 minutes",
        r"sources\[0\]\.poll_interval: \"5 minutes\" cannot be used here: write",
    ),
    ("config.stop_wihtin=5s", r"config\.stop_wihtin is not a known key; did you mean stop_within\?"),
    ("config.log.level=loud", r"/config/log/level.*debug"),
    ("config.sinks.0.concurrency=1000", r"/config/sinks/0/concurrency"),
    (
        "config.sinks.0.url=marquez:5000",
        r"config\.sinks\[0\]\.url: what is written there cannot be used here: `http://",
    ),
]


@pytest.mark.parametrize(("change", "words"), _CHANGES)
def test_a_typo_in_the_configuration_is_refused_with_its_place(
    helm: Helm, minimal: Values, change: str, words: str
) -> None:
    *parents, last = change.partition("=")[0].split(".")
    text = change.partition("=")[2]
    node: Any = minimal
    for step in parents:
        node = node[int(step)] if isinstance(node, list) else node.setdefault(step, {})
    node[last] = int(text) if text.isdecimal() else text
    with pytest.raises(HelmRefusedError, match=f"(?s){words}"):
        helm.template(minimal)


def test_the_linter_and_an_installation_refuse_it_too(helm: Helm) -> None:
    typo: list[str | Path] = ["--values", values_of("minimal"), "--set", "config.stop_wihtin=5s"]
    for done in (helm("lint", CHART, *typo), helm("install", "lineage", CHART, "--dry-run=client", *typo)):
        assert done.returncode == 1
        assert "config.stop_wihtin is not a known key; did you mean stop_within?" in done.stdout + done.stderr


def test_every_key_that_holds_a_secret_is_watched_for_literals() -> None:
    text = (CHART / "templates" / "_refusals.tpl").read_text()
    watched = re.search(r'"lineage-collector.secretKeys" -}}([a-z_ ]+)\{', text)
    assert watched
    assert set(watched[1].split()) == set(_with_file(Settings)) == set(_with_file(AnySource)) | set(_with_file(AnySink))


def _with_file(model: Any) -> set[str]:
    """The keys, at any depth, that have a twin with _file."""
    found: set[str] = set()
    for inner in _models(model):
        fields = inner.model_fields
        found |= {name for name in fields if f"{name}_file" in fields}
    return found


def _models(annotation: Any) -> set[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        inner = (field.annotation for field in annotation.model_fields.values())
        return {annotation, *(model for each in inner for model in _models(each))}
    return {model for each in getattr(annotation, "__args__", ()) for model in _models(each)}


_CDF = {
    "name": "a", "platform": "cdf", "project": "a", "base_url": "https://c.example",
    "auth": {"provider": "entra", "tenant": "t", "client_id": "c", "client_secret_file": "/run/secrets/cdf/client-secret"},
}  # fmt: skip
_REFUSED: dict[str, tuple[Values, list[str]]] = {
    "no source": ({"config": {"sources": []}}, ["config.sources is empty"]),
    "where the ledger is": ({"config": {"ledger": {"path": "x.db"}}}, ["config.ledger.path is set by the chart"]),
    "where it listens": ({"config": {"http": {"listen": "127.0.0.1:1"}}}, ["config.http.listen", "use web.address and web.port"]),
    "its web file": ({"config": {"http": {"web_config_file": "/x"}}}, ["use web.tlsSecret and web.configSecret"]),
    "its socket": ({"config": {"control_socket": "/x"}}, ["config.control_socket is set by the chart"]),
    "the same by a variable": (
        {"extraEnv": [{"name": "LINEAGE_COLLECTOR__STOP_WITHIN", "value": "1h"}]}, ["extraEnv: LINEAGE_COLLECTOR__STOP_WITHIN"]
    ),
    "a file that cannot be written": (
        {"config": {"sinks": [{"name": "f", "type": "file", "path": "/events.ndjson"}]}}, ["/events.ndjson of f", "use a relative path"]
    ),
    "one above the volume": (
        {"config": {"sinks": [{"name": "f", "type": "file", "path": "/tmp/../events.ndjson"}]}}, ["events.ndjson of f"]
    ),
    "a secret that nobody sets": (
        {"config": {"sinks": [{"name": "m", "type": "marquez", "url": "http://m", "api_key": "${env:NOPE}"}]}},
        ["config refers to ${env:NOPE}", "add secrets.env.NOPE"],
    ),
    "a proxy that nobody sets": ({"proxy": {"url": "${env:NOPE}"}}, ["config refers to ${env:NOPE}"]),
    "a file that nobody mounts": ({"secrets": {"files": []}}, ["/run/secrets/cdf/client-secret", "with the name cdf"]),
    "a file that is not among the items": (
        {"secrets": {"files": [{"existingSecret": "c", "name": "cdf", "items": [{"key": "a", "path": "client_secret"}]}]}},
        ["/run/secrets/cdf/client-secret"],
    ),
    "a folder twice": (
        {"secrets": {"files": [{"existingSecret": "a", "name": "cdf"}, {"existingSecret": "cdf"}]}}, ["the folder cdf is in use already"]
    ),
    "our folder": ({"secrets": {"files": [{"existingSecret": "web-tls"}]}}, ["the folder web-tls is in use already"]),
    "a variable twice": (
        {"secrets": {"env": {"A": {"existingSecret": "a", "key": "b"}}}, "extraEnv": [{"name": "A", "value": "b"}]},
        ["secrets.env.A is in extraEnv too"],
    ),
    "a ledger larger than its volume": ({"config": {"ledger": {"max_size": "5GiB"}}}, ["5GiB", "4Gi (persistence.size)"]),
    "one as large as its volume": ({"config": {"ledger": {"max_size": "4GiB"}}}, ["4GiB", "a quarter more"]),
    "two sources of a name": ({"config": {"sources": [_CDF, {**_CDF, "project": "b"}]}}, ["config.sources: two have the name a"]),
    "two sinks of a name": (
        {"config": {"sinks": [{"name": "f", "type": "file", "path": "a"}, {"name": "f", "type": "file", "path": "b"}]}},
        ["config.sinks: two have the name f"],
    ),
    "or than the disk lent": (
        {"persistence": {"enabled": False, "emptyDirSize": "512Mi"}}, ["1GiB", "512Mi (persistence.emptyDirSize)"]
    ),
    "a backup to nowhere": ({"backup": {"enabled": True}}, ["backup.existingClaim is empty"]),
    "a backup beside the ledger": (
        {"backup": {"enabled": True, "existingClaim": "a"}, "persistence": {"existingClaim": "a"}}, ["the ledger's own"]
    ),
    "a backup of no volume": (
        {"backup": {"enabled": True, "existingClaim": "a"}, "persistence": {"enabled": False}}, ["backup: without a volume"]
    ),
    "a backup of what one pod has": (
        {"backup": {"enabled": True, "existingClaim": "a"}, "persistence": {"accessModes": ["ReadWriteOncePod"]}},
        ["ReadWriteOncePod lets no second pod"],
    ),
    "two bundles": ({"caBundle": {"existingConfigMap": "a", "existingSecret": "b"}}, ["caBundle: give either"]),
    "a certificate of nobody": ({"web": {"certificate": {"enabled": True}}}, ["web.certificate.issuerRef.name is missing"]),
    "a proxy for nobody": (
        {"proxy": {"url": "http://p:1", "sinks": ["nope"]}}, ["proxy.sinks: nope is not a sink that is reached over HTTP"]
    ),
    "no proxy for somebody": ({"proxy": {"sinks": ["marquez"]}}, ["proxy.url is empty"]),
    "two monitors": (
        {"serviceMonitor": {"enabled": True}, "podMonitor": {"enabled": True}}, ["scraped and counted twice: disable one"]
    ),
    "an ingress for no host": ({"ingress": {"enabled": True}}, ["ingress.hosts is empty"]),
    "a route from nowhere": ({"httpRoute": {"enabled": True}}, ["httpRoute.parentRefs is empty"]),
    "two pods on a volume": ({"replicas": 2}, ["replicas: 2 pods cannot share a ledger on a volume", "config.ledger.url"]),
    "no update of a StatefulSet": ({"updateStrategy": {"type": "Recreate"}}, ["Recreate is for a ledger in PostgreSQL"]),
    "a password for a file": (
        {"config": {"ledger": {"password_file": "/run/secrets/cdf/a"}}}, ["config.ledger.password_file is for a ledger in PostgreSQL"]
    ),
    "a ledger in two places": (
        {"config": {"ledger": {"url": "postgresql://h/d", "path": "x.db"}}}, ["config.ledger has both path and url"]
    ),
    "a database of another kind": ({"config": {"ledger": {"url": "mysql://h/d"}}}, ["not the address of a database in PostgreSQL"]),
    "no database": ({"config": {"ledger": {"url": "postgresql://h"}}}, ["not the address of a database in PostgreSQL"]),
    "an address from a variable": (
        {"extraEnv": [{"name": "LINEAGE_COLLECTOR__LEDGER__URL", "value": "postgresql://h/d"}]}, ["extraEnv: LINEAGE_COLLECTOR__LEDGER__URL"]
    ),
    "PostgreSQL and a volume": (
        {"config": {"ledger": {"url": "postgresql://h/d"}}, "persistence": {"enabled": True}}, ["persistence: with the ledger in PostgreSQL"]
    ),
    "PostgreSQL and a claim": (
        {"config": {"ledger": {"url": "postgresql://h/d"}}, "persistence": {"existingClaim": "a"}}, ["persistence: with the ledger"]
    ),
    "PostgreSQL and a backup of a file": (
        {"config": {"ledger": {"url": "postgresql://h/d"}}, "backup": {"enabled": True, "existingClaim": "a"}},
        ["backup: the ledger is in PostgreSQL"],
    ),
    "PostgreSQL and pods replaced by hand": (
        {"config": {"ledger": {"url": "postgresql://h/d"}}, "updateStrategy": {"type": "OnDelete"}}, ["use RollingUpdate or Recreate"]
    ),
    "events on the disk of a pod": (
        {"config": {"ledger": {"url": "postgresql://h/d"}, "sinks": [{"name": "f", "type": "file", "path": "events.ndjson"}]}},
        ["events.ndjson of f", "lost with the pod"],
    ),
    "an authority that nobody mounts": (
        {"config": {"ledger": {"url": "postgresql://h/d?sslmode=verify-full&sslrootcert=/run/secrets/pg/ca.crt"}}},
        ["/run/secrets/pg/ca.crt", "with the name pg"],
    ),
    "a budget of several that blocks drains": (
        {"config": {"ledger": {"url": "postgresql://h/d"}}, "replicas": 3, "podDisruptionBudget": {"maxUnavailable": 0}},
        ["may block every drain"],
    ),
    "a budget that blocks drains": ({"podDisruptionBudget": {"enabled": True, "minAvailable": 1}}, ["block every drain"]),
    "another": ({"podDisruptionBudget": {"enabled": True, "maxUnavailable": 0}}, ["block every drain"]),
    "a third": ({"podDisruptionBudget": {"enabled": True, "maxUnavailable": "50%"}}, ["block every drain"]),
}  # fmt: skip


@pytest.mark.parametrize("case", _REFUSED)
def test_what_cannot_work_is_refused_in_words(helm: Helm, minimal: Values, case: str) -> None:
    change, words = _REFUSED[case]
    with pytest.raises(HelmRefusedError) as refused:
        helm.template(laid_over(minimal, change))
    assert "These values cannot work" in str(refused.value)
    for part in words:
        assert part in str(refused.value)


@pytest.mark.parametrize("url", ["postgresql://me:hunter2@h/d", "postgresql://h/d?sslmode=require&password=hunter2"])
def test_a_password_in_the_address_of_the_ledger_is_refused_and_not_repeated(
    helm: Helm, minimal: Values, url: str
) -> None:
    with pytest.raises(HelmRefusedError, match=r"config\.ledger\.url contains a password") as refused:
        helm.template(laid_over(minimal, {"config": {"ledger": {"url": url}}}))
    assert "hunter2" not in str(refused.value)


def test_the_bundle_verifies_postgresql_where_that_is_wanted(helm: Helm, minimal: Values) -> None:
    """Libpq knows no authorities of the system's beside it."""

    def handed_over(url: str) -> str:
        values = laid_over(minimal, {"config": {"ledger": {"url": url}}, "caBundle": {"existingConfigMap": "ca"}})
        return str(yaml.safe_load(_config(helm.objects(values)))["ledger"]["url"])

    ca = "sslrootcert=/etc/lineage-collector-ca/ca.crt"
    assert handed_over("postgresql://h/d?sslmode=verify-full") == f"postgresql://h/d?sslmode=verify-full&{ca}"
    for own in (
        "postgresql://h/d",
        "postgresql://h/d?sslmode=require",
        "postgresql://h/d?sslrootcert=system&sslmode=verify-full",
    ):
        assert handed_over(own) == own


def test_all_that_cannot_work_is_reported_at_once(helm: Helm, minimal: Values) -> None:
    several = ("where it listens", "two bundles", "two monitors")
    for name in several:
        minimal = laid_over(minimal, _REFUSED[name][0])
    with pytest.raises(HelmRefusedError) as refused:
        helm.template(minimal)
    assert all(words in str(refused.value) for name in several for words in _REFUSED[name][1])


@pytest.mark.parametrize(
    ("change", "key"),
    [
        ({"proxy": {"url": "http://me:hunter2@proxy:3128"}}, "proxy.url"),
        ({"config": {"sinks": [{"name": "m", "type": "marquez", "url": "http://me:hunter2@m:1"}]}}, "config.sinks[0].url"),
        ({"config": {"sinks": [{"name": "m", "type": "marquez", "url": "http://m:1?key=hunter2"}]}}, "config.sinks[0].url"),
        (
            {"config": {"sinks": [{"name": "m", "type": "marquez", "url": "http://m", "network": {"proxy": "http://a:hunter2@p"}}]}},
            "config.sinks[0].network.proxy",
        ),
    ],
)  # fmt: skip
def test_a_credential_in_a_url_is_refused_and_not_repeated(
    helm: Helm, minimal: Values, change: Values, key: str
) -> None:
    with pytest.raises(HelmRefusedError) as refused:
        helm.template(laid_over(minimal, change))
    assert f"{key} contains a credential" in str(refused.value)
    assert "hunter2" not in str(refused.value)


@pytest.mark.parametrize(
    ("place", "key"),
    [
        (("sources", {"name": "w", "platform": "wetransform", "tenant": "t", "token": "hunter2-hunter2"}), "sources[0].token"),
        (("sources", {"name": "p", "platform": "mine", "namespace": "m", "options": {"deep": [{"password": "hunter2-hunter2"}]}}), "options.deep[0].password"),
        (("sinks", {"name": "m", "type": "marquez", "url": "http://m:1", "api_key": "hunter2-hunter2"}), "sinks[0].api_key"),
        (("hints", {"bootstrap_servers": ["k:9092"], "sasl": {"mechanism": "PLAIN", "username": "u", "password": "hunter2-hunter2"}}), "hints.sasl.password"),
        (("ledger", {"url": "postgresql://u@h/d", "password": "hunter2-hunter2"}), "config.ledger.password"),
    ],
)  # fmt: skip
def test_a_secret_itself_is_refused_and_not_repeated(
    helm: Helm, minimal: Values, place: tuple[str, Values], key: str
) -> None:
    many = place[0] in {"sources", "sinks"}
    minimal["config"][place[0]] = [place[1]] if many else place[1]
    with pytest.raises(HelmRefusedError) as refused:
        helm.template(minimal)
    assert f"{key} contains the secret itself" in str(refused.value)
    assert "hunter2" not in str(refused.value)
