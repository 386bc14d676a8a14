"""What the rigs of our platforms have in common: each is a simulator with an adapter, served over loopback."""

from typing import Any, Generic, Protocol, TypeVar

from collector.testing.clock import SimulatedClock
from collector.testing.faults import Faults
from collector.testing.poller import SimulatedPoller
from simulators.server import Served


class _Simulated(Protocol):
    simulator: Any
    served: Served
    clock: SimulatedClock


T = TypeVar("T", bound=_Simulated)


class SimulatorRig(Generic[T]):
    """`rig` is the platform's own, `changed` its configuration where it is not the usual one."""

    def __init__(self, rig: T, poller: SimulatedPoller, changed: dict[str, Any]) -> None:
        self._rig, self._lives, self._changed = rig, poller, changed

    @property
    def faults(self) -> Faults:
        made: Faults = self._rig.simulator.faults
        return made

    @property
    def clock(self) -> SimulatedClock:
        return self._rig.clock

    @property
    def poller(self) -> SimulatedPoller:
        return self._lives

    async def stop_server(self) -> None:
        await self._rig.served.__aexit__()

    def expected(self) -> dict[str, dict[str, Any]]:
        return {run["key"]: run for run in self._rig.simulator.expected_runs()}
