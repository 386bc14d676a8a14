"""Observations that say nothing new take a short way, and leave the ledger as the long way does."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sqlalchemy import Connection, Row, select, update

from collector.clock import to_ms
from collector.ledger import runs, schema
from collector.ledger.looks import commit_looks
from collector.lifecycle import VanishedPolicy
from collector.model import Dataset, Facts, Observation, Poll, RunState
from collector.polling.repeats import fingerprint
from collector.testing.clock import START as ZERO
from tests.unit.polling.test_families import SPACE, Source, named, opened, run_id

FACTS = Facts(inputs=(Dataset(SPACE, "raw/sap/pumps"),), ids={"jobId": "7"})


@pytest.fixture
async def source(tmp_path: Path) -> AsyncIterator[Source]:
    made = await opened(tmp_path, VanishedPolicy.ABORT)
    yield made
    await made.store.close()


class Counted:
    """A ledger that counts how often runs are read whole."""

    def __init__(self, store: Any) -> None:
        self._store, self.pages, self.looks = store, 0, 0

    async def read(self, fn: Any, *args: Any, **kwargs: Any) -> Any:
        return await self._store.read(fn, *args, **kwargs)

    async def write(self, fn: Any, *args: Any, **kwargs: Any) -> Any:
        done = await self._store.write(fn, *args, **kwargs)
        if fn is commit_looks:
            self.looks += sum(map(len, args[1].values())) > len(done)
        else:
            self.pages += any(change.run for change in args[0].commit.changes)
        return done


async def ways(source: Source, *seen: Observation, **more: Any) -> tuple[int, int]:
    """How many commits took these in as a whole, and how many as looks alone. `more` is of the page."""
    store = Counted(source.store)
    async for _ in source.writer.page(store, Poll(seen, **more), source.clock.now(), polled=True):  # type: ignore[arg-type]
        pass
    return store.pages, store.looks


WHOLE, LOOK = (1, 0), (0, 1)


async def known(source: Source, key: str) -> Any:
    return (await source.store.read(runs.by_keys, source.source_id, [key]))[key]


def running(source: Source, key: str = "a", **more: Any) -> Observation:
    source.clock.advance(10)
    return source.seen(key, RunState.RUNNING, **{"facts": FACTS, **more})


async def repeated(source: Source) -> None:
    """A run of which the next observation says nothing new."""
    assert await ways(source, running(source)) == WHOLE
    assert await ways(source, running(source)) == WHOLE, "it is seen for the first time that nothing changed"
    assert await ways(source, running(source)) == LOOK


async def test_nothing_is_kept_of_a_run_that_ended(source: Source) -> None:
    await repeated(source)
    assert source.writer.repeats._last
    await ways(source, source.seen("a", RunState.SUCCEEDED))
    assert not source.writer.repeats._last


async def test_a_repeat_notes_when_it_was_seen_and_nothing_else(source: Source) -> None:
    await repeated(source)
    before = await known(source, "a")
    source.clock.advance(5)
    assert await ways(source, running(source, due_at=source.clock.now() + timedelta(hours=1))) == LOOK
    after = await known(source, "a")
    assert after == replace(before, seen_at=source.clock.now(), due_at=after.due_at)
    assert after.due_at == source.clock.now() + timedelta(hours=1) - timedelta(seconds=10)


@pytest.mark.parametrize(
    "change",
    [
        {"facts": replace(FACTS, error="it waits")},
        {"facts": replace(FACTS, inputs=())},
        {"started_at": ZERO + timedelta(seconds=1)},
        {"queued_at": ZERO},
        {"handle": {"id": "8"}},
        {"ended_at": ZERO + timedelta(seconds=2)},
    ],
)
async def test_whatever_else_is_said_takes_the_long_way(source: Source, change: dict[str, Any]) -> None:
    await repeated(source)
    assert await ways(source, running(source, **change)) == WHOLE


async def test_an_end_takes_the_long_way(source: Source) -> None:
    await repeated(source)
    await source.see(source.seen("a", RunState.SUCCEEDED, settled=True))
    assert (await known(source, "a")).ended_at == source.clock.now()
    assert await ways(source, running(source)) == WHOLE, "the platform changed its mind: that is counted"


async def test_a_run_that_was_written_meanwhile_takes_the_long_way(source: Source) -> None:
    await repeated(source)
    await source.store.write(touched)
    assert await ways(source, running(source)) == WHOLE


def touched(conn: Connection) -> None:
    conn.execute(update(schema.run).values(updated_at=schema.run.c.updated_at + 1))


async def test_a_run_that_was_given_up_and_is_seen_again_stays_as_it_ended(source: Source) -> None:
    await repeated(source)
    for _ in range(3):
        source.clock.advance(10)
        await source.see(missing=("a",))
    ended = await known(source, "a")
    assert ended.ended_at is not None
    for _ in range(3):
        await ways(source, running(source))
    assert await known(source, "a") == replace(ended, misses=0)


async def test_a_run_that_was_missed_between_is_missed_no_more(source: Source) -> None:
    await repeated(source)
    await source.see(missing=("a",))
    assert (await known(source, "a")).misses == 1
    assert await ways(source, running(source)) == LOOK
    assert (await known(source, "a")).misses == 0


async def test_a_run_that_is_missing_and_seen_in_one_page_counts_as_missed(source: Source) -> None:
    await repeated(source)
    await ways(source, running(source), missing=("a",))
    assert (await known(source, "a")).misses == 1


async def test_a_look_that_was_asked_for_meanwhile_stays_due(source: Source) -> None:
    later = source.clock.now() + timedelta(hours=1)
    for _ in range(2):
        await ways(source, running(source, due_at=later))
    seen = running(source, due_at=later)
    source.clock.advance(5)
    now_ms = to_ms(source.clock.now())
    await source.store.write(runs.make_due, source.writer.lease(), source.source_id, ["a"], now_ms)
    assert await ways(source, seen) == LOOK
    assert to_ms((await known(source, "a")).due_at) == now_ms


async def test_what_changes_between_reading_and_writing_is_decided_anew(source: Source) -> None:
    await repeated(source)

    class Hasty(Counted):
        async def write(self, fn: Any, *args: Any, **kwargs: Any) -> Any:
            if fn is commit_looks:
                await source.see(replace(seen, seen_at=before, facts=replace(FACTS, error="it waits")))
            return await super().write(fn, *args, **kwargs)

    store = Hasty(source.store)
    before = source.clock.now()
    seen = running(source)
    async for _ in source.writer.page(store, Poll((seen,)), source.clock.now(), polled=True):  # type: ignore[arg-type]
        pass
    assert (store.looks, store.pages) == (0, 1)
    assert (await known(source, "a")).seen_at == source.clock.now()


async def test_only_those_that_were_written_meanwhile_take_the_long_way(source: Source) -> None:
    keys = ("a", "b", "c")
    for _ in range(2):
        await ways(source, *(running(source, key) for key in keys))
    await source.see(source.seen("b", RunState.WAITING, facts=FACTS))
    await source.see(source.seen("c", RunState.SUCCEEDED, facts=FACTS, settled=True))
    seen = [running(source, key) for key in keys]
    assert await ways(source, *seen) == (1, 1)
    found = await source.store.read(runs.by_keys, source.source_id, keys)
    assert [found[key].state for key in keys] == [RunState.RUNNING, RunState.RUNNING, RunState.SUCCEEDED]
    assert [found[key].seen_at for key in "ab"] == [one.seen_at for one in seen[:2]]


async def test_two_observations_of_one_run_in_a_page_take_the_long_way(source: Source) -> None:
    await repeated(source)
    assert await ways(source, running(source), running(source)) == WHOLE


def test_an_observation_that_has_to_do_with_others_has_no_fingerprint() -> None:
    seen = observation("a", RunState.RUNNING)
    assert fingerprint(seen) is not None
    assert fingerprint(replace(seen, state=RunState.FAILED)) is None
    assert fingerprint(replace(seen, raw_state="\ud800")) is None


async def test_an_edition_stands_for_all_that_was_said(source: Source) -> None:
    assert await ways(source, running(source, edition=1)) == WHOLE
    assert await ways(source, running(source, edition=1)) == WHOLE
    assert await ways(source, running(source, edition=1, handle={"id": "8"})) == LOOK, (
        "no more than the edition is compared"
    )
    assert await ways(source, running(source, edition=2)) == WHOLE
    assert await ways(source, running(source)) == WHOLE
    assert fingerprint(running(source, edition=2, ended_at=ZERO)) == 2
    assert fingerprint(source.seen("a", RunState.FAILED, edition=2)) is None


async def test_observations_that_hold_again_are_seen_when_the_page_says(source: Source) -> None:
    first = [running(source, key, edition=number) for number, key in enumerate("abc")]
    await ways(source, *first)
    again = tuple(first)
    for way in (WHOLE, LOOK, LOOK, LOOK):
        source.clock.advance(10)
        now = source.clock.now()
        assert await ways(source, repeated=again, repeated_at=now) == way
        found = await source.store.read(runs.by_keys, source.source_id, "abc")
        assert {run.seen_at for run in found.values()} == {now}
    await source.store.write(touched)
    for way in (WHOLE, LOOK):
        source.clock.advance(10)
        assert await ways(source, repeated=again, repeated_at=source.clock.now()) == way
        assert (await known(source, "b")).seen_at == source.clock.now()


async def test_a_page_that_comes_again_after_one_of_its_runs_said_something_else(source: Source) -> None:
    again = tuple(running(source, key, edition=number) for number, key in enumerate("ab"))

    async def way() -> tuple[int, int]:
        source.clock.advance(10)
        return await ways(source, repeated=again, repeated_at=source.clock.now())

    assert [await way() for _ in range(4)] == [WHOLE, WHOLE, LOOK, LOOK]
    for _ in range(2):
        await ways(source, running(source, "a", edition=7, handle={"id": "8"}))
    assert await way() == (1, 1)
    await ways(source, source.seen("b", RunState.SUCCEEDED, settled=True))
    assert (await way())[0] == 1
    assert (await known(source, "b")).state is RunState.SUCCEEDED


async def test_a_page_of_nothing_but_repeats_is_one_commit(source: Source) -> None:
    first = running(source, edition=1)
    for _ in range(2):
        await ways(source, repeated=(first,), repeated_at=source.clock.now())
        source.clock.advance(10)
    committed: list[None] = []
    source.store.on_commit(lambda: committed.append(None))
    page = Poll(repeated=(first,), repeated_at=source.clock.now())
    assert [done async for done in source.writer.page(source.store, page, source.clock.now(), polled=False)] == []
    await source.store.write(lambda _: None)
    assert len(committed) == 2, "the look, and the one that waits for it"
    state = await source.store.read(runs.source_state, source.source_id)
    source.clock.advance(10)
    for polled in (False, True):
        async for _ in source.writer.page(source.store, Poll(), source.clock.now(), polled=polled):
            pass
        now = await source.store.read(runs.source_state, source.source_id)
        assert (now != state) is polled, "the end of a poll is noted whatever it brought"


async def test_a_run_that_is_made_anew_and_holds_again_in_one_page_takes_the_long_way(source: Source) -> None:
    first = running(source, edition=1)
    for _ in range(3):
        await ways(source, repeated=(first,), repeated_at=source.clock.now())
    changed = running(source, edition=2, handle={"id": "8"})
    assert await ways(source, changed, repeated=(first,), repeated_at=source.clock.now()) == WHOLE


async def test_runs_that_were_seen_within_one_millisecond(source: Source) -> None:
    for _ in range(3):
        seen = [running(source, key) for key in "ab"]
        seen[1] = replace(seen[0], key="b", run_id=seen[1].run_id, job=seen[1].job, seen_at=source.clock.now())
        seen[0] = replace(seen[0], seen_at=source.clock.now() + timedelta(microseconds=1))
        way = await ways(source, *seen)
    assert way == LOOK
    found = await source.store.read(runs.by_keys, source.source_id, "ab")
    assert {run.seen_at for run in found.values()} == {source.clock.now()}


def observation(key: str, state: RunState) -> Observation:
    return Observation(key, run_id(key), named(key), state, state.value, ZERO)


SAID = st.tuples(
    st.sampled_from("ab"),
    st.sampled_from([RunState.QUEUED, RunState.RUNNING, RunState.RUNNING, RunState.WAITING, RunState.FAILED]),
    st.sampled_from([None, None, None, "it waits"]),
    st.sampled_from([None, None, 3, 60]),
)
POLLS = st.lists(st.lists(SAID, max_size=3) | st.just("missing"), min_size=4, max_size=14)


@settings(max_examples=8, deadline=None)
@given(POLLS)
def test_the_short_way_leaves_the_ledger_as_the_long_way_does(polls: list[Any]) -> None:
    assert asyncio.run(rows_after(polls, short=True)) == asyncio.run(rows_after(polls, short=False))


async def rows_after(polls: list[Any], *, short: bool) -> list[Row[Any]]:
    with TemporaryDirectory() as folder:
        source = await opened(Path(folder), VanishedPolicy.ABORT)
        for said in polls:
            source.clock.advance(10)
            if not short:
                source.writer.repeats._last.clear()
            if said == "missing":
                await source.see(missing=("a",))
            else:
                await source.see(*(of(source, *one) for one in said))
        rows = await source.store.read(all_rows)
        await source.store.close()
    return rows


def of(source: Source, key: str, state: RunState, error: str | None, due: int | None) -> Observation:
    due_at = None if due is None else source.clock.now() + timedelta(seconds=due)
    return source.seen(key, state, facts=replace(FACTS, error=error), due_at=due_at)


def all_rows(conn: Connection) -> list[Row[Any]]:
    """Runs by what is stored of them, what is watched, and the events."""
    return [*conn.execute(select(schema.run)), *conn.execute(select(schema.watch)), *conn.execute(select(schema.event))]
