"""Writes runs: new ones get their number and their strand, known ones are updated."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from sqlalchemy import BigInteger, Connection, Update, bindparam, case, delete, insert, select, update

from collector.ledger import detail, restriction, schema
from collector.ledger.detail import WatchRow
from collector.ledger.restriction import Alone
from collector.ledger.statements import KEYS, changed, rows_of
from collector.ledger.statements import put as put_rows
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
    return {
        key: Place(run_id, strand_id, depth, started_at is not None, ended_at is not None)
        for key, run_id, strand_id, depth, started_at, ended_at in rows_of(
            conn, _PLACES, sorted(set(keys)), of_source=source_id
        )
    }


_PLACES = select(*(schema.run.c[name] for name in ("key", "id", "strand_id", "depth", "started_at", "ended_at"))).where(
    schema.run.c.source_id == bindparam("of_source"), schema.run.c.key.in_(KEYS)
)


def put(
    conn: Connection,
    source_id: int,
    runs: Sequence[Run],
    known: Mapping[str, Place],
    now_ms: int,
    alone: Alone | None = None,
) -> dict[str, Place]:
    """Write these runs; the places of all, known and new. A strand is fixed when a run is first written. With `alone`, new
    runs are for one sink, and so they join no strand that others get.
    """
    placed = dict(known)
    _update(conn, [(known[run.key].id, run) for run in runs if run.key in known], now_ms)
    new = {run.key: run for run in runs if run.key not in known}
    for generation in generations(new):
        some = [new[key] for key in generation]
        parents = [placed.get(parent_key(run) or "") for run in some]
        placed |= _added(conn, source_id, some, parents, now_ms, alone)
    _watch(conn, source_id, [(placed[run.key].id, run) for run in runs], now_ms)
    return placed


def put_looks(conn: Connection, looks: Iterable[tuple[int, WatchRow]]) -> None:
    """Of these open runs, by number, nothing changed but when they were seen, missed and are due."""
    rows = [{"of_id": run_id, **_values(row)} for run_id, row in looks]
    if rows:
        conn.execute(_LOOKED, rows)


_LOOKED = update(schema.watch).where(schema.watch.c.run_id == bindparam("of_id"))


def _values(row: WatchRow) -> dict[str, int | None]:
    return {"seen_at": row.seen_at, "due_at": row.due_at, "misses": row.misses}


def set_aside(conn: Connection, source_id: int, keys: Sequence[str], now_ms: int) -> None:
    """Stop watching these runs; they stay in the table."""
    if not keys:
        return
    run, watch = schema.run, schema.watch
    named = run.c.source_id == source_id, run.c.key.in_(KEYS)
    changed(conn, delete(watch).where(watch.c.run_id.in_(select(run.c.id).where(*named))), keys)
    left = update(run).where(*named, run.c.ended_at.is_(None), run.c.abandoned_at.is_(None))
    changed(conn, left.values(abandoned_at=now_ms, updated_at=run.c.updated_at + 1), keys)


def _watch(conn: Connection, source_id: int, runs: Sequence[tuple[int, Run]], now_ms: int) -> None:
    """Open runs have a row; those that ended or were given up have none."""
    changed(conn, _OVER, (run_id for run_id, run in runs if not run.open))
    rows = [
        {"run_id": run_id, "source_id": source_id, **_values(detail.watch_row(run, now_ms))}
        for run_id, run in runs
        if run.open
    ]
    if rows:
        conn.execute(put_rows(conn, schema.watch, WatchRow.__slots__), rows)


_OVER = delete(schema.watch).where(schema.watch.c.run_id.in_(KEYS))


def _update(conn: Connection, runs: Sequence[tuple[int, Run]], now_ms: int) -> None:
    if runs:
        conn.execute(_CHANGE, [{"of_id": run_id, "now": now_ms, **detail.columns(run)} for run_id, run in runs])


def _change() -> Update:
    """`updated_at` rises although the clock went back: it says whether a row is still as it was read."""
    table, now = schema.run, bindparam("now", type_=BigInteger)
    rises = case((table.c.updated_at < now, now), else_=table.c.updated_at + 1)
    values: dict[str, Any] = {name: bindparam(name) for name in detail.COLUMNS}
    return update(table).where(table.c.id == bindparam("of_id")).values(**values, updated_at=rises)


_CHANGE = _change()


def _added(
    conn: Connection,
    source_id: int,
    runs: Sequence[Run],
    parents: Sequence[Place | None],
    now_ms: int,
    alone: Alone | None,
) -> dict[str, Place]:
    if alone is None:
        return _insert(conn, source_id, runs, parents, now_ms)
    added = _insert(conn, source_id, runs, _apart(conn, parents, alone.sink), now_ms)
    restriction.restrict(conn, {place.strand_id for place in added.values()}, alone.sink)
    return added


def _apart(conn: Connection, parents: Sequence[Place | None], only_sink: str) -> list[Place | None]:
    """These parents without the strands that other sinks get, too."""
    marked = restriction.of_strands(conn, {parent.strand_id for parent in parents if parent is not None})
    alone = {strand for strand, sinks in marked.items() if sinks == {only_sink}}
    return [
        replace(parent, strand_id=_NONE, depth=-1) if parent is not None and parent.strand_id not in alone else parent
        for parent in parents
    ]


def _insert(
    conn: Connection, source_id: int, runs: Sequence[Run], parents: Sequence[Place | None], now_ms: int
) -> dict[str, Place]:
    rows = [_row(source_id, run, parent, now_ms) for run, parent in zip(runs, parents, strict=True)]
    numbers = conn.scalars(_NEW, rows).all()
    roots = [
        number for number, parent in zip(numbers, parents, strict=True) if parent is None or parent.strand_id == _NONE
    ]
    changed(conn, _OWN_STRAND, roots)
    return {
        run.key: Place(number, parent.strand_id or number, parent.depth + 1) if parent else Place(number, number, 0)
        for run, number, parent in zip(runs, numbers, parents, strict=True)
    }


_NEW = insert(schema.run).returning(schema.run.c.id, sort_by_parameter_order=True)
_OWN_STRAND = update(schema.run).where(schema.run.c.id.in_(KEYS)).values(strand_id=schema.run.c.id)


def _row(source_id: int, run: Run, parent: Place | None, now_ms: int) -> dict[str, Any]:
    place = {"strand_id": parent.strand_id, "parent_id": parent.id, "depth": parent.depth + 1} if parent else _ROOT
    return {**detail.columns(run), **place, "source_id": source_id, "last_seq": 0, "updated_at": now_ms}


_NONE = 0
"""In place of a strand: there is none to join."""
_ROOT = {"strand_id": _NONE, "parent_id": None, "depth": 0}
"""A root is its own strand, under the number that it gets by being inserted."""
