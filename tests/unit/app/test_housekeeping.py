"""A ledger at its limit, retention, and a ledger that does not answer, in simulated time on a real file."""

import asyncio
import logging
from collections.abc import AsyncIterator, Callable
from contextlib import closing
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any, TypeVar

import pytest
from sqlalchemy import Connection, update

from collector.app.housekeeping import (
    EARLY_SWEEP_EVERY,
    LOOK,
    STUCK_AFTER,
    SWEEP_EVERY,
    Housekeeper,
    Share,
    sweep_every,
)
from collector.errors import LedgerCorrupt, LedgerError
from collector.ledger import (
    configured_sinks,
    configured_sources,
    overflow,
    queries,
    replicas,
    retention,
    schema,
    stored,
)
from collector.ledger.claims import Refused, Settlement
from collector.ledger.replicas import Replica
from collector.ledger.runs import NewEvent, RunChange
from collector.ledger.sqlite import file
from collector.ledger.sqlite.store import Store
from collector.model import RunState
from config.settings import Ledger as Settings
from tests.unit.exporters.delivery_simulation import open_store
from tests.unit.ledger.ledgers import ALL, COMPLETE, START, T0, Ledger, a_run

T = TypeVar("T")

LOOKBACK = timedelta(hours=1)
KIB = 1024
PATIENT = {"retention": "7d", "parked_retention": "30d"}


class SteppedClock:
    """Time that goes on only in `step`, which ends when the loop under test sleeps again."""

    def __init__(self) -> None:
        self.seconds = 0.0
        self.ahead = timedelta()
        self._asleep, self._awake = asyncio.Event(), asyncio.Event()

    def now(self) -> datetime:
        return T0 + timedelta(seconds=self.seconds) + self.ahead

    def monotonic(self) -> float:
        return self.seconds

    async def sleep(self, seconds: float) -> None:
        self._asleep.set()
        await self._awake.wait()
        self._awake.clear()

    async def step(self, seconds: float = LOOK) -> None:
        await self._asleep.wait()
        self._asleep.clear()
        self.seconds += seconds
        self._awake.set()
        await self._asleep.wait()


ME = Replica("test", "1", "x", frozenset({"source:source", "sink:a", "sink:b"}))


class House:
    """A ledger with one source and the sink `a`, and its housekeeper, which runs."""

    def __init__(self, store: Store) -> None:
        self.store, self.clock = store, SteppedClock()
        self.books = Ledger(None)  # type: ignore[arg-type] # it gets a connection in each transaction
        self.count = 0
        self.shares: dict[str, Share] = {}
        self.keeps = True

    async def do(self, fn: Callable[[Ledger], T]) -> T:
        def work(conn: Connection) -> T:
            self.books.conn, self.books.now = conn, int(self.clock.now().timestamp() * 1000)
            return fn(self.books)

        return await self.store.write(work)

    async def keep(self, room: int, **settings: Any) -> Housekeeper:
        """With room for so many bytes more than the ledger has now."""
        await self.store.truncate_log()
        size = await self.store.read(retention.size)
        wanted = Settings(**{**PATIENT, **settings})
        keeper = Housekeeper(
            wanted,
            self.store,
            self.clock,
            ME,
            lambda: self.keeps,
            lambda: {self.books.source: LOOKBACK},
            self.shares,
            self.park,
        )
        keeper.limit = size.used + room
        return keeper

    async def park(self, sink: str, room: int, cause: str) -> None:
        """As delivery does it, with nothing at the sink."""

        def parked(ledger: Ledger) -> None:
            lease, number = ledger.held[sink], ledger.sinks[sink]
            strands = overflow.oldest(ledger.conn, number, 0)
            overflow.park(ledger.conn, lease, number, strands, room, cause, ledger.now, rechecks=True)

        await self.do(parked)

    async def fill(self, runs: int, size: int = 10 * KIB) -> None:
        """Runs that began and ended, with two events of this size each."""
        for _ in range(runs):
            self.count += 1
            now_ms = int(self.clock.now().timestamp() * 1000)
            run = a_run(f"{self.count}", started_at=self.clock.now(), ended_at=self.clock.now())
            events = tuple(NewEvent(kind, bytes(size), now_ms) for kind in (START, COMPLETE))
            await self.do(lambda ledger, run=run, events=events: ledger.commit(RunChange(run, events)))  # type: ignore[misc]

    async def rows(self, table: str) -> int:
        return await self.do(lambda ledger: ledger.rows(table))


