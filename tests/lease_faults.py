"""Faults of leases: another process takes over a lease that is held, or the ledger refuses renewals."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any
from unittest.mock import patch

from sqlalchemy import Connection, update

from collector.errors import LedgerError
from collector.ledger import leases, schema
from collector.ledger.leases import Lease


def expire(conn: Connection, name: str) -> None:
    """Its time is over, though nobody gave it back."""
    conn.execute(
        update(schema.lease).where(schema.lease.c.name == name, schema.lease.c.expires_at > 0).values(expires_at=1)
    )


def take_over(conn: Connection, name: str, holder: str, ttl_ms: int) -> Lease:
    """As if its time had been over."""
    expire(conn, name)
    lease = leases.take(conn, name, holder, ttl_ms)
    assert lease is not None
    return lease


@contextmanager
def without_renewals(store: Any) -> Iterator[None]:
    """The ledger takes all but renewals, so that only the time that is left of a lease holds work back."""
    write_first = store.write_first

    async def refusing(fn: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        if fn is leases.renew_together:
            raise LedgerError("no connection was free")
        return await write_first(fn, *args, **kwargs)

    with patch.object(store, "write_first", refusing):
        yield
