"""Values that are allowed and that nobody thinks of: names that YAML reads as something else, defaults taken away."""

import json
from collections import defaultdict
from copy import deepcopy
from functools import reduce
from itertools import zip_longest
from typing import Any

import pytest
import yaml
from jsonschema import Draft7Validator

from tests.chart.generated_files import HELM_SCHEMA
from tests.chart.manifests import Object, collector, laid_over, only
from tests.servers.helm import CHART, Helm, HelmRefusedError, parsed

Values = dict[str, Any]
_DEFAULTS: Values = yaml.safe_load((CHART / "values.yaml").read_text())
_SCHEMA = Draft7Validator(json.loads(HELM_SCHEMA.read_text()))
_ALL_KINDS: Values = {
    "serviceMonitor": {"enabled": True},
    "prometheusRule": {"enabled": True},
    "dashboards": {"enabled": True},
    "networkPolicy": {"enabled": True},
    "podDisruptionBudget": {"enabled": True},
    "ingress": {"enabled": True, "hosts": ["hints.example"]},
    "httpRoute": {"enabled": True, "parentRefs": [{"name": "gateway"}]},
    "web": {"certificate": {"enabled": True, "issuerRef": {"name": "ours"}}},
}
_NO_NAMES = "0123", "456", "1e5", "0x1f", "on", "null", "2026-11-22"
"""Names for Kubernetes; numbers, truths, nothing and a day for YAML."""


def _of_these(name: str) -> Values:
    """Each value that is a name is this one."""
    return {
        "namespaceOverride": name,
        "nameOverride": name,
        "fullnameOverride": "collector",
        "secrets": {
            "files": [{"existingSecret": name, "name": "cdf"}],
            "env": {"NO": {"existingSecret": name, "key": name}},
        },
        "caBundle": {"existingConfigMap": name, "key": name},
        "web": {"tlsSecret": name, "configSecret": name, "credentialsSecret": name},
        "persistence": {"storageClass": name},
        "serviceAccount": {"create": True, "name": name},
        "priorityClassName": name,
        "runtimeClassName": name,
        "ingress": {"enabled": True, "hosts": [name], "className": name},
        "networkPolicy": {"enabled": True, "ingress": {"namespaces": [name]}},
        "serviceMonitor": {"enabled": True, "namespace": name},
        "prometheusRule": {"enabled": True, "namespace": name},
        "dashboards": {"enabled": True, "namespace": name, "folder": name},
        "commonLabels": {"team": name},
    }


def _no_texts(node: Any, path: str = "") -> list[str]:
    """Places of names and labels that are no text."""
    found = []
    if isinstance(node, dict):
        for key, value in node.items():
            here = f"{path}.{key}"
            named = key.endswith(("name", "Name", "namespace", "key")) or path.endswith(
                ("abels", "annotations", "elector")
            )
            if named and not isinstance(value, str | dict | list):
                found.append(f"{here}: {value!r}")
            found += _no_texts(value, here)
    elif isinstance(node, list):
        for item in node:
            found += [f"{path}[]: {item!r}"] if item is None else _no_texts(item, f"{path}[]")
    return found


def _faults(objects: list[Object]) -> list[str]:
    return [f"{each['kind']} {place}" for each in objects for place in _no_texts(each)]


@pytest.mark.parametrize("name", _NO_NAMES)
def test_a_name_stays_a_name(helm: Helm, minimal: Values, name: str) -> None:
    objects = helm.objects(laid_over(minimal, _of_these(name)), "--namespace", name, release=name)

    assert _faults(objects) == []
    assert {each["metadata"]["labels"]["app.kubernetes.io/instance"] for each in objects} == {name}
    assert only(objects, "StatefulSet")["metadata"]["namespace"] == name
    own = laid_over(
        minimal, {"persistence": {"existingClaim": name}, "serviceAccount": {"create": False, "name": name}}
    )
    assert _faults(helm.objects(own)) == []


@pytest.mark.parametrize(
    ("release", "values"),
    [
        ("123", {}),
        ("my.release", {}),
        ("lineage", {"fullnameOverride": "Lineage"}),
        ("lineage", {"fullnameOverride": "a.b"}),
        ("lineage", {"nameOverride": "line_age"}),
    ],
)
def test_a_name_that_no_service_can_have_is_refused(helm: Helm, minimal: Values, release: str, values: Values) -> None:
    with pytest.raises(HelmRefusedError, match=r"cannot be the name of a Service.*fullnameOverride"):
        helm.template(laid_over(minimal, values), release=release)


@pytest.mark.parametrize("tag", ["v1_", "a" * 62 + ".b"])
def test_any_tag_makes_a_label(helm: Helm, minimal: Values, tag: str) -> None:
    objects = helm.objects(laid_over(minimal, {"image": {"tag": tag}}))

    label = only(objects, "StatefulSet")["metadata"]["labels"]["app.kubernetes.io/version"]
    assert label[-1].isalnum()
    assert len(label) <= 63


