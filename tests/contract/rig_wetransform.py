"""wetransform's part in the contract of the platforms, in every mode of its simulator."""

from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from datetime import timedelta
from functools import partial
from typing import Any

from collector.platforms.base import Platform
from collector.testing.clock import SimulatedClock
from collector.testing.faults import Faults
from collector.testing.lives import Lives
from simulators.wetransform import Plan, Story
from simulators.wetransform.scenarios import GONE
from tests.wetransform_rig import TOKEN, Stage, on_stage

_STORIES = {"succeeded": Story.STRAIGHT, "failed": Story.FAILING, "never": Story.STUCK}


class Rig:
    endings: tuple[str, ...] = ("succeeded", "failed")
    lists = False
    trigger_path = "POST .*/transformation/automation/"

    def __init__(self, stage: Stage, changed: dict[str, Any]) -> None:
        self._stage, self._changed = stage, changed
        customer = "cust-1" if "customer" in changed else None
        self._transformation = stage.simulator.world.add_transformation(stage.simulator.account, customer=customer)
        self.job = self._transformation.key
        self._lives = stage.lives(**changed)

    @property
    def faults(self) -> Faults:
        return self._stage.simulator.faults

    async def stop_server(self) -> None:
        await self._stage.served.__aexit__()

    @property
    def clock(self) -> SimulatedClock:
        return self._stage.clock

    @property
    def lives(self) -> Lives:
        return self._lives

    def start(self, ending: str, seconds: float) -> str:
        """A run that never ends is past its queue at once."""
        plan = Plan(_STORIES[ending], timedelta(seconds=0 if ending == "never" else seconds))
        return self._stage.simulator.start(self._transformation, plan).key

    def forget(self, key: str) -> None:
        self._stage.simulator.set_step(self._stage.simulator.world.runs[key], GONE)

    def refuse(self) -> None:
        self._stage.simulator.account.tokens = {"another"}

    def accept(self) -> None:
        self._stage.simulator.account.tokens = {TOKEN}

    async def new_process(self) -> Platform:
        await self.lives.platform.close()
        self.lives.platform = self._stage.adapter(**self._changed)
        return self.lives.platform

    def expected(self) -> dict[str, dict[str, Any]]:
        return {run["key"]: run for run in self._stage.simulator.truth()}


@asynccontextmanager
async def _rig(behaviour: dict[str, Any], *, path: str = "", **changed: Any) -> AsyncIterator[Rig]:
    """`behaviour` are switches of the simulator, `path` is added to its address, `changed` is configuration."""
    async with on_stage(SimulatedClock()) as stage:
        stage.simulator.world.behaviour.change(behaviour)
        stage.url += path
        yield Rig(stage, changed)


_AS_IN_THE_EXAMPLES = {
    "start_status": 201,
    "product_on_success": True,
    "transformed_file_early": True,
    "signed_files": False,
    "html_without_accept": False,
    "hello_needs_token": False,
}
_THE_OTHER_WAY = {
    "refusal_status": 400,
    "manual_sources_may_run": True,
    "parallel_starts": "same",
    "foreign_status": 404,
    "wrong_customer_status": 404,
    "missing_status": 410,
    "malformed_id_status": 400,
    "customer_header_needed": False,
    "record_lifetime_seconds": 3600.0,
    "trashed_runs_stay": False,
    "full_list_entries": False,
    "newest_first": False,
    "changes_imported_at": False,
}

RIGS: dict[str, Callable[[], AbstractAsyncContextManager[Rig]]] = {
    "wetransform": partial(_rig, {}),
    "wetransform, as in the vendor's examples, in French": partial(_rig, _AS_IN_THE_EXAMPLES, path="/fr"),
    "wetransform, for a customer, with discovery": partial(_rig, {}, customer="ann@acme.example", discover=True),
    "wetransform, the other way, small budget": partial(
        _rig, _THE_OTHER_WAY, customer="cust-1", discover=True, requests_per_minute=120, burst=1
    ),
}
