"""The processes that share a ledger, each with what it has in its configuration.

Each writes a heartbeat every `BEAT_EVERY` seconds. A source or sink is retired only when no live replica has it, so that
an upgrade under way, or two configurations by mistake, take nothing away from each other. `fair_share` says how leases spread
over them.
"""

import json
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field
from functools import cache
from typing import Any

from sqlalchemy import Connection, Insert, bindparam, delete, select

from collector.ledger import configured_sinks, configured_sources, lanes, schema, shard_count
from collector.ledger.configured_sources import Configured
from collector.ledger.schema import db_now
from collector.ledger.statements import upsert
from collector.model import EventKind

BEAT_EVERY = 10.0
LIVES_FOR_MS = 35_000
"""After three missed heartbeats a replica counts as gone."""
_FORGOTTEN_AFTER_MS = 3_600_000
COMMAND = "command of "
"""The id of a command that does by itself what it was asked for begins so, as no service runs."""


@dataclass(frozen=True, slots=True)
class Replica:
    """`leases` are the names of those that it could hold: `source:NAME` and `sink:NAME` of all in its configuration, of
    which `fingerprint` is a digest. `shards` is how many its sinks have there, of those with several. Times in epoch milliseconds of
    the ledger's clock.
    """

    id: str
    version: str
    fingerprint: str
    leases: frozenset[str]
    started: int = 0
    seen: int = 0
    shards: Mapping[str, int] = field(default_factory=dict)

    @property
    def shards_of_sinks(self) -> dict[str, int]:
        return {name: self.shards.get(name, 1) for name in _of_kind("sink", self.leases)}


@dataclass(frozen=True, slots=True)
class Numbers:
    """The ledger's numbers of the configured sources and sinks, by name."""

    sources: Mapping[str, int]
    sinks: Mapping[str, int]


def register(
    conn: Connection,
    me: Replica,
    sources: Iterable[Configured],
    sinks: Mapping[str, frozenset[EventKind]],
    now_ms: int,
) -> Numbers:
    """Register a replica at its start, with its sources and sinks. Raises `ConfigurationError`, see `configured_sources.matched`."""
    lanes.hold_sinks(conn)  # so that two that start at once see each other
    others = _others(conn, me)
    sink_ids = configured_sinks.sync_sinks(conn, sinks, now_ms, spared=_names("sink", others))
    source_ids = configured_sources.sync_sources(conn, sources, now_ms, spared=_names("source", others))
    shard_count.bar_older(conn)  # again, as a start with an embedded ledger frees every lease
    conn.execute(_FORGETTING)
    beat(conn, me)
    return Numbers(source_ids, sink_ids)


def beat(conn: Connection, me: Replica) -> list[Replica]:
    """Write the heartbeat of this replica; returns all live replicas, itself among them."""
    written = {"leases": json.dumps(sorted(me.leases)), "shards": json.dumps(dict(me.shards))}
    row = {"id": me.id, "version": me.version, "fingerprint": me.fingerprint, **written}
    conn.execute(_seen(conn.dialect.name), row)
    living = live(conn)
    shard_count.note_agreed(conn, [each.shards_of_sinks for each in living])
    return living


@cache
def _seen(dialect: str) -> Insert:
    table = schema.replica
    given: dict[str, Any] = {name: bindparam(name) for name in ("id", "version", "fingerprint", "leases", "shards")}
    insert = upsert(dialect, table).values(**given, started=db_now(), seen=db_now())
    return insert.on_conflict_do_update(index_elements=[table.c.id], set_={"seen": insert.excluded.seen})


_FORGETTING = delete(schema.replica).where(schema.replica.c.seen < db_now() - _FORGOTTEN_AFTER_MS)


def leave(conn: Connection, me: Replica) -> None:
    """Remove this replica at a clean stop."""
    conn.execute(delete(schema.replica).where(schema.replica.c.id == me.id))


def end_all(conn: Connection) -> None:
    """For the process with the file lock of an embedded ledger: every other process is gone."""
    conn.execute(delete(schema.replica))


def live(conn: Connection) -> list[Replica]:
    """The oldest first."""
    return [_replica(row) for row in conn.execute(_LIVE, {"lives_for": LIVES_FOR_MS}).mappings()]


_LIVE = (
    select(schema.replica)
    .where(schema.replica.c.seen >= db_now() - bindparam("lives_for"))
    .order_by(schema.replica.c.started, schema.replica.c.id)
)


def _replica(row: Mapping[Any, Any]) -> Replica:
    read = {"leases": frozenset(json.loads(row["leases"])), "shards": json.loads(row["shards"] or "{}")}
    return Replica(**{**row, **read})


def services(conn: Connection) -> list[Replica]:
    """Those of the live replicas that go on, and are no commands."""
    return [each for each in live(conn) if not each.id.startswith(COMMAND)]


def unconfigured(conn: Connection, me: Replica) -> frozenset[str]:
    """Names of sources and sinks, as in `Replica.leases`, that are not retired though no live replica has them."""
    found = {f"{kind}:{name}" for kind, names in _CONFIGURED.items() for name in conn.scalars(names)}
    return frozenset(found - me.leases - {name for other in _others(conn, me) for name in other.leases})


_CONFIGURED = {
    kind: select(table.c.name).where(table.c.retired_at.is_(None))
    for kind, table in (("source", schema.source), ("sink", schema.sink))
}


def retire(conn: Connection, me: Replica, now_ms: int) -> frozenset[str]:
    """Retire what no live replica has any more, as after an upgrade's last old replica has gone; their names."""
    lanes.hold_sinks(conn)
    gone = unconfigured(conn, me)
    configured_sinks.retire(conn, _of_kind("sink", gone), now_ms)
    configured_sources.retire(conn, _of_kind("source", gone), now_ms)
    return gone


def _others(conn: Connection, me: Replica) -> list[Replica]:
    return [replica for replica in live(conn) if replica.id != me.id]


def _names(kind: str, replicas: Iterable[Replica]) -> frozenset[str]:
    return frozenset(name for replica in replicas for name in _of_kind(kind, replica.leases))


def _of_kind(kind: str, leases: Collection[str]) -> frozenset[str]:
    return frozenset(name.removeprefix(f"{kind}:") for name in leases if name.startswith(f"{kind}:"))
