"""The adapters over minutes in which a third of all answers are mutants: polls end with errors of the source alone, and once the
answers are good again no run is lost, and each has one START and one end.
"""

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from random import Random
from typing import Any

import pytest

from collector.errors import SourceError
from collector.http import HttpClient, Received
from collector.lenient_json import parsed
from collector.model import EventKind
from collector.testing.clock import SimulatedClock
from collector.testing.poller import SimulatedPoller
from simulators.cdf import Modes
from simulators.cdf import Scenario as CdfScenario
from simulators.dataprep import Level
from simulators.dataprep import Scenario as DataprepScenario
from tests.cdf_rig import cdf_rig
from tests.dataprep_rig import dataprep_rig
from tests.mutations import mutants
from tests.wetransform_rig import watched, wetransform_rig

SEEDS = range(6)
SHARE = 0.35
BAD_CYCLES, RUNS = 14, 8
GOOD_CYCLES = 40
"""Five minutes each: a server may have asked for an hour of patience."""


class BadDay:
    """Answers are genuine unless it `lasts`."""

    def __init__(self, seed: int) -> None:
        self.rng, self.lasts = Random(seed), False

    def begin(self, monkeypatch: pytest.MonkeyPatch) -> None:
        exchanged = HttpClient._exchanged

        async def with_mutants(client: HttpClient, method: str, url: str, *more: Any) -> Received:
            got = await exchanged(client, method, url, *more)
            if not self.lasts or "/oauth2/" in url or self.rng.random() > SHARE:
                return got
            [mutant] = mutants(parsed(got.body), seed=self.rng.randrange(2**32), count=1)
            return Received(mutant.status, {**got.headers, **mutant.headers}, mutant.body)

        monkeypatch.setattr(HttpClient, "_exchanged", with_mutants)
        self.lasts = True


@dataclass(frozen=True, slots=True)
class Plant:
    """`start` a run that takes so many seconds: its key. `restart` makes the adapter anew."""

    poller: SimulatedPoller
    start: Callable[[float], Awaitable[str]]
    restart: Callable[[], Awaitable[object]]


@asynccontextmanager
async def cdf(_: int) -> AsyncIterator[Plant]:
    async with cdf_rig(Modes(concurrency_limit=None)) as rig:
        rig.simulator.add_transformation("pumps")

        async def start(seconds: float) -> str:
            return str(rig.simulator.start_run("pumps", CdfScenario(1, seconds)).id)

        yield Plant(rig.poller, start, rig.platform_again)


@asynccontextmanager
async def dataprep(seed: int) -> AsyncIterator[Plant]:
    level = (Level.L1, Level.L2)[seed % 2]  # without a list nothing is found
    async with dataprep_rig(level, stages=("runs", "facet")[seed // 2 % 2]) as rig:

        async def start(seconds: float) -> str:
            scenario = DataprepScenario(queued=(1.0, 1.0), stage=(seconds, seconds))
            return str(rig.simulator.start_run(scenario, recipe=7).id)

        async def restart() -> None:
            rig.restart()

        yield Plant(rig.poller, start, restart)


@asynccontextmanager
async def wetransform(_: int) -> AsyncIterator[Plant]:
    async with wetransform_rig(SimulatedClock()) as rig:
        poller = rig.poller(discover=True)

        async def start(seconds: float) -> str:
            run = rig.start(seconds=seconds)
            poller.adopt(await watched(poller, run))
            return str(run.key)

        async def restart() -> None:
            poller.restart(rig.adapter(discover=True))

        yield Plant(poller, start, restart)


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("platform", [cdf, dataprep, wetransform], ids=lambda made: made.__name__)
async def test_no_run_is_lost_on_a_bad_day(platform: Any, seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    day = BadDay(seed)
    async with platform(seed) as plant:
        poller, started = plant.poller, list[str]()
        await poller.cycle()
        day.begin(monkeypatch)
        for number in range(BAD_CYCLES):
            if number < RUNS:
                day.lasts = False  # a person may be told that it did not work
                started.append(await plant.start(day.rng.choice((5, 40, 90))))
                day.lasts = True
            if number == BAD_CYCLES // 2:
                await plant.restart()
            with suppress(SourceError):
                await poller.cycle()
            poller.clock.advance(day.rng.choice((5, 30, 90)))
        day.lasts = False
        for _ in range(GOOD_CYCLES):
            poller.clock.advance(300)
            with suppress(SourceError):
                await poller.cycle()
        await poller.cycle()
        lives = {key: [kind for kind in poller.kinds(key) if kind not in _BETWEEN] for key in started}
    assert [key for key, life in lives.items() if life != [EventKind.START, EventKind.COMPLETE]] == []


_BETWEEN = {EventKind.OTHER, EventKind.RUNNING}
