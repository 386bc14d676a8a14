"""Runs of a page that the ledger already has, under another key or from another source: each platform run is tracked once."""

import logging
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from sqlalchemy import Connection, func, select, update

from collector.ledger import lanes, schema, tallies
from collector.ledger.statements import KEYS, chunks, rows_of
from collector.logs import fields
from collector.model import Run, Skip, SkipKind

log = logging.getLogger("lineage.ledger")


@dataclass(frozen=True, slots=True)
class Duplicates:
    """Runs (by key) of which nothing was committed, and what is to be listed of it."""

    keys: frozenset[str] = frozenset()
    skips: tuple[Skip, ...] = ()


@dataclass(frozen=True, slots=True)
class _Owner:
    """The row that has the run with this UUID."""

    run_uuid: str
    id: int
    key: str
    strand_id: int
    source_id: int
    source: str
    retired_at: int | None


def duplicate_runs(conn: Connection, source_id: int, new: Sequence[Run]) -> Duplicates:
    """Which of these runs, whose keys the source does not have, must not begin here.

    A run of a source that left the configuration comes over with all it has: nothing is taken of it this time, and the
    next poll tracks it. One of another source stays there.
    """
    owners = _owners(conn, {str(run.run_id) for run in new})
    seen: dict[str, str] = {}
    skips: dict[str, Skip] = {}
    come: dict[str, _Owner] = {}
    for run in new:
        run_uuid = str(run.run_id)
        owner = owners.get(run_uuid)
        if owner is not None and owner.retired_at is not None and owner.key == run.key and run_uuid not in seen:
            come[run.key] = owner
        elif owner is not None:
            skips[run.key] = _skip(run, f"as run {owner.key} of source {owner.source}")
        elif run_uuid in seen:
            skips[run.key] = _skip(run, f"as run {seen[run_uuid]} of this source")
        seen.setdefault(run_uuid, run.key)
    if come:
        _take_over(conn, source_id, come.values())
    return Duplicates(frozenset(skips.keys() | come.keys()), tuple(skips.values()))


def _skip(run: Run, known: str) -> Skip:
    cause = f"the ledger has {run.run_id} already, {known}; it is not reported a second time"
    return Skip(SkipKind.DUPLICATE, f"run {run.key}", cause)


def _owners(conn: Connection, run_uuids: Iterable[str]) -> Mapping[str, _Owner]:
    return {row[0]: _Owner(*row) for row in rows_of(conn, _OWNERS, sorted(run_uuids))}


_OWNERS = (
    select(
        *(schema.run.c[name] for name in ("run_uuid", "id", "key", "strand_id", "source_id")),
        schema.source.c.name,
        schema.source.c.retired_at,
    )
    .join(schema.source, schema.source.c.id == schema.run.c.source_id)
    .where(schema.run.c.run_uuid.in_(KEYS))
)


def _move_bytes(conn: Connection, source_id: int, owners: Sequence[_Owner]) -> None:
    event, moved = schema.event, Counter[int]()
    for some in chunks(owners):
        former, strands = {owner.id: owner.source_id for owner in some}, {owner.strand_id for owner in some}
        sizes = select(event.c.run_id, func.sum(func.length(event.c.body))).where(
            event.c.strand_id.in_(strands), event.c.run_id.in_(former)
        )
        for run_id, size in conn.execute(sizes.group_by(event.c.run_id)):
            moved[former[run_id]] -= int(size)
            moved[source_id] += int(size)
    tallies.grow(conn, moved)


def _take_over(conn: Connection, source_id: int, owners: Iterable[_Owner]) -> None:
    """Move the run with the events that its strand still owes, and their counts."""
    owners = list(owners)
    _move_bytes(conn, source_id, owners)
    for some in chunks(owners):
        strands = {owner.strand_id for owner in some}
        conn.execute(update(schema.run).where(schema.run.c.id.in_([o.id for o in some])).values(source_id=source_id))
        looks = schema.watch.c.run_id.in_([o.id for o in some])
        conn.execute(update(schema.watch).where(looks).values(source_id=source_id))
        for table in (schema.lane, schema.parked):
            conn.execute(update(table).where(table.c.strand_id.in_(strands)).values(source_id=source_id))
    for sink_id, wanted in conn.execute(select(schema.sink.c.id, schema.sink.c.filter)).all():
        tallies.recount(conn, sink_id, lanes.read(wanted))
    former = ", ".join(sorted({owner.source for owner in owners}))
    details = fields(runs=len(owners), former_source=former, cause="its former source is no longer configured")
    log.warning("run.taken_over", extra=details)
