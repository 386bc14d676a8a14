"""Reads stored runs: whole for decisions, in short for watching.

A row that cannot be read does not stop the others: it is named, and set aside by the next write.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import reduce
from time import monotonic
from typing import Any

from cachetools import TTLCache
from sqlalchemy import (
    BigInteger,
    ColumnElement,
    Connection,
    FromClause,
    Select,
    Text,
    bindparam,
    case,
    cast,
    func,
    select,
)

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
    asked = {"of_source": source_id, "now": now_ms, "most": limit}
    memory, text = _short(conn), conn.scalar(_DUE_AS_TEXT, asked)
    before = memory.last.get(source_id)
    if before is not None and text is not None and before.rows == text:
        return before.tracked
    rows = conn.execute(_DUE, asked).all()
    found = memory.of(conn, {row[0]: row[1] for row in rows}, before.found if before is not None else {})
    memory.last[source_id] = last = _read(text, [(found[row[0]], *row[2:]) for row in rows if row[0] in found], found)
    return last.tracked


def _read(text: str | None, rows: Sequence[tuple["_Short", int, int, int]], found: Mapping[int, "_Short"]) -> "_Last":
    read = [(one.run, seen_at, due_at, misses) for one, seen_at, due_at, misses in rows if one.run is not None]
    unreadable = tuple(one.key for one in found.values() if one.run is None)
    runs = Tracked([_in_short(*row) for row in read], unreadable)
    return _Last(text if all(_is_in_text(*row) for row in read) else None, runs, found)


def _due() -> tuple[Select[Any], Select[Any]]:
    """The rows of runs that are due, and one text that is the same as long as they and what is made of them are."""
    run, watch = schema.run.c, schema.watch.c
    due = (
        select(run.id, run.updated_at, *_WATCH)
        .join_from(schema.watch, schema.run, run.id == watch.run_id)
        .where(watch.source_id == bindparam("of_source"), watch.due_at <= bindparam("now", type_=BigInteger))
        .order_by(watch.due_at, watch.run_id)
        .limit(bindparam("most"))
    )
    row = due.subquery("due").c
    times = case((row.due_at > row.seen_at, _joined(row.seen_at, row.due_at)), else_="")
    as_text = func.aggregate_strings(_joined(row.id, row.updated_at, row.misses, times), ",")
    return due, select(as_text)


def _joined(*values: ColumnElement[Any]) -> ColumnElement[str]:
    first, *others = (cast(value, Text) for value in values)
    return reduce(lambda text, value: text + " " + value, others, first)


_DUE, _DUE_AS_TEXT = _due()


def _is_in_text(run: Run, seen_at: int, due_at: int, misses: int) -> bool:
    """Whether `_DUE_AS_TEXT` has all that `_in_short` takes of a row."""
    return due_at > seen_at or _is_as_written(run, seen_at, due_at, misses)


def _in_short(run: Run, seen_at: int, due_at: int, misses: int) -> Run:
    """The run as it was last seen; as it is where nothing but `seen_at` differs, as copying thousands takes longer than reading them."""
    if _is_as_written(run, seen_at, due_at, misses):
        return run
    return detail.as_last_seen(run, WatchRow(seen_at, due_at, misses))


def _is_as_written(run: Run, seen_at: int, due_at: int, misses: int) -> bool:
    return run.due_at is None and due_at <= seen_at and run.misses == misses


@dataclass(frozen=True, slots=True)
class _Short:
    """`run` is None where the row cannot be read."""

    updated_at: int
    key: str
    run: Run | None


@dataclass(frozen=True, slots=True)
class _Last:
    """What was tracked of a source when its due rows were last read, these as a text that says all of them, and the runs that it was made of."""

    rows: str | None
    tracked: Tracked
    found: Mapping[int, _Short]


class _Memory:
    """Runs in short by number, those asked for lately, and one object for all runs of a job: belongs to a connection."""

    def __init__(self, seconds: Callable[[], float] = monotonic) -> None:
        self._runs: TTLCache[int, _Short] = TTLCache(KEPT, FORGOTTEN_AFTER, seconds)
        self._jobs: TTLCache[Job, Job] = TTLCache(KEPT, FORGOTTEN_AFTER, seconds)
        self.last: dict[int, _Last] = {}

    def of(self, conn: Connection, wanted: Mapping[int, int], last: Mapping[int, _Short]) -> dict[int, _Short]:
        """The runs with these numbers as of these times of writing; rows that changed are read again. `last` are those asked for last."""
        here = {number: one for number in wanted if (one := last.get(number) or self._runs.get(number)) is not None}
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
