"""The right to poll a source (`source:<name>`), to feed a sink (`sink:<name>`) or one of its shards, or to do what one replica does for all, fenced by a
token.

Safety comes from the locked token row, not from the clock: a new holder waits for the commit under way, and a holder that was
suspended finds another token. Sending cannot be fenced, so start no attempt that could outlive the lease.
"""

from collections.abc import Mapping
from dataclasses import dataclass

from sqlalchemy import ColumnElement, Connection, bindparam, delete, insert, or_, select, update

from collector.errors import LeaseLost
from collector.ledger import schema
from collector.ledger.port import Change, announce
from collector.ledger.schema import db_now
from collector.ledger.statements import put, upsert

HOUSEKEEPING, METRICS = "housekeeping", "metrics"
"""Names of the leases of what one replica does for all; the others are `source:NAME` and `sink:NAME` or `sink:NAME#SHARD`."""

BARRED = 253_402_300_799_000
"""When a lease ends that nobody may take: at the end of the year 9999."""


@dataclass(frozen=True, slots=True)
class Lease:
    """`clean` is False when the former holder had not given it back: what it sent last is in doubt. Of a sink, so is what a killed
    holder before it may have sent: what was owed, by commit time, at `unclean_at`.
    """

    name: str
    holder: str
    token: int
    clean: bool
    unclean_at: int | None = None

    def was_unclean(self, owed_at_ms: int) -> bool:
        """Whether what was owed then may have been sent by a holder that was killed."""
        return self.unclean_at is not None and owed_at_ms <= self.unclean_at


def take(conn: Connection, name: str, holder: str, ttl_ms: int) -> Lease | None:
    """The lease, or None while another holder has it. A holder that takes a lease that it has already lost the answer to a
    former take, or dropped its work: its new lease is not clean.
    """
    table = schema.lease
    expires_at = conn.scalar(select(table.c.expires_at).where(table.c.name == name).with_for_update())
    free = or_(table.c.expires_at < db_now(), table.c.holder == holder)
    insert = upsert(conn.dialect.name, table).values(
        name=name, holder=holder, token=1, expires_at=db_now() + ttl_ms, since=db_now()
    )
    token = conn.scalar(
        insert.on_conflict_do_update(
            index_elements=[table.c.name],
            set_={
                "holder": holder,
                "token": table.c.token + 1,
                **{name: insert.excluded[name] for name in ("expires_at", "since")},
            },
            where=free,
        ).returning(table.c.token)
    )
    return None if token is None else Lease(name, holder, token, clean=not expires_at)


def held_elsewhere(conn: Connection, holder: str) -> dict[str, float]:
    """The leases that others than this holder have, each with the seconds until it may be taken, if it is not renewed."""
    return {name: (left + 1) / 1000 for name, left in conn.execute(_HELD_ELSEWHERE, {"of_holder": holder})}


_HELD_ELSEWHERE = select(schema.lease.c.name, schema.lease.c.expires_at - db_now()).where(
    schema.lease.c.holder != bindparam("of_holder"), schema.lease.c.expires_at >= db_now()
)


def renew(conn: Connection, lease: Lease, ttl_ms: int) -> bool:
    """Hold it for `ttl_ms` from now. False when another holder has it, or when it was given back: a renewal that was under
    way at that moment may be committed after it.
    """
    renewal = {"of_name": lease.name, "of_token": lease.token, "for_ms": ttl_ms}
    return conn.execute(_RENEWAL, renewal).rowcount == 1


_RENEWAL = (
    update(schema.lease)
    .where(
        schema.lease.c.name == bindparam("of_name"),
        schema.lease.c.token == bindparam("of_token"),
        schema.lease.c.expires_at > 0,
    )
    .values(expires_at=db_now() + bindparam("for_ms"))
)


def renew_together(conn: Connection, lease: Lease, ttl_ms: int, others: Mapping[Lease, int]) -> set[str]:
    """Renew `lease`, and with it those of `others` that no other transaction has locked just now, each for its own time. Returns
    the names of those that were renewed. One of the others that was not may still be held.
    """
    renewed = {lease.name} if renew(conn, lease, ttl_ms) else set()
    if not others:
        return renewed
    unlocked = set(conn.scalars(_UNLOCKED, {"names": [other.name for other in others]}))
    along = [(other, ttl) for other, ttl in others.items() if other.name in unlocked]
    return renewed | {other.name for other, ttl in along if renew(conn, other, ttl)}


_UNLOCKED = (
    select(schema.lease.c.name)
    .where(schema.lease.c.name.in_(bindparam("names", expanding=True)))
    .with_for_update(skip_locked=True)
)


def rename(conn: Connection, former: str, name: str) -> None:
    """Its holder loses it, and its time runs on under the new name."""
    table = schema.lease
    conn.execute(delete(table).where(table.c.name == name))
    conn.execute(update(table).where(table.c.name == former).values(name=name))


def free(conn: Connection, name: str, holder: str, *, clean: bool) -> None:
    """From now on it is free, as after this holder; unless `clean`, as if that had not given it back."""
    _put(conn, name, holder, 0 if clean else 1)


def bar(conn: Connection, name: str) -> None:
    """Nobody may take it, until it is free again; its holder loses it."""
    barred = schema.lease.c.name == name, schema.lease.c.expires_at == BARRED
    if conn.scalar(select(schema.lease.c.name).where(*barred)) is None:
        _put(conn, name, "nobody", BARRED)


def _put(conn: Connection, name: str, holder: str, expires_at: int) -> None:
    row = {"name": name, "holder": holder, "token": 1, "expires_at": expires_at}
    conn.execute(put(conn, schema.lease, ("holder", "expires_at"), ("token",)), row)


def end_all(conn: Connection) -> None:
    """For the process with the file lock of an embedded ledger: every other holder is gone. What they had not given back is
    free, and not clean.
    """
    conn.execute(update(schema.lease).where(schema.lease.c.expires_at > 0).values(expires_at=1))


def probe(conn: Connection) -> None:
    """A write that proves that the ledger takes writes, which an empty transaction does not; it leaves nothing behind."""
    table = schema.lease
    conn.execute(insert(table).values(name=_PROBE, holder=_PROBE, token=0, expires_at=0))
    conn.execute(delete(table).where(table.c.name == _PROBE))


_PROBE = "probe"


def give_back(conn: Connection, lease: Lease) -> None:
    """Give it back; call it only when nothing is in flight. No effect when another holder has it."""
    conn.execute(update(schema.lease).where(*_ours(lease)).values(expires_at=0))
    announce(conn, Change.LEASES)


def fence(conn: Connection, lease: Lease) -> None:
    """Check the lease; call it first in every commit under it. Raises `LeaseLost`; the commit must then be rolled back."""
    if conn.scalar(_FENCE, {"of_name": lease.name, "of_token": lease.token}) is None:
        raise LeaseLost(f"lease {lease.name} is no longer held by {lease.holder}; nothing was committed")


_FENCE = (
    select(schema.lease.c.token)
    .where(schema.lease.c.name == bindparam("of_name"), schema.lease.c.token == bindparam("of_token"))
    .with_for_update()
)


def _ours(lease: Lease) -> tuple[ColumnElement[bool], ...]:
    return schema.lease.c.name == lease.name, schema.lease.c.token == lease.token
