"""Dataprep's part in the contract of the platforms, at every level and with the switches both ways."""

from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from functools import partial
from typing import Any

from collector.platforms.base import Platform
from simulators.dataprep import Feature, Level, Scenario, Switches, Token
from tests.contract.simulator_rig import SimulatorRig
from tests.dataprep_rig import TOKEN, DataprepRig, dataprep_rig

_SCENARIOS: dict[str, dict[str, Any]] = {
    "succeeded": {},
    "failed": {"fails": "writing"},
    "canceled": {"canceled": "running"},
    "never": {"stuck": True},
}


class Rig(SimulatorRig[DataprepRig]):
    endings: tuple[str, ...] = ("succeeded", "failed", "canceled")
    job = "1"
    trigger_path = "POST /v4/jobGroups$"

    def __init__(self, rig: DataprepRig, changed: dict[str, Any]) -> None:
        super().__init__(rig, rig.poller, changed)
        self.lists = Feature.LIST in rig.simulator.features

    def start(self, ending: str, seconds: float) -> str:
        """A stage that reads or transforms and one that writes follow each other."""
        scenario = Scenario(queued=(0, 0), stage=(seconds / 2, seconds / 2), **_SCENARIOS[ending])
        return str(self._rig.simulator.start_run(scenario, recipe=int(self.job)).id)

    def forget(self, key: str) -> None:
        workspace = self._rig.simulator.workspace
        workspace.delete(workspace.runs[int(key)])

    def refuse(self) -> None:
        self._rig.simulator.tokens.clear()

    def accept(self) -> None:
        self._rig.simulator.tokens[TOKEN] = Token()

    async def new_process(self) -> Platform:
        await self.poller.platform.close()
        self._rig.restart(**self._changed)
        return self.poller.platform


@asynccontextmanager
async def _rig(level: Level, switches: Switches | None = None, **changed: Any) -> AsyncIterator[Rig]:
    async with dataprep_rig(level, switches, **changed) as rig:
        yield Rig(rig, changed)


_AS_THE_TABLES_SAY = Switches(
    spec="empty",
    missing_status=400,
    deleted_status=400,
    details="object",
    reset_unit="s",
    dates="seconds",
    string_ids=True,
    case_sensitive=True,
    stage_times=True,
    error_text="workloadError",
    flow_embed=False,
    null_embedded_jobs=True,
    mixed_inputs_refused=True,
    outputs="planned",
    run_answer="short",
    stages_touch_group=True,
    sort="none",
    order="oldest",
    fields_strip_creator=True,
)
_ON_A_BAD_DAY = Switches(
    spec="missing",
    absent_status=403,
    expired_status=403,
    deleted_status=404,
    hidden_status=404,
    error_text="embed",
    sort="descending",
    order="shuffled",
    max_limit=30,
    strict_query=False,
    several_statuses=True,
    creator_bytes=14_000,
)

RIGS: dict[str, Callable[[], AbstractAsyncContextManager[Rig]]] = {
    "dataprep, library": partial(_rig, Level.L2),
    "dataprep, list": partial(_rig, Level.L1),
    "dataprep, run by run": partial(_rig, Level.L0),
    "dataprep, library, the other way": partial(_rig, Level.L2, _AS_THE_TABLES_SAY),
    "dataprep, list, the other way": partial(_rig, Level.L1, _AS_THE_TABLES_SAY),
    "dataprep, run by run, the other way": partial(_rig, Level.L0, _AS_THE_TABLES_SAY),
    "dataprep, library, on a bad day": partial(_rig, Level.L2, _ON_A_BAD_DAY, requests_per_minute=60),
    "dataprep, stages as runs": partial(_rig, Level.L2, stages="runs"),
}
