"""Another process that takes a lease over, whoever holds it."""

from sqlalchemy import Connection, update

from collector.ledger import leases, schema
from collector.ledger.leases import Lease


def expire(conn: Connection, name: str) -> None:
    """Its time is over, though nobody gave it back."""
    conn.execute(
        update(schema.lease).where(schema.lease.c.name == name, schema.lease.c.expires_at > 0).values(expires_at=1)
    )


def seize(conn: Connection, name: str, holder: str, ttl_ms: int) -> Lease:
    """As if its time had been over."""
    expire(conn, name)
    lease = leases.take(conn, name, holder, ttl_ms)
    assert lease is not None
    return lease
