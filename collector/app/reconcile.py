"""`reconcile`: compares the runs of the ledger with what a Marquez has of them."""

import asyncio
import json
import random
import sys
from collections import Counter
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from collector.app import configuration, factory, ledgers, requests
from collector.app.progress import Progress
from collector.app.run_listing import time_given
from collector.app.tables import printable
from collector.clock import Clock, SystemClock
from collector.errors import ConfigurationError, LineageError
from collector.ledger import acknowledged
from collector.ledger.acknowledged import AcknowledgedRun, JobName, SinkDetail, Uncompared
from collector.ledger.port import Ledger
from collector.ledger.requests import RequestKind, RequestState
from collector.ledger.resend import Resent
from collector.ledger.run_order import Place
from collector.logs import set_up
from collector.numerals import counted
from config.settings import Settings
from exporters.sinks.marquez import comparison
from exporters.sinks.marquez.comparison import Aspect, Decision, Difference, ExpectedRun
from exporters.sinks.marquez.lookup import Lookup
from exporters.sinks.marquez.sink import MarquezSink
from exporters.sinks.marquez.stored import StoredRun, UnreadRun

MENDED_AT_ONCE = 500
"""Runs of one request to the holder of the sink's lease."""


@dataclass(frozen=True, slots=True)
class Finding:
    """A run that is not at the backend as the ledger has it."""

    source: str
    run: AcknowledgedRun
    differences: Sequence[Difference]
    decision: Decision


@dataclass(slots=True)
class Counts:
    """`queued` runs and `others` were not compared, each for its cause."""

    compared: int = 0
    equal: int = 0
    queued: int = 0
    others: Counter[Uncompared] = field(default_factory=Counter)
    aspects: Counter[Aspect] = field(default_factory=Counter)

    @property
    def seen(self) -> int:
        return self.compared + self.queued + self.others.total()


def reconcile(config: Path, sink: str, *, since: str | None, mend: bool, as_json: bool) -> int:
    """0: all equal (with `mend`: or sent again), 1: runs differ, or it could not be found out."""
    settings = configuration.load(config)
    since_ms = time_given("--since", since)
    _require_marquez(settings, sink)
    set_up("error", "auto")
    return asyncio.run(_reconciled(settings, sink, since_ms, mend=mend, as_json=as_json))


def _require_marquez(settings: Settings, name: str) -> None:
    known = {each.name: each.type for each in settings.sinks}
    configuration.refuse_unknown("sink", name, known)
    if known[name] != "marquez":
        why = f"sink {name} is of type {known[name]}, which cannot be asked for what it has"
        raise ConfigurationError([f"{why}: reconcile works with sinks of type marquez"])


async def _reconciled(settings: Settings, name: str, since_ms: int | None, *, mend: bool, as_json: bool) -> int:
    clock = SystemClock()
    configured = settings.sink(name)
    assert configured is not None  # it was required
    async with ledgers.reading(settings.ledger) as store:
        sink = factory.sink(configured, clock)
        if not isinstance(sink, MarquezSink):
            raise LineageError(f"sink {name} cannot be asked: {(await sink.check())[0].detail}")
        try:
            mending = _Mending(settings, name) if mend else None
            return await _compared(store, sink, name, since_ms, clock, mending, as_json=as_json)
        finally:
            await sink.close(5.0)


class _Mending:
    """Has runs sent again by the holder of the sink's lease, many with one request."""

    def __init__(self, settings: Settings, sink: str) -> None:
        self._settings, self._sink = settings, sink
        self._waiting: dict[str, str] = {}
        self.became: Counter[str] = Counter()
        self.error: str | None = None

    async def add(self, findings: Sequence[Finding]) -> None:
        self._waiting |= {
            each.run.run_id: each.decision.mend.value for each in findings if each.decision.mend is not None
        }
        if len(self._waiting) >= MENDED_AT_ONCE:
            await self.send()

    async def send(self) -> None:
        """What was added and is not sent yet. Raises `LineageError`."""
        if self._waiting and self.error is None:
            runs, self._waiting = self._waiting, {}
            result = await requests.submitted(self._settings, f"sink:{self._sink}", RequestKind.RESEND, {"runs": runs})
            if result.state is RequestState.DONE:
                self.became.update(result.answer)
            else:
                self.error = str(result.answer.get("error") or result.state.value)


