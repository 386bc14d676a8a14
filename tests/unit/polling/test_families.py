"""Parents and children on a real ledger: a parent's START goes out first and its end last, as far as that can be known."""

from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Any
from uuid import NAMESPACE_URL, uuid5

import orjson
import pytest
from sqlalchemy import update

from collector.clock import to_ms
from collector.ledger import claims, configured_sinks, configured_sources, leases, parked, queries, runs, schema, stored
from collector.ledger.claims import Refused, Settlement
from collector.ledger.configured_sources import Configured
from collector.ledger.sqlite.store import Store
from collector.lifecycle import VanishedPolicy
from collector.lineage.events import EventMaker
from collector.model import Dataset, Enrichment, EventKind, Facts, Job, Observation, Outgoing, Parent, Poll, RunState
from collector.polling.commits import Committed, Found, Writer
from collector.polling.decision import Policy
from collector.testing.clock import START as ZERO
from collector.testing.clock import SimulatedClock
from tests import openlineage

SPACE = "cdf://h/p"


def run_id(key: str) -> Any:
    return uuid5(NAMESPACE_URL, key)


def named(key: str) -> Job:
    return Job(key, SPACE, f"transformation/{key}" if "/" not in key else key, "JOB", "CDF")


@dataclass
class Source:
    """One source and one sink that never fails, on a ledger in a file."""

    store: Store
    clock: SimulatedClock
    writer: Writer
    source_id: int
    sink_id: int
    sink_lease: leases.Lease
    skips: list[Any] = field(default_factory=list)

    async def see(self, *seen: Observation, missing: tuple[str, ...] = ()) -> None:
        async for done in self.writer.page(self.store, Poll(seen, missing=missing), self.clock.now(), polled=True):
            self._note(done)

    async def end(self, *keys: str) -> int:
        """Details of these runs are there; how many of them ended by that."""
        details = dict.fromkeys(keys, Found(Enrichment()))
        done = await self.writer.ends(self.store, details, self.clock.now())
        self._note(done)
        return sum(event.kind.terminal for event in done.events)

    async def ended(self) -> list[str]:
        return [run.key for run in await self.store.read(runs.ended, self.source_id, 10)]

    async def enrich_all(self) -> None:
        await self.end(*await self.ended())

    async def delivered(self) -> list[bytes]:
        """All that the sink gets now, in order."""
        got: list[bytes] = []
        while heads := await self.claim():
            got += [head.body for head in heads]
            await self.settle(Settlement(delivered=tuple(heads)))
        return got

    async def claim(self) -> list[Outgoing]:
        claimed: list[Outgoing] = await self.store.read(claims.claim, self.sink_id, to_ms(self.clock.now()), 100)
        return claimed

    async def settle(self, settlement: Settlement) -> None:
        at = to_ms(self.clock.now())
        await self.store.write(claims.settle, self.sink_lease, self.sink_id, settlement, at, None)

    def seen(self, key: str, state: RunState, parent: str | None = None, **more: Any) -> Observation:
        of = Parent(run_id(parent), SPACE, named(parent).name, key=parent) if parent else None
        now = self.clock.now()
        times = {"started_at": ZERO, "ended_at": now if state.terminal else None}
        fields = {"job": named(key), "facts": Facts(inputs=(), outputs=()), "parent": of, **times, **more}
        return Observation(key, run_id(key), state=state, raw_state=state.value, seen_at=now, **fields)

    def _note(self, done: Committed) -> None:
        self.skips += done.skips


async def opened(path: Path, policy: VanishedPolicy, *, validates: bool = False) -> Source:
    clock = SimulatedClock()
    store = Store.open(path / "lineage.db", holder="test", clock=clock)
    now_ms = to_ms(clock.now())
    source_id = (await store.write(configured_sources.sync_sources, [Configured("plant")], now_ms))["plant"]
    sink_id = (await store.write(configured_sinks.sync_sinks, {"file": frozenset(EventKind)}, now_ms))["file"]
    source_lease = await store.write(leases.take, "source:plant", "test", 10**9)
    sink_lease = await store.write(leases.take, "sink:file", "test", 10**9)
    assert source_lease is not None
    assert sink_lease is not None
    maker = EventMaker("plant", validates=validates)
    writer = Writer("plant", source_id, lambda: source_lease, maker, Policy(timedelta(seconds=60), policy))
    return Source(store, clock, writer, source_id, sink_id, sink_lease)


@pytest.fixture
async def source(tmp_path: Path) -> AsyncIterator[Source]:
    made = await opened(tmp_path, VanishedPolicy.LEAVE_OPEN)
    yield made
    await made.store.close()


