"""Sinks as configured: new ones are added, those that left are retired, those that return continue. For sources see `configured_sources`."""

import logging
from collections.abc import Collection, Mapping
from dataclasses import replace

from sqlalchemy import Connection, func, insert, select, update

from collector.ledger import backfill, doubts, lanes, leases, schema, shards, tallies
from collector.ledger.leases import Lease
from collector.ledger.shards import Shard
from collector.logs import fields
from collector.model import EventKind

log = logging.getLogger("lineage.ledger")

FEW = 10_000
"""With no more lanes than that a sink's counts are made afresh at every start: 20 ms."""


def sync_sinks(
    conn: Connection, wanted: Mapping[str, frozenset[EventKind]], now_ms: int, *, spared: Collection[str] = ()
) -> dict[str, int]:
    """Numbers of the configured sinks, each with the kinds of event it wants.

    A new sink is owed the open runs from their START on. One that left keeps what it was owed, and retention no longer
    waits for it, unless it is `spared`; when it comes back it is sent how its runs went on. Another choice of kinds holds from each
    lane's next event on.
    """
    lanes.hold_sinks(conn)
    table = schema.sink
    known = {row["name"]: row for row in conn.execute(select(table)).mappings()}
    retire(conn, known.keys() - wanted.keys() - set(spared), now_ms)
    numbers: dict[str, int] = {}
    for name, kinds in sorted(wanted.items()):
        if name not in known:
            numbers[name] = _add(conn, name, kinds)
            continue
        before = known[name]
        numbers[name] = before["id"]
        changed = before["filter"] != lanes.written(kinds)
        if changed:
            conn.execute(update(table).where(table.c.id == before["id"]).values(filter=lanes.written(kinds)))
            lanes.extend_to_wanted(conn, before["id"], kinds)
        if before["retired_at"] is not None:
            backfill.restore(conn, before, kinds, now_ms)
        elif changed or _has_few_lanes(conn, before["id"]) or _has_no_bytes(conn, before["id"]):
            tallies.recount(conn, before["id"], kinds)
    return numbers


def wanted(conn: Connection) -> dict[str, frozenset[EventKind]]:
    """What each sink that was ever configured wants, by name."""
    table = schema.sink
    return {name: lanes.read(kinds) for name, kinds in conn.execute(select(table.c.name, table.c.filter))}


def take_lease(
    conn: Connection,
    lease_name: str,
    holder: str,
    ttl_ms: int,
    *,
    sink_id: int,
    shard: Shard,
    now_ms: int,
    rechecks: bool,
) -> Lease | None:
    """As `leases.take`, of a shard of a sink. Raises `ShardsChanged` where the sink is divided otherwise. With `rechecks`, what a
    killed holder may have sent is in doubt: all in one commit, so that no kill comes between taking over and noting that.
    """
    lease = leases.take(conn, lease_name, holder, ttl_ms)
    if lease is None:
        return None
    shards.require(conn, sink_id, shard)
    if not rechecks:
        return lease
    if not lease.clean:
        _mark_unclean(conn, sink_id, now_ms)
    # for as long as it is held: who takes over another shard then moves the mark, which says nothing of this one
    return replace(lease, unclean_at=conn.scalar(select(schema.sink.c.unclean_at).where(schema.sink.c.id == sink_id)))


def _mark_unclean(conn: Connection, sink_id: int, now_ms: int) -> None:
    """What is owed from now on is distinguished from what was owed before by its commit time, so where a clock was set back
    meanwhile, and the commit lies ahead of now, the doubt is noted at once.
    """
    doubts.note_from_ahead(conn, sink_id, now_ms)
    conn.execute(update(schema.sink).where(schema.sink.c.id == sink_id).values(unclean_at=now_ms))


def _add(conn: Connection, name: str, kinds: frozenset[EventKind]) -> int:
    row = {"name": name, "filter": lanes.written(kinds), "since_event": backfill.next_event(conn)}
    sink_id: int = conn.execute(insert(schema.sink).returning(schema.sink.c.id), row).scalar_one()
    starts = backfill.starts_of_open_runs(conn)
    backfill.owe_from(conn, sink_id, kinds, starts)
    tallies.recount(conn, sink_id, kinds)
    log.info("sink.added", extra=fields(sink=name, open_runs=len(starts)))
    return sink_id


def retire(conn: Connection, names: Collection[str], now_ms: int) -> None:
    """They are no longer configured; those that are retired already stay as they are."""
    if not names:
        return
    table = schema.sink
    gone = {"retired_at": now_ms, "until_event": backfill.next_event(conn)}
    some = update(table).where(table.c.name.in_(sorted(names)), table.c.retired_at.is_(None)).values(gone)
    if retired := conn.execute(some).rowcount:
        log.warning(
            "sink.retired",
            extra=fields(sinks=retired, cause="no longer configured; the ledger keeps the events that it is owed"),
        )


def _has_no_bytes(conn: Connection, sink_id: int) -> bool:
    """Its tallies come from a version that did not count bytes."""
    table = schema.tally
    counts = select(func.sum(table.c.pending), func.sum(table.c.pending_bytes)).where(table.c.sink_id == sink_id)
    pending, size = conn.execute(counts).one()
    return bool(pending) and not size


def _has_few_lanes(conn: Connection, sink_id: int) -> bool:
    some = select(schema.lane.c.strand_id).where(schema.lane.c.sink_id == sink_id).limit(FEW + 1).subquery()
    return (conn.scalar(select(func.count()).select_from(some)) or 0) <= FEW
