"""Feeds a sink as delivery does: one event of a strand at a time, asked for again while in flight, sent again on Retry."""

import asyncio
import json
import time
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from uuid import UUID

from collector.model import EventKind, Outgoing
from exporters.sinks.base import Delivered, Outcome, Park, Retry, Sink


def event(strand: int, seq: int, *, job: str = "transformation/a", padding: int = 0) -> Outgoing:
    """An event of run number `strand`; `seq` tells them apart in the topic."""
    body = {
        "eventType": "START",
        "eventTime": "2026-01-01T00:00:00Z",
        "producer": "https://example.com/producer",
        "run": {"runId": str(UUID(int=strand)), "facets": {}},
        "job": {"namespace": "cdf://here/project", "name": job},
        "seq": seq,
        "padding": "x" * padding,
    }
    return Outgoing(
        strand_id=strand,
        seq=seq,
        run_id=strand,
        source_id=1,
        kind=EventKind.START,
        body=json.dumps(body).encode(),
        attempts=0,
        committed_at=0,
        happened_at=0,
    )


async def send(sink: Sink, batch: Sequence[Outgoing]) -> dict[tuple[int, int], Outcome]:
    outcomes: dict[tuple[int, int], Outcome] = {}
    async for item, outcome in sink.send(batch):
        assert (item.strand_id, item.seq) not in outcomes, "an event got two outcomes"
        outcomes[item.strand_id, item.seq] = outcome
    assert outcomes.keys() == {(item.strand_id, item.seq) for item in batch}, "an event got no outcome"
    return outcomes


@dataclass
class Driven:
    delivered: list[tuple[int, int]] = field(default_factory=list)
    parked: dict[tuple[int, int], str] = field(default_factory=dict)
    retries: list[Retry] = field(default_factory=list)
    longest: float = 0.0
    """Seconds that the longest call of `send` took."""


async def drive(
    sink: Sink,
    events: Iterable[Outgoing],
    *,
    seconds: float = 60,
    batch: int = 500,
    after: tuple[int, asyncio.Event] | None = None,
) -> Driven:
    """Sends until everything is delivered or parked; TimeoutError after `seconds`. `after` is an event to set once so
    many events are delivered.
    """
    lanes: dict[int, list[Outgoing]] = defaultdict(list)
    for item in events:
        lanes[item.strand_id].append(item)
    driven = Driven()
    async with asyncio.timeout(seconds):
        while heads := [lane[0] for lane in lanes.values() if lane]:
            began = time.monotonic()
            settled = [_settle(driven, lanes, *answer) async for answer in sink.send(heads[:batch])]
            driven.longest = max(driven.longest, time.monotonic() - began)
            if after is not None and len(driven.delivered) >= after[0]:
                after[1].set()
            if not any(settled):
                await asyncio.sleep(0.05)
    return driven


def _settle(driven: Driven, lanes: dict[int, list[Outgoing]], item: Outgoing, outcome: Outcome) -> bool:
    name = item.strand_id, item.seq
    assert lanes[item.strand_id][0] is item, "an outcome for an event that was not sent"
    match outcome:
        case Delivered():
            driven.delivered.append(name)
        case Park(cause):
            driven.parked[name] = cause
        case Retry():
            driven.retries.append(outcome)
            return False
    del lanes[item.strand_id][0]
    return True


def seen(bodies: Iterable[bytes]) -> list[tuple[int, int]]:
    """(strand, seq) of events as they were read back."""
    return [(UUID(event["run"]["runId"]).int, event["seq"]) for event in map(json.loads, bodies)]