async def _compared(
    store: Ledger,
    sink: MarquezSink,
    name: str,
    since_ms: int | None,
    clock: Clock,
    mending: _Mending | None,
    *,
    as_json: bool,
) -> int:
    detail = await store.read(acknowledged.sink, name)
    if detail is None:
        raise LineageError(f"the ledger does not know sink {name} yet: start the service with it first")
    [check] = await sink.check()
    if not check.ok:
        raise LineageError(f"Marquez cannot be asked: {check.detail}; {check.remedy}")
    lookup, counts = Lookup(sink, clock, random.random), Counts()
    output = _Output(as_json=as_json)
    with Progress("runs", await store.read(acknowledged.count, since_ms), clock) as progress:
        found = reconciliation(store, detail, lookup, counts, since_ms, sends_datasets=sink.sends_datasets)

        def show(findings: Sequence[Finding]) -> None:
            progress.beside(partial(output.add, [_row(each) for each in findings]))
            progress.reach(
                counts.seen, f"{counts.compared - counts.equal:,} differ, {counted(lookup.requests, 'request')}"
            )

        failed = await _mended(found, show, mending)
    became = None if mending is None else mending.became
    failed = failed or (mending.error if mending is not None else None)
    output.end(_summary(name, counts, lookup.requests, became), failed)
    left = counts.compared - counts.equal - (became["queued"] + became["waiting"] if became is not None else 0)
    return 1 if left or failed is not None else 0


async def _mended(
    found: AsyncIterator[Sequence[Finding]], show: Callable[[Sequence[Finding]], None], mending: _Mending | None
) -> str | None:
    """Show what is found, and mend it where that is wanted. Returns the cause where that ended early."""
    try:
        async for findings in found:
            show(findings)
            if mending is not None:
                await mending.add(findings)
        if mending is not None:
            await mending.send()
    except UnreadRun as error:
        return f"Marquez could not be asked any more, so the rest was not compared: {error}"
    except LineageError as error:
        return str(error)
    return None


class _Output:
    """The findings as they come, so that any number of them fits."""

    def __init__(self, *, as_json: bool) -> None:
        self._as_json, self._begun = as_json, False

    def add(self, rows: Sequence[Mapping[str, Any]]) -> None:
        for row in rows:
            if self._as_json:
                print(",\n" if self._begun else '{"differences": [', json.dumps(row, ensure_ascii=False), end="")
            else:
                print(printable(_line(row)))
            self._begun = True

    def end(self, summary: Mapping[str, Any], failed: str | None) -> None:
        if self._as_json:
            rest = json.dumps({**summary, "error": failed}, ensure_ascii=False)[1:]
            print("" if self._begun else '{"differences": [', "], ", rest, sep="")
            return
        print(_said(summary))
        if failed is not None:
            print(f"error: {printable(failed)}", file=sys.stderr)


async def reconciliation(
    store: Ledger,
    sink: SinkDetail,
    lookup: Lookup,
    counts: Counts,
    since_ms: int | None,
    *,
    sends_datasets: bool,
) -> AsyncIterator[Sequence[Finding]]:
    """Page by page what differs, job after job; `counts` grows meanwhile. Raises `UnreadRun` where the backend cannot be asked."""
    job: JobName | None = None
    while (job := await store.read(acknowledged.next_job, job)) is not None:
        before: Place | None = None
        while True:
            page = await store.read(acknowledged.page, sink, job, before, since_ms)
            counts.others.update(page.others)
            expected = {run.run_id: comparison.expected(run, sends_datasets=sends_datasets) for run in page.runs}
            comparable = {run_id: run for run_id, run in expected.items() if run is not None}
            counts.queued += len(expected) - len(comparable)
            runs = {run.run_id: run for run in page.runs}
            findings = await _findings(store, lookup, job.source, runs, comparable)
            _count(counts, len(comparable), findings)
            yield findings
            before = page.before
            if before is None:
                break
        lookup.forget_jobs()


async def _findings(
    store: Ledger,
    lookup: Lookup,
    source: str,
    runs: Mapping[str, AcknowledgedRun],
    expected: Mapping[str, ExpectedRun],
) -> list[Finding]:
    stored = await lookup.found(list(expected.values()))
    doubles = await _doubles(store, lookup, list(expected.values()))
    found = []
    for run_id, run in expected.items():
        what = comparison.differences(run, stored[run_id])
        what += [Difference(Aspect.DOUBLED, None, other) for other in doubles.get(run_id, ())]
        if what:
            has_start = runs[run_id].has_start
            decision = comparison.decision(run, stored[run_id], what, has_start=has_start)
            found.append(Finding(source, runs[run_id], tuple(what), decision))
    return found


