"""Due times that no schedule or back-off can mean: a clock ran ahead when they were written."""

from dataclasses import dataclass

from sqlalchemy import BigInteger, ColumnElement, Connection, bindparam, case, exists, literal, or_, select, update

from collector.ledger import schema


@dataclass(frozen=True, slots=True)
class Limits:
    """In epoch milliseconds: a due time behind `furthest_poll` or `furthest_send` cannot be meant by any schedule or back-off,
    nor one behind `now` of what was never tried. `skew` is by how much clocks of replicas may differ.
    """

    now: int
    furthest_poll: int
    furthest_send: int
    skew: int


def has_impossible(conn: Connection, limits: Limits) -> bool:
    """Whether there is something for `pull_in`. Reads what is due later than now."""
    return bool(conn.scalar(_SOMETHING_IMPOSSIBLE, _impossible(conn, limits)))


def pull_in(conn: Connection, limits: Limits) -> int:
    """After a clock that ran ahead: make due now what is due impossibly late, and runs that were seen later than now; how much that was."""
    lane, doubt, watch = schema.lane, schema.doubt, schema.watch
    of_lane, of_doubt, of_run = _IMPOSSIBLE
    since = case((lane.c.since > limits.now, literal(limits.now, BigInteger)), else_=lane.c.since)
    late = (
        update(lane).where(*of_lane).values(due_at=limits.now, since=since),
        update(doubt).where(*of_doubt).values(check_at=limits.now),
        update(watch).where(*of_run).values(due_at=limits.now),
    )
    given = _impossible(conn, limits)
    return sum(conn.execute(statement, given).rowcount for statement in late)


def _impossible(conn: Connection, limits: Limits) -> dict[str, object]:
    """What `_IMPOSSIBLE` is to be given."""
    return {
        "sinks": conn.scalars(_SINKS).all(),
        "sources": conn.scalars(_SOURCES).all(),
        "soon": limits.now + limits.skew,
        "furthest_send": limits.furthest_send,
        "furthest_poll": limits.furthest_poll,
    }


_SINKS, _SOURCES = select(schema.sink.c.id), select(schema.source.c.id)
_IMPOSSIBLE: tuple[tuple[ColumnElement[bool], ...], ...] = (
    (
        schema.lane.c.sink_id.in_(bindparam("sinks", expanding=True)),
        schema.lane.c.due_at > bindparam("soon"),
        or_(schema.lane.c.due_at > bindparam("furthest_send"), schema.lane.c.attempts == 0),
    ),
    (
        schema.doubt.c.sink_id.in_(bindparam("sinks", expanding=True)),
        schema.doubt.c.check_at > bindparam("furthest_send"),
    ),
    (
        schema.watch.c.source_id.in_(bindparam("sources", expanding=True)),
        schema.watch.c.due_at > bindparam("soon"),
        or_(schema.watch.c.due_at > bindparam("furthest_poll"), schema.watch.c.seen_at > bindparam("soon")),
    ),
)
"""Which lanes, doubts and watched runs are meant, by the index of their due times."""
_SOMETHING_IMPOSSIBLE = select(or_(*(exists().where(*which) for which in _IMPOSSIBLE)))
