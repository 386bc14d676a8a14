"""A server that answers as wetransform's public API does."""

from collector.simulators.wetransform.examples import populate
from collector.simulators.wetransform.simulator import WetransformSimulator
from collector.simulators.wetransform.stories import Plan, Story
from collector.simulators.wetransform.webhooks import Webhook, sign

__all__ = ["Plan", "Story", "Webhook", "WetransformSimulator", "populate", "sign"]
