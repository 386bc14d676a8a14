"""Every value is documented, known to the schema, used by a template and tried in a case; none does nothing."""

import json
import re
from collections.abc import Iterator
from typing import Any

import pytest
import yaml

from tests.chart.generated_files import CASES, README, SCHEMA, values_of
from tests.chart.manifests import laid_over, leaves
from tests.servers.helm import CHART, Helm, HelmRefusedError

VALUES = CHART / "values.yaml"
_DEFAULTS: dict[str, Any] = yaml.safe_load(VALUES.read_text())
_WHOLE = (
    "config",
    "podSecurityContext",
    "securityContext",
    "startupProbe",
    "livenessProbe",
    "readinessProbe",
    "updateStrategy",
    "dashboards.labels",
)
"""Described and handed on as one, so what is inside is Kubernetes' or the program's."""
_RULES = "prometheusRule.rules."


def _documented() -> dict[str, str]:
    """Each key with the comment above it."""
    lines = VALUES.read_text().splitlines()
    found: dict[str, str] = {}
    for path, line in _keys(yaml.compose(VALUES.read_text())):
        above = line - 1
        while above >= 0 and lines[above].lstrip().startswith("#"):
            above -= 1
        found[path] = "\n".join(text.strip() for text in lines[above + 1 : line])
    return found


def _keys(node: Any, prefix: str = "") -> Iterator[tuple[str, int]]:
    for key, value in node.value:
        path = f"{prefix}{key.value}"
        yield path, key.start_mark.line
        if isinstance(value, yaml.MappingNode):
            yield from _keys(value, f"{path}.")


def _settable() -> list[str]:
    """Paths of values that stand for themselves."""
    paths = {path for path, _ in leaves(_DEFAULTS) if not path.startswith((*(f"{name}." for name in _WHOLE), _RULES))}
    return sorted(paths | set(_WHOLE))


@pytest.mark.parametrize("path", _settable())
def test_a_value_is_documented(path: str) -> None:
    comment = _documented()[path]
    assert re.search(r"^# -- \w|^# -- `", comment, re.MULTILINE), f"no comment with # -- above {path}"
    described = re.search(rf"^\| {re.escape(path)} \|[^|]*\|.*\| (.+) \|$", README.read_text(), re.MULTILINE)
    assert described, f"{path} is not in the table of README.md, or without its text: run make chart"


def test_the_schema_knows_every_value_and_no_other() -> None:
    schema = json.loads(SCHEMA.read_text())
    known = set(_known(schema["properties"], schema["$defs"]))
    given = {path for path in _settable() if path not in _WHOLE} | set(_WHOLE)
    assert given - known == set()
    only_there = {path for path in known - given if not path.startswith(_RULES)}
    assert only_there <= {"enabled", "podDisruptionBudget.minAvailable", *_OPTIONAL}


_OPTIONAL = {
    "web.certificate.issuerRef.name", "web.certificate.issuerRef.kind", "web.certificate.issuerRef.group",
    "resources.requests", "resources.limits", "resources.claims",
}  # fmt: skip


def _known(properties: dict[str, Any], definitions: dict[str, Any], prefix: str = "") -> Iterator[str]:
    for name, schema in properties.items():
        path = f"{prefix}{name}"
        inner = schema.get("properties")
        if path in _WHOLE or not inner:
            yield path
        else:
            if path in {"resources", "web.certificate.issuerRef"}:
                yield path
            yield from _known(inner, definitions, f"{path}.")


def test_every_value_is_used() -> None:
    """A template that names a mapping hands it on as a whole, or names its parts too."""
    texts = [path.read_text() for path in (CHART / "templates").rglob("*") if path.is_file()]
    named = {match for text in texts for match in re.findall(r"\.Values\.([A-Za-z0-9_.]+)", text)}
    named |= _by_variable(texts)
    unused = [path for path in _settable() if not any(path == each or path.startswith(f"{each}.") for each in named)]
    assert unused == []


