"""Runs, parked events and skips as commands, pages and their JSON show them. Times are ISO 8601 in UTC."""

from collections.abc import Iterator, Sequence
from datetime import datetime
from itertools import cycle
from math import ceil
from typing import Any

import orjson

from collector import explanation
from collector.clock import from_ms, moment, to_ms
from collector.errors import LedgerError
from collector.ledger import detail
from collector.ledger.graph import Graph, Node
from collector.ledger.history import RunHistory
from collector.ledger.job_queries import JobRow
from collector.ledger.parked import Cause, ParkedEvent
from collector.ledger.queries import SkipGroup, SkipRow
from collector.ledger.requests import Request
from collector.ledger.run_queries import RunDetail, RunRow
from collector.model import Dataset, EventKind, Interval, Run, RunState


def summary(row: RunRow, run: Run | None) -> dict[str, Any]:
    """What a list of runs shows. `run` is None where what is stored of it cannot be read."""
    seconds = _seconds(row.started_at, row.ended_at)
    return {
        "source": row.source,
        "run": row.key,
        "state": row.state.value,
        "platform_state": row.raw_state,
        "job": row.job,
        "started": moment(row.started_at),
        "ended": moment(row.ended_at),
        "duration_seconds": seconds,
        "duration_bounded": run.duration_bounded if run is not None and seconds is not None else None,
        "run_id": row.run_uuid,
        "error": run.facts.error if run is not None else None,
    }


def more(row: RunRow, run: Run | None) -> dict[str, Any]:
    """What one run shows beside that."""
    watched: dict[str, Any] = {"not_watched_since": moment(row.abandoned_at)}
    if run is None:
        return watched | {"problems": ["what else is stored of it cannot be read"]}
    facts = run.facts
    return watched | {
        "last_seen": moment(to_ms(run.seen_at)),
        "parent": f"{run.parent.job} ({run.parent.run_id})" if run.parent is not None else None,
        "link": facts.link,
        "inputs": _names(facts.inputs),
        "outputs": _names(facts.outputs),
        "problems": list(facts.problems),
    }


def _names(datasets: tuple[Dataset, ...] | None) -> list[str] | None:
    return None if datasets is None else [f"{each.namespace} {each.name}" for each in datasets]


def known_run(stored: RunDetail | None) -> Run | None:
    """None for one that cannot be read: its row says what is known."""
    if stored is None:
        return None
    try:
        return detail.read(stored.key, stored.text)
    except LedgerError:
        return None


def only_sinks(history: RunHistory) -> list[str] | None:
    """The sinks for which alone a backfill made the run; None for a run that every sink gets."""
    return None if history.only_sinks is None else list(history.only_sinks)


def events(history: RunHistory) -> list[dict[str, Any]]:
    """The events, each with its delivery to every sink."""
    return [
        {
            "number": event.number,
            "type": event.kind.value,
            "time": moment(event.happened_at),
            "committed": moment(event.created_at),
            "fault": event.fault,
            "sinks": [
                {
                    "sink": each.sink,
                    "standing": each.standing.value,
                    "attempts": each.attempts,
                    "cause": each.cause,
                    "next_attempt": moment(each.due_at),
                    "acknowledged": moment(each.acknowledged_at),
                }
                for each in event.deliveries
            ],
        }
        for event in history.events
    ]


def steps(run: Run, history: RunHistory) -> list[dict[str, Any]]:
    """The moments of a run in their order, each with the seconds since the one before. `time` is the latest that it can have been and `not_before`
    the earliest, None where it is known exactly.
    """
    bounds = {"started": run.started_within, "ended": run.ended_within}
    times = {
        "queued": run.queued_at,
        "started": run.started_at or run.began_at,
        "ended": run.ended_at or run.finished_at,
    }
    found = [(to_ms(at), step, bounds.get(step)) for step, at in times.items() if at is not None]
    found.append((to_ms(run.seen_at), "last seen", None))
    found += [(at, step, None) for at, step in (*_waits(history), *_of_events(history))]
    found.sort(key=lambda one: one[0])
    before = [None, *(at for at, _, _ in found)]
    return [
        {
            "step": step,
            "time": moment(at),
            "not_before": _earliest(within),
            "seconds": (at - last) / 1000 if last is not None else None,
        }
        for (at, step, within), last in zip(found, before, strict=False)
    ]


def _waits(history: RunHistory) -> Iterator[tuple[int, str]]:
    """RUNNING is the way into waiting for a person and out of it, in turns."""
    moments = (event.happened_at for event in history.events if event.kind is EventKind.RUNNING)
    return zip(moments, cycle(("waiting", "goes on")), strict=False)


def waits(run: Run, history: RunHistory) -> list[tuple[datetime, datetime]]:
    """Since when and until when it waited for a person, each time."""
    moments = [from_ms(at) for at, _ in _waits(history)]
    last = run.ended_at or run.seen_at
    return list(zip(moments[::2], [*moments[1::2], last], strict=False))


def _of_events(history: RunHistory) -> Iterator[tuple[int, str]]:
    """When each was committed, then when each was acknowledged or parked."""
    yield from ((event.created_at, f"{event.kind.value} committed") for event in history.events)
    for event in history.events:
        for each in event.deliveries:
            if each.acknowledged_at is not None:
                yield each.acknowledged_at, f"{event.kind.value} acknowledged by {each.sink}"
            if each.parked_at is not None:
                yield each.parked_at, f"{event.kind.value} parked for {each.sink}"


