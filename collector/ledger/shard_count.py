"""Another number of shards for a sink.

It is noted once all live replicas that have the sink have the same other number in their configuration: during a rolling update they
differ, and nothing changes. From then on no lease of the sink is taken, and who holds one gives it back at a quiet moment. Then any
replica makes the change, in one transaction under all leases of the former shards. So no strand is ever worked under two leases.
"""

from collections.abc import Collection, Iterable, Mapping

from sqlalchemy import Connection, select, update

from collector.errors import LeaseLost
from collector.ledger import leases, migration, requests, schema, shards
from collector.ledger.port import Change, announce
from collector.ledger.shards import Shards

_HOLDER = "a change of shards"
_TTL_MS = 60_000
"""Of the leases within the transaction of a change."""


def agreed(sink: str, present: int, wishes: Iterable[Mapping[str, int]]) -> int | None:
    """The other number of shards that all have who have the sink; None for no change. `wishes` are by sink, one of each replica."""
    wanted = {wish[sink] for wish in wishes if sink in wish}
    return wanted.pop() if len(wanted) == 1 and wanted != {present} else None


def waits_for(
    sink: str, present: Shards, wishes: Mapping[str, Mapping[str, int]], held: Mapping[str, Collection[str]]
) -> str | None:
    """What the sink waits for until it has another number of shards, for people; None where nothing is to change. `wishes` are those
    of the live replicas, `held` the leases that each of these or of others holds.
    """
    names = set(shards.lease_names(sink, present.count))
    holders = [holder for holder in sorted(held) if names & set(held[holder])]
    if present.next is not None:
        until = f"once {_listed(holders)} gave the present leases back, or they ran out" if holders else "at once"
        return f"it gets {present.next} in place of {present.count} shards {until}; nothing is sent until then"
    by_count: dict[int, list[str]] = {}
    for replica, wish in sorted(wishes.items()):
        if sink in wish:
            by_count.setdefault(wish[sink], []).append(replica)
    if len(by_count) > 1:
        differ = "; ".join(f"{count} at {_listed(by_count[count])}" for count in sorted(by_count))
        return f"replicas have different numbers of shards ({differ}): it keeps {present.count} until all have the same"
    wanted = agreed(sink, present.count, wishes.values())
    return None if wanted is None else f"it gets {wanted} in place of {present.count} shards with the next heartbeat"


def _listed(names: Collection[str]) -> str:
    return ", ".join(names)


def note_agreed(conn: Connection, wishes: Collection[Mapping[str, int]]) -> None:
    """Note which sinks are to have another number of shards, by the configurations of all live replicas."""
    table = schema.sink
    rows = conn.execute(select(table.c.id, table.c.name, table.c.shards, table.c.shards_next))
    for number, name, count, coming in rows.all():
        if coming != (wanted := agreed(name, count, wishes)):
            conn.execute(update(table).where(table.c.id == number).values(shards_next=wanted))
            announce(conn, Change.LEASES)


def change(conn: Connection, sink_id: int, sink: str) -> Shards:
    """Give a sink the number of shards that was noted. Raises `LeaseLost` while a lease of the present ones is held.

    Where a former holder did not give its lease back, those of the new shards are as if it had held them: what it sent is in doubt.
    """
    table = schema.sink
    before = shards.of_sink(conn, sink_id)
    if before is None or before.next is None:
        return before or Shards(1)
    former, coming = shards.lease_names(sink, before.count), shards.lease_names(sink, before.next)
    taken = [_take(conn, name) for name in former]
    clean = all(lease.clean for lease in taken)
    after = Shards(before.next)
    of_sink = table.c.id == sink_id, table.c.shards == before.count, table.c.shards_next == before.next
    if not conn.execute(update(table).where(*of_sink).values(shards=after.count, shards_next=None)).rowcount:
        raise LeaseLost(f"sink {sink} was divided by another replica meanwhile; nothing was committed")
    for name in sorted({*former, *coming}):
        leases.free(conn, name, _HOLDER, clean=clean or name not in coming)
    requests.divide(conn, sink, after.count)
    bar_older(conn)
    announce(conn, Change.LEASES)
    announce(conn, Change.REQUESTS)
    return after


def _take(conn: Connection, name: str) -> leases.Lease:
    lease = leases.take(conn, name, _HOLDER, _TTL_MS)
    if lease is None:
        raise LeaseLost(f"lease {name} is still held; nothing was committed")
    return lease


def bar_older(conn: Connection) -> None:
    """Programs that know one lease of a sink only cannot go on while a sink has several: they refuse the ledger, and until they
    have noticed that, its lease as a whole is not free.
    """
    table = schema.sink
    divided = conn.scalars(select(table.c.name).where(table.c.shards > 1).order_by(table.c.name)).all()
    for name in divided:
        leases.bar(conn, *shards.lease_names(name, 1))
    migration.require_shards(conn, bool(divided))
