"""All that /metrics can show, asked of the code itself; `python -m tests.metric_families` writes docs/metrics.md anew."""

import asyncio
import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import cache
from pathlib import Path
from typing import Any
from uuid import UUID

import yaml
from prometheus_client.core import Metric

from collector.model import EventKind, RunState, SkipKind
from collector.reports import (
    EventReport,
    HintReport,
    HintResult,
    LoadReport,
    PollReport,
    PollResult,
    RequestReport,
    SkipReport,
)
from exporters.delivery.reports import RecheckReport, SendReport, SendResult
from exporters.metrics import jobs
from exporters.metrics.families import Metrics
from exporters.metrics.jobs import OUTCOMES, JobState
from exporters.metrics.snapshot import SinkBacklog, Snapshot, SourceState, families

ROOT = Path(__file__).parents[1]
PAGE = ROOT / "docs" / "metrics.md"
CHART = ROOT / "helm" / "lineage-collector"
NOW = datetime(2026, 1, 31, 12, tzinfo=UTC)
NAMES = {"source", "sink", "topic", "job", "name", "schedule", "lease", "version", "revision", "python"}
"""Labels whose values come from the configuration or the platform; those of the others are in the code."""
GROUPS: Mapping[str, tuple[str, ...]] = {
    "Runs": ("lineage_run", "lineage_job"),
    "Polling": ("lineage_poll", "lineage_source", "lineage_clock", "lineage_hint", "lineage_skipped"),
    "Delivery": (
        "lineage_events",
        "lineage_sends",
        "lineage_send_",
        "lineage_deliver",
        "lineage_freshness",
        "lineage_sink",
        "lineage_rechecks",
    ),
    "The program": ("lineage_ledger", "lineage_lease", "lineage_replica", "lineage_build", "lineage_config"),
}
_BLOCK = re.compile(r"(<!-- families: .*? -->\n).*?(<!-- /families -->)", re.DOTALL)


@dataclass(frozen=True, slots=True)
class Family:
    """`name` is what a query names (histograms without their suffixes). `values` are those of a label, in order."""

    name: str
    type: str
    text: str
    of_ledger: bool
    labels: tuple[str, ...]
    values: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    buckets: tuple[str, ...] = ()
    exemplars: bool = False

    @property
    def unit(self) -> str:
        endings = {"_timestamp_seconds": "Unix time", "_seconds": "seconds", "_bytes": "bytes"}
        return next((unit for ending, unit in endings.items() if self.name.endswith(ending)), "")


def catalogue() -> list[Family]:
    """Every family of ours with all its labels, in the order of the page."""
    snapshot = asyncio.run(_snapshot())
    of_ledger = {family.name for family in (*jobs.families(snapshot.jobs), *families(snapshot))}
    found = [_family(metric, metric.name in of_ledger) for metric in shown() if metric.name.startswith("lineage_")]
    return [family for prefixes in GROUPS.values() for family in found if family.name.startswith(prefixes)]


@cache
def shown() -> Sequence[Metric]:
    """A scrape, the process's own metrics too, in which every family has a series for each fixed word of its labels."""
    return tuple(asyncio.run(_scraped()))


async def _scraped() -> Iterable[Metric]:
    metrics = Metrics({"plant-a": 1}, ["marquez"], _snapshot, lambda: 1.0)
    _report_everything(metrics)
    return (await metrics.scrape()).collect()


def _family(metric: Metric, of_ledger: bool) -> Family:
    values: dict[str, dict[str, None]] = {}
    for sample in metric.samples:
        for label, value in sample.labels.items():
            values.setdefault(label, {})[value] = None
    buckets = tuple(values.pop("le", {}))
    return Family(
        f"{metric.name}_total" if metric.type == "counter" else metric.name,
        metric.type,
        metric.documentation,
        of_ledger,
        tuple(values),
        {label: tuple(known) for label, known in values.items() if label not in NAMES},
        buckets,
        any(sample.exemplar is not None for sample in metric.samples),
    )


async def _snapshot() -> Snapshot:
    outcomes = dict.fromkeys(OUTCOMES, 1)
    jobs = [JobState("plant-a", f"job {state}", "A job", state, 1.0, 2.0, outcomes) for state in RunState]
    source = SourceState("plant-a", active=1, waiting=1, abandoned=0, succeeded_at=1.0)
    return Snapshot(NOW.timestamp(), jobs, [source], [SinkBacklog("marquez", 1, 1, 1.0)], 1, 2)


