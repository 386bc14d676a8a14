"""What the program exports, read from the code: for tests of whatever speaks of metrics, such as rules and dashboards."""

import re
from collections.abc import Iterator
from functools import cache
from types import MappingProxyType

from prometheus_client.samples import Sample

from tests.metric_families import shown

OF_PROMETHEUS = MappingProxyType(
    {
        "up": frozenset[str](),
        "ALERTS": frozenset({"alertname", "alertstate", "severity", "source", "sink", "lease"}),
    }
)
OF_TARGETS = frozenset({"job", "exported_job", "instance", "namespace", "pod", "container", "service", "endpoint"})
"""Labels that Prometheus or its operator puts on every series it scrapes."""
_NAME = re.compile(r"(?<![\w$])(?:(?:lineage|process|python)_\w+|up|ALERTS)(?![\w(])")
_STRING = re.compile(r'"(?:[^"\\]|\\.)*"')
_MATCHERS = re.compile(r"(?<![\w$])(?P<name>\w+)\{(?P<matchers>[^{}]*)\}")
_GROUPED = re.compile(r"\b(?:by|on|ignoring|without|group_left|group_right)\s*\(([^()]*)\)")


@cache
def exported() -> dict[str, frozenset[str]]:
    """The labels of every series that a scrape can show, by name."""
    return {sample.name: frozenset(sample.labels) for sample in _samples()}


def unknown(expr: str) -> list[str]:
    """Metrics, and labels of metrics, that an expression of PromQL uses and that do not exist."""
    known = exported() | OF_PROMETHEUS
    bare = _STRING.sub('""', expr)
    names = set(_NAME.findall(bare))
    wrong = [name for name in sorted(names) if name not in known]
    for name, matchers in _MATCHERS.findall(bare):
        used = {re.split("[=!]", matcher)[0].strip() for matcher in matchers.split(",") if matcher.strip()}
        wrong += [f"{name}: {label}" for label in sorted(used - known.get(name, frozenset()) - OF_TARGETS)]
    made = set(re.findall(r'label_(?:replace|join)\([^"]*"(\w+)"', expr))
    possible = OF_TARGETS.union(made, *(known.get(name, frozenset()) for name in names))
    for group in _GROUPED.findall(bare):
        used = {label.strip() for label in group.split(",") if label.strip()}
        wrong += [f"grouped by {label}" for label in sorted(used - possible)]
    return wrong


@cache
def label_values() -> dict[str, dict[str, frozenset[str]]]:
    """The values that labels can have, by series and label: the fixed words, such as results."""
    found: dict[str, dict[str, set[str]]] = {}
    for sample in _samples():
        for label, value in sample.labels.items():
            found.setdefault(sample.name, {}).setdefault(label, set()).add(value)
    return {name: {label: frozenset(values) for label, values in labels.items()} for name, labels in found.items()}


def _samples() -> Iterator[Sample]:
    return (sample for family in shown() for sample in family.samples)
