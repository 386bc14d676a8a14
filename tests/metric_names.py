"""What the program exports, read from the code: for tests of whatever speaks of metrics, such as rules and dashboards."""

import re
from collections.abc import Iterator
from functools import cache
from types import MappingProxyType

from prometheus_client.core import Metric
from prometheus_client.metrics import MetricWrapperBase

from collector.model import RunState
from exporters.metrics import Metrics
from exporters.snapshot import JobState, Snapshot, families

OF_PROMETHEUS = MappingProxyType(
    {
        "up": frozenset[str](),
        "ALERTS": frozenset({"alertname", "alertstate", "severity", "source", "sink", "lease"}),
    }
)
OF_TARGETS = frozenset({"job", "exported_job", "instance", "namespace", "pod", "container", "service", "endpoint"})
"""Labels that Prometheus or its operator puts on every series it scrapes."""
_SUFFIXES = {"counter": ("_total",), "histogram": ("_bucket", "_sum", "_count")}
_NAME = re.compile(r"(?<![\w$])(?:(?:lineage|process|python)_\w+|up|ALERTS)(?![\w(])")
_STRING = re.compile(r'"(?:[^"\\]|\\.)*"')
_MATCHERS = re.compile(r"(?<![\w$])(?P<name>\w+)\{(?P<matchers>[^{}]*)\}")
_GROUPED = re.compile(r"\b(?:by|on|ignoring|without|group_left|group_right)\s*\(([^()]*)\)")


@cache
def exported() -> dict[str, frozenset[str]]:
    """The labels of every series that a scrape can show, by name."""
    return {name: labels | ({"le"} if name.endswith("_bucket") else set()) for name, labels in _series()}


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
    """The values that labels have before anything happened, by series and label: the fixed words, such as results."""
    found: dict[str, dict[str, set[str]]] = {}
    job = JobState("a", "b", "c", RunState.FAILED, None, None, {})
    snapshot = Snapshot(at=0, jobs=[job], sources=(), sinks=(), ledger_bytes=0, ledger_limit=0)
    for family in (*Metrics({"a": 1}, ["b"], _nothing)._registry.collect(), *families(snapshot)):
        for sample in family.samples:
            for label, value in sample.labels.items():
                found.setdefault(sample.name, {}).setdefault(label, set()).add(value)
    return {name: {label: frozenset(values) for label, values in labels.items()} for name, labels in found.items()}


def _series() -> Iterator[tuple[str, frozenset[str]]]:
    for collector in Metrics({}, [], _nothing)._registry._collector_to_names:
        if isinstance(collector, MetricWrapperBase):
            for suffix in _SUFFIXES.get(str(collector._type), ("",)):
                yield f"{collector._name}{suffix}", frozenset(collector._labelnames)
        else:
            samples = (sample for family in collector.collect() for sample in family.samples)
            yield from ((sample.name, frozenset(sample.labels)) for sample in samples)
    empty = Snapshot(at=0, jobs=(), sources=(), sinks=(), ledger_bytes=0, ledger_limit=0)
    for family in families(empty):
        yield from _of_family(family)


async def _nothing() -> Snapshot:
    raise AssertionError("nobody scrapes here")


def _of_family(family: Metric) -> Iterator[tuple[str, frozenset[str]]]:
    for suffix in _SUFFIXES.get(family.type, ("",)):
        yield f"{family.name}{suffix}", frozenset(vars(family)["_labelnames"])