def test_a_value_that_is_named_is_there() -> None:
    texts = [path.read_text() for path in (CHART / "templates").rglob("*") if path.is_file()]
    known = {path for path, _ in leaves(_DEFAULTS)} | set(_documented())
    named = {match.rstrip(".") for text in texts for match in re.findall(r"\.Values\.([A-Za-z0-9_.]+)", text)}
    inner = {name for name in named if name.startswith(("config.", "resources.", "web.certificate.issuerRef."))}
    assert named - inner - known == set()


def _by_variable(texts: list[str]) -> set[str]:
    """What is used as `$policy.egress.to` after `$policy := .Values.networkPolicy`, or as `.monitor.interval`."""
    found: set[str] = set()
    for text in texts:
        for name, path in re.findall(r"\$(\w+) := \.Values\.(\w+) ", text):
            found |= {f"{path}.{rest}" for rest in re.findall(rf"\${name}\.([\w.]+)", text)}
        for rest in re.findall(r"\.monitor\.(\w+)", text):
            found |= {f"serviceMonitor.{rest}", f"podMonitor.{rest}"}
    return found


def test_every_value_is_tried_in_a_case() -> None:
    tried: set[str] = set()
    for case in CASES:
        values = yaml.safe_load(values_of(case).read_text())
        tried |= {path for path, value in leaves(values)} | {path.rpartition(".")[0] for path, _ in leaves(values)}
    others = ("prometheusRule.", "dashboards.")
    missing = [
        path
        for path in _settable()
        if not path.startswith(others) and not any(each == path or each.startswith(f"{path}.") for each in tried)
    ]
    assert missing == []


def test_every_case_says_what_it_is_for() -> None:
    assert [case for case in CASES if not values_of(case).read_text().startswith("# ")] == []


