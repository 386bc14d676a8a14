"""A simulated CDF project: transformations, jobs, schedules, workflow executions and its identity provider."""

from collector.simulators.cdf.entities import Job, Transformation, WorkflowExecution
from collector.simulators.cdf.examples import populate
from collector.simulators.cdf.identity import READ, WORKFLOWS, WRITE, Identity
from collector.simulators.cdf.modes import Modes, Order, OverLimit
from collector.simulators.cdf.simulator import CdfSimulator
from collector.simulators.cdf.stories import CANCELLED_TEXT, Ending, Story, varied_story

__all__ = [
    "CANCELLED_TEXT",
    "READ",
    "WORKFLOWS",
    "WRITE",
    "CdfSimulator",
    "Ending",
    "Identity",
    "Job",
    "Modes",
    "Order",
    "OverLimit",
    "Story",
    "Transformation",
    "WorkflowExecution",
    "populate",
    "varied_story",
]