def _without(values: Values, path: str) -> Values:
    changed = deepcopy(values)
    *parents, last = path.split(".")
    place = changed
    for parent in parents:
        place = place.setdefault(parent, {})
    place[last] = None
    return changed


def _paths(values: Values, prefix: str = "") -> list[str]:
    found = []
    for key, value in values.items():
        path = prefix + key
        found.append(path)
        if isinstance(value, dict) and path != "config" and not path.startswith("prometheusRule.rules.LineageR"):
            found += _paths(value, f"{path}.")
    return found


_TAKEN_AWAY = [
    "commonLabels",
    "extraArgs",
    "livenessProbe",
    "persistence.labels",
    "podAnnotations",
    "podLabels",
    "podSecurityContext.fsGroup",
    "podSecurityContext.runAsUser",
    "prometheusRule.labels",
    "prometheusRule.ruleAnnotations",
    "prometheusRule.ruleLabels",
    "proxy.url",
    "readinessProbe",
    "resources",
    "secrets.env",
    "service.labels",
    "serviceMonitor.labels",
    "startupProbe",
]


@pytest.mark.parametrize("path", _TAKEN_AWAY)
def test_null_takes_a_default_away(helm: Helm, minimal: Values, path: str) -> None:
    text = helm.template(_without(laid_over(minimal, _ALL_KINDS), path))

    assert _faults(parsed(text)) == []


def test_null_for_a_probe_is_no_probe(helm: Helm, minimal: Values) -> None:
    objects = helm.objects({**minimal, "livenessProbe": None})

    assert "livenessProbe" not in collector(objects)
    assert "readinessProbe" in collector(objects)


def _refused_by_schema(values: Values) -> bool:
    """As Helm has it: null takes a default away, then the schema looks at the rest."""
    return not _SCHEMA.is_valid(_without_nulls(laid_over(_DEFAULTS, values)))


def _without_nulls(node: Any) -> Any:
    if isinstance(node, dict):
        return {key: _without_nulls(value) for key, value in node.items() if value is not None}
    return node


def _groups(paths: list[str]) -> list[list[str]]:
    """No two of a group belong to one part of the values, so that none hides what another one does."""
    parts: defaultdict[str, list[str]] = defaultdict(list)
    for path in paths:
        parts[path.partition(".")[0]].append(path)
    rounds = ([path for path in each if path] for each in zip_longest(*parts.values()))
    return [each[start : start + 12] for each in rounds for start in range(0, len(each), 12)]


def _wrong_without(helm: Helm, base: Values, paths: list[str]) -> dict[str, str]:
    """What is wrong with the render without these, by path. What refuses several is looked at in halves."""
    try:
        text = helm.template(reduce(_without, paths, base))
    except HelmRefusedError as error:
        if len(paths) > 1:
            middle = len(paths) // 2
            return _wrong_without(helm, base, paths[:middle]) | _wrong_without(helm, base, paths[middle:])
        refused = any(words in str(error) for words in ("missing property", "These values cannot work", "got null"))
        return {} if refused else {paths[0]: str(error)[-300:]}
    lines = [line for line in text.splitlines() if "nil>" in line or "<no value>" in line]
    return {", ".join(paths): lines[0]} if lines else {}


def test_null_is_never_answered_by_a_fault_of_a_template(helm: Helm, minimal: Values) -> None:
    """Refused by the schema, or in words, or it does no harm."""
    base = laid_over(minimal, _ALL_KINDS)
    del base["dashboards"]
    refused = {path: _refused_by_schema(_without(base, path)) for path in _paths(_DEFAULTS)}
    accepted = [path for path in refused if not refused[path]]
    assert len(accepted) > 100
    assert sum(refused.values()) > 100
    wrong: dict[str, str] = {}
    for group in _groups(accepted):
        wrong |= _wrong_without(helm, base, group)

    assert wrong == {}


@pytest.mark.parametrize("path", ["config", "web.port", "prometheusRule.rules.LineageRunStale"])
def test_helm_refuses_what_the_schema_does(helm: Helm, minimal: Values, path: str) -> None:
    values = _without(laid_over(minimal, _ALL_KINDS), path)

    assert _refused_by_schema(values)
    with pytest.raises(HelmRefusedError, match="missing property"):
        helm.template(values)


def test_a_source_can_do_without_the_proxy_of_the_others(helm: Helm, minimal: Values) -> None:
    values = laid_over(minimal, {"proxy": {"url": "http://proxy.example.com:3128"}})
    first = values["config"]["sources"][0]
    values["config"]["sources"].append({**first, "name": "inside", "network": {"proxy": None}})

    objects = helm.objects(values)

    sources = yaml.safe_load(only(objects, "ConfigMap")["data"]["config.yaml"])["sources"]
    assert [source["network"]["proxy"] for source in sources] == ["http://proxy.example.com:3128", None]