@pytest.fixture
async def house(tmp_path: Path) -> AsyncIterator[House]:
    made = House(open_store(tmp_path))
    await made.do(lambda ledger: ledger.configure(a=ALL))
    yield made
    await made.store.close()


def logged(caplog: pytest.LogCaptureFixture, event: str) -> int:
    return sum(record.getMessage() == event for record in caplog.records)


class Running:
    """The housekeeper's loop while the context lasts."""

    def __init__(self, keeper: Housekeeper) -> None:
        self._keeper = keeper

    async def __aenter__(self) -> None:
        self._task = asyncio.create_task(self._keeper.run())

    async def __aexit__(self, *_: object) -> None:
        self._task.cancel()
        await asyncio.gather(self._task, return_exceptions=True)


async def test_a_full_ledger_says_so_once_and_has_room_again_when_sinks_caught_up(
    house: House, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    keeper = await house.keep(300 * KIB)
    async with Running(keeper):
        await house.clock.step()
        assert not keeper.full
        await house.fill(20)
        for _ in range(5):
            await house.clock.step()
        said = str(keeper.full)
        assert "bytes are in use); polling pauses" in said
        assert f"of {keeper.limit:,} bytes" in said
        assert (logged(caplog, "ledger.filled"), logged(caplog, "ledger.freed")) == (1, 0)
        await house.do(lambda ledger: ledger.drain())
        for _ in range(int(EARLY_SWEEP_EVERY / LOOK) + 1):
            await house.clock.step()
        assert not keeper.full
    assert (logged(caplog, "ledger.filled"), logged(caplog, "ledger.freed")) == (1, 1)
    assert await house.rows("event") == 0


async def test_a_commit_after_which_the_ledger_is_full_pauses_polling_before_the_next_look(house: House) -> None:
    keeper = await house.keep(300 * KIB)
    committed = 0
    while await keeper.measure() is None:
        await house.fill(1)
        committed += 1
    assert keeper.full is not None
    assert keeper.size.used - keeper.limit < 60 * KIB, "one run of 20 KiB, with what is written around it"
    assert committed > 5
    await house.fill(1)
    said = keeper.full
    assert await keeper.measure() == said, "the loop looks again, each ten seconds"


async def test_room_is_kept_for_the_last_events_of_runs_that_ended(house: House) -> None:
    """Their details are asked for whether or not polling pauses."""
    keeper = await house.keep(500 * KIB)
    for number in range(30):
        ended = a_run(f"ended {number}", RunState.SUCCEEDED, enrich_until=T0)
        await house.do(lambda ledger, ended=ended: ledger.commit(RunChange(ended, ())))  # type: ignore[misc]
    said = await keeper.measure()
    assert "614,400 are kept for runs that just ended); polling pauses" in str(said)
    await house.do(lambda ledger: ledger.conn.execute(update(schema.run).values(ended_at=1)))
    await keeper.look()
    assert keeper.full is None


async def test_a_ledger_that_is_full_of_parked_events_says_so(house: House) -> None:
    def park_heads(ledger: Ledger) -> None:
        ledger.settle(Settlement(parked=tuple(Refused(item, "no") for item in ledger.claim(limit=100))))

    keeper = await house.keep(300 * KIB)
    await house.fill(20)
    for _ in range(2):
        await house.do(park_heads)
    async with Running(keeper):
        for _ in range(3):
            await house.clock.step()
    said = str(keeper.full)
    assert said.endswith("polling pauses; room is taken by 40 parked events, to be sent again or dropped")


async def test_nothing_is_looked_through_again_while_nothing_is_delivered(
    house: House, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    keeper = await house.keep(100 * KIB)
    await house.fill(20)
    for _ in range(100):
        await keeper.look()
        house.clock.seconds += LOOK
    assert logged(caplog, "ledger.swept") == 1
    assert await house.rows("event") == 40


async def test_while_sinks_catch_up_a_full_ledger_is_swept_now_and_then(
    house: House, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    keeper = await house.keep(100 * KIB)
    await house.fill(40)
    await keeper.look()
    for _ in range(13):
        some = await house.do(lambda ledger: ledger.claim(limit=1))
        await house.do(lambda ledger, some=some: ledger.deliver(*some))  # type: ignore[misc]
        await keeper.look()
        house.clock.seconds += LOOK
    assert keeper.full is not None
    assert logged(caplog, "ledger.swept") == 1 + 12 * LOOK // EARLY_SWEEP_EVERY


async def rewrite(house: House) -> None:
    """A commit that makes the write-ahead log longer, and the ledger not."""
    house.count += 1
    await house.do(lambda ledger: ledger.conn.execute(update(schema.sink).values(refused=house.count)))


async def test_the_write_ahead_log_counts_and_is_cut_off_before_polling_would_pause(house: House) -> None:
    keeper = await house.keep(100 * KIB)
    for _ in range(100):
        await rewrite(house)
    before = await house.store.read(retention.size)
    assert before.log > 200 * KIB
    assert before.log == house.store.path.with_name("ledger.db-wal").stat().st_size
    await keeper.look()
    assert keeper.full is None
    assert keeper.size.log < 100 * KIB
    keeper.limit = keeper.size.used
    await keeper.look()
    assert keeper.full is not None, "cutting it off was not enough"


async def test_a_log_that_a_reader_keeps_counts_as_room_that_is_taken(house: House) -> None:
    keeper = await house.keep(100 * KIB)
    with closing(file.connect_reader(house.store.path)) as reader:
        reader.execute("BEGIN")
        reader.execute("SELECT * FROM sink").fetchall()
        for _ in range(100):
            await rewrite(house)
        await keeper.look()
        assert keeper.full is not None
        assert keeper.size.log > 100 * KIB
    await keeper.look()
    assert keeper.full is None


async def test_what_every_sink_has_is_forgotten_early_before_polling_would_pause(
    house: House, caplog: pytest.LogCaptureFixture
) -> None:
    keeper = await house.keep(100 * KIB)
    await house.fill(20)
    await house.do(lambda ledger: ledger.drain())
    house.clock.seconds += 1
    await keeper.look()
    assert keeper.full is None
    assert logged(caplog, "ledger.filled") == 0
    assert await house.rows("event") == 0
    assert await house.rows("run") == 20, "they keep a repeated observation silent"


async def test_a_little_room_is_no_room_so_that_polling_does_not_stop_and_go(house: House) -> None:
    await house.fill(20)
    keeper = await house.keep(1)
    keeper.limit -= 1
    await keeper.look()
    assert keeper.full is not None
    keeper.limit += 8 * KIB
    await keeper.look()
    assert keeper.full is not None
    keeper.limit += 100 * KIB
    await keeper.look()
    assert keeper.full is None


async def test_retention_forgets_what_is_old_and_delivered(house: House) -> None:
    keeper = await house.keep(10_000 * KIB, retention="2h")
    async with Running(keeper):
        await house.fill(3)
        await house.do(lambda ledger: ledger.drain())
        await house.do(lambda ledger: ledger.happen("open", START))
        await house.do(lambda ledger: ledger.drain())
        await house.do(lambda ledger: ledger.happen("owed", START, COMPLETE))
        for _ in range(2):
            await house.clock.step(SWEEP_EVERY)
        assert await house.rows("event") == 9
        await house.clock.step(SWEEP_EVERY)
        assert await house.rows("event") == 3, "of the open run and those that are owed"
        await house.do(lambda ledger: ledger.happen("newest", START))
        await house.clock.step(SWEEP_EVERY)
        assert await house.rows("run") == 3


async def test_a_short_retention_is_kept_to_the_minute(house: House) -> None:
    keeper = await house.keep(10_000 * KIB, retention="5m")
    async with Running(keeper):
        await house.fill(3)
        await house.do(lambda ledger: ledger.drain())
        for _ in range(5):
            await house.clock.step(60)
        assert await house.rows("event") == 6
        await house.clock.step(60)
        assert await house.rows("event") == 0


@pytest.mark.parametrize(("retention", "every"), [("7d", 3600), ("10h", 3600), ("2h", 720), ("5m", 60), ("1s", 60)])
def test_sweeps_come_oftener_the_shorter_the_retention(retention: str, every: float) -> None:
    assert sweep_every(Settings.model_validate({"retention": retention}).retention) == every


async def test_a_run_outlives_its_events_while_its_source_could_read_it_again(house: House) -> None:
    """Twice as far as the source looks back or reads lists again, behind its newest run: however long nothing ran since."""
    keeper = await house.keep(10_000 * KIB, retention="10m")

    async def kept_after(passed: timedelta, runs: int = 0) -> int:
        house.clock.seconds += passed.total_seconds()
        await house.fill(runs)
        await house.do(lambda ledger: ledger.drain())
        await keeper.sweep(timedelta(minutes=10))
        return await house.rows("run")

    assert await kept_after(timedelta(), runs=1) == 1
    assert await kept_after(2 * LOOKBACK, runs=1) == 2
    assert await kept_after(timedelta(days=100)) == 2
    assert await house.rows("event") == 0
    assert await kept_after(timedelta(), runs=1) == 1


async def test_parked_events_have_a_retention_of_their_own_however_many_they_are(
    house: House, caplog: pytest.LogCaptureFixture
) -> None:
    def park_all(ledger: Ledger) -> None:
        parked = tuple(Refused(item, "no") for item in ledger.claim(limit=5000))
        ledger.settle(Settlement(parked=parked))

    keeper = await house.keep(100_000 * KIB)
    await house.do(
        lambda ledger: ledger.commit(
            *(RunChange(a_run(f"{n}", started_at=T0), (NewEvent(START, b"{}", ledger.now),)) for n in range(1200))
        )
    )
    await house.do(park_all)
    house.clock.seconds += timedelta(days=30).total_seconds()
    await keeper.sweep(timedelta(days=7))
    assert await house.rows("parked") == 1200
    house.clock.seconds += 1
    await keeper.sweep(timedelta(days=7))
    assert await house.rows("parked") == 0
    [swept] = [record for record in caplog.records if record.levelname == "WARNING"]
    assert swept.fields["parked"] == 1200  # type: ignore[attr-defined]


async def test_due_times_of_a_clock_that_ran_ahead_are_pulled_in(
    house: House, caplog: pytest.LogCaptureFixture
) -> None:
    await house.do(lambda ledger: ledger.happen("1", START))
    ahead = update(schema.lane).values(due_at=int(T0.timestamp() * 1000) + 86_400_000)
    await house.do(lambda ledger: ledger.conn.execute(ahead))
    assert await house.do(lambda ledger: ledger.heads()) == []
    async with Running(await house.keep(1000 * KIB)):
        await house.clock.step()
    assert await house.do(lambda ledger: ledger.heads()) == ["1 START"]
    assert logged(caplog, "ledger.times_moved") == 1


@pytest.mark.parametrize("back_to", [timedelta(), timedelta(hours=1)], ids=["another replica's clock", "partly back"])
async def test_a_clock_that_ran_ahead_between_two_looks_holds_up_no_open_run(house: House, back_to: timedelta) -> None:
    """From one look to the next the clock of the housekeeper goes forward all the time."""
    async with Running(await house.keep(1000 * KIB)):
        await house.clock.step()
        house.clock.ahead = timedelta(hours=3)
        seen = house.clock.now()
        await house.do(lambda ledger: ledger.happen("1", START, seen_at=seen))
        house.clock.ahead = back_to
        await house.clock.step()
        due = await house.do(lambda ledger: stored.tracked(ledger.conn, ledger.source, ledger.now, 10).runs)
        assert [run.key for run in due] == ["1"]


async def test_a_clock_that_is_set_back_holds_up_no_open_run(house: House) -> None:
    """Nor does the run's last look, which then lies ahead for good, once it is looked at again."""

    def due(ledger: Ledger) -> list[str]:
        return [run.key for run in stored.tracked(ledger.conn, ledger.source, ledger.now, 10).runs]

    house.clock.ahead = timedelta(hours=1)
    async with Running(await house.keep(1000 * KIB)):
        await house.clock.step()
        seen = house.clock.now()
        await house.do(lambda ledger: ledger.happen("1", START, seen_at=seen))
        house.clock.ahead = timedelta()
        assert await house.do(due) == []
        await house.clock.step()
        assert await house.do(due) == ["1"]
        await house.do(lambda ledger: ledger.happen("1", seen_at=seen))
        assert await house.do(due) == ["1"]


class Failing(Store):
    """Raises the given error, or hangs."""

    error: Exception | None = None
    hangs = False

    async def write(self, fn: Any, *args: Any, **kwargs: Any) -> Any:
        if self.error is not None:
            raise self.error
        if self.hangs:
            await asyncio.Event().wait()
        return await super().write(fn, *args, **kwargs)


@pytest.fixture
async def failing(house: House) -> Failing:
    house.store.__class__ = Failing
    assert isinstance(house.store, Failing)
    return house.store


async def test_a_ledger_in_trouble_is_logged_and_tried_again(
    house: House, failing: Failing, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    keeper = await house.keep(1000 * KIB)
    failing.error = LedgerError(
        "ledger x: no space left on its disk; nothing was committed. Writing continues once there is space"
    )
    async with Running(keeper):
        await house.clock.step()
        await house.clock.step()
        assert keeper.trouble == str(failing.error)
        assert logged(caplog, "ledger.interrupted") == 3
        failing.error = None
        await house.clock.step()
        assert not keeper.trouble
        assert logged(caplog, "ledger.recovered") == 1


async def test_a_corrupt_ledger_ends_the_process_for_a_new_start_to_set_it_aside(
    house: House, failing: Failing
) -> None:
    keeper = await house.keep(1000 * KIB)
    failing.error = LedgerCorrupt("ledger x: database disk image is malformed")
    with pytest.raises(LedgerCorrupt):
        await keeper.run()


async def test_liveness_notices_a_ledger_that_cannot_be_written(house: House, failing: Failing) -> None:
    keeper = await house.keep(1000 * KIB)
    async with Running(keeper):
        await house.clock.step()
        assert house.clock.monotonic() < keeper.expected_by
        failing.error = LedgerError("no")
        for _ in range(int((STUCK_AFTER + LOOK) / LOOK)):
            await house.clock.step()
        assert house.clock.monotonic() <= keeper.expected_by
        await house.clock.step()
        assert house.clock.monotonic() > keeper.expected_by


async def test_a_long_sweep_is_no_stuck_ledger(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    keeper = await house.keep(100_000 * KIB)
    real = retention.expire_events
    house.clock.seconds += 30 * 86_400

    def slow(conn: Connection, after: int, older_than_ms: int) -> retention.Swept:
        house.clock.seconds += STUCK_AFTER
        return real(conn, after, older_than_ms)

    monkeypatch.setattr(retention, "expire_events", slow)
    await house.fill(1)
    await keeper.sweep(timedelta(days=7))
    assert house.clock.monotonic() < keeper.expected_by


async def test_a_sink_beyond_its_share_pauses_polling_and_is_named(
    house: House, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    await house.do(lambda ledger: ledger.configure(a=ALL, b=ALL))
    keeper = await house.keep(100_000 * KIB)
    house.shares |= {"a": Share(200 * KIB, parks=False), "b": Share(1000 * KIB, parks=False)}
    await house.fill(9)
    await keeper.look()
    assert not keeper.full
    await house.fill(1)
    await keeper.look()
    assert str(keeper.full) == (
        "sink a is owed 204,800 bytes of events, and 204,800 is its share of the ledger (ledger_share); polling pauses until "
        "it has caught up"
    )
    await house.do(lambda ledger: ledger.deliver(*ledger.claim(limit=1)))
    await keeper.look()
    assert str(keeper.full).startswith("sink a is owed"), "a little room is not enough"
    await house.do(lambda ledger: ledger.deliver(*ledger.claim(limit=1)))
    await keeper.look()
    assert not keeper.full
    assert (logged(caplog, "ledger.filled"), logged(caplog, "ledger.freed")) == (1, 1)


async def test_a_full_ledger_names_the_sink_that_is_owed_most(house: House) -> None:
    await house.do(lambda ledger: ledger.configure(a=ALL, b=ALL))
    keeper = await house.keep(100 * KIB)
    await house.fill(20)
    await house.do(lambda ledger: ledger.drain("b"))
    await keeper.look()
    assert str(keeper.full).endswith("polling pauses; sink a is owed most, 409,600 bytes of events")


async def test_beyond_its_share_a_sinks_oldest_strands_are_parked_and_polling_goes_on(house: House) -> None:
    await house.do(lambda ledger: ledger.configure(a=ALL, b=ALL))
    keeper = await house.keep(100_000 * KIB)
    house.shares |= {"a": Share(200 * KIB, parks=True)}
    await house.fill(20)
    await keeper.look()
    assert keeper.full is None
    a, b = await house.do(lambda ledger: queries.sinks(ledger.conn))
    assert (a.pending, a.parked, a.owed_bytes) == (18, 22, 180 * KIB)
    assert (b.pending, b.parked, b.owed_bytes) == (40, 0, 400 * KIB)


async def test_what_no_live_replica_has_any_more_is_retired(house: House) -> None:
    keeper = await house.keep(10_000 * KIB)
    await house.do(lambda ledger: ledger.configure(a=ALL, old=ALL))
    other = Replica("other", "1", "y", frozenset({"sink:old"}))
    await house.do(lambda ledger: replicas.beat(ledger.conn, other))
    async with Running(keeper):
        await house.clock.step(LOOK)
        assert [row.retired_at for row in await house.do(lambda ledger: queries.sinks(ledger.conn))] == [None, None]
        await house.do(lambda ledger: replicas.leave(ledger.conn, other))
        await house.clock.step(LOOK)
    a, old = await house.do(lambda ledger: queries.sinks(ledger.conn))
    assert (a.retired_at is None, old.retired_at is None) == (True, False)


async def test_who_is_not_the_keeper_measures_and_removes_nothing(house: House) -> None:
    house.keeps = False
    keeper = await house.keep(100 * KIB, retention="2h")
    await house.fill(20)
    await house.do(lambda ledger: ledger.drain())
    async with Running(keeper):
        for _ in range(3):
            await house.clock.step(SWEEP_EVERY)
        assert keeper.full
        assert await house.rows("event") == 40
        house.keeps = True
        for _ in range(2):
            await house.clock.step(SWEEP_EVERY)
        assert not keeper.full
    assert await house.rows("event") == 0


async def test_a_sink_and_a_source_that_left_go_after_retention(house: House, caplog: pytest.LogCaptureFixture) -> None:
    keeper = await house.keep(10_000 * KIB, retention="2h")
    await house.do(lambda ledger: ledger.happen("open", START))
    await house.do(lambda ledger: configured_sinks.sync_sinks(ledger.conn, {}, ledger.now))
    await house.do(lambda ledger: configured_sources.sync_sources(ledger.conn, [], ledger.now))
    async with Running(keeper):
        await house.clock.step(SWEEP_EVERY)
        assert (await house.rows("sink"), await house.rows("source"), await house.rows("lane")) == (1, 1, 1)
        for _ in range(2):
            await house.clock.step(SWEEP_EVERY)
        assert (await house.rows("sink"), await house.rows("lane")) == (0, 0)
    assert (logged(caplog, "sink.removed"), logged(caplog, "source.abandoned")) == (1, 1)
