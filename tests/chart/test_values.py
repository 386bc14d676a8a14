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
    ({"image": {"tga": "1"}}, "/image.*'tga' not allowed"),
    ({"imagePullSecrets": ["name"]}, "/imagePullSecrets/0"),
    ({"persistance": {"size": "1Gi"}}, "'persistance' not allowed"),
    ({"persistence": {"size": "lots"}}, "/persistence/size"),
    ({"persistence": {"accessModes": ["ReadOnlyMany"]}}, "/persistence/accessModes/0"),
    ({"image": {"digest": "sha256:abc"}}, "/image/digest"),
    ({"web": {"port": 80}}, "/web/port.*1,?024"),
    ({"web": {"port": "17817"}}, "/web/port.*got string"),
    ({"livenessProbe": {"failureThresold": 3}}, "'failureThresold' not allowed"),
    ({"serviceMonitor": {"interval": "30 s"}}, "/serviceMonitor/interval"),
    ({"secrets": {"files": [{"name": "cdf"}]}}, "missing property 'existingSecret'"),
    ({"secrets": {"env": {"A-B": {"existingSecret": "a", "key": "b"}}}}, "/secrets/env.*'A-B' not allowed"),
    ({"networkPolicy": {"egress": {"cidrs": ["10.0.0.0"]}}}, "/networkPolicy/egress/cidrs/0"),
    ({"podLabels": {"number": 7}}, "/podLabels/number.*want string"),
    ({"proxy": {"url": "proxy:3128"}}, "/proxy/url"),
    ({"backup": {"schedule": "every night"}}, "/backup/schedule"),
    ({"podLabels": {"team": "data lineage"}}, "/podLabels/team"),
    ({"commonLabels": {"-team": "data"}}, "/commonLabels.*'-team' not allowed"),
    ({"persistence": {"labels": {"team": "x" * 64}}}, "/persistence/labels/team"),
    ({"nodeSelector": {"disk": "a/b"}}, "/nodeSelector/disk"),
    ({"persistence": {"storageClass": "Fast SSD"}}, "/persistence/storageClass"),
    ({"resources": {"limits": {"memmory": "1Gi"}}}, "/resources/limits.*'memmory' not allowed"),
    ({"resources": {"requests": {"cpu": "much"}}}, "/resources/requests/cpu"),
    ({"ingress": {"hosts": ["https://hints.example"]}}, "/ingress/hosts/0"),
    ({"httpRoute": {"hostnames": ["hints_example"]}}, "/httpRoute/hostnames/0"),
    ({"ingress": {"tls": [{"hosts": ["Hints.example"]}]}}, "/ingress/tls/0/hosts/0"),
]


@pytest.mark.parametrize(("change", "words"), _BAD)
def test_a_bad_value_is_refused_with_its_place(
    helm: Helm, minimal: dict[str, Any], change: dict[str, Any], words: str
) -> None:
    with pytest.raises(HelmRefusedError, match=f"(?s){words}"):
        helm.template(laid_over(minimal, change))


def test_as_a_part_of_another_chart(helm: Helm, minimal: dict[str, Any]) -> None:
    """Whose conditions and globals reach us."""
    assert helm.template({**minimal, "enabled": True, "global": {"imageRegistry": "", "storageClass": "x"}})
