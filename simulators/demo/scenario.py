"""What happens on the demo's simulated platforms: a plant's day in some dozens of runs, within ten seconds."""

import asyncio
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from itertools import cycle
from secrets import randbits
from typing import Any

from simulators import cdf as cdf_simulator
from simulators import dataprep as dataprep_simulator
from simulators import wetransform as wetransform_simulator
from simulators.cdf import CdfSimulator, Ending
from simulators.cdf import Scenario as Job
from simulators.dataprep import DataprepSimulator, Switches
from simulators.wetransform import Plan, Scenario, WetransformSimulator

Watch = Callable[[str], Awaitable[None]]
"""Puts a wetransform run under watch: that platform cannot list its runs."""
Trigger = Callable[[str], Awaitable[None]]
"""Has the collector start a run of a Dataprep recipe."""

ALIASES: list[dict[str, dict[str, str]]] = [
    {
        "match": {"namespace": "wetransform://*", "name": "sources/73ab4876-7734-47c1-87fd-e805ec99108d"},
        "replace": {"namespace": "sftp://files.nordic-pumps.example", "name": "outbox/spare-parts.xlsx"},
    },
    {
        "match": {"namespace": "wetransform://*", "name": "templates/*"},
        "replace": {"namespace": "gs://plant-landing", "name": "deliveries/*.csv"},
    },
    {
        "match": {"namespace": "cdf://*", "name": "raw/warehouse/*"},
        "replace": {"namespace": "bigquery", "name": "acme-plant.maintenance.*"},
    },
]
"""Where wetransform's source and results really lie, and what an extractor copies into RAW: they make one chain of the
three platforms.
"""


@dataclass(frozen=True, slots=True)
class Cast:
    """The three simulated platforms."""

    cdf: CdfSimulator
    wetransform: WetransformSimulator
    dataprep: DataprepSimulator

    @classmethod
    def made(cls) -> "Cast":
        """With run ids that no other demo has: two of them may show in one Marquez."""
        seed = randbits(48)
        cdf = CdfSimulator(seed=seed, now=_now)
        cdf_simulator.populate(cdf)
        # the same seed would make the same run ids
        wetransform = WetransformSimulator(seed=seed + 1, now=_now, transformations=0)
        wetransform_simulator.populate(wetransform)
        switches = Switches(error_text="workloadError")
        dataprep = DataprepSimulator(seed=seed + 2, now=_now, flows=0, switches=switches)
        dataprep_simulator.populate(dataprep.workspace)
        return cls(cdf, wetransform, dataprep)

    def expected_runs(self) -> dict[str, list[dict[str, Any]]]:
        """Every run by source, as the simulators know it."""
        return {
            "plant-a": self.cdf.expected_runs(),
            "customers": self.wetransform.expected_runs(),
            "prep": self.dataprep.expected_runs(),
        }

    def unfinished(self) -> int:
        """Runs that have yet to end."""
        states = [run["state"] for runs in self.expected_runs().values() for run in runs]
        return sum(state in {"queued", "running", "waiting"} for state in states)


def _now() -> datetime:
    return datetime.now(UTC)


