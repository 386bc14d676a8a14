"""A simulated CDF project: transformations, jobs, schedules, workflow executions and its identity provider."""

from simulators.cdf.entities import Job, Transformation, WorkflowExecution
from simulators.cdf.examples import populate
from simulators.cdf.identity import READ, WORKFLOWS, WRITE, Identity
from simulators.cdf.modes import Modes, Order, OverLimit
from simulators.cdf.scenarios import CANCELLED_TEXT, Ending, Scenario, varied_scenario
from simulators.cdf.simulator import CdfSimulator

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
    "Scenario",
    "Transformation",
    "WorkflowExecution",
    "populate",
    "varied_scenario",
]
