"""wetransform: a service that maps files of customers into target formats. Its API reads one run at a time."""

from collector.platforms.wetransform.adapter import Wetransform, create
from collector.platforms.wetransform.steps import STATES

__all__ = ["STATES", "Wetransform", "create"]