def _mounted(*paths: str) -> Values:
    mounts = [{"name": "mine", "mountPath": path} for path in paths]
    return {"extraVolumes": [{"name": "mine", "emptyDir": {}}], "extraVolumeMounts": mounts}


def test_no_sinks_at_all_is_as_good_as_an_empty_list(helm: Helm, minimal: Values) -> None:
    objects = helm.objects(laid_over(minimal, {"config": {"sinks": None}}))
    assert "sinks: []" in only(objects, "ConfigMap")["data"]["config.yaml"]
    done = helm(
        "install",
        "a",
        CHART,
        "-f",
        CHART / "ci" / "minimal-values.yaml",
        "--set",
        "config.sinks=null",
        "--dry-run=client",
    )
    assert "feeds 0 sink(s)" in done.stdout, done.stderr


def test_a_storage_class_can_be_none(helm: Helm, minimal: Values) -> None:
    """`-` means in charts: no class, so that the claim waits for a volume made by hand."""

    def spec(storage_class: str) -> Values:
        objects = helm.objects(laid_over(minimal, {"persistence": {"storageClass": storage_class}}))
        found: Values = only(objects, "StatefulSet")["spec"]["volumeClaimTemplates"][0]["spec"]
        return found

    assert spec("-")["storageClassName"] == ""
    assert spec("fast")["storageClassName"] == "fast"
    assert "storageClassName" not in spec("")


@pytest.mark.parametrize(
    ("values", "words"),
    [
        (
            {"extraEnv": [{"name": "LINEAGE_COLLECTOR_CONFIG", "value": "/x"}]},
            "extraEnv: LINEAGE_COLLECTOR_CONFIG is set",
        ),
        ({"extraEnv": [{"name": "A", "value": "1"}, {"name": "A", "value": "2"}]}, "extraEnv: A is set"),
        (
            {"extraVolumes": [{"name": "data", "emptyDir": {}}]},
            "extraVolumes: the name data is in use already: choose another",
        ),
        (
            {"extraContainers": [{"name": "lineage-collector", "image": "x"}]},
            "the name lineage-collector is in use already: choose another",
        ),
        (_mounted("/tmp"), "extraVolumeMounts: /tmp is in use already: choose another"),
        (_mounted("/run/secrets/cdf/"), "extraVolumeMounts: /run/secrets/cdf/ is in use already: choose another"),
        (
            _mounted("/etc/lineage-collector"),
            "extraVolumeMounts: /etc/lineage-collector is in use already: choose another",
        ),
        (_mounted("/mnt/a", "/mnt/a"), "extraVolumeMounts: /mnt/a is in use already: choose another"),
        (_mounted("data"), "extraVolumeMounts: data is not an absolute path"),
        ({"extraVolumeMounts": [{"name": "mine", "mountPath": "/mnt/a"}]}, "no volume is named mine"),
        (
            {"initContainers": [{"name": "check-config", "image": "x"}]},
            "the name check-config is in use already: choose another",
        ),
        (
            {"serviceMonitor": {"enabled": True, "interval": "10s", "scrapeTimeout": "1m"}},
            "serviceMonitor.scrapeTimeout",
        ),
        ({"podMonitor": {"enabled": True, "scrapeTimeout": "31s"}}, "podMonitor.scrapeTimeout"),
    ],
)
def test_what_kubernetes_or_the_operator_would_refuse_is_refused(
    helm: Helm, minimal: Values, values: Values, words: str
) -> None:
    with pytest.raises(HelmRefusedError, match=words):
        helm.template(laid_over(minimal, values))


def test_a_secret_in_a_variable_of_the_configuration_is_refused_and_not_repeated(helm: Helm, minimal: Values) -> None:
    name = "LINEAGE_COLLECTOR__SOURCES__0__AUTH__CLIENT_SECRET"
    with pytest.raises(HelmRefusedError, match=rf"extraEnv: {name} contains the secret itself") as refused:
        helm.template(minimal | {"extraEnv": [{"name": name, "value": "hunter2"}]})
    assert "hunter2" not in str(refused.value)

    source = {"secretKeyRef": {"name": "cdf", "key": "secret"}}
    helm.template(minimal | {"extraEnv": [{"name": name, "valueFrom": source}]})
    helm.template(minimal | {"extraEnv": [{"name": name + "_FILE", "value": "/run/secrets/cdf/other"}]})


def test_a_scrape_may_take_as_long_as_the_interval(helm: Helm, minimal: Values) -> None:
    monitor = {"enabled": True, "interval": "1m", "scrapeTimeout": "60s"}
    helm.template(minimal | {"serviceMonitor": monitor})
    helm.template(minimal | {"serviceMonitor": {**monitor, "interval": ""}})
