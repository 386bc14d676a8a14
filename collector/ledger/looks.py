"""Looks at open runs of which nothing changed: most of what polls write. Nothing that is stored of the runs is read for them."""

from collections.abc import Mapping
from dataclasses import dataclass

from sqlalchemy import BigInteger, ColumnElement, Connection, Update, and_, bindparam, case, select, update

from collector.ledger import schema
from collector.ledger.leases import Lease, fence
from collector.ledger.statements import KEYS, changed, rows_of


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
    moved = _moved(conn, {number: at for runs in looks.values() for number, at in runs.items()})
    alone: list[dict[str, int]] = []
    for look, runs in looks.items():
        numbers = [number for number in runs if number not in moved]
        if len(numbers) == 1:
            alone.append({"of_id": numbers[0], "seen": look.seen_at, "due": look.due_at})
        else:
            changed(conn, _SEEN_TOGETHER, numbers, seen=look.seen_at, due=look.due_at)
    if alone:
        conn.execute(_SEEN_ALONE, alone)
    return moved


def _moved(conn: Connection, written: Mapping[int, int]) -> set[int]:
    """Those of which no open run's row has this `updated_at`."""
    found = dict(map(tuple, rows_of(conn, _WRITTEN, written)))
    return {number for number, at in written.items() if found.get(number) != at}


_WATCH = schema.watch.c
_WRITTEN = (
    select(schema.run.c.id, schema.run.c.updated_at)
    .join_from(schema.watch, schema.run, schema.run.c.id == _WATCH.run_id)
    .where(_WATCH.run_id.in_(KEYS))
)


def _seen(which: ColumnElement[bool]) -> Update:
    seen, due = bindparam("seen", type_=BigInteger), bindparam("due", type_=BigInteger)
    asked_for_since = and_(_WATCH.due_at > _WATCH.seen_at, _WATCH.due_at > seen, _WATCH.due_at < due)
    return (
        update(schema.watch)
        .where(which)
        .values(
            seen_at=case((_WATCH.seen_at > seen, _WATCH.seen_at), else_=seen),
            due_at=case((asked_for_since, _WATCH.due_at), else_=due),
            misses=0,
        )
    )


_SEEN_TOGETHER, _SEEN_ALONE = _seen(_WATCH.run_id.in_(KEYS)), _seen(_WATCH.run_id == bindparam("of_id"))
