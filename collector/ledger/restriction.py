"""Strands that only named sinks get: a backfill of a source made them for these alone.

The names stand on the root run, so all events of a strand have the same sinks, those of later polls too. They are names and not
numbers: a sink that is removed and configured again under its name is meant again, and no other one ever is.
"""

import json
from collections.abc import Iterable
from dataclasses import dataclass

from sqlalchemy import Connection, bindparam, select, update

from collector.ledger import schema
from collector.ledger.statements import KEYS, rows_of

Sinks = frozenset[str]


@dataclass(frozen=True, slots=True)
class Alone:
    """The sink for which runs are made and no other. `anew` are the keys of runs that are made again: they ended, and retention
    removed all events of their strands.
    """

    sink: str
    anew: frozenset[str] = frozenset()


def read(text: str | None) -> Sinks | None:
    """The sinks that get the strand, as stored on its root; None for all."""
    return None if text is None else frozenset(json.loads(text))


def written(sinks: Iterable[str]) -> str:
    return json.dumps(sorted(sinks), ensure_ascii=False)


def of_strands(conn: Connection, strands: Iterable[int]) -> dict[int, Sinks]:
    """Of those of these strands that not every sink gets, the sinks that do."""
    rows = rows_of(conn, _MARKED, sorted(set(strands)))
    return {strand: frozenset(json.loads(text)) for strand, text in rows}


def barred(conn: Connection, sink_id: int, strands: Iterable[int]) -> set[int]:
    """Those of these strands that this sink does not get."""
    marked = of_strands(conn, strands)
    if not marked:
        return set()
    name = conn.scalar(select(schema.sink.c.name).where(schema.sink.c.id == sink_id))
    return {strand for strand, sinks in marked.items() if name not in sinks}


def restrict(conn: Connection, strands: Iterable[int], sink: str) -> None:
    """Only this sink gets what is made of these strands from now on."""
    _mark(conn, dict.fromkeys(strands, frozenset({sink})))


def widen(conn: Connection, strands: Iterable[int], sink: str) -> None:
    """Give these strands to this sink, too, whoever else gets them."""
    _mark(conn, {strand: sinks | {sink} for strand, sinks in of_strands(conn, strands).items()})


def _mark(conn: Connection, marks: dict[int, Sinks]) -> None:
    rows = [{"of_id": strand, "only_sinks": written(sinks)} for strand, sinks in sorted(marks.items())]
    if rows:
        conn.execute(_MARK, rows)


_MARK = update(schema.run).where(schema.run.c.id == bindparam("of_id")).values(only_sinks=bindparam("only_sinks"))
_MARKED = select(schema.run.c.id, schema.run.c.only_sinks).where(
    schema.run.c.id.in_(KEYS), schema.run.c.only_sinks.is_not(None)
)
