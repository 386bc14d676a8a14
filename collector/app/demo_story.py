"""What happens on the demo's simulated platforms: some dozens of runs of every kind, within ten seconds."""

import asyncio
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from itertools import cycle
from typing import Any

from collector.simulators.cdf import CdfSimulator
from collector.simulators.cdf import Story as Job
from collector.simulators.cdf.examples import populate
from collector.simulators.cdf.stories import Ending
from collector.simulators.dataprep import DataprepSimulator
from collector.simulators.wetransform import WetransformSimulator
from collector.simulators.wetransform.stories import Plan, Story

Watch = Callable[[str], Awaitable[None]]
"""Puts a wetransform run under watch: that platform cannot list its runs."""


@dataclass(frozen=True, slots=True)
class Cast:
    """The three simulated platforms."""

    cdf: CdfSimulator
    wetransform: WetransformSimulator
    dataprep: DataprepSimulator

    @classmethod
    def made(cls, seed: int = 7) -> "Cast":
        cdf = CdfSimulator(seed=seed, now=_now)
        populate(cdf)
        wetransform = WetransformSimulator(seed=seed + 1, now=_now)  # the same seed would make the same run ids
        return cls(cdf, wetransform, DataprepSimulator(seed=seed + 2, now=_now))

    def truth(self) -> dict[str, list[dict[str, Any]]]:
        """Every run by source, as the simulators know it."""
        return {"plant-a": self.cdf.truth(), "customers": self.wetransform.truth(), "prep": self.dataprep.truth()}

    def unfinished(self) -> int:
        """Runs that have yet to end."""
        states = [run["state"] for runs in self.truth().values() for run in runs]
        return sum(state in {"queued", "running", "waiting"} for state in states)


def _now() -> datetime:
    return datetime.now(UTC)


_JOBS = (
    Job(0.4, 2.5),
    Job(0.1, 0.2),
    Job(0.5, 3.0, Ending.FAILED, error="Request failed with status 400: duplicate externalId 'pump-7'."),
    Job(1.0, 4.0),
    Job(0.3, 2.0, Ending.CANCELLED),
    Job(0.6, 0.0, Ending.NEVER_STARTED, error="Table or view not found: sap.pumps_old; line 1 pos 14"),
)
_PLANS = (
    Plan(Story.STRAIGHT, timedelta(seconds=4)),
    Plan(Story.INSTANT, timedelta(milliseconds=300)),
    Plan(Story.REVIEW, timedelta(seconds=6)),
    Plan(Story.FAILING, timedelta(seconds=3)),
    Plan(Story.SELECT, timedelta(seconds=5)),
    Plan(Story.SKIPPING, timedelta(seconds=2)),
)
_GROUPS = (
    ("complete", 0.04),
    ("quick", 0.2),
    ("failed", 0.03),
    ("canceled", 0.04),
    ("partial", 0.03),
    ("validation_failed", 0.2),
    ("canceled_queued", 0.5),
    ("complete", 0.02),
)


async def play(cast: Cast, watch: Watch, *, runs: int | None, pause: float = 0.22) -> None:
    """Start `runs` runs (without end for None), one platform after the other, `pause` seconds apart."""
    stories = zip(cycle(_JOBS), cycle(_PLANS), cycle(_GROUPS), strict=False)
    transformations, mappings = cycle(cast.cdf.transformations), cycle(cast.wetransform.transformations)
    started = 0
    for job, plan, (story, pace) in stories:
        for start in _round(cast, watch, (next(transformations), job), (next(mappings), plan), (story, pace)):
            await start()
            started += 1
            if started == runs:
                return
            await asyncio.sleep(pause)


def _round(
    cast: Cast, watch: Watch, job: tuple[int, Job], mapping: tuple[object, Plan], group: tuple[str, float]
) -> Iterator[Callable[[], Awaitable[None]]]:
    async def transform() -> None:
        cast.cdf.start_run(job[0], job[1])

    async def convert() -> None:
        run = cast.wetransform.start(mapping[0], mapping[1])  # type: ignore[arg-type]
        await watch(run.key)

    async def prepare() -> None:
        cast.dataprep.start_run(group[0], pace=group[1])

    return iter((transform, convert, prepare))
