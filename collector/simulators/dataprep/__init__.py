"""A simulated Google Cloud Dataprep by Trifacta: the v4 API over real HTTP, with stories that unfold against a clock."""

from collector.simulators.dataprep.access import Token
from collector.simulators.dataprep.examples import populate
from collector.simulators.dataprep.simulator import DEFAULT_TOKEN, DataprepSimulator
from collector.simulators.dataprep.stories import STORIES, Story
from collector.simulators.dataprep.switches import Feature, Level, Switches

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