_BAD: list[tuple[dict[str, Any], str]] = [
    ({"image": {"tga": "1"}}, "image.tga is not a known key; did you mean tag?"),
    ({"imagePullSecrets": ["name"]}, "at '/imagePullSecrets/0': got string, want object"),
    ({"persistance": {"size": "1Gi"}}, "persistance is not a known key; did you mean persistence?"),
    ({"replicaCount": 3}, "replicaCount is not a known key; did you mean replicas?"),
    (
        {"web": {"xyz": 1}},
        "web.xyz is not a known key; here are address, certificate, configSecret, credentialsSecret, port, tls",
    ),
    ({"persistence": {"size": "lots"}}, 'persistence.size: "lots" cannot be used here: write for example 4Gi or 500Mi'),
    ({"persistence": {"accessModes": ["ReadOnlyMany"]}}, "at '/persistence/accessModes/0': value must be one of"),
    ({"image": {"digest": "sha256:abc"}}, 'image.digest: "sha256:abc" cannot be used here: write for example sha256:'),
    ({"image": {"tag": "1.2+x"}}, 'image.tag: "1.2+x" cannot be used here: write for example 1.0.0'),
    ({"web": {"port": 80}}, "at '/web/port': minimum: got 80, want 1,024"),
    ({"web": {"port": "17817"}}, "at '/web/port': got string, want integer"),
    (
        {"web": {"address": "300.1.1.1"}},
        'web.address: "300.1.1.1" cannot be used here: write for example 0.0.0.0 or [::]',
    ),
    (
        {"livenessProbe": {"failureThresold": 3}},
        "livenessProbe.failureThresold is not a known key; did you mean failureThreshold?",
    ),
    ({"livenessProbe": {"successThreshold": 2}}, "livenessProbe.successThreshold: Kubernetes takes nothing but 1 here"),
    (
        {"serviceMonitor": {"interval": "30 s"}},
        'serviceMonitor.interval: "30 s" cannot be used here: write for example 30s or 1m',
    ),
    (
        {"serviceMonitor": {"namespace": "a.b"}},
        'serviceMonitor.namespace: "a.b" cannot be used here: write for example monitoring',
    ),
    ({"secrets": {"files": [{"name": "cdf"}]}}, "missing property 'existingSecret'"),
    (
        {"secrets": {"env": {"A-B": {"existingSecret": "a", "key": "b"}}}},
        "secrets.env: A-B cannot be a name here: write for example MARQUEZ_API_KEY",
    ),
    (
        {"networkPolicy": {"egress": {"cidrs": ["10.0.0.0/8", "10.0.0.0"]}}},
        'cidrs[1]: "10.0.0.0" cannot be used here: write for example 10.0.0.0/8',
    ),
    (
        {"networkPolicy": {"egress": {"cidrs": ["fd00::/8", "300.0.0.0/8"]}}},
        'cidrs[1]: "300.0.0.0/8" cannot be used here: write for example 10.0.0.0/8',
    ),
    ({"podLabels": {"number": 7}}, "at '/podLabels/number': got number, want string"),
    ({"podAnnotations": {"a b": "x"}}, "podAnnotations: a b cannot be a name here: write for example example.com/team"),
    (
        {"proxy": {"url": "user:geheim@proxy"}},
        "proxy.url: what is written there cannot be used here: write for example http://proxy.example.com:3128",
    ),
    (
        {"backup": {"schedule": "every night"}},
        'backup.schedule: "every night" cannot be used here: write for example 17 3 * * * or @daily',
    ),
    (
        {"podLabels": {"team": "data lineage"}},
        'podLabels.team: "data lineage" cannot be used here: write for example data-lineage',
    ),
    ({"commonLabels": {"-team": "data"}}, "commonLabels: -team cannot be a name here: write for example team"),
    ({"persistence": {"labels": {"team": "x" * 64}}}, "persistence.labels.team: "),
    ({"nodeSelector": {"disk": "a/b"}}, 'nodeSelector.disk: "a/b" cannot be used here'),
    (
        {"persistence": {"storageClass": "Fast SSD"}},
        'persistence.storageClass: "Fast SSD" cannot be used here: write for example fast or -',
    ),
    (
        {"resources": {"limits": {"memmory": "1Gi"}}},
        "resources.limits: memmory cannot be a name here: write for example cpu or memory",
    ),
    ({"resources": {"requests": {"cpu": "much"}}}, 'resources.requests.cpu: "much" cannot be used here'),
    (
        {"resources": {"limits": {"memory": "16Mi"}}},
        "resources.limits.memory: with 16Mi the program would be ended before it is ready: give it 384Mi",
    ),
    ({"resources": {"limits": {"memory": "512m"}}}, "resources.limits.memory: with 512m the program would be ended"),
    ({"resources": {"limits": {"cpu": "10m"}}}, "resources.limits.cpu: with 10m the program would not be ready"),
    (
        {"resources": {"limits": {"memory": "0.5Gi"}, "requests": {"memory": "600Mi"}}},
        "resources.requests.memory: 600Mi is more than the limit, 0.5Gi",
    ),
    ({"extraContainers": [{"name": "a.b", "image": "x"}]}, 'extraContainers[0].name: "a.b" cannot be used here'),
    (
        {"ingress": {"hosts": ["https://hints.example"]}},
        'ingress.hosts[0]: "https://hints.example" cannot be used here: write for example hints.example.com',
    ),
    ({"httpRoute": {"hostnames": ["hints_example"]}}, 'httpRoute.hostnames[0]: "hints_example" cannot be used here'),
    (
        {"ingress": {"tls": [{"hosts": ["Hints.example"]}]}},
        'ingress.tls[0].hosts[0]: "Hints.example" cannot be used here',
    ),
    (
        {"prometheusRule": {"interval": "soon"}},
        'prometheusRule.interval: "soon" cannot be used here: write for example 30s or 1m',
    ),
    (
        {"prometheusRule": {"rules": {"LineageRunStael": {}}}},
        "LineageRunStael is not a known key; did you mean LineageRunStale?",
    ),
    (
        {"config": {"sinks": [{"name": "a b", "type": "marquez", "url": "http://a"}]}},
        'config.sinks[0].name: "a b" cannot be used here: Your name for this sink',
    ),
    (
        {"config": {"sinks": [{"name": "k", "type": "kafka", "bootstrap_servers": "a:9", "topic": "a b"}]}},
        "It must match ^[A-Za-z",
    ),
    (
        {"secrets": {"files": [{"existingSecret": "cdf", "items": [{"key": "client-secret", "path": "../cdf"}]}]}},
        "secrets.files: ../cdf of client-secret leaves the folder cdf: write a path within it, such as client-secret",
    ),
    (
        {"web": {"certificate": {"enabled": True, "issuerRef": {"name": "x"}, "duration": "30m"}}},
        "web.certificate.duration: 30m is shorter than the hour that cert-manager requires: write for example 2160h",
    ),
    ({"config": {"stop_within": "5 min"}}, 'config.stop_within: "5 min" cannot be used here: write for example 30s or'),
    (
        {"config": {"ledger": {"max_size": "12 quintals"}}},
        'config.ledger.max_size: "12 quintals" cannot be used here: write for example 512KiB or',
    ),
    (
        {"config": {"hints": {"topik": "x", "bootstrap_servers": "a:9092"}}},
        "config.hints.topik is not a known key; did you mean topic?",
    ),
    ({"config": {"sinks": [{"name": "a", "type": "marquez", "urll": "http://a"}]}}, "config.sinks[0].url is missing"),
    (
        {"config": {"sinks": [{"name": "a", "type": "marquez", "urll": "http://a"}]}},
        "config.sinks[0].urll is not a known key; did you mean url?",
    ),
    (
        {"config": {"sinks": [{"name": "a", "type": "marqez", "url": "http://a"}]}},
        'config.sinks[0].type: "marqez" is not built in; did you mean marquez?',
    ),
    (
        {"config": {"sources": [{"name": "a", "platform": "cfd", "project": "a"}]}},
        'config.sources[0].platform: "cfd" is not built in; did you mean cdf?',
    ),
    (
        {"config": {"sinks": [{"name": "k", "type": "kafka", "bootstrap_servers": "a:9092", "tls": {"ca_fle": "x"}}]}},
        "config.sinks[0].tls.ca_fle is not a known key; did you mean ca_file?",
    ),
]


