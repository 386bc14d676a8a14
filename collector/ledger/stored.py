"""Reads stored runs: whole for decisions, in short for watching.

A row that cannot be read does not stop the others: it is named, and set aside by the next write.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from time import monotonic
from typing import Any

from cachetools import TTLCache
from sqlalchemy import ColumnElement, Connection, FromClause, Select, bindparam, select

from collector.errors import LedgerError
from collector.ledger import detail, schema
from collector.ledger.detail import WatchRow
from collector.ledger.statements import KEYS, rows_of
from collector.model import Job, Run

KEPT = 10_000
"""Runs that a connection remembers in short: some 2 kB each."""
FORGOTTEN_AFTER = 180.0
"""Seconds after which those that nobody asked for are not in memory: they ended, or are looked at so rarely that reading them is cheap."""

_KEY = "runs in short"

_Statements = tuple[Select[Any], Select[Any]]
"""The same columns of the runs with these `keys`, and of the open children of such runs."""

Basis = Mapping[str, tuple[int | None, ...]]
"""By key, number and version of a row when it was read: equal as long as nothing wrote the row."""


@dataclass(frozen=True, slots=True)
class Known:
    """Runs by key. `unreadable` has the causes for rows that cannot be read; `keys` and `parents` were requested."""

    runs: dict[str, Run] = field(default_factory=dict)
    unreadable: dict[str, str] = field(default_factory=dict)
    basis: Basis = field(default_factory=dict)
    keys: frozenset[str] = frozenset()
    parents: frozenset[str] = frozenset()

    def row(self, key: str) -> tuple[int, int]:
        """The number of this run, and the `updated_at` of its row."""
        number, updated_at, *_ = self.basis[key]
        return number or 0, updated_at or 0


@dataclass(frozen=True, slots=True)
class Tracked:
    """Runs in short: of their facts only the ids. `unreadable` are the keys of those whose row cannot be read."""

    runs: list[Run]
    unreadable: tuple[str, ...] = ()


def known(conn: Connection, source_id: int, keys: Iterable[str], parents: Iterable[str] = ()) -> Known:
    """These runs and the open children of these parents."""
    keys, parents = frozenset(keys), frozenset(parents)
    runs: dict[str, Run] = {}
    unreadable: dict[str, str] = {}
    state: dict[str, tuple[int | None, ...]] = {}
    for row in _rows(conn, _WHOLE, source_id, keys, parents):
        key, text, *moved = row
        state[key] = tuple(moved)
        try:
            runs[key] = _as_last_seen(detail.read(key, text), *moved[2:])
        except LedgerError as error:
            unreadable[key] = str(error)
    return Known(runs, unreadable, state, keys, parents)


def states(conn: Connection, source_id: int, keys: Iterable[str]) -> dict[str, tuple[str, str | None]]:
    """State and raw state of those of these runs that are open, by key."""
    rows = rows_of(conn, _STATES, sorted(set(keys)), of_source=source_id)
    return {key: (state, raw_state) for key, state, raw_state in rows}


def basis(conn: Connection, source_id: int, keys: Iterable[str], parents: Iterable[str] = ()) -> Basis:
    """The basis that `known` would return now."""
    rows = _rows(conn, _MOVED, source_id, keys, parents)
    return {key: tuple(moved) for key, *moved in rows}


def is_current(conn: Connection, source_id: int, known: Known) -> bool:
    """Whether none of these runs was written since, and none was added."""
    return basis(conn, source_id, known.keys, known.parents) == known.basis


def _rows(
    conn: Connection, columns: _Statements, source_id: int, keys: Iterable[str], parents: Iterable[str]
) -> Iterable[Sequence[Any]]:
    of_keys, of_parents = columns
    yield from rows_of(conn, of_keys, sorted(set(keys)), of_source=source_id)
    yield from rows_of(conn, of_parents, sorted(set(parents)), of_source=source_id)


def is_open(table: FromClause) -> tuple[ColumnElement[bool], ...]:
    return table.c.ended_at.is_(None), table.c.abandoned_at.is_(None)


def _statements(*columns: ColumnElement[Any]) -> _Statements:
    """Made once: to make them takes longer than to execute them."""
    table, parent = schema.run, schema.run.alias("parent")
    rows = select(*columns, *_WATCH).select_from(table.outerjoin(schema.watch, schema.watch.c.run_id == table.c.id))
    of_parents = rows.join(parent, parent.c.id == table.c.parent_id).where(*is_open(table))
    return (
        rows.where(table.c.source_id == bindparam("of_source"), table.c.key.in_(KEYS)),
        of_parents.where(parent.c.source_id == bindparam("of_source"), parent.c.key.in_(KEYS)),
    )


_WATCH = [schema.watch.c[name] for name in WatchRow.__slots__]
_MOVED = _statements(schema.run.c.key, schema.run.c.id, schema.run.c.updated_at)
_WHOLE = _statements(schema.run.c.key, schema.run.c.detail, schema.run.c.id, schema.run.c.updated_at)


_STATES = (
    select(*(schema.run.c[name] for name in ("key", "state", "raw_state")))
    .join_from(schema.watch, schema.run, schema.run.c.id == schema.watch.c.run_id)
    .where(schema.run.c.source_id == bindparam("of_source"), schema.run.c.key.in_(KEYS))
)


def _as_last_seen(run: Run, seen_at: int | None, due_at: int | None, misses: int | None) -> Run:
    """Closed runs are watched no longer: all is in the run."""
    return run if seen_at is None else detail.as_last_seen(run, WatchRow(seen_at, due_at, misses or 0))


def tracked(conn: Connection, source_id: int, now_ms: int, limit: int) -> Tracked:
    """Open runs that are due, oldest due first; one without `due_at` is due since it was last seen. Runs that ended
    and wait for their enrichment are not among them. One that is wanted every cycle has the `seen_at` of when it was written last.
    """
    run, watch = schema.run, schema.watch
    due = (
        select(run.c.id, run.c.updated_at, *_WATCH)
        .join_from(watch, run, run.c.id == watch.c.run_id)
        .where(watch.c.source_id == source_id, watch.c.due_at <= now_ms)
    )
    rows = conn.execute(due.order_by(watch.c.due_at, watch.c.run_id).limit(limit)).all()
    found = _short(conn).of(conn, {row[0]: row[1] for row in rows})
    read = [(found[number].run, look) for number, _, *look in rows if number in found]
    unreadable = tuple(one.key for one in found.values() if one.run is None)
    return Tracked([_in_short(run, *look) for run, look in read if run is not None], unreadable)


def _in_short(run: Run, seen_at: int, due_at: int, misses: int) -> Run:
    """The run as it was last seen; as it is where nothing but `seen_at` differs, as copying thousands takes longer than reading them."""
    if run.due_at is None and due_at <= seen_at and run.misses == misses:
        return run
    return detail.as_last_seen(run, WatchRow(seen_at, due_at, misses))


@dataclass(frozen=True, slots=True)
class _Short:
    """`run` is None where the row cannot be read."""

    updated_at: int
    key: str
    run: Run | None


class _Memory:
    """Runs in short by number, those asked for lately, and one object for all runs of a job: belongs to a connection."""

    def __init__(self, seconds: Callable[[], float] = monotonic) -> None:
        self._runs: TTLCache[int, _Short] = TTLCache(KEPT, FORGOTTEN_AFTER, seconds)
        self._jobs: TTLCache[Job, Job] = TTLCache(KEPT, FORGOTTEN_AFTER, seconds)

    def of(self, conn: Connection, wanted: Mapping[int, int]) -> dict[int, _Short]:
        """The runs with these numbers as of these times of writing; rows that changed are read again."""
        here = {number: one for number in wanted if (one := self._runs.get(number)) is not None}
        found = {number: one for number, one in here.items() if one.updated_at == wanted[number]}
        for number, updated_at, key, text in rows_of(conn, _DETAILS, sorted(wanted.keys() - found.keys())):
            found[number] = _Short(updated_at, key, self._read(key, text))
        self._runs.update(found)
        return found

    def _read(self, key: str, text: str) -> Run | None:
        try:
            return detail.read_short(key, text, self._jobs)
        except LedgerError:
            return None


_DETAILS = select(schema.run.c.id, schema.run.c.updated_at, schema.run.c.key, schema.run.c.detail).where(
    schema.run.c.id.in_(KEYS)
)


def _short(conn: Connection) -> _Memory:
    memory: _Memory = conn.info.setdefault(_KEY, _Memory())
    return memory
