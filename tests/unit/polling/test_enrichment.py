"""The ends of runs: asked about a few at a time, and never later than their deadline, on a real ledger in simulated time."""

import asyncio
from collections.abc import AsyncIterator, Mapping
from datetime import datetime, timedelta
from typing import Any

import orjson
import pytest
from sqlalchemy import Connection, select

from collector.errors import LedgerError, Throttled, Unavailable
from collector.ledger import queries, runs, schema
from collector.model import Enrichment, EventKind, Poll, Run, RunState
from collector.polling import enrichment
from collector.polling.commits import Committed, Found, Writer
from collector.polling.enrichment import AT_ONCE, LAST_CHANCE, LONGEST_HELD, LONGEST_PAUSE
from tests.e2e.pollers import INTERVAL
from tests.unit.polling.scripted_source import FIRST_POLL, ScriptedSource

WITHIN = 60.0
DUE = FIRST_POLL + WITHIN
POLLS = 10


async def never(run: Run) -> Enrichment:
    await asyncio.Event().wait()
    raise AssertionError


async def test_all_that_is_over_time_ends_at_its_deadline_though_no_details_come(scripted: ScriptedSource) -> None:
    asked: list[str] = []

    async def hanging(run: Run) -> Enrichment:
        asked.append(run.key)
        return await never(run)

    scripted.platform.enriches = hanging
    scripted.seen[1] = [scripted.run(str(number)) for number in range(60)]
    await scripted.advance(DUE - 0.001)
    assert scripted.reports.ends == []
    written = scripted.written("write_ends")
    await scripted.advance(DUE)
    assert scripted.reports.ends == scripted.reports.problems == [DUE] * 60
    assert len(written) == 1
    assert len(asked) == AT_ONCE, "one that is over time is not asked about"


async def test_never_more_than_a_few_are_asked_about_at_once(scripted: ScriptedSource) -> None:
    under_way: set[str] = set()
    most: list[int] = []

    async def slow(run: Run) -> Enrichment:
        under_way.add(run.key)
        most.append(len(under_way))
        await scripted.pollers.clock.sleep(float(run.key))
        under_way.remove(run.key)
        return Enrichment()

    scripted.platform.enriches = slow
    scripted.seen[1] = [scripted.run(str(seconds)) for seconds in range(1, 3 * AT_ONCE)]
    await scripted.advance(DUE)
    assert max(most) == AT_ONCE
    assert len(most) == 3 * AT_ONCE - 1


