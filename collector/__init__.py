"""Watches runs on managed platforms and turns their changes of state into OpenLineage events."""

__version__ = "0.1.0"
