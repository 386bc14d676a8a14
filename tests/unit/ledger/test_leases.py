import pytest
from sqlalchemy import select, update

from collector.errors import LeaseLost
from collector.ledger import leases, queries, schema
from collector.ledger.leases import Lease
from tests.lease_faults import expire
from tests.unit.ledger.ledgers import Ledger

TTL = 60_000


def take(ledger: Ledger, holder: str) -> Lease | None:
    return leases.take(ledger.conn, "sink:x", holder, TTL)


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
    expire(ledger.conn, "sink:x")
    second = take(ledger, "two")
    assert second is not None
    assert not second.clean
    assert not leases.renew(ledger.conn, first, TTL)
    assert leases.renew(ledger.conn, second, TTL)


def test_a_lease_is_held_since_its_holder_took_it(ledger: Ledger) -> None:
    def since() -> int | None:
        return {row.name: row.since for row in queries.leases(ledger.conn)}["sink:x"]

    first = take(ledger, "one")
    assert first is not None
    assert since() is not None
    ledger.conn.execute(update(schema.lease).values(since=1))
    assert leases.renew(ledger.conn, first, TTL)
    assert since() == 1
    expire(ledger.conn, "sink:x")
    assert take(ledger, "two") is not None
    assert (since() or 0) > 1


def test_a_renewal_that_comes_after_the_lease_was_given_back_does_not_take_it_again(ledger: Ledger) -> None:
    """A renewal that was under way at a stop is committed beside the giving back, and maybe after it."""
    lease = take(ledger, "one")
    assert lease is not None
    leases.give_back(ledger.conn, lease)
    assert not leases.renew(ledger.conn, lease, TTL)
    assert "sink:x" not in leases.held_elsewhere(ledger.conn, "two")


def test_a_holder_that_takes_its_lease_again_gets_another_token(ledger: Ledger) -> None:
    """The answer to the first take was lost."""
    first, second = take(ledger, "one"), take(ledger, "one")
    assert first is not None
    assert second is not None
    assert not second.clean
    with pytest.raises(LeaseLost):
        leases.fence(ledger.conn, first)
    leases.fence(ledger.conn, second)


def test_the_leases_of_holders_that_are_gone_are_free_and_not_clean(ledger: Ledger) -> None:
    take(ledger, "one")
    given_back = leases.take(ledger.conn, "sink:y", "one", TTL)
    assert given_back is not None
    leases.give_back(ledger.conn, given_back)
    leases.end_all(ledger.conn)
    second, other = take(ledger, "two"), leases.take(ledger.conn, "sink:y", "two", TTL)
    assert second is not None
    assert not second.clean
    assert other is not None
    assert other.clean


def test_a_lease_lasts_as_long_as_it_was_taken_for(ledger: Ledger) -> None:
    take(ledger, "one")
    [row] = [row for row in queries.leases(ledger.conn) if row.name == "sink:x"]
    assert row.holder == "one"
    assert TTL - 5_000 < row.left_ms <= TTL
    leases.give_back(ledger.conn, Lease("sink:x", "one", row.token, clean=True))
    [row] = [row for row in queries.leases(ledger.conn) if row.name == "sink:x"]
    assert row.left_ms == 0


def test_a_renewal_holds_it_for_as_long_as_it_says(ledger: Ledger) -> None:
    mine = take(ledger, "one")
    assert mine is not None
    hour = 3_600_000
    assert leases.renew(ledger.conn, mine, hour)
    assert TTL < leases.held_elsewhere(ledger.conn, "another")[mine.name] * 1000 <= hour + 1


def test_a_lease_under_a_new_name_takes_the_place_of_that_one_alone(ledger: Ledger) -> None:
    for name in ("sink:c", "sink:m", "sink:z"):
        assert leases.take(ledger.conn, name, f"holder of {name}", TTL) is not None
    leases.rename(ledger.conn, "sink:z", "sink:m")
    assert leases.take(ledger.conn, "sink:c", "another", TTL) is None
    assert leases.take(ledger.conn, "sink:m", "another", TTL) is None
    assert "sink:z" not in leases.held_elsewhere(ledger.conn, "another")


def test_a_probe_leaves_no_lease_and_all_others(ledger: Ledger) -> None:
    for name in ("a", "z"):
        assert leases.take(ledger.conn, name, "test", 1000) is not None
    names = select(schema.lease.c.name)
    before = set(ledger.conn.scalars(names))
    leases.probe(ledger.conn)
    assert set(ledger.conn.scalars(names)) == before


def test_nobody_takes_what_is_barred_however_many_are_and_however_often(ledger: Ledger) -> None:
    for name in ("x", "y", "x"):
        leases.bar(ledger.conn, name)
    for name in ("x", "y"):
        assert leases.take(ledger.conn, name, "test", TTL) is None
    assert leases.take(ledger.conn, "z", "test", TTL) is not None
