"""A simulated Google Cloud Dataprep by Trifacta: the v4 API over real HTTP, with stories that unfold against a clock."""

from simulators.dataprep.access import Token
from simulators.dataprep.examples import populate
from simulators.dataprep.simulator import DEFAULT_TOKEN, DataprepSimulator
from simulators.dataprep.scenarios import STORIES, Story
from simulators.dataprep.switches import Feature, Level, Switches

__all__ = [
    "DEFAULT_TOKEN",
    "STORIES",
    "DataprepSimulator",
    "Feature",
    "Level",
    "Story",
    "Switches",
    "Token",
    "populate",
]
