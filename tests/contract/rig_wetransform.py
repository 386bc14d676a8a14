"""wetransform's part in the contract of the platforms, in every mode of its simulator."""

from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from datetime import timedelta
from functools import partial
from typing import Any

from collector.platforms.base import Platform
from collector.testing.clock import SimulatedClock
from simulators.wetransform import Plan, Scenario
from simulators.wetransform.scenarios import GONE
from tests.contract.simulator_rig import SimulatorRig
from tests.wetransform_rig import TOKEN, WetransformRig, wetransform_rig

_SCENARIOS = {"succeeded": Scenario.STRAIGHT, "failed": Scenario.FAILING, "never": Scenario.STUCK}


class Rig(SimulatorRig[WetransformRig]):
    endings: tuple[str, ...] = ("succeeded", "failed")
    lists = False
    trigger_path = "POST .*/transformation/automation/"

    def __init__(self, rig: WetransformRig, changed: dict[str, Any]) -> None:
        super().__init__(rig, rig.poller(**changed), changed)
        customer = "cust-1" if "customer" in changed else None
        self._transformation = rig.simulator.state.add_transformation(rig.simulator.account, customer=customer)
        self.job = self._transformation.key

    def start(self, ending: str, seconds: float) -> str:
        """A run that never ends is past its queue at once."""
        plan = Plan(_SCENARIOS[ending], timedelta(seconds=0 if ending == "never" else seconds))
        return self._rig.simulator.start(self._transformation, plan).key

    def forget(self, key: str) -> None:
        self._rig.simulator.set_step(self._rig.simulator.state.runs[key], GONE)

    def refuse(self) -> None:
        self._rig.simulator.account.tokens = {"another"}

    def accept(self) -> None:
        self._rig.simulator.account.tokens = {TOKEN}

    async def new_process(self) -> Platform:
        await self.poller.platform.close()
        self.poller.platform = self._rig.adapter(**self._changed)
        return self.poller.platform


@asynccontextmanager
async def _rig(behaviour: dict[str, Any], *, path: str = "", **changed: Any) -> AsyncIterator[Rig]:
    """`behaviour` are switches of the simulator, `path` is added to its address, `changed` is configuration."""
    async with wetransform_rig(SimulatedClock()) as rig:
        rig.simulator.state.behaviour.change(behaviour)
        rig.url += path
        yield Rig(rig, changed)


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