def events_of(lines: list[bytes]) -> list[tuple[str, str]]:
    """Who said what, in order."""
    events = [orjson.loads(line) for line in lines]
    return [(event["run"]["facets"]["lineageCollector_platformRun"]["runKey"], event["eventType"]) for event in events]


async def test_a_settled_parent_waits_for_a_child_that_waits_for_its_details(source: Source) -> None:
    await source.see(
        source.seen("flow/1", RunState.RUNNING, settled=True), source.seen("a", RunState.RUNNING, "flow/1")
    )
    source.clock.advance(10)
    await source.see(source.seen("a", RunState.SUCCEEDED, "flow/1"))
    await source.see(source.seen("flow/1", RunState.SUCCEEDED, settled=True))
    assert await source.end("flow/1") == 0
    await source.enrich_all()
    lines = await source.delivered()
    assert events_of(lines) == [("flow/1", "START"), ("a", "START"), ("a", "COMPLETE"), ("flow/1", "COMPLETE")]
    assert openlineage.all_faults(lines) == []


async def test_a_whole_family_seen_at_its_end_comes_out_in_order(source: Source) -> None:
    """Three generations in one page, the last first."""
    page = [
        source.seen("stage/1", RunState.FAILED, "a", settled=True),
        source.seen("a", RunState.FAILED, "flow/1"),
        source.seen("flow/1", RunState.FAILED, settled=True),
    ]
    await source.see(*page)
    await source.enrich_all()
    lines = await source.delivered()
    begun, ended = events_of(lines)[:3], events_of(lines)[3:]
    assert ended == [("stage/1", "FAIL"), ("a", "FAIL"), ("flow/1", "FAIL")]
    assert begun == [("flow/1", "START"), ("a", "START"), ("stage/1", "START")]


async def test_children_that_show_up_after_the_end_of_their_parent_come_after_its_start(source: Source) -> None:
    await source.see(source.seen("flow/1", RunState.SUCCEEDED))
    await source.see(source.seen("a", RunState.RUNNING, "flow/1"))
    await source.see(source.seen("a", RunState.SUCCEEDED, "flow/1", settled=True))
    await source.enrich_all()
    lines = await source.delivered()
    assert events_of(lines) == [("flow/1", "START"), ("a", "START"), ("a", "COMPLETE"), ("flow/1", "COMPLETE")]
    assert openlineage.all_faults(lines) == []


async def test_a_parent_waits_no_longer_than_its_own_deadline(source: Source) -> None:
    await source.see(
        source.seen("flow/1", RunState.RUNNING, settled=True), source.seen("a", RunState.RUNNING, "flow/1")
    )
    await source.see(source.seen("flow/1", RunState.CANCELED, settled=True))
    source.clock.advance(59)
    assert await source.end("flow/1") == 0
    assert events_of(await source.delivered())[-1] == ("a", "START")
    source.clock.advance(1)
    assert await source.end("flow/1") == 1
    assert events_of(await source.delivered()) == [("flow/1", "ABORT")]


async def test_after_a_long_stop_a_family_still_ends_in_order(source: Source) -> None:
    """All deadlines have passed; what ended will be reported soon, so it is waited for."""
    await source.see(source.seen("flow/1", RunState.SUCCEEDED), source.seen("a", RunState.SUCCEEDED, "flow/1"))
    source.clock.advance(86_400)
    assert await source.ended() == ["flow/1", "a"]
    assert await source.end("flow/1") == 0
    assert await source.end("a") == 1
    assert await source.end("flow/1") == 1
    assert events_of(await source.delivered())[-2:] == [("a", "COMPLETE"), ("flow/1", "COMPLETE")]


async def test_a_child_that_shows_up_while_its_parent_is_looked_into_is_waited_for(source: Source) -> None:
    await source.see(source.seen("flow/1", RunState.RUNNING, settled=True))
    await source.see(source.seen("flow/1", RunState.SUCCEEDED))
    await source.see(source.seen("a", RunState.RUNNING, "flow/1"))
    assert await source.end("flow/1") == 0
    await source.see(source.seen("a", RunState.SUCCEEDED, "flow/1", settled=True))
    await source.enrich_all()
    assert events_of(await source.delivered())[-1] == ("flow/1", "COMPLETE")


async def test_a_child_that_is_given_up_is_not_waited_for(source: Source) -> None:
    await source.see(
        source.seen("flow/1", RunState.RUNNING, settled=True), source.seen("a", RunState.RUNNING, "flow/1")
    )
    for _ in range(3):
        await source.see(missing=("a",))
    await source.see(source.seen("flow/1", RunState.SUCCEEDED, settled=True))
    assert events_of(await source.delivered())[-1] == ("flow/1", "COMPLETE")


