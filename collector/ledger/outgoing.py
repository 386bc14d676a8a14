"""An event as delivery gets it."""

from typing import Any

from sqlalchemy import ColumnElement, Row

from collector.ledger import schema
from collector.model import EventKind, Outgoing


def columns(
    source_id: ColumnElement[int], attempts: ColumnElement[int], fault: ColumnElement[str]
) -> list[ColumnElement[Any]]:
    """What `made` needs, from `schema.event` and whatever it is joined with."""
    event = schema.event
    return [
        event.c.strand_id,
        event.c.seq,
        event.c.run_id,
        source_id,
        event.c.kind,
        event.c.body,
        attempts,
        event.c.created_at,
        event.c.happened_at,
        fault,
    ]


def made(row: Row[*tuple[Any, ...]]) -> Outgoing:
    strand_id, seq, run_id, source_id, kind, body, attempts, committed_at, happened_at, fault = row
    return Outgoing(
        strand_id=strand_id,
        seq=seq,
        run_id=run_id,
        source_id=source_id,
        kind=EventKind(kind),
        body=bytes(body),
        attempts=attempts,
        committed_at=committed_at,
        happened_at=happened_at,
        fault=fault,
    )
