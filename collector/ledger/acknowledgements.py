"""When sinks acknowledged events, kept as long as the events."""

from collections.abc import Iterable
from functools import cache

from sqlalchemy import BigInteger, Connection, Insert, bindparam, delete, exists, select

from collector.ledger import schema
from collector.ledger.statements import KEYS, changed, in_json, listed, upsert


def note(conn: Connection, sink_id: int, strands: Iterable[int], now_ms: int) -> None:
    """The sink acknowledged the heads of these lanes now, perhaps not for the first time. Call it before the lanes move on."""
    if some := list(strands):
        conn.execute(_noted(conn.dialect.name), {"of_sink": sink_id, "strands": in_json(some), "now": now_ms})


@cache
def _noted(dialect: str) -> Insert:
    table, lane = schema.acknowledgement, schema.lane
    heads = select(lane.c.sink_id, lane.c.strand_id, lane.c.next_seq, bindparam("now", type_=BigInteger)).where(
        lane.c.sink_id == bindparam("of_sink"), listed(lane.c.strand_id, bindparam("strands"))
    )
    statement = upsert(dialect, table).from_select(["sink_id", "strand_id", "seq", "at"], heads)
    key = ["sink_id", "strand_id", "seq"]
    return statement.on_conflict_do_update(index_elements=key, set_={"at": statement.excluded["at"]})


def of_strand(conn: Connection, strand_id: int, sinks: Iterable[int]) -> dict[tuple[int, int], int]:
    """By sink and place in the strand, in epoch milliseconds."""
    table = schema.acknowledgement
    columns = select(table.c.sink_id, table.c.seq, table.c["at"])
    rows = conn.execute(columns.where(table.c.sink_id.in_(sorted(sinks)), table.c.strand_id == strand_id))
    return {(sink_id, seq): at for sink_id, seq, at in rows}


def forget(conn: Connection, strands: Iterable[int]) -> None:
    """Those of events of these strands that are no longer in the ledger."""
    table, event = schema.acknowledgement, schema.event
    sinks = conn.scalars(select(schema.sink.c.id)).all()
    kept = exists().where(event.c.strand_id == table.c.strand_id, event.c.seq == table.c.seq)
    of_strands = table.c.sink_id.in_(sinks), table.c.strand_id.in_(KEYS)
    changed(conn, delete(table).where(*of_strands, ~kept), sorted(set(strands)))
