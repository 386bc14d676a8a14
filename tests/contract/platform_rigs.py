"""What a platform's simulator and adapter must offer to take part in `test_platforms.py`, and who does.

A rig is one simulator served on loopback and one adapter, under simulated time. Add yours to `RIGS`, once for each
mode of your simulator in which the contract must hold.
"""

from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from typing import Any, Protocol

from collector.platforms.base import Platform
from simulators.server import Served
from tests.contract.rig_cdf import RIGS as CDF
from tests.contract.rig_dataprep import RIGS as DATAPREP
from tests.contract.rig_wetransform import RIGS as WETRANSFORM
from tests.simulated import Lives, SimulatedClock


class Rig(Protocol):
    endings: tuple[str, ...]
    """The ends that the platform knows, of succeeded, failed and canceled."""
    lists: bool
    """Whether the adapter finds runs that nobody told it about."""
    job: str
    """A job that can be triggered as often as one likes."""
    trigger_path: str
    """A regular expression for the request that starts a run, as in `Fault.path`."""

    @property
    def served(self) -> Served: ...

    @property
    def clock(self) -> SimulatedClock: ...

    @property
    def lives(self) -> Lives: ...

    def start(self, ending: str, seconds: float) -> str:
        """A new run that begins at once and ends so after about so many seconds ("never": it goes on). Its key."""
        ...

    def forget(self, key: str) -> None:
        """The platform loses this run."""
        ...

    def refuse(self) -> None:
        """From now on our credentials are refused."""
        ...

    def accept(self) -> None:
        """The credentials are good again."""
        ...

    async def new_process(self) -> Platform:
        """The adapter as after a restart, in place of the one before in `lives`."""
        ...

    def truth(self) -> dict[str, dict[str, Any]]:
        """The simulator's runs by key, see `simulators.server.Simulator.truth`."""
        ...


RIGS: dict[str, Callable[[], AbstractAsyncContextManager[Rig]]] = {
    **CDF,
    **WETRANSFORM,
    **DATAPREP,
}
