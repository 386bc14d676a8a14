"""Times from the future: a row dated ahead, a server's clock that ran fast and was mended, a mark that lies ahead."""

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass
from datetime import timedelta

import orjson
import pytest

from collector.clock import to_ms
from collector.model import EventKind, SkipKind
from collector.testing.clock import ServerClock, SimulatedClock
from collector.testing.poller import SimulatedPoller
from simulators.cdf import Modes
from simulators.cdf import Scenario as CdfScenario
from simulators.dataprep import Level
from tests.cdf_rig import cdf_rig
from tests.dataprep_rig import dataprep_rig

HOUR, DAY = 3600.0, 86_400.0


@dataclass
class Stand:
    """A source under watch. `start` begins a run of seconds, dated so many seconds ahead of the server's clock; `mend`
    sets that clock right, and leaves dated what it dated.
    """

    poller: SimulatedPoller
    clock: SimulatedClock
    server: ServerClock
    start: Callable[[float], str]
    mend: Callable[[], None]
    restart: Callable[[], Awaitable[object]]

    async def follow(self, seconds: float, every: float = 15.0) -> None:
        await self.poller.follow(seconds, every=every)

    async def unreported(self, *, runs: int, every: float = 15.0) -> list[str]:
        """Those of so many runs, one every 40 seconds, whose end is not reported a minute after the last."""
        keys = []
        for _ in range(runs):
            keys.append(self.start(0))
            await self.follow(40, every=every)
        await self.follow(60, every=every)
        return [key for key in keys if self.poller.kinds(key)[-1:] != [EventKind.COMPLETE]]

    def counted(self) -> list[str]:
        return [skip.subject for skip in self.poller.skips if skip.kind is SkipKind.FUTURE]


@asynccontextmanager
async def cdf() -> AsyncIterator[Stand]:
    async with cdf_rig(Modes(concurrency_limit=None)) as rig:
        rig.simulator.add_transformation("pumps")

        def start(ahead: float) -> str:
            at = rig.server.now() + timedelta(seconds=ahead)
            return str(rig.simulator.start_run("pumps", CdfScenario(1, 4), at=at).id)

        def mend() -> None:
            rig.server.ahead = 0.0

        yield Stand(rig.poller, rig.clock, rig.server, start, mend, rig.platform_again)


@asynccontextmanager
async def dataprep(level: Level) -> AsyncIterator[Stand]:
    async with dataprep_rig(level) as rig:

        def start(ahead: float) -> str:
            at = rig.server.now() + timedelta(seconds=ahead)
            return str(rig.simulator.start_run("quick", at=at, lag=-ahead).id)

        def mend() -> None:
            for run in rig.simulator.workspace.runs.values():
                run.lag -= rig.server.ahead
            rig.server.ahead = 0.0

        async def restart() -> None:
            rig.restart()

        yield Stand(rig.poller, rig.clock, rig.server, start, mend, restart)


STANDS: dict[str, Callable[[], AbstractAsyncContextManager[Stand]]] = {
    "cdf": cdf,
    "dataprep L1": lambda: dataprep(Level.L1),
    "dataprep L2": lambda: dataprep(Level.L2),
}


@pytest.fixture(params=STANDS)
async def stand(request: pytest.FixtureRequest) -> AsyncIterator[Stand]:
    async with STANDS[request.param]() as made:
        await made.unreported(runs=1)
        yield made


@pytest.mark.parametrize("ahead", [600, 2 * HOUR, 400 * DAY])
async def test_a_row_from_the_future_is_taken_in_and_counted_once_and_moves_no_mark(stand: Stand, ahead: float) -> None:
    early = stand.start(ahead)
    await stand.follow(30)
    assert early in stand.poller.runs
    assert await stand.unreported(runs=10) == []
    [counted] = stand.counted()
    assert early in counted


async def test_nothing_is_lost_when_the_time_of_a_row_from_the_future_has_come(stand: Stand) -> None:
    stand.start(300)
    assert await stand.unreported(runs=10) == []


@pytest.mark.parametrize("every", [15.0, 100.0])
async def test_a_clock_that_ran_fast_and_was_mended_loses_nothing(
    stand: Stand, every: float, caplog: pytest.LogCaptureFixture
) -> None:
    stand.server.ahead = 600
    assert await stand.unreported(runs=3, every=every) == []
    assert "cursor_discarded" not in caplog.text
    stand.mend()
    assert await stand.unreported(runs=8, every=every) == []


async def test_a_clock_that_was_mended_while_nobody_looked_loses_nothing(stand: Stand) -> None:
    stand.server.ahead = 600
    assert await stand.unreported(runs=3) == []
    stand.mend()
    keys = []
    for _ in range(8):
        keys.append(stand.start(0))
        stand.clock.advance(240)
    await stand.restart()
    await stand.follow(120)
    assert [key for key in keys if stand.poller.kinds(key)[-1:] != [EventKind.COMPLETE]] == []


async def test_a_server_whose_clock_runs_fast_for_good_counts_nothing(stand: Stand) -> None:
    stand.server.ahead = 600
    await stand.follow(60)
    counted = stand.counted()
    assert await stand.unreported(runs=5) == []
    assert stand.counted() == counted


async def test_many_running_jobs_are_seen_beside_one_from_the_future() -> None:
    async with cdf_rig(Modes(concurrency_limit=None, retention_jobs=None)) as rig:
        rig.simulator.add_transformation("pumps")
        await rig.poller.cycle()
        rig.simulator.start_run("pumps", at=rig.clock.now() + timedelta(hours=5))
        await rig.poller.follow(600, every=30)
        for _ in range(1000):
            rig.simulator.start_run("pumps", CdfScenario(runs_for=None))
        await rig.poller.follow(60, every=30)
        assert len([run for run in rig.poller.runs.values() if run.started_at is not None]) == 1000


@pytest.mark.parametrize("ahead", [60, 3600, 40 * 86_400])
async def test_a_mark_of_an_older_version_that_lies_ahead_is_taken_back(stand: Stand, ahead: int) -> None:
    now = to_ms(stand.clock.now())
    lost = stand.start(0)
    stand.clock.advance(600)
    later, before = now + 600_000 + ahead * 1000, now - 1000
    old = {"v": 1, "newest": later, "since": before - 3_600_000, "walks": 7, "looked": before, "names": {}}
    old |= {"reached": before, "swept": before, "first": before - 3_600_000}
    if "since" in (known := orjson.loads(stand.poller.cursor or "")) and "newest" not in known:
        old["since"] = later
    stand.poller.cursor = orjson.dumps(old).decode()
    await stand.restart()
    assert await stand.unreported(runs=4) == []
    assert stand.poller.kinds(lost)[-1:] == [EventKind.COMPLETE]
