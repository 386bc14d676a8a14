"""A server that answers as wetransform's public API does."""

from simulators.wetransform.examples import populate
from simulators.wetransform.scenarios import Plan, Scenario
from simulators.wetransform.simulator import WetransformSimulator
from simulators.wetransform.webhooks import Webhook, sign

__all__ = ["Plan", "Scenario", "Webhook", "WetransformSimulator", "populate", "sign"]
