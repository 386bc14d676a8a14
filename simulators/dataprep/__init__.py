"""A simulated Google Cloud Dataprep by Trifacta: the v4 API over real HTTP, with scenarios that unfold against a clock."""

from simulators.dataprep.access import Token
from simulators.dataprep.examples import populate
from simulators.dataprep.scenarios import SCENARIOS, Scenario
from simulators.dataprep.simulator import DEFAULT_TOKEN, DataprepSimulator
from simulators.dataprep.switches import Feature, Level, Switches

__all__ = [
    "DEFAULT_TOKEN",
    "SCENARIOS",
    "DataprepSimulator",
    "Feature",
    "Level",
    "Scenario",
    "Switches",
    "Token",
    "populate",
]
