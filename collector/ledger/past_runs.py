"""What a backfill of a source for one sink alone does with each past run: reads only."""

import json
from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from enum import StrEnum
from typing import Any, Self

from sqlalchemy import Connection, func, select

from collector.ledger import resend, runs, schema
from collector.ledger.acknowledged import SinkDetail
from collector.ledger.resend import Resent, Window
from collector.ledger.statements import KEYS, rows_of


@dataclass(frozen=True, slots=True)
class Scope:
    """Which past runs of a source a backfill is about, and the sink that alone gets them; None for every sink."""

    window: Window
    sink: str | None = None

    @classmethod
    def read(cls, body: str) -> Self:
        """From the body of a request."""
        found = json.loads(body)
        return cls(Window(found.get("since_ms"), found.get("until_ms")), found.get("sink"))

    def body(self) -> dict[str, Any]:
        return asdict(self.window) | ({} if self.sink is None else {"sink": self.sink})


class Course(StrEnum):
    """What is done with a past run."""

    MAKE = "make"
    """The ledger does not know it: its events are made from what the platform says."""
    ANEW = "make anew"
    """The ledger knows it and has none of its events any more: they are made again."""
    SEND = "send again"
    """The ledger has its events."""
    WAITING = "waiting"
    """The sink is owed it, or got it since the backfill began."""
    RECENT = "left to polls"
    """It ended so lately that the next poll may see it first: polls make it for every sink."""
    INCOMPLETE = "incomplete"
    """Retention removed some of its events, or the sink takes none of those that are left."""


@dataclass(frozen=True, slots=True)
class Past:
    """`run_id` and `strand` are those of a run that the ledger knows."""

    course: Course
    run_id: str = ""
    strand: int = 0


_NEW, _RECENT = Past(Course.MAKE), Past(Course.RECENT)
_OF_STRAND = {Resent.QUEUED: Course.SEND, Resent.WAITING: Course.WAITING}


LATELY_MS = 600_000
"""How long before the last poll a run may have ended that the poll did not see: a list lags behind, and a walk takes its time."""


def courses(
    conn: Connection, source_id: int, sink: SinkDetail, ended: Mapping[str, int], since_ms: int | None
) -> dict[str, Past]:
    """Of each of these runs, by key, with the times at which they ended. What the sink acknowledged from `since_ms` on is not sent
    again: it got that by the backfill that began then and was interrupted.
    """
    polled_at = runs.source_state(conn, source_id).polled_at or 0
    found = {key: _RECENT if at > polled_at - LATELY_MS else _NEW for key, at in ended.items()}
    known = _known(conn, source_id, found)
    strands = {strand for _, strand, _ in known.values()}
    kept = runs.with_events(conn, strands)
    had = set[int]() if since_ms is None else _acknowledged_since(conn, sink.number, kept, since_ms)
    became, _ = resend.outlook(conn, sink.number, kept - had, barred=())
    for key, (run_id, strand, is_over) in known.items():
        if strand in kept:
            course = Course.WAITING if strand in had else _OF_STRAND.get(became[strand], Course.INCOMPLETE)
        else:
            course = Course.ANEW if is_over else Course.WAITING
        found[key] = Past(course, run_id, strand)
    return found


def by_course(found: Mapping[str, Past]) -> defaultdict[Course, dict[str, Past]]:
    parts = defaultdict[Course, dict[str, Past]](dict)
    for key, past in found.items():
        parts[past.course][key] = past
    return parts


def _known(conn: Connection, source_id: int, keys: Iterable[str]) -> dict[str, tuple[str, int, bool]]:
    """Run id, strand and whether it is over, by key."""
    run = schema.run
    columns = select(run.c.key, run.c.run_uuid, run.c.strand_id, func.coalesce(run.c.ended_at, run.c.abandoned_at))
    rows = rows_of(conn, columns.where(run.c.source_id == source_id, run.c.key.in_(KEYS)), keys)
    return {key: (run_id, strand, over is not None) for key, run_id, strand, over in rows}


def _acknowledged_since(conn: Connection, sink_id: int, strands: Iterable[int], since_ms: int) -> set[int]:
    """Those of these strands of which the sink acknowledged all that it has from then on."""
    table = schema.acknowledgement
    of_strands = table.c.sink_id == sink_id, table.c.strand_id.in_(KEYS)
    since = select(table.c.strand_id).where(*of_strands).group_by(table.c.strand_id)
    rows = rows_of(conn, since.having(func.min(table.c["at"]) >= since_ms), sorted(strands))
    return {strand for (strand,) in rows}
