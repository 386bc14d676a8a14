"""Who takes part in the contract of platforms: our adapters on their simulators.

Add yours to `RIGS`, once for each mode of your simulator in which the contract must hold.
"""

from collections.abc import Callable
from contextlib import AbstractAsyncContextManager

from collector.testing.platforms import TriggerRig
from tests.contract.rig_cdf import RIGS as CDF
from tests.contract.rig_dataprep import RIGS as DATAPREP
from tests.contract.rig_wetransform import RIGS as WETRANSFORM

RIGS: dict[str, Callable[[], AbstractAsyncContextManager[TriggerRig]]] = {
    **CDF,
    **WETRANSFORM,
    **DATAPREP,
}
