import pytest
from sqlalchemy import update

from collector.errors import LeaseLost
from collector.ledger import leases, queries, schema
from collector.ledger.leases import Lease
from tests.unit.ledger.ledgers import Ledger

TTL = 60_000


def expire(ledger: Ledger, name: str) -> None:
    ledger.conn.execute(update(schema.lease).where(schema.lease.c.name == name).values(expires_at=1))


def take(ledger: Ledger, holder: str, *, seize: bool = False) -> Lease | None:
    return leases.take(ledger.conn, "sink:x", holder, TTL, seize=seize)


def test_the_first_taker_has_it_and_the_second_waits(ledger: Ledger) -> None:
    first = take(ledger, "one")
    assert first is not None
    assert first.clean
    assert take(ledger, "two") is None
    leases.fence(ledger.conn, first)


def test_what_was_given_back_is_clean_for_the_next(ledger: Ledger) -> None:
    first = take(ledger, "one")
    assert first is not None
    leases.give_back(ledger.conn, first)
    second = take(ledger, "two")
    assert second is not None
    assert second.clean
    assert second.token > first.token
    with pytest.raises(LeaseLost, match="sink:x is no longer held by one"):
        leases.fence(ledger.conn, first)


def test_an_expired_lease_goes_to_the_next_and_is_not_clean(ledger: Ledger) -> None:
    first = take(ledger, "one")
    assert first is not None
    expire(ledger, "sink:x")
    second = take(ledger, "two")
    assert second is not None
    assert not second.clean
    assert not leases.renew(ledger.conn, first, TTL)
    assert leases.renew(ledger.conn, second, TTL)


def test_a_seized_lease_needs_no_waiting_and_is_not_clean(ledger: Ledger) -> None:
    first = take(ledger, "one")
    second = take(ledger, "two", seize=True)
    assert first is not None
    assert second is not None
    assert not second.clean
    leases.give_back(ledger.conn, first)
    leases.fence(ledger.conn, second)


def test_a_lease_lasts_as_long_as_it_was_taken_for(ledger: Ledger) -> None:
    take(ledger, "one")
    [row] = [row for row in queries.leases(ledger.conn) if row.name == "sink:x"]
    assert row.holder == "one"
    assert TTL - 5_000 < row.left_ms <= TTL
    leases.give_back(ledger.conn, Lease("sink:x", "one", row.token, clean=True))
    [row] = [row for row in queries.leases(ledger.conn) if row.name == "sink:x"]
    assert row.left_ms == 0