def _report_everything(metrics: Metrics) -> None:
    """What has no value before it is first counted."""
    run_id = str(UUID(int=1))
    metrics.polled(PollReport("plant-a", PollResult.OK, 1.0, NOW, 30.0))
    metrics.requested(RequestReport("plant-a", 200, 0.1, remaining=1, ahead=0.0))
    metrics.planned(LoadReport("plant-a", runs=1, needed=1.0, allowed=60, interval=30.0))
    metrics.hinted(HintReport("plant-a", HintResult.TAKEN))
    metrics.hint_topic("lineage.hints", up=True)
    metrics.skipped(SkipReport("plant-a", SkipKind.ROW))
    metrics.committed(EventReport("plant-a", EventKind.COMPLETE, "job", RunState.SUCCEEDED, 1.0, run_id))
    metrics.sent(SendReport("marquez", 1, EventKind.COMPLETE, SendResult.OK, 0.1, 1.0, 0.1, run_id))
    metrics.rechecked(RecheckReport("marquez", settled=True))


def readers() -> dict[str, list[str]]:
    """For each name in a query of the chart: the alerts and dashboards that read it."""
    found: dict[str, list[str]] = {}
    rules = yaml.safe_load((CHART / "rules" / "alerts.yaml").read_text(encoding="utf-8"))
    queries = [(rule["alert"], rule["expr"]) for group in rules for rule in group["rules"]]
    for path in sorted((CHART / "dashboards").glob("*.json")):
        board = json.loads(path.read_text(encoding="utf-8"))
        queries.append((f"*{board['title']}*", "\n".join(_expressions(board))))
    for reader, query in queries:
        for name in sorted(set(re.findall(r"\blineage_\w+", query))):
            found.setdefault(re.sub(r"_(bucket|count|sum)$", "", name), []).append(reader)
    return found


def _expressions(node: Any) -> Iterable[str]:
    if isinstance(node, dict):
        yield from (value for key, value in node.items() if key in {"expr", "query"} and isinstance(value, str))
    for value in node.values() if isinstance(node, dict) else node if isinstance(node, list) else ():
        yield from _expressions(value)


def tables() -> str:
    known, read_by = catalogue(), readers()
    parts = []
    for title, prefixes in GROUPS.items():
        rows = [_row(family, read_by.get(family.name, [])) for family in known if family.name.startswith(prefixes)]
        head = "| metric | type, unit | labels | what it says | read by |\n|---|---|---|---|---|"
        parts.append(f"### {title}\n\n" + "\n".join([head, *rows]) + "\n")
    parts.append("### Values of labels\n\n" + _values(known))
    parts.append("### Buckets\n\n" + _buckets(known))
    return "\n".join(parts)


def _row(family: Family, read_by: Iterable[str]) -> str:
    kind = ", ".join(word for word in (family.type, family.unit) if word)
    labels = ", ".join(f"`{label}`" for label in family.labels) or "—"
    text = f"{family.text}{' †' if family.of_ledger else ''}{' ‡' if family.exemplars else ''}"
    return f"| `{family.name}` | {kind} | {labels} | {text} | {', '.join(read_by) or '—'} |"


def _values(known: Iterable[Family]) -> str:
    rows = [
        f"| `{label}` | `{family.name}` | {', '.join(f'`{value}`' for value in values)} |"
        for family in known
        for label, values in family.values.items()
    ]
    return "\n".join(["| label | of | values |", "|---|---|---|", *rows]) + "\n"


def _buckets(known: Iterable[Family]) -> str:
    rows = [f"| `{family.name}` | {', '.join(family.buckets)} |" for family in known if family.buckets]
    return "\n".join(["| histogram | upper bounds |", "|---|---|", *rows]) + "\n"


def fresh(text: str) -> str:
    return _BLOCK.sub(lambda found: f"{found[1]}\n{tables()}\n{found[2]}", text)


if __name__ == "__main__":
    PAGE.write_text(fresh(PAGE.read_text(encoding="utf-8")), encoding="utf-8")
