"""What each source and sink did, minute by minute, for the pages: a summary of the last day."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import cache
from typing import Any

from sqlalchemy import Connection, Insert, Select, bindparam, case, delete, func, select

from collector.ledger import schema
from collector.ledger.statements import upsert

MINUTE_MS = 60_000
KEPT_MS = 25 * 60 * MINUTE_MS


@dataclass(frozen=True, slots=True)
class Activity:
    """What happened within some time. Of a source `ok` and `failed` are polls, `took_ms` and `longest_ms` what they took, and `events` were
    committed; `requests` went to its platform, which refused `throttled` as too many. Of a sink `ok` are events that it acknowledged, `failed`
    attempts that are repeated, `parked` those that it refused, and `took_ms` is from commit to acknowledgement.

    The last three are as last known: requests left of the platform's quota, and those that watching needs and may send in a minute.
    """

    ok: int = 0
    failed: int = 0
    took_ms: int = 0
    longest_ms: int = 0
    events: int = 0
    parked: int = 0
    requests: int = 0
    throttled: int = 0
    remaining: int | None = None
    needed: int | None = None
    allowed: int | None = None


SUMS = ("ok", "failed", "took_ms", "events", "parked", "requests", "throttled")
LATEST = ("remaining", "needed", "allowed")


def note(conn: Connection, minutes: Mapping[tuple[str, int], Activity]) -> None:
    """Add to what is known of a minute, by `source:NAME` or `sink:NAME` and the start of the minute in epoch milliseconds."""
    rows = [{"name": name, "since": since, **asdict(one)} for (name, since), one in sorted(minutes.items())]
    if rows:
        conn.execute(_more(conn.dialect.name), rows)


@cache
def _more(dialect: str) -> Insert:
    table = schema.activity
    statement = upsert(dialect, table)
    new = statement.excluded
    sums = {name: table.c[name] + new[name] for name in SUMS}
    latest = {name: func.coalesce(new[name], table.c[name]) for name in LATEST}
    longest = case((new.longest_ms > table.c.longest_ms, new.longest_ms), else_=table.c.longest_ms)
    return statement.on_conflict_do_update(
        index_elements=["name", "since"], set_={**sums, **latest, "longest_ms": longest}
    )


def within(conn: Connection, names: Collection[str], since_ms: int, step_ms: int) -> dict[str, dict[int, Activity]]:
    """What there was since then, in steps of `step_ms`, by name and start of the step in epoch milliseconds; steps in which nothing happened
    are not there.
    """
    found: dict[str, dict[int, Activity]] = {name: {} for name in names}
    given = {"names": [*found], "since": since_ms, "step": step_ms}
    for name, begin, *counts in conn.execute(_WITHIN, given):
        found[name][int(begin)] = Activity(*map(int, counts))
    return found


def _within() -> Select[*tuple[Any, ...]]:
    table = schema.activity
    begin = (table.c.since - table.c.since % bindparam("step")).label("begin")
    sums = {**{name: func.sum(table.c[name]) for name in SUMS}, "longest_ms": func.max(table.c.longest_ms)}
    of_names = table.c.name.in_(bindparam("names", expanding=True)), table.c.since >= bindparam("since")
    counted = [sums[name] for name in Activity.__slots__ if name not in LATEST]
    return select(table.c.name, begin, *counted).where(*of_names).group_by(table.c.name, begin)


_WITHIN = _within()


def latest(conn: Connection, name: str, since_ms: int) -> Activity:
    """The last known quota of a source, with zeros for all else."""
    table = schema.activity
    rows = select(*(table.c[column] for column in LATEST)).where(table.c.name == name, table.c.since >= since_ms)
    found: dict[str, int] = {}
    for row in conn.execute(rows.order_by(table.c.since.desc())).mappings():
        found = {**{column: value for column, value in row.items() if value is not None}, **found}
        if len(found) == len(LATEST):
            break
    return Activity(**found)


def expire(conn: Connection, before_ms: int) -> int:
    """Remove what is older; how many minutes."""
    return conn.execute(delete(schema.activity).where(schema.activity.c.since < before_ms)).rowcount


def total(steps: Sequence[Activity]) -> Activity:
    """All of them as one."""
    sums = {name: sum(getattr(each, name) for each in steps) for name in SUMS}
    return Activity(**sums, longest_ms=max((each.longest_ms for each in steps), default=0))
