"""Runs of which a sink may know less than it was told: to be looked at after their terminal event."""

from collections.abc import Iterable

from sqlalchemy import Connection

from collector.ledger.leases import Lease
from collector.model import Outgoing


def due(conn: Connection, sink_id: int, now_ms: int, limit: int) -> list[Outgoing]:
    """Terminal events, acknowledged before, whose runs are to be looked at; `attempts` counts the looks."""
    raise NotImplementedError


def next_due(conn: Connection, sink_id: int) -> int | None:
    raise NotImplementedError


def resolve(conn: Connection, lease: Lease, sink_id: int, run_ids: Iterable[int]) -> None:
    """The sink knows these runs as they ended."""
    raise NotImplementedError


def postpone(conn: Connection, lease: Lease, sink_id: int, run_id: int, check_at_ms: int) -> None:
    raise NotImplementedError
