"""Watches runs on managed platforms and turns their changes of state into OpenLineage events."""

__version__ = "0.1.0"

api_version = 1
"""The version of the API for plug-ins: the ports of platforms and sinks, their arguments, `config.base.Model` and
`collector.testing`. It grows when something is added that a plug-in may depend on.
"""

oldest_api_version = 1
"""Plug-ins that are written for this version or a later one still work."""
