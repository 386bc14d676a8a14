"""What is decided beside the writes holds only as long as nobody else writes the same runs meanwhile."""

from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from collector.clock import to_ms
from collector.ledger import runs
from collector.lifecycle import VanishedPolicy
from collector.model import Enrichment, Facts, Observation, Parent, Poll, RunState
from collector.polling.commits import LOOKS, PART, TRIES, Found, parts
from collector.testing.clock import START as ZERO
from tests.unit.polling.test_families import SPACE, Source, events_of, named, opened, run_id


@pytest.fixture
async def source(tmp_path: Path) -> AsyncIterator[Source]:
    made = await opened(tmp_path, VanishedPolicy.LEAVE_OPEN)
    yield made
    await made.store.close()


class Interrupted:
    """A ledger in which something else happens after so many reads, before what was decided on them is written."""

    def __init__(self, store: Any, happens: Callable[[], Awaitable[object]], times: int = 1) -> None:
        self._store, self._happens, self.left = store, happens, times
        self.reads = self.writes = 0

    async def read(self, *args: Any, **kwargs: Any) -> Any:
        answer = await self._store.read(*args, **kwargs)
        self.reads += 1
        if self.left:
            self.left -= 1
            await self._happens()
        return answer

    async def write(self, *args: Any, **kwargs: Any) -> Any:
        self.writes += 1
        return await self._store.write(*args, **kwargs)


async def see(source: Source, store: Any, *seen: Observation, missing: tuple[str, ...] = ()) -> None:
    async for _ in source.writer.page(store, Poll(seen, missing=missing), source.clock.now(), polled=True):
        pass


async def test_an_end_between_reading_and_writing_is_not_made_twice(source: Source) -> None:
    await source.see(source.seen("a", RunState.RUNNING))
    await source.see(source.seen("a", RunState.SUCCEEDED))
    store = Interrupted(source.store, lambda: source.end("a"))
    await see(source, store, replace(source.seen("a", RunState.FAILED), raw_state="odd"))
    assert events_of(await source.delivered()) == [("a", "START"), ("a", "COMPLETE")]
    assert store.reads == 2, "decided again"
    assert (await source.store.read(runs.by_keys, source.source_id, ["a"]))["a"].state is RunState.SUCCEEDED


async def test_a_run_that_another_page_brought_meanwhile_gets_one_start(source: Source) -> None:
    store = Interrupted(source.store, lambda: source.see(source.seen("a", RunState.RUNNING)))
    await see(source, store, source.seen("a", RunState.SUCCEEDED, settled=True))
    assert events_of(await source.delivered()) == [("a", "START"), ("a", "COMPLETE")]


async def test_a_child_that_shows_up_meanwhile_keeps_its_parent_waiting(source: Source) -> None:
    await source.see(source.seen("flow/1", RunState.RUNNING))
    store = Interrupted(source.store, lambda: source.see(source.seen("a", RunState.RUNNING, "flow/1")))
    await see(source, store, source.seen("flow/1", RunState.SUCCEEDED, settled=True))
    await source.see(source.seen("a", RunState.SUCCEEDED, "flow/1", settled=True))
    await source.enrich_all()
    lines = events_of(await source.delivered())
    assert lines == [("flow/1", "START"), ("a", "START"), ("a", "COMPLETE"), ("flow/1", "COMPLETE")]


async def test_the_ledger_keeps_no_secret_that_details_brought(source: Source) -> None:
    """Events are made without secrets, whatever the ledger holds; its file must not hold them either."""
    await source.see(source.seen("a", RunState.FAILED))
    facts = Facts(error="refused: password=hunter2secret", parameters=(("api_key", "hunter3secret"),))
    problem = "no details: token=hunter4secret"
    await source.writer.ends(source.store, {"a": Found(Enrichment(facts), problem)}, source.clock.now())
    folder = source.store.path.parent
    kept = b"".join(file.read_bytes() for file in folder.glob("lineage.db*"))
    assert b"refused: password=***" in kept
    for number in (2, 3, 4):
        assert f"hunter{number}secret".encode() not in kept


async def test_a_hint_that_comes_meanwhile_is_not_lost(source: Source) -> None:
    due_at = source.clock.now() + timedelta(hours=1)
    await source.see(source.seen("a", RunState.RUNNING, due_at=due_at))
    source.clock.advance(1)
    looked = source.seen("a", RunState.RUNNING, due_at=due_at)
    source.clock.advance(5)
    now_ms = to_ms(source.clock.now())

    async def hint() -> None:
        lease = source.writer.lease()
        assert await source.store.write(runs.make_due, lease, source.source_id, ["a"], now_ms) == 1

    await see(source, Interrupted(source.store, hint), looked)
    known = (await source.store.read(runs.by_keys, source.source_id, ["a"]))["a"]
    assert known.due_at == source.clock.now(), "it was asked for after the platform said what was read"


async def test_what_changes_again_and_again_is_decided_inside_the_write(source: Source) -> None:
    await source.see(source.seen("a", RunState.RUNNING))
    ticks = iter(range(100))

    async def changes() -> None:
        await source.see(source.seen("a", RunState.RUNNING, facts=Facts(error=f"{next(ticks)}")))

    store = Interrupted(source.store, changes, times=100)
    await see(source, store, source.seen("a", RunState.SUCCEEDED, settled=True))
    assert (store.reads, store.writes) == (TRIES, TRIES + 1)
    assert events_of(await source.delivered()) == [("a", "START"), ("a", "COMPLETE")]


