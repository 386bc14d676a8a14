"""A Marquez 0.51 in memory, held to the behaviour of the real one; no kinder."""

from simulators.marquez.server import MarquezSimulator

__all__ = ["MarquezSimulator"]