@pytest.mark.parametrize(("change", "words"), _BAD)
def test_a_bad_value_is_refused_with_its_place(
    helm: Helm, minimal: dict[str, Any], change: dict[str, Any], words: str
) -> None:
    with pytest.raises(HelmRefusedError) as refused:
        helm.template(laid_over(minimal, change))
    assert words in str(refused.value)
    assert "geheim" not in str(refused.value)
    assert str(refused.value).count("\n  - ") <= 2, "nothing else is said"


@pytest.mark.parametrize(
    ("schedule", "field"),
    [
        ("*/15 0-23/2 1,15 jan-MAR mon-fri", None),
        ("0 0 31 12 0", None),
        ("@weekly", None),
        ("99 3 * * *", "99"),
        ("0 24 * * *", "24"),
        ("0 0 0 * *", "0"),
        ("0 0 * 13 *", "13"),
        ("0 0 * * 7", "7"),
        ("0 mon * * *", "mon"),
        ("30-10 3 * * *", "30-10"),
        ("*/0 3 * * *", "*/0"),
    ],
)
def test_a_schedule_that_never_comes_is_refused_with_its_field(
    helm: Helm, minimal: dict[str, Any], schedule: str, field: str | None
) -> None:
    values = minimal | {"backup": {"enabled": True, "existingClaim": "backups", "schedule": schedule}}
    if field is None:
        assert f"schedule: {json.dumps(schedule)}" in helm.template(values)
        return
    with pytest.raises(HelmRefusedError) as refused:
        helm.template(values)
    assert f'backup.schedule: {field} in "{schedule}" cannot be the ' in str(refused.value)


def test_as_a_part_of_another_chart(helm: Helm, minimal: dict[str, Any]) -> None:
    """Whose conditions and globals reach us."""
    assert helm.template({**minimal, "enabled": True, "global": {"imageRegistry": "", "storageClass": "x"}})
