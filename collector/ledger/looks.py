"""Looks at open runs of which nothing changed: most of what polls write. Nothing that is stored of the runs is read for them."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache

from sqlalchemy import (
    JSON,
    BigInteger,
    ColumnElement,
    Connection,
    Text,
    Update,
    and_,
    bindparam,
    case,
    cast,
    func,
    select,
    update,
)

from collector.ledger import schema
from collector.ledger.leases import Lease, fence
from collector.ledger.statements import KEYS, rows_of


@dataclass(frozen=True, slots=True)
class Look:
    """When runs were seen, and are to be seen again: epoch milliseconds."""

    seen_at: int
    due_at: int


def commit_looks(conn: Connection, lease: Lease, looks: Mapping[Look, Mapping[int, int]]) -> set[int]:
    """Note these looks at open runs, which are given by number, each with the `updated_at` of its row when it was decided that nothing
    changed. Returns those that were written since or are open no longer: nothing is noted of them. Raises `LeaseLost`.

    A look that was asked for after a run was seen stays due, as in `lifecycle.observe`.
    """
    fence(conn, lease)
    moved: set[int] = set()
    alone = {number: look for look, runs in looks.items() if len(runs) == 1 for number in runs}
    if alone:
        moved |= _look_at_each(conn, alone, {number: looks[look][number] for number, look in alone.items()})
    for look, runs in looks.items():
        if len(runs) > 1:
            values = {"written": json.dumps(runs), "seen": look.seen_at, "due": look.due_at}
            moved |= _missed(conn, runs, conn.execute(_seen_together(conn.dialect.name), values).rowcount)
    return moved


def _look_at_each(conn: Connection, looks: Mapping[int, Look], written: Mapping[int, int]) -> set[int]:
    values = [
        {"of_id": number, "written": written[number], "seen": look.seen_at, "due": look.due_at}
        for number, look in looks.items()
    ]
    return _missed(conn, written, conn.execute(_SEEN_ALONE, values).rowcount)


def _missed(conn: Connection, written: Mapping[int, int], noted: int) -> set[int]:
    """Those of which no open run's row has this `updated_at`; `noted` are the others."""
    if noted == len(written):
        return set()
    found = dict(map(tuple, rows_of(conn, _WRITTEN, written)))
    return {number for number, at in written.items() if found.get(number) != at}


_WATCH, _RUN = schema.watch.c, schema.run.c
_WRITTEN = (
    select(_RUN.id, _RUN.updated_at)
    .join_from(schema.watch, schema.run, _RUN.id == _WATCH.run_id)
    .where(_WATCH.run_id.in_(KEYS))
)


def _seen(*which: ColumnElement[bool]) -> Update:
    seen, due = bindparam("seen", type_=BigInteger), bindparam("due", type_=BigInteger)
    asked_for_since = and_(_WATCH.due_at > _WATCH.seen_at, _WATCH.due_at > seen, _WATCH.due_at < due)
    return (
        update(schema.watch)
        .where(_RUN.id == _WATCH.run_id, *which)
        .values(
            seen_at=case((_WATCH.seen_at > seen, _WATCH.seen_at), else_=seen),
            due_at=case((asked_for_since, _WATCH.due_at), else_=due),
            misses=0,
        )
    )


@cache
def _seen_together(dialect: str) -> Update:
    """`written` is one text, a JSON object: a parameter for each number takes longer than the rest."""
    written = bindparam("written", type_=Text)
    pairs = func.json_each_text(cast(written, JSON)) if dialect == "postgresql" else func.json_each(written)
    pair = pairs.table_valued("key", "value", name="pair").c
    number, at = (cast(column, BigInteger) for column in (pair.key, pair.value))
    return _seen(_RUN.id == number, _RUN.updated_at == at)


_SEEN_ALONE = _seen(_WATCH.run_id == bindparam("of_id"), _RUN.updated_at == bindparam("written", type_=BigInteger))