async def test_a_long_page_is_committed_in_parts_and_moves_the_cursor_at_last(source: Source) -> None:
    seen = tuple(source.seen(f"{number}", RunState.RUNNING) for number in range(2 * PART + 1))
    cursors, events = [], 0
    page = Poll(seen, cursor="moved")
    async for done in source.writer.page(source.store, page, source.clock.now(), polled=True):
        state = await source.store.read(runs.source_state, source.source_id)
        cursors.append((state.cursor, state.polled_at))
        events += len(done.events)
    assert cursors == [(None, None), (None, None), ("moved", to_ms(source.clock.now()))]
    assert events == len(seen)


async def commits(source: Source, *seen: Observation) -> int:
    page = Poll(seen)
    return len([done async for done in source.writer.page(source.store, page, source.clock.now(), polled=True)])


async def test_looks_that_change_nothing_are_committed_by_the_hundred(source: Source) -> None:
    looks = tuple(source.seen(f"{number}", RunState.RUNNING) for number in range(LOOKS))
    assert await commits(source, *looks) == LOOKS // PART
    assert await commits(source, *looks) == 1
    assert await commits(source, *looks, source.seen("new", RunState.RUNNING)) == 2
    ends = tuple(source.seen(f"{number}", RunState.SUCCEEDED, settled=True) for number in range(2 * PART))
    assert await commits(source, *ends, *looks[2 * PART : 3 * PART]) == 3
    assert await commits(source, *looks[: 2 * PART]) == 2, "what ended is not watched"
    odd = tuple(replace(seen, raw_state="odd") for seen in looks[2 * PART : 4 * PART])
    assert await commits(source, *odd) == 2, "the platform's word for it changed"


def observation(key: str, parent: str | None) -> Observation:
    above = None if parent is None else Parent(run_id(parent), SPACE, "flow", key=parent)
    return Observation(key, run_id(key), named(key), RunState.RUNNING, "running", ZERO, parent=above)


keys = st.sampled_from("abcdefgh")


@given(st.lists(st.tuples(keys, st.none() | keys), max_size=20), st.integers(1, 5))
def test_parts_keep_families_together_and_lose_nothing(pairs: list[tuple[str, str | None]], most: int) -> None:
    page = Poll(tuple(observation(key, parent) for key, parent in pairs), cursor="c", missing=("m",), unread=("u",))
    some = parts(page, most)
    assert sorted(map(id, page.observations)) == sorted(id(seen) for part in some for seen in part.observations)
    assert replace(some[-1], observations=page.observations) == page
    assert all(part == Poll(part.observations) for part in some[:-1])
    place = {
        key: {n for n, part in enumerate(some) for seen in part.observations if seen.key == key} for key, _ in pairs
    }
    assert all(len(where) == 1 for where in place.values()), "several observations of a run go together"
    last = {key: parent for key, parent in pairs if parent is not None}
    assert all(place[key] == place[parent] for key, parent in last.items() if parent in place)
    for part in some:
        orders = [
            [seen for seen in page.observations if seen in part.observations and seen.key == key] for key in place
        ]
        assert all(
            order == [seen for seen in part.observations if seen.key == key]
            for order, key in zip(orders, place, strict=True)
        )


@pytest.mark.parametrize(
    ("parents", "lengths"),
    [
        ([None] * 7, [3, 3, 1]),
        ([None, None, "0", "0", "0"], [4, 1]),
        ([None, None, None, "2", "2", "2", None], [2, 4, 1]),
        ([], [0]),
    ],
)
def test_parts_are_as_long_as_they_may_be_and_longer_only_for_a_family(
    parents: list[str | None], lengths: list[int]
) -> None:
    page = Poll(tuple(observation(str(number), parent) for number, parent in enumerate(parents)))
    assert [len(part.observations) for part in parts(page, 3)] == lengths


async def test_a_key_that_the_ledger_cannot_store_as_it_is_has_one_life(source: Source) -> None:
    """NUL and half a surrogate pair, in a run that is there again with each poll, and in its child."""
    odd = "flow/\0\ud8001"
    for state in (RunState.RUNNING, RunState.RUNNING, RunState.SUCCEEDED, RunState.SUCCEEDED):
        flow, child = source.seen("flow/1", state, settled=True), source.seen("a\0", state, "flow/1", settled=True)
        assert child.parent is not None
        await source.see(replace(flow, key=odd), replace(child, parent=replace(child.parent, key=odd)))
    await source.enrich_all()
    lines = events_of(await source.delivered())
    assert lines == [("flow/?1", "START"), ("a", "START"), ("a", "COMPLETE"), ("flow/?1", "COMPLETE")]
    assert set(await source.store.read(runs.by_keys, source.source_id, ["flow/?1", "a"])) == {"flow/?1", "a"}


async def test_a_run_under_an_odd_key_that_is_gone_is_missed(source: Source) -> None:
    for _ in range(2):
        await source.see(source.seen("a\0", RunState.RUNNING))
    await source.see(missing=("a\0",))
    assert (await source.store.read(runs.by_keys, source.source_id, ["a"]))["a"].misses == 1