async def _doubles(store: Ledger, lookup: Lookup, runs: Sequence[ExpectedRun]) -> dict[str, list[str]]:
    others: list[StoredRun] = lookup.others(runs)
    found = comparison.doubles(runs, others)
    ours = (
        await store.read(acknowledged.known, [other for each in found.values() for other in each]) if found else set()
    )
    strangers = {run_id: [other for other in each if other not in ours] for run_id, each in found.items()}
    return {run_id: each for run_id, each in strangers.items() if each}


def _count(counts: Counts, compared: int, findings: Sequence[Finding]) -> None:
    counts.compared += compared
    counts.equal += compared - len(findings)
    for finding in findings:
        counts.aspects.update({each.aspect for each in finding.differences})


def _row(finding: Finding) -> dict[str, Any]:
    return {
        "source": finding.source,
        "job": finding.run.job,
        "run": finding.run.key,
        "run_id": finding.run.run_id,
        "differences": [
            {"in": each.aspect.value, "ledger": each.expected, "sink": each.found} for each in finding.differences
        ],
        "mend": finding.decision.mend.value if finding.decision.mend is not None else None,
        "why_not": finding.decision.why,
    }


def _line(row: Mapping[str, Any]) -> str:
    what = "; ".join(_words(each) for each in row["differences"])
    end = f"; cannot be mended: {row['why_not']}" if row["mend"] is None else ""
    return f"{row['run_id']} {row['job']} (source {row['source']}): {what}{end}"


def _words(difference: Mapping[str, str | None]) -> str:
    match difference["in"]:
        case Aspect.MISSING:
            return f"missing, it is {difference['ledger']} in the ledger"
        case Aspect.DOUBLED:
            return f"doubled by run {difference['sink']}, which has the same times and is not in the ledger"
        case Aspect.INPUTS | Aspect.OUTPUTS as side:
            if difference["ledger"] is None:
                return f"{side} that are not of this run: {difference['sink']}"
            return f"{side} are missing: {difference['ledger']}"
    return (
        f"{difference['in']} {difference['ledger'] or 'none'} in the ledger, {difference['sink'] or 'none'} in Marquez"
    )


def _summary(name: str, counts: Counts, asked: int, became: Mapping[str, int] | None) -> dict[str, Any]:
    mended = {} if became is None else {"mended": {each.value: became.get(each.value, 0) for each in Resent}}
    return {
        "sink": name,
        "compared": counts.compared,
        "equal": counts.equal,
        "different": counts.compared - counts.equal,
        "by_difference": {each.value: counts.aspects[each] for each in Aspect if counts.aspects[each]},
        "not_compared": {
            "queued": counts.queued,
            **{each.value: counts.others[each] for each in Uncompared},
        },
        "requests": asked,
        **mended,
    }


_NOT_COMPARED = {
    "queued": "only queued so far",
    "waiting": "with events on their way",
    "parked": "with all events parked",
    "earlier": "ended before the sink was configured",
    "removed": "without events, which retention removed",
    "restricted": "made by a backfill for other sinks alone",
}


def _said(summary: Mapping[str, Any]) -> str:
    by = ", ".join(f"{count:,} {what}" for what, count in summary["by_difference"].items())
    others = [f"{count:,} {_NOT_COMPARED[why]}" for why, count in summary["not_compared"].items() if count]
    lines = [
        f"{counted(summary['compared'], 'run')} compared with sink {summary['sink']} in "
        f"{counted(summary['requests'], 'request')}: {summary['equal']:,} equal, {summary['different']:,} different"
        + (f" ({by})" if by else "")
    ]
    lines += [f"not compared: {', '.join(others)}"] if others else []
    if (mended := summary.get("mended")) is not None:
        lines.append(_said_of_mended(mended))
    elif any(summary["by_difference"]):
        lines.append("add --mend to send again what is safe to send")
    return "\n".join(lines)


def _said_of_mended(mended: Mapping[str, int]) -> str:
    rest = [f"{count:,} {_NOT_SENT[what]}" for what, count in mended.items() if count and what in _NOT_SENT]
    return ", ".join([f"{counted(mended['queued'], 'run')} on the way again", *rest])


_NOT_SENT = {
    "waiting": "on the way already",
    "incomplete": "without events that retention removed",
    "unknown": "no longer in the ledger",
}
