"""Shards of a sink: several leases share its strands, so that several replicas feed one busy backend.

A strand belongs to shard `strand_id % shards`, so that its events stay in order. How many shards a sink has is a row of the
ledger, whatever a replica has in its configuration; see `shard_count` for how it changes.
"""

from dataclasses import dataclass

from sqlalchemy import ColumnElement, Connection, select

from collector.errors import ShardsChanged
from collector.ledger import schema


@dataclass(frozen=True, slots=True)
class Shard:
    """One of `of` shards of a sink, counted from 0. The only one of a sink is the whole sink."""

    number: int = 0
    of: int = 1

    def has(self, strand: int) -> bool:
        return strand % self.of == self.number

    def lease_name(self, sink: str) -> str:
        return lease_names(sink, self.of)[self.number]

    def conditions(self, strand: ColumnElement[int]) -> list[ColumnElement[bool]]:
        """That this column is a strand of the shard, for queries; none for a whole sink, which needs none."""
        return [] if self.of == 1 else [strand % self.of == self.number]


WHOLE = Shard()


@dataclass(frozen=True, slots=True)
class Shards:
    """How many shards a sink has, and how many it gets once nobody holds one of these; `next` is None without a change."""

    count: int
    next: int | None = None


def lease_names(sink: str, count: int) -> list[str]:
    """`sink:NAME` for the whole sink, else `sink:NAME#0` and so on: programs that know no shards never take one."""
    return [f"sink:{sink}"] if count == 1 else [f"sink:{sink}#{number}" for number in range(count)]


def whole_name(lease: str) -> str:
    """The target of requests, and the lease in a configuration, to which this lease belongs."""
    return lease.partition("#")[0]


def pool(lease: str) -> str:
    """Leases of one pool are spread over the replicas by themselves: the shards of a sink, and all the others."""
    return whole_name(lease) if "#" in lease else ""


def of_sink(conn: Connection, sink_id: int) -> Shards | None:
    """None for a sink that the ledger does not have."""
    row = conn.execute(_COLUMNS.where(schema.sink.c.id == sink_id)).one_or_none()
    return None if row is None else Shards(*row)


def require(conn: Connection, sink_id: int, shard: Shard) -> None:
    """Raises `ShardsChanged` unless the sink is divided like that, which then stays until the end of this transaction."""
    row = conn.execute(_COLUMNS.where(schema.sink.c.id == sink_id).with_for_update(read=True)).one_or_none()
    if row is None or Shards(*row) != Shards(shard.of):
        raise ShardsChanged(f"sink {sink_id} is no longer divided into {shard.of}; the lease was not taken")


def held_count(conn: Connection, sink: str) -> int:
    """How many shards a sink has until the end of this transaction; 1 for one that the ledger does not have."""
    row = conn.execute(_COLUMNS.where(schema.sink.c.name == sink).with_for_update(read=True)).one_or_none()
    return 1 if row is None else int(row.shards)


_COLUMNS = select(schema.sink.c.shards, schema.sink.c.shards_next)