def stages(run: Run) -> list[dict[str, Any]]:
    return [
        {
            "stage": each.key,
            "kind": each.kind,
            "state": each.state.value,
            "platform_state": each.raw_state,
            "engine": each.engine,
            "started": _moment(each.started_at),
            "ended": _moment(each.ended_at),
            "message": each.message,
        }
        for each in run.facts.stages
    ]


def _moment(at: datetime | None) -> str | None:
    return moment(to_ms(at)) if at is not None else None


def _earliest(within: Interval | None) -> str | None:
    return moment(to_ms(within.after)) if within is not None and within.after is not None else None


def sentences(stored: RunDetail | None, history: RunHistory) -> list[str]:
    """What there is to say of the run, for people."""
    try:
        run = detail.read(stored.key, stored.text) if stored is not None else None
    except LedgerError as error:
        return [f"It is not watched: {error}.", *explanation.of_sinks(history)]
    found = explanation.of_run(run, history) if run is not None else []
    return (
        found
        if history.events
        else [*found, "The ledger keeps no events of it: none were made, or retention removed them."]
    )


def job(row: JobRow) -> dict[str, Any]:
    """A job with its last run."""
    over = row.succeeded + row.failed + row.canceled
    seconds = _seconds(row.started_at, row.ended_at)
    return {
        "source": row.source,
        "job": row.name,
        "description": row.description,
        "schedule": row.schedule,
        "state": row.state.value,
        "run": row.run_key,
        "run_id": row.run_uuid,
        "started": moment(row.started_at),
        "ended": moment(row.ended_at),
        "duration_seconds": seconds,
        "duration_bounded": row.duration_bounded if seconds is not None else None,
        "succeeded": row.succeeded,
        "failed": row.failed,
        "canceled": row.canceled,
        "success_rate": round(row.succeeded / over, 4) if over else None,
        "average_seconds": round(row.duration_ms_sum / over / 1000, 3) if over else None,
    }


def _seconds(started_at: int | None, ended_at: int | None) -> float | None:
    return None if started_at is None or ended_at is None else (ended_at - started_at) / 1000


def runs_of_job(rows: Sequence[RunRow]) -> dict[str, Any]:
    """The latest runs of a job, the newest first, and what they say of its durations and of its freshness."""
    durations = sorted(s for row in rows if (s := _seconds(row.started_at, row.ended_at)) is not None)
    succeeded = (row for row in rows if row.state is RunState.SUCCEEDED and row.started_at is not None)
    successes = [row.ended_at for row in succeeded if row.ended_at is not None]
    return {
        "runs": [summary(row, None) for row in rows],
        "last_success": moment(max(successes, default=None)),
        "median_seconds": _at(durations, 0.5),
        "p95_seconds": _at(durations, 0.95),
    }


def _at(values: Sequence[float], part: float) -> float | None:
    """The smallest of the sorted values that so many are not above; None of none."""
    return values[ceil(part * len(values)) - 1] if values else None


def graph(found: Graph) -> dict[str, Any]:
    """Nodes by how far they are from the first; edges go the way of the data and name nodes by their place in the list."""
    nodes = sorted(found.depths, key=lambda node: (found.depths[node], not node.is_job, node.space, node.name))
    places = {node: place for place, node in enumerate(nodes)}
    return {
        "nodes": [{**graph_node(node), "depth": found.depths[node]} for node in nodes],
        "edges": sorted([places[one], places[other]] for one, other in found.edges),
        "is_cut": found.is_cut,
    }


def graph_node(node: Node) -> dict[str, Any]:
    kind, space = ("job", "source") if node.is_job else ("dataset", "namespace")
    return {"kind": kind, space: node.space, "name": node.name}


def parked_event(row: ParkedEvent) -> dict[str, Any]:
    return {
        "event": row.name,
        "sink": row.sink,
        "source": row.source,
        "run_id": row.run_uuid,
        "type": row.kind.value,
        "parked": moment(row.parked_at),
        "attempts": row.attempts,
        "superseded": moment(row.superseded_at),
        "cause": row.cause,
    }


def cause(row: Cause) -> dict[str, Any]:
    return {"sink": row.sink, "cause": row.cause, "count": row.count, "latest": moment(row.latest)}


def backfill(request: Request) -> dict[str, Any]:
    """How far one is, with its window; `seen` and `total` are runs, `new` those made or sent again, or events put on their way;
    `sink` is the one that alone gets the runs of a source, None for all.
    """
    window, progress = orjson.loads(request.body), orjson.loads(request.answer or "{}")
    new = progress.get("events", progress.get("made", 0) + progress.get("sent", 0))
    return {
        "sink": window.get("sink"),
        "since": moment(window.get("since_ms")),
        "until": moment(window.get("until_ms")),
        "begun": moment(request.created_at),
        "seen": progress.get("seen", 0),
        "total": progress.get("total"),
        "new": new,
    }


def ended_backfill(request: Request) -> dict[str, Any]:
    """One that is not under way any more; `error` says why it did not come to its end."""
    error = orjson.loads(request.answer or "{}").get("error")
    return {**backfill(request), "ended": moment(request.done_at), "error": error}


def skip(row: SkipRow) -> dict[str, Any]:
    return {
        "source": row.source,
        "kind": row.kind,
        "subject": row.subject,
        "count": row.count,
        "first": moment(row.first_at),
        "last": moment(row.last_at),
        "cause": row.cause,
    }


def skip_group(row: SkipGroup) -> dict[str, Any]:
    return {
        "source": row.source,
        "kind": row.kind,
        "subjects": row.subjects,
        "count": row.count,
        "last": moment(row.last_at),
    }