async def test_more_ends_than_can_be_asked_about_make_no_backlog(scripted: ScriptedSource) -> None:
    """Forty a minute with a platform that takes ten seconds for each, for some minutes."""

    async def slow(run: Run) -> Enrichment:
        await scripted.pollers.clock.sleep(10)
        return Enrichment()

    scripted.platform.enriches = slow
    scripted.seen = {poll: [scripted.run(f"{poll}/{number}") for number in range(20)] for poll in range(1, POLLS + 1)}
    await scripted.advance(INTERVAL * POLLS + DUE)
    assert len(scripted.reports.ends) == POLLS * 20
    polled = [at for at, _ in scripted.pollers.polls("scripted")][:POLLS]
    for number, at in enumerate(sorted(scripted.reports.ends)):
        assert at <= polled[number // 20] + WITHIN
    assert len(scripted.reports.problems) < len(scripted.reports.ends)


async def test_ends_share_commits_while_more_runs_wait_to_be_asked_about(scripted: ScriptedSource) -> None:
    async def quick(run: Run) -> Enrichment:
        await scripted.pollers.clock.sleep(0.01)
        return Enrichment()

    scripted.platform.enriches = quick
    scripted.seen[1] = [scripted.run(str(number)) for number in range(100)]
    written = scripted.written("write_ends")
    await scripted.advance(FIRST_POLL + 1)
    assert len(scripted.reports.ends) == 100
    assert max(scripted.reports.ends) <= FIRST_POLL + 100 / AT_ONCE * 0.01 + 0.05
    assert len(written) < 100 / AT_ONCE / 2


async def test_an_end_waits_for_others_only_briefly(scripted: ScriptedSource) -> None:
    async def first_alone(run: Run) -> Enrichment:
        return Enrichment() if run.key == "0" else await never(run)

    scripted.platform.enriches = first_alone
    scripted.seen[1] = [scripted.run(str(number)) for number in range(20)]
    await scripted.advance(FIRST_POLL + LONGEST_HELD + 0.01)
    assert len(scripted.reports.ends) == 1


async def test_what_ended_is_read_again_after_commits_only_and_not_for_each_run(
    scripted: ScriptedSource, monkeypatch: pytest.MonkeyPatch
) -> None:
    reads: list[int] = []
    ended = runs.ended

    def counted(conn: Connection, source_id: int, limit: int) -> list[runs.Ended]:
        found = ended(conn, source_id, limit)
        reads.append(len(found))
        return found

    async def quick(run: Run) -> Enrichment:
        await scripted.pollers.clock.sleep(0.05)
        return Enrichment()

    monkeypatch.setattr(runs, "ended", counted)
    scripted.platform.enriches = quick
    scripted.seen[1] = [scripted.run(str(number)) for number in range(100)]
    await scripted.advance(FIRST_POLL + INTERVAL - 1)
    assert len(scripted.reports.ends) == 100
    assert len([read for read in reads if read]) < 10


async def test_an_end_waits_for_its_details_and_no_longer(scripted: ScriptedSource) -> None:
    requests: list[float] = []

    async def slow(run: Run) -> Enrichment:
        requests.append(scripted.pollers.clock.monotonic())
        await scripted.pollers.clock.sleep(7)
        return Enrichment()

    scripted.platform.enriches = slow
    scripted.seen[1] = [scripted.run(str(number)) for number in range(AT_ONCE + 1)]
    await scripted.advance(DUE)
    assert requests == [FIRST_POLL] * AT_ONCE + [FIRST_POLL + 7]
    assert scripted.reports.ends == [FIRST_POLL + 7] * AT_ONCE + [FIRST_POLL + 14]
    assert scripted.reports.problems == []


async def test_what_is_asked_about_at_the_deadline_is_cut_and_its_slot_is_free(scripted: ScriptedSource) -> None:
    cut: list[str] = []

    async def hanging(run: Run) -> Enrichment:
        if not run.key.startswith("hangs"):
            return Enrichment()
        try:
            await asyncio.Event().wait()
        finally:
            cut.append(run.key)
        raise AssertionError

    scripted.platform.enriches = hanging
    scripted.seen = {1: [scripted.run(f"hangs {number}") for number in range(AT_ONCE)], 3: [scripted.run("later")]}
    await scripted.advance(DUE)
    assert len(cut) == AT_ONCE
    assert scripted.reports.ends == [DUE] * (AT_ONCE + 1)
    assert scripted.reports.problems == [DUE] * AT_ONCE


async def test_a_family_over_time_ends_whole_and_in_order(scripted: ScriptedSource) -> None:
    scripted.platform.enriches = never
    scripted.seen[1] = [scripted.run("flow"), scripted.run("a", parent="flow"), scripted.run("stage", parent="a")]
    await scripted.advance(DUE)
    assert scripted.reports.ends == [DUE] * 3
    assert await delivered(scripted) == ["stage", "a", "flow"]


async def test_a_parent_with_an_open_child_ends_at_its_deadline_with_the_details_that_came_before(
    scripted: ScriptedSource,
) -> None:
    scripted.seen[1] = [scripted.run("flow"), scripted.run("a", RunState.RUNNING, parent="flow")]
    await scripted.advance(DUE - 0.001)
    assert scripted.reports.ends == []
    await scripted.advance(DUE)
    assert (scripted.reports.ends, scripted.reports.problems) == ([DUE], [])


async def test_a_parent_ends_with_its_last_child(scripted: ScriptedSource) -> None:
    scripted.seen[1] = [scripted.run("flow"), scripted.run("a", RunState.RUNNING, parent="flow")]
    scripted.seen[2] = [scripted.run("a", parent="flow")]
    await scripted.advance(FIRST_POLL + INTERVAL)
    assert scripted.reports.ends == [FIRST_POLL + INTERVAL] * 2
    assert await delivered(scripted) == ["a", "flow"]


async def delivered(scripted: ScriptedSource) -> list[str]:
    """The runs of the terminal events, as strands have them."""

    def read(conn: Connection) -> list[bytes]:
        table = schema.event
        ends = select(table.c.body).where(table.c.kind == EventKind.COMPLETE)
        return list(conn.scalars(ends.order_by(table.c.strand_id, table.c.seq)))

    bodies: list[bytes] = await scripted.pollers.store.read(read)
    return [orjson.loads(body)["run"]["facets"]["lineageCollector_platformRun"]["runKey"] for body in bodies]


async def test_a_failure_is_tried_again_with_growing_pauses(scripted: ScriptedSource) -> None:
    requests: list[float] = []

    async def failing(run: Run) -> Enrichment:
        requests.append(scripted.pollers.clock.monotonic() - FIRST_POLL)
        if len(requests) < 5:
            raise Unavailable("no connection")
        return Enrichment()

    scripted.platform.enriches = failing
    scripted.seen[1] = [scripted.run("a")]
    await scripted.advance(DUE)
    assert requests == [0, 0.5, 1.5, 3.5, 7.5]
    assert (scripted.reports.ends, scripted.reports.problems) == ([FIRST_POLL + 7.5], [])


async def test_runs_whose_details_fail_hold_up_no_others(scripted: ScriptedSource) -> None:
    asking, most = 0, 0

    async def some_fail(run: Run) -> Enrichment:
        nonlocal asking, most
        asking, most = asking + 1, max(most, asking + 1)
        await scripted.pollers.clock.sleep(0.1)
        asking -= 1
        if run.key.startswith("fails"):
            raise Unavailable("503")
        return Enrichment()

    scripted.platform.enriches = some_fail
    failing = [scripted.run(f"fails {number}") for number in range(3 * AT_ONCE)]
    scripted.seen[1] = [*failing, *(scripted.run(str(number)) for number in range(AT_ONCE))]
    await scripted.advance(FIRST_POLL + 1.0)
    assert len(scripted.reports.ends) == AT_ONCE
    assert scripted.reports.problems == []
    await scripted.advance(DUE)
    assert most == AT_ONCE
    assert scripted.reports.ends[AT_ONCE:] == scripted.reports.problems
    assert len(scripted.reports.problems) == 3 * AT_ONCE


async def test_pauses_between_tries_grow_to_a_quarter_of_a_minute(scripted: ScriptedSource) -> None:
    asked: list[float] = []

    async def failing(run: Run) -> Enrichment:
        asked.append(scripted.pollers.clock.monotonic() - FIRST_POLL)
        raise Unavailable("no connection")

    scripted.platform.enriches = failing
    scripted.seen[1] = [scripted.run("a")]
    await scripted.advance(DUE)
    assert asked == [0, 0.5, 1.5, 3.5, 7.5, 15.5, 30.5, 45.5]


async def test_pauses_of_a_ledger_that_fails_again_begin_anew(scripted: ScriptedSource) -> None:
    scripted.seen = {1: [scripted.run("a")], 3: [scripted.run("b")]}
    for poll in (1, 3):
        began = FIRST_POLL + (poll - 1) * INTERVAL
        await scripted.advance(began - 0.1)
        written = scripted.written("write_ends", error=LedgerError("disk full"))
        await scripted.advance(began + 4)
        assert written == [began, began + 0.5, began + 1.5, began + 3.5]
        scripted.written("write_ends")
        await scripted.advance(began + INTERVAL)
    assert len(scripted.reports.ends) == 2


async def test_of_more_ends_than_are_looked_at_in_one_go_the_others_follow_at_once(
    scripted: ScriptedSource, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(enrichment, "MOST_LOOKED_AT", 2)
    scripted.seen[1] = [scripted.run(str(number)) for number in range(5)]
    await scripted.advance(FIRST_POLL)
    assert scripted.reports.ends == [FIRST_POLL] * 5


async def test_what_ended_is_read_again_where_the_ledger_could_not_be_read(
    scripted: ScriptedSource, monkeypatch: pytest.MonkeyPatch
) -> None:
    ended, failures = runs.ended, [LedgerError("disk I/O error")]

    def failing(conn: Connection, source_id: int, limit: int) -> list[runs.Ended]:
        found = ended(conn, source_id, limit)
        if found and failures:
            raise failures.pop()
        return found

    monkeypatch.setattr(runs, "ended", failing)
    scripted.seen[1] = [scripted.run("a")]
    await scripted.advance(FIRST_POLL + 1)
    assert scripted.reports.ends == [FIRST_POLL + 0.5]


async def test_the_platform_is_not_asked_sooner_than_it_said(scripted: ScriptedSource) -> None:
    requests: list[float] = []

    async def throttled(run: Run) -> Enrichment:
        requests.append(scripted.pollers.clock.monotonic() - FIRST_POLL)
        raise Throttled("429", after=25)

    scripted.platform.enriches = throttled
    scripted.seen[1] = [scripted.run("a")]
    await scripted.advance(DUE)
    assert requests == [0, 25, 50]
    assert scripted.reports.ends == [FIRST_POLL + 50], (
        "the next try would come too late, so that nothing is left to wait for"
    )
    assert scripted.reports.problems == scripted.reports.ends
    [skip] = await scripted.pollers.store.read(queries.skips, 10)
    assert skip.cause == "details of run a could not be read within 60 s: 429"


async def test_no_try_is_waited_for_that_would_come_at_the_deadline_itself(scripted: ScriptedSource) -> None:
    async def throttled(run: Run) -> Enrichment:
        raise Throttled("429", after=WITHIN / 2)

    scripted.platform.enriches = throttled
    scripted.seen[1] = [scripted.run("a")]
    await scripted.advance(DUE)
    assert scripted.reports.ends == [FIRST_POLL + WITHIN / 2]


async def test_an_end_is_written_once_while_others_are_asked_about(
    scripted: ScriptedSource, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of runs whose START went out before."""
    written, ends = list[str](), Writer.ends

    async def noted(writer: Writer, store: Any, found: Mapping[str, Found], at: datetime) -> Committed:
        written.extend(found)
        return await ends(writer, store, found, at)

    async def quick(run: Run) -> Enrichment:
        await scripted.pollers.clock.sleep(0.01)
        return Enrichment()

    monkeypatch.setattr(Writer, "ends", noted)
    scripted.platform.enriches = quick
    keys = [str(number) for number in range(25 * AT_ONCE)]
    for poll, state in enumerate((RunState.RUNNING, RunState.SUCCEEDED), 1):
        scripted.seen[poll] = [scripted.run(key, state) for key in keys]
    await scripted.advance(FIRST_POLL + 2 * INTERVAL - 1)
    assert sorted(written) == sorted(keys)


async def test_after_a_restart_what_is_over_time_gets_one_last_chance(scripted: ScriptedSource) -> None:
    """A run that was over time already is asked about for ten seconds; one that comes to its deadline later is not."""
    scripted.platform.enriches = never
    scripted.seen = {1: [scripted.run("old")], 2: [scripted.run("young")]}
    await scripted.advance(FIRST_POLL + INTERVAL)
    requests: dict[str, float] = {}

    async def noting(run: Run) -> Enrichment:
        requests.setdefault(run.key, scripted.pollers.clock.monotonic())
        return await never(run)

    await scripted.pollers.stop("scripted")
    scripted.pollers.clock.wall += timedelta(seconds=WITHIN - 5)
    restarted = scripted.pollers.clock.monotonic()
    scripted.platform.enriches = noting
    await scripted.pollers.add("scripted", scripted.platform)
    await scripted.advance(restarted + 5 - 0.001)
    assert requests == {"old": restarted, "young": restarted}
    assert scripted.reports.ends == []
    await scripted.advance(restarted + LAST_CHANCE - 0.001)
    assert scripted.reports.ends == [restarted + 5]
    await scripted.advance(restarted + LAST_CHANCE)
    assert scripted.reports.ends == [restarted + 5, restarted + LAST_CHANCE]


async def test_after_a_restart_runs_end_though_the_platform_lists_nothing(scripted: ScriptedSource) -> None:
    """No poll is committed that would say that there is something to do."""
    scripted.platform.enriches = never
    scripted.seen[1] = [scripted.run("old")]
    await scripted.advance(FIRST_POLL + 1)
    await scripted.pollers.stop("scripted")

    async def unavailable(number: int) -> AsyncIterator[Poll]:
        if number > 1:
            raise Unavailable("502")
        yield Poll()

    scripted.platform.script, scripted.platform.enriches = unavailable, None
    restarted = scripted.pollers.clock.monotonic()
    await scripted.pollers.add("scripted", scripted.platform)
    await scripted.advance(restarted + 5)
    assert scripted.reports.ends == [restarted]


async def test_details_outlast_a_ledger_that_takes_nothing(scripted: ScriptedSource) -> None:
    """They were asked for once and in time, so that they are written when that can be, with no problem and at once."""
    requests: list[str] = []

    async def quick(run: Run) -> Enrichment:
        requests.append(run.key)
        return Enrichment()

    scripted.platform.enriches = quick
    scripted.seen[1] = [scripted.run("a")]
    written = scripted.written("write_ends", error=LedgerError("disk full"))
    await scripted.advance(FIRST_POLL + 2 * WITHIN)
    assert scripted.reports.ends == []
    assert 5 <= len(written) < 20
    scripted.written("write_ends")
    await scripted.advance(FIRST_POLL + 2 * WITHIN + LONGEST_PAUSE)
    assert requests == ["a"]
    assert (len(scripted.reports.ends), scripted.reports.problems) == (1, [])
