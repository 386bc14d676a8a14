"""CDF's part in the contract of the platforms: its simulator's switches one way, and the other."""

from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from functools import partial
from typing import Any

from collector.platforms.base import Platform
from simulators.cdf import Ending, Modes, Order, OverLimit, Scenario
from tests.cdf_rig import CdfRig, cdf_rig
from tests.contract.simulator_rig import SimulatorRig

_ENDINGS = {"succeeded": Ending.COMPLETED, "failed": Ending.FAILED, "canceled": Ending.CANCELLED}


class Rig(SimulatorRig[CdfRig]):
    endings = tuple(_ENDINGS)
    lists = True
    job = "pumps"
    trigger_path = "/transformations/run"

    def __init__(self, rig: CdfRig, changed: dict[str, Any]) -> None:
        super().__init__(rig, rig.poller, changed)
        self._made = 0

    def start(self, ending: str, seconds: float) -> str:
        """In a separate transformation, as CDF runs each only once at a time."""
        self._made += 1
        query = "select key as externalId from landing.events"
        found = self._rig.simulator.add_transformation(f"job{self._made}", {"type": "events"}, query)
        ends = _ENDINGS.get(ending, Ending.COMPLETED)
        return str(
            self._rig.simulator.start_run(found.id, Scenario(0.0, None if ending == "never" else seconds, ends)).id
        )

    def forget(self, key: str) -> None:
        self._rig.simulator.remove(int(key))

    def refuse(self) -> None:
        self._rig.simulator.identity.client_secret = "another"
        self._rig.simulator.identity.revoke()

    def accept(self) -> None:
        self._rig.simulator.identity.client_secret = "simulated-secret"

    async def new_process(self) -> Platform:
        return await self._rig.platform_again(**self._changed)


@asynccontextmanager
async def _rig(modes: dict[str, Any], *, lifetime: float = 3600.0, **changed: Any) -> AsyncIterator[Rig]:
    async with cdf_rig(Modes(**modes), **changed) as rig:
        rig.simulator.identity.lifetime = lifetime
        rig.simulator.add_transformation("pumps", scenario=Scenario(0.0, 5.0))
        yield Rig(rig, changed)


_THE_OTHER_WAY = {
    "list_order": Order.OLDEST,
    "byids_shuffled": True,
    "duplicates_status": 400,
    "null_optionals": True,
    "over_limit": OverLimit.REFUSE,
    "second_run_status": 409,
    "private_jobs_listed": False,
    "jobs_vanish_with_transformation": False,
    "byids_job_details": False,
    "owner_is_object": False,
    "metrics_history": True,
    "cursor_lifetime": 60,
    "expires_in_as_text": True,
}

RIGS: dict[str, Callable[[], AbstractAsyncContextManager[Rig]]] = {
    "cdf": partial(_rig, {}),
    "cdf, read the less likely way": partial(_rig, _THE_OTHER_WAY),
    "cdf, in no order": partial(_rig, {"list_order": Order.SHUFFLED}),
    "cdf, short tokens and workflows": partial(_rig, {}, lifetime=90.0, workflows=True),
}