async def test_a_parent_without_children_ends_at_once(source: Source) -> None:
    await source.see(source.seen("flow/1", RunState.SUCCEEDED, settled=True))
    assert events_of(await source.delivered()) == [("flow/1", "START"), ("flow/1", "COMPLETE")]


async def test_a_parent_that_is_found_out_too_late_is_none(source: Source) -> None:
    """The START went to a separate job; the end must go to the same."""
    await source.see(source.seen("a", RunState.RUNNING))
    await source.see(source.seen("flow/1", RunState.RUNNING, settled=True))
    await source.see(source.seen("a", RunState.SUCCEEDED, "flow/1", settled=True))
    lines = [line for line in await source.delivered() if b'"runKey":"a"' in line]
    assert len(lines) == 2
    assert not any(b'"parent"' in line for line in lines)
    assert openlineage.all_faults(lines) == []


@pytest.mark.parametrize("policy", list(VanishedPolicy))
async def test_a_vanished_parent_is_ended_after_its_children(tmp_path: Path, policy: VanishedPolicy) -> None:
    source = await opened(tmp_path, policy)
    await source.see(
        source.seen("flow/1", RunState.RUNNING, settled=True), source.seen("a", RunState.RUNNING, "flow/1")
    )
    for _ in range(5):
        await source.see(missing=("flow/1",))
    await source.see(source.seen("a", RunState.SUCCEEDED, "flow/1", settled=True))
    for _ in range(3):
        await source.see(missing=("flow/1",))
    end = [("flow/1", "ABORT")] if policy is VanishedPolicy.ABORT else []
    assert events_of(await source.delivered()) == [("flow/1", "START"), ("a", "START"), ("a", "COMPLETE"), *end]
    await source.store.close()


async def test_an_event_that_is_not_valid_is_parked_with_the_reason_and_counted(tmp_path: Path) -> None:
    source = await opened(tmp_path, VanishedPolicy.LEAVE_OPEN, validates=True)
    bad = Facts(inputs=(Dataset(SPACE, "raw/a", facets={"sql": {"query": "no facet"}}),))
    await source.see(source.seen("a", RunState.RUNNING, facts=bad))
    await source.see(source.seen("b", RunState.RUNNING))
    assert [(skip.kind.value, skip.subject) for skip in source.skips] == [("invalid", "START of run a")]
    heads = await source.claim()
    [wrong] = [head for head in heads if head.fault is not None]
    assert "inputs.0.facets.sql" in (wrong.fault or "")
    await source.settle(Settlement(parked=(Refused(wrong, wrong.fault or ""),)))
    [row] = await source.store.read(parked.listing, 10)
    assert (row.run_key, row.kind) == ("a", EventKind.START)
    assert [head.fault for head in await source.claim()] == [None]
    now_ms = to_ms(source.clock.now())
    named = row.strand_id, row.seq
    retry = source.store.write(parked.retry, source.sink_lease, source.sink_id, [named], now_ms)
    assert await retry == {named: parked.RetryAnswer.QUEUED}
    again = next(head for head in await source.claim() if head.strand_id == row.strand_id)
    assert again.fault is None, "somebody wants it sent as it is"
    [skipped] = [skip for skip in await source.store.read(queries.skips, 10) if skip.kind == "invalid"]
    assert "parked for every sink" in skipped.cause
    await source.store.close()


async def test_a_run_whose_row_cannot_be_read_is_set_aside_and_the_others_go_on(source: Source) -> None:
    await source.see(*(source.seen(key, RunState.RUNNING) for key in ("good", "bad", "ended")))
    await source.see(source.seen("ended", RunState.SUCCEEDED))
    damaged = update(schema.run).where(schema.run.c.key.in_(["bad", "ended"])).values(detail="{")
    await source.store.write(lambda conn: conn.execute(damaged).rowcount)
    tracked = await source.store.read(stored.tracked, source.source_id, 2**60, 10)
    assert ([run.key for run in tracked.runs], tracked.unreadable) == (["good"], ("bad",))
    await source.see(source.seen("good", RunState.SUCCEEDED, settled=True), source.seen("bad", RunState.SUCCEEDED))
    assert await source.end("ended") == 0
    assert await source.ended() == []
    assert {(skip.kind.value, skip.subject) for skip in source.skips} == {
        ("unreadable", "bad"),
        ("unreadable", "ended"),
    }
    assert all("cannot be read" in skip.cause for skip in source.skips)
    listed = await source.store.read(queries.skips, 10)
    assert {row.subject for row in listed} == {"bad", "ended"}
    kinds = [event for event in events_of(await source.delivered()) if event[0] == "good"]
    assert kinds == [("good", "START"), ("good", "COMPLETE")]
    assert (await source.store.read(stored.tracked, source.source_id, 2**60, 10)).unreadable == ()
