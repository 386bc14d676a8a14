"""Sources and sinks as configured, and what becomes of sinks that come and go."""

from collections.abc import Iterable, Mapping

from sqlalchemy import Connection

from collector.model import EventKind


def sync_sources(conn: Connection, names: Iterable[str], now_ms: int) -> dict[str, int]:
    """Numbers of the configured sources; new ones are added, those that left are kept with all they have."""
    raise NotImplementedError


def sync_sinks(conn: Connection, wanted: Mapping[str, frozenset[EventKind]], now_ms: int) -> dict[str, int]:
    """Numbers of the configured sinks, each with the kinds of event it wants."""
    raise NotImplementedError


def mark_unclean(conn: Connection, sink_id: int, now_ms: int) -> None:
    """The sink's lease was taken over from a holder that had not given it back (`Lease.clean` is False)."""
    raise NotImplementedError