_NO_NODE = (
    "Request with id 8c1f9f0e-52b1-9a6d-8a34-0d3c3c1be0a1 to POST"
    " https://westeurope-1.cognitedata.com/api/v1/projects/plant-a/models/instances failed with status 400:"
    " Cannot auto-create a direct relation to sp_plant:floc:1010-PUMP-07 in property functionalLocation"
    " of view sp_maintenance:Equipment/v1."
)
_NO_MEMORY = (
    "Job aborted due to stage failure: Task 11 in stage 4.0 failed 4 times, most recent failure:"
    " ExecutorLostFailure (executor 3 exited caused by one of the running tasks)"
    " Reason: Container killed on request. Exit code is 137"
)
_JOBS = (
    ("sap_functional_locations_to_model", Job(0.4, 2.5)),
    ("sap_work_orders_clean", Job(0.1, 0.2)),
    ("sap_equipment_to_model", Job(0.5, 3.0, Ending.FAILED, error=_NO_NODE)),
    ("spare_parts_to_model", Job(1.0, 4.0)),
    ("historian_tags_to_timeseries", Job(0.3, 2.0, Ending.CANCELLED)),
    (
        "work_orders_to_model",
        Job(0.6, 0.0, Ending.NEVER_STARTED, error="Table or view not found: clean.work_orders; line 8 pos 5"),
    ),
    ("historian_hourly_to_datapoints", Job(0.4, 3.0)),
    ("sap_equipment_to_model", Job(0.4, 2.0)),
    ("work_orders_to_model", Job(0.1, 0.2)),
    ("historian_tags_to_timeseries", Job(0.4, 1.5)),
    ("sap_functional_locations_to_model", Job(0.5, 2.0, Ending.FAILED, error=_NO_MEMORY)),
    ("pump_health_to_model", Job(0.5, 2.5)),
    ("spare_parts_to_model", Job(0.4, 1.5)),
    ("historian_hourly_to_datapoints", Job(0.1, 0.2)),
)
_FILES = (
    (0, Plan(Scenario.STRAIGHT, timedelta(seconds=4))),
    (1, Plan(Scenario.INSTANT, timedelta(milliseconds=300))),
    (2, Plan(Scenario.REVIEW, timedelta(seconds=6))),
    (1, Plan(Scenario.FAILING, timedelta(seconds=3))),
    (0, Plan(Scenario.SELECT, timedelta(seconds=5))),
    (2, Plan(Scenario.SKIPPING, timedelta(seconds=2))),
)
_UNREADABLE = "Column 'hours' holds values that are no numbers: '7,5h' (row 214), 'n/a' (row 388) and 11 more."
"""Why the files of the second transformation fail."""
_GROUPS: tuple[tuple[int, str, float | None], ...] = (
    (0, "complete", 0.04),
    (1, "quick", None),  # without a pace: at the request of the collector
    (2, "failed", 0.03),
    (0, "canceled", 0.04),
    (1, "partial", 0.03),
    (2, "validation_failed", 0.2),
    (0, "canceled_queued", 0.5),
    (2, "complete", 0.02),
    (1, "complete", 0.02),
    (0, "quick", 0.2),
    (2, "quick", 0.2),
    (1, "quick", 0.2),
    (2, "quick", 0.2),
    (0, "quick", 0.2),
)


async def play(cast: Cast, watch: Watch, trigger: Trigger, *, runs: int | None, pause: float = 0.22) -> None:
    """Start `runs` runs (without end for None), one platform after the other, `pause` seconds apart."""
    scenarios = zip(cycle(_JOBS), cycle(_FILES), cycle(_GROUPS), strict=False)
    started = 0
    for job, file, group in scenarios:
        for start in _round(cast, watch, trigger, job, file, group):
            await start()
            started += 1
            if started == runs:
                return
            await asyncio.sleep(pause)


def _round(
    cast: Cast,
    watch: Watch,
    trigger: Trigger,
    job: tuple[str, Job],
    file: tuple[int, Plan],
    group: tuple[int, str, float | None],
) -> Iterator[Callable[[], Awaitable[None]]]:
    async def transform() -> None:
        cast.cdf.start_run(*job)

    async def convert() -> None:
        run = cast.wetransform.start(cast.wetransform.transformations[file[0]], file[1])
        run.failure = _UNREADABLE
        await watch(run.key)

    async def prepare() -> None:
        number, scenario, pace = group
        recipe = sorted(cast.dataprep.workspace.recipes)[number]
        if pace is not None:
            cast.dataprep.start_run(scenario, recipe, pace=pace)
            return
        cast.dataprep.workspace.recipes[recipe].scenario = scenario
        await trigger(str(recipe))

    return iter((transform, convert, prepare))
