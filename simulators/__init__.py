"""Servers that answer as the real platforms and backends do: for the demo, for our tests and for other people's."""

__version__ = "0.1.0"
