"""Writing runs down: new ones get their number and their strand, known ones are updated."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, bindparam, insert, select, update

from collector.ledger import detail, schema
from collector.ledger.rows import chunks
from collector.ledger.strands import generations, parent_key
from collector.model import Run


@dataclass(frozen=True, slots=True)
class Place:
    """Where a run is in the ledger, and which of its two events were made before."""

    id: int
    strand_id: int
    depth: int
    started: bool = False
    ended: bool = False


def places(conn: Connection, source_id: int, keys: Iterable[str]) -> dict[str, Place]:
    """Those of the runs that are known, by key."""
    found: dict[str, Place] = {}
    for some in chunks(sorted(set(keys))):
        rows = conn.execute(_PLACES, {"of_source": source_id, "keys": some})
        for key, run_id, strand_id, depth, started_at, ended_at in rows:
            found[key] = Place(run_id, strand_id, depth, started_at is not None, ended_at is not None)
    return found


_PLACES = select(*(schema.run.c[name] for name in ("key", "id", "strand_id", "depth", "started_at", "ended_at"))).where(
    schema.run.c.source_id == bindparam("of_source"), schema.run.c.key.in_(bindparam("keys", expanding=True))
)


def put(
    conn: Connection, source_id: int, runs: Sequence[Run], known: Mapping[str, Place], now_ms: int
) -> dict[str, Place]:
    """Write these runs; the places of all, known and new. A strand is fixed when a run is first written."""
    placed = dict(known)
    _update(conn, [(known[run.key].id, run) for run in runs if run.key in known], now_ms)
    new = {run.key: run for run in runs if run.key not in known}
    for generation in generations(new):
        some = [new[key] for key in generation]
        placed |= _insert(conn, source_id, some, [placed.get(parent_key(run) or "") for run in some], now_ms)
    return placed


def _update(conn: Connection, runs: Sequence[tuple[int, Run]], now_ms: int) -> None:
    if runs:
        conn.execute(_CHANGE, [{"of_id": run_id, **_columns(run, now_ms)} for run_id, run in runs])


_CHANGE = update(schema.run).where(schema.run.c.id == bindparam("of_id"))
"""Sets the columns that the rows name."""


def _insert(
    conn: Connection, source_id: int, runs: Sequence[Run], parents: Sequence[Place | None], now_ms: int
) -> dict[str, Place]:
    rows = [_row(source_id, run, parent, now_ms) for run, parent in zip(runs, parents, strict=True)]
    numbers = conn.scalars(_NEW, rows).all()
    roots = [number for number, parent in zip(numbers, parents, strict=True) if parent is None]
    for some in chunks(roots):
        conn.execute(_OWN_STRAND, {"roots": some})
    return {
        run.key: Place(number, parent.strand_id, parent.depth + 1) if parent else Place(number, number, 0)
        for run, number, parent in zip(runs, numbers, parents, strict=True)
    }


_NEW = insert(schema.run).returning(schema.run.c.id, sort_by_parameter_order=True)
_OWN_STRAND = (
    update(schema.run).where(schema.run.c.id.in_(bindparam("roots", expanding=True))).values(strand_id=schema.run.c.id)
)


def _row(source_id: int, run: Run, parent: Place | None, now_ms: int) -> dict[str, Any]:
    place = {"strand_id": parent.strand_id, "parent_id": parent.id, "depth": parent.depth + 1} if parent else _ROOT
    return {**_columns(run, now_ms), **place, "source_id": source_id, "last_seq": 0}


def _columns(run: Run, now_ms: int) -> dict[str, Any]:
    """A run that was last seen by a clock that ran ahead is due all the same, unless it asked for a later time."""
    columns = {**detail.columns(run), "updated_at": now_ms}
    if run.due_at is None and columns["poll_due_at"] is not None:
        columns["poll_due_at"] = min(columns["poll_due_at"], now_ms)
    return columns


_ROOT = {"strand_id": 0, "parent_id": None, "depth": 0}
"""A root is its own strand, under the number that it gets by being inserted."""
