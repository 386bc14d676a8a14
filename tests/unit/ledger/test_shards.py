"""Sinks whose strands several leases share, and how their number changes."""

import json
from collections.abc import Mapping
from dataclasses import replace
from itertools import pairwise

import pytest
from sqlalchemy import Connection, delete, select, text, update

from collector.app.status import divisions
from collector.errors import LeaseLost, ShardsChanged
from collector.ledger import (
    claims,
    doubts,
    leases,
    overflow,
    queries,
    replicas,
    requests,
    resend,
    retirement,
    schema,
    shard_count,
    shards,
)
from collector.ledger.claims import Refused, Settlement
from collector.ledger.leases import Lease
from collector.ledger.replicas import Replica
from collector.ledger.requests import RequestClosed, RequestKind, RequestState
from collector.ledger.resend import Window
from collector.ledger.shards import WHOLE, Shard, Shards
from tests.unit.ledger.ledgers import COMPLETE, HOUR, NOW, SECOND, START, Ledger

ME = Replica("me", "1", "abc", frozenset({"source:source", "sink:a"}))


def thirds() -> list[Shard]:
    return [Shard(number, 3) for number in range(3)]


def wish(ledger: Ledger, *counts: int) -> Shards | None:
    """So many live replicas have this number, or these; there are no others."""
    ledger.conn.execute(delete(schema.replica))
    for number, count in enumerate(counts):
        replicas.beat(ledger.conn, replace(ME, id=f"replica {number}", shards={"a": count}))
    return shards.of_sink(ledger.conn, ledger.sinks["a"])


def change(ledger: Ledger) -> Shards:
    return shard_count.change(ledger.conn, ledger.sinks["a"], "a")


def take(ledger: Ledger, shard: Shard, holder: str = "test") -> Lease | None:
    return ledger.take("a", shard, holder)


def taken(ledger: Ledger, shard: Shard) -> Lease:
    lease = take(ledger, shard)
    assert lease is not None
    return lease


def divided(ledger: Ledger, count: int = 3) -> dict[Shard, Lease]:
    """The sink has so many shards now, whose leases are held."""
    for lease in ledger.held.values():
        leases.give_back(ledger.conn, lease)
    wish(ledger, count)
    change(ledger)
    return {shard: taken(ledger, shard) for shard in (Shard(number, count) for number in range(count))}


def test_each_strand_is_of_one_shard() -> None:
    assert [[shard.has(strand) for shard in thirds()].count(True) for strand in range(10)] == [1] * 10
    assert WHOLE.has(7)
    assert WHOLE.lease_name("a") == "sink:a"
    names = [shard.lease_name("a") for shard in thirds()]
    assert names == ["sink:a#0", "sink:a#1", "sink:a#2"]
    assert {shards.whole_name(name) for name in names} == {"sink:a"}
    assert [shards.pool(name) for name in ("source:b", "sink:a", *names)] == ["", "", *["sink:a"] * 3]


def test_a_shard_is_given_its_own_strands(ledger: Ledger) -> None:
    for number in range(7):
        ledger.happen(f"{number}", START, COMPLETE)
    ledger.deliver(*ledger.claim()[:3], recheck_at=NOW)
    sink, now = ledger.sinks["a"], ledger.now
    of_shards = [claims.claim(ledger.conn, sink, now, 100, shard=shard) for shard in thirds()]
    assert all(shard.has(item.strand_id) for shard, items in zip(thirds(), of_shards, strict=True) for item in items)
    assert sorted(item.body for items in of_shards for item in items) == sorted(item.body for item in ledger.claim())
    assert all(one.strand_id < other.strand_id for items in of_shards for one, other in pairwise(items))
    assert all(claims.next_due(ledger.conn, sink, shard) == NOW for shard in thirds())
    strands = [overflow.oldest(ledger.conn, sink, 0, shard=shard) for shard in thirds()]
    assert sorted(strand for some in strands for strand in some) == overflow.oldest(ledger.conn, sink, 0)
    looks = [resend.next_strands(ledger.conn, Window(), 0, shard) for shard in thirds()]
    assert sorted(number for look in looks for number in look.numbers) == overflow.oldest(ledger.conn, sink, 0)
    assert [look.seen for look in looks] == [resend.count_runs(ledger.conn, shard) for shard in thirds()]
    assert resend.count_runs(ledger.conn) == 7


def test_a_shard_looks_at_its_own_runs_in_doubt(ledger: Ledger) -> None:
    for number in range(4):
        ledger.happen(f"{number}", COMPLETE)
    ledger.postpone(unanswered=True, recheck_at=NOW)
    ledger.now += SECOND
    ledger.deliver(recheck_at=ledger.now)
    sink = ledger.sinks["a"]
    found = [doubts.due(ledger.conn, sink, ledger.now, 10, shard) for shard in thirds()]
    assert all(shard.has(item.strand_id) for shard, items in zip(thirds(), found, strict=True) for item in items)
    assert sum(map(len, found)) == len(doubts.due(ledger.conn, sink, ledger.now, 10)) == 4


@pytest.mark.parametrize(
    ("present", "wishes", "wanted"),
    [
        (1, [{"a": 3}], 3),
        (1, [{"a": 3}, {"a": 3}], 3),
        (1, [{"a": 3}, {"a": 1}], None),
        (1, [{"a": 3}, {"b": 1}], 3),
        (3, [{"a": 3}, {"a": 1}], None),
        (3, [{"a": 3}], None),
        (3, [{"b": 1}], None),
        (3, [], None),
    ],
)
def test_the_number_changes_once_all_who_have_the_sink_agree(
    present: int, wishes: list[Mapping[str, int]], wanted: int | None
) -> None:
    assert shard_count.agreed("a", present, wishes) == wanted


def test_nothing_changes_while_live_replicas_differ_or_one_knows_no_shards(ledger: Ledger) -> None:
    assert wish(ledger, 3) == Shards(1, 3)
    assert wish(ledger, 3, 1) == Shards(1)
    assert change(ledger) == Shards(1)
    assert wish(ledger, 3, 3) == Shards(1, 3)
    old = schema.replica.c.id == "replica 1"
    ledger.conn.execute(update(schema.replica).where(old).values(shards=None))
    found = replicas.beat(ledger.conn, replace(ME, id="replica 0", shards={"a": 3}))
    assert [each.shards_of_sinks for each in found] == [{"a": 3}, {"a": 1}]
    assert shards.of_sink(ledger.conn, ledger.sinks["a"]) == Shards(1)


@pytest.mark.parametrize(
    ("present", "wishes", "held", "words"),
    [
        (Shards(2), {"r1": {"a": 2}, "r2": {"a": 2}}, {"r1": {"sink:a#0"}}, None),
        (Shards(2), {"r1": {"b": 3}}, {}, None),
        (Shards(2), {}, {}, None),
        (
            Shards(1),
            {"r1": {"a": 3}, "r2": {"b": 1}},
            {"r1": {"sink:a"}},
            "it gets 3 in place of 1 shards with the next",
        ),
        (
            Shards(2),
            {"r1": {"a": 3}, "r2": {"a": 2}, "r3": {"a": 3}},
            {},
            "replicas have different numbers of shards (2 at r2; 3 at r1, r3): it keeps 2 until all have the same",
        ),
        (
            Shards(2, 3),
            {"r1": {"a": 3}, "r2": {"a": 3}},
            {"r1": {"sink:b", "sink:a"}, "r2": {"sink:a#0"}, "gone": {"sink:a#1", "source:a"}},
            "it gets 3 in place of 2 shards once gone, r2 gave the present leases back, or they ran out; nothing is sent",
        ),
        (Shards(2, 1), {"r1": {"a": 1}}, {"r1": {"sink:b"}}, "it gets 1 in place of 2 shards at once"),
    ],
)
def test_what_another_number_waits_for_is_said(
    present: Shards, wishes: Mapping[str, Mapping[str, int]], held: Mapping[str, set[str]], words: str | None
) -> None:
    said = shard_count.waits_for("a", present, wishes, held)
    assert said == words if words is None else said is not None and said.startswith(words)


def test_the_number_changes_only_under_all_leases(ledger: Ledger) -> None:
    ledger.happen("one", START, COMPLETE)
    [head] = ledger.claim()
    wish(ledger, 3)
    with pytest.raises(LeaseLost, match="sink:a is still held"):
        change(ledger)
    with pytest.raises(ShardsChanged):
        take(ledger, WHOLE)
    former = ledger.held["a"]
    leases.give_back(ledger.conn, former)
    assert change(ledger) == Shards(3)
    assert change(ledger) == Shards(3), "once only"
    with pytest.raises(LeaseLost):
        claims.settle(ledger.conn, former, ledger.sinks["a"], Settlement(delivered=(head,)), NOW, None)
    with pytest.raises(ShardsChanged):
        take(ledger, Shard(0, 2))
    assert [row.shards for row in queries.sinks(ledger.conn)] == [3]


def held_shards(ledger: Ledger) -> set[str]:
    return {row.name for row in queries.leases(ledger.conn) if row.left_ms and row.name.startswith("sink:")}


def test_programs_that_know_no_shards_cannot_take_a_divided_sink(ledger: Ledger) -> None:
    ledger.conn.execute(text("DROP TABLE IF EXISTS alembic_version"))
    ledger.conn.execute(text("CREATE TABLE alembic_version (version_num TEXT, compatible_from TEXT)"))
    ledger.conn.execute(text("INSERT INTO alembic_version VALUES ('0017', '0012')"))
    held = divided(ledger)
    assert leases.take(ledger.conn, "sink:a", "a program that knows no shards", 60_000) is None
    assert held_shards(ledger) == {"sink:a#0", "sink:a#1", "sink:a#2"}, "nobody is shown as its holder"
    version = text("SELECT compatible_from FROM alembic_version")
    assert ledger.conn.scalar(version) == "0017"
    leases.end_all(ledger.conn)
    shard_count.bar_older(ledger.conn)
    assert leases.take(ledger.conn, "sink:a", "a program that knows no shards", 60_000) is None
    for lease in held.values():
        leases.give_back(ledger.conn, lease)
    wish(ledger, 1)
    assert change(ledger) == Shards(1)
    assert ledger.conn.scalar(version) == "0012"
    assert leases.take(ledger.conn, "sink:a", "a program that knows no shards", 60_000) is not None


def test_a_lease_of_former_shards_fences_nothing_when_the_number_comes_back(ledger: Ledger) -> None:
    ledger.happen("one", START)
    zombie = divided(ledger, 2)
    for count in (3, 2):
        ledger.conn.execute(update(schema.lease).where(schema.lease.c.expires_at < leases.BARRED).values(expires_at=0))
        wish(ledger, count)
        change(ledger)
    for lease in zombie.values():
        with pytest.raises(LeaseLost):
            leases.fence(ledger.conn, lease)
        assert not leases.renew(ledger.conn, lease, 1000)


@pytest.mark.parametrize("clean", [True, False])
def test_what_a_killed_holder_sent_is_in_doubt_for_all_new_shards(ledger: Ledger, clean: bool) -> None:
    held = divided(ledger, 2)
    for lease in held.values():
        leases.give_back(ledger.conn, lease)
    if not clean:
        lost = schema.lease.c.name == "sink:a#1"
        ledger.conn.execute(update(schema.lease).where(lost).values(expires_at=1))
    wish(ledger, 3)
    change(ledger)
    assert [taken(ledger, shard).clean for shard in thirds()] == [clean] * 3


@pytest.mark.parametrize("clock", [-HOUR, 0, HOUR])
def test_what_one_killed_holder_sent_stays_in_doubt_whatever_becomes_of_the_other_shards(
    ledger: Ledger, clock: int
) -> None:
    """The other shard goes on meanwhile, and is then taken over, too, by a replica with another clock."""
    for number in range(6):
        ledger.happen(f"{number}", START, COMPLETE)
    killed, other = Shard(0, 2), Shard(1, 2)
    held, sink = divided(ledger, 2), ledger.sinks["a"]
    sent = claims.claim(ledger.conn, sink, ledger.now, 100, shard=killed)

    def go_on(shard: Shard, lease: Lease) -> None:
        heads = tuple(claims.claim(ledger.conn, sink, ledger.now, 100, shard=shard))
        claims.settle(ledger.conn, lease, sink, Settlement(delivered=heads), ledger.now, ledger.now)

    go_on(other, held[other])
    lease = ledger.take_over(shard=killed)
    go_on(other, held[other])
    ledger.now += SECOND
    ledger.take_over(shard=other, clock_ms=clock)
    for _ in range(2):
        go_on(killed, lease)
    looked_at = doubts.due(ledger.conn, sink, ledger.now, 100, killed)
    assert {item.strand_id for item in looked_at} == {item.strand_id for item in sent}
    assert len(sent) == 3


@pytest.mark.parametrize("clock", [0, HOUR])
def test_what_a_shard_sent_whose_holder_lives_is_not_in_doubt_for_the_kill_of_another_one(
    ledger: Ledger, clock: int
) -> None:
    for number in range(6):
        ledger.happen(f"{number}", START, COMPLETE)
    killed, other = Shard(0, 2), Shard(1, 2)
    held, sink = divided(ledger, 2), ledger.sinks["a"]
    ledger.now += SECOND
    ledger.take_over(shard=killed, clock_ms=clock)
    for _ in range(2):
        heads = tuple(claims.claim(ledger.conn, sink, ledger.now, 100, shard=other))
        settled = claims.settle(ledger.conn, held[other], sink, Settlement(delivered=heads), ledger.now, ledger.now)
        assert (settled.delivered, settled.doubted) == (3, 0)


def test_what_a_killed_holder_sent_stays_in_doubt_for_all_who_hold_its_shard_after_it(ledger: Ledger) -> None:
    ledger.happen("one", COMPLETE)
    [item], shard = ledger.claim(), Shard(0, 2)
    divided(ledger, 2)
    mine = shard if shard.has(item.strand_id) else Shard(1, 2)
    ledger.now += SECOND
    leases.give_back(ledger.conn, ledger.take_over(shard=mine))
    ledger.now += SECOND
    lease = taken(ledger, mine)
    assert lease.clean
    settled = claims.settle(
        ledger.conn, lease, ledger.sinks["a"], Settlement(delivered=(item,)), ledger.now, ledger.now
    )
    assert (settled.delivered, settled.doubted) == (1, 1)


def test_shards_settle_for_themselves(ledger: Ledger) -> None:
    for number in range(6):
        ledger.happen(f"{number}", START, COMPLETE)
    held = divided(ledger)
    sink, sent = ledger.sinks["a"], list[bytes]()
    for _ in range(2):
        for shard, lease in held.items():
            items = claims.claim(ledger.conn, sink, ledger.now, 100, shard=shard)
            sent += [item.body for item in items]
            claims.settle(ledger.conn, lease, sink, Settlement(delivered=tuple(items)), ledger.now, None)
    assert len(set(sent)) == len(sent) == 12
    assert ledger.tally() == (0, 0)
    assert ledger.rows("lane") == 0


def test_refusals_of_all_shards_are_one_row(ledger: Ledger) -> None:
    for number in range(6):
        ledger.happen(f"{number}", START)
    held, sink = divided(ledger), ledger.sinks["a"]
    counts = []
    for shard, lease in held.items():
        one, other = claims.claim(ledger.conn, sink, ledger.now, 100, shard=shard)
        result = claims.settle(ledger.conn, lease, sink, Settlement(parked=(Refused(one, "no"),)), ledger.now, None)
        counts.append((result.refused_before, result.refused_now))
    assert counts == [(0, 1), (1, 2), (2, 3)]
    taken_one = claims.settle(ledger.conn, lease, sink, Settlement(delivered=(other,)), ledger.now, None)
    assert (taken_one.refused_before, taken_one.refused_now) == (3, 0)
    assert queries.sinks(ledger.conn)[0].refused == 0


def answered(conn: Connection, number: int) -> tuple[RequestState, dict[str, object] | None]:
    request = requests.get(conn, number)
    assert request is not None
    return request.state, None if request.answer is None else json.loads(request.answer)


def finish(ledger: Ledger, lease: Lease, state: RequestState = RequestState.DONE, **answer: object) -> bool:
    [part] = requests.claim(ledger.conn, lease, 4)
    return requests.finish(ledger.conn, lease, part.id, state, json.dumps(answer), NOW)


def test_a_request_to_a_divided_sink_is_done_by_all_its_shards(ledger: Ledger) -> None:
    one, two, three = divided(ledger).values()
    number = requests.add(ledger.conn, RequestKind.RETRY, "sink:a", '{"run_id": null}', NOW)
    assert not finish(ledger, one, queued=2, superseded=1)
    assert not finish(ledger, three, RequestState.FAILED, error=f"{requests.NOTHING_PARKED} of run x")
    assert answered(ledger.conn, number) == (RequestState.CLAIMED, None)
    assert finish(ledger, two, queued=3)
    assert answered(ledger.conn, number) == (RequestState.DONE, {"queued": 5, "superseded": 1})


@pytest.mark.parametrize("error", [requests.NOTHING_PARKED, "it went wrong"])
def test_a_request_failed_where_a_part_did_or_all_found_nothing(ledger: Ledger, error: str) -> None:
    one, two = divided(ledger, 2).values()
    number = requests.add(ledger.conn, RequestKind.DROP, "sink:a", "{}", NOW)
    finish(ledger, one, RequestState.FAILED, error=error)
    finish(ledger, two, RequestState.FAILED, error=error)
    assert answered(ledger.conn, number) == (RequestState.FAILED, {"error": error})
    other = requests.add(ledger.conn, RequestKind.DROP, "sink:a", "{}", NOW)
    finish(ledger, one, RequestState.FAILED, error="it went wrong")
    finish(ledger, two, dropped=1)
    assert answered(ledger.conn, other) == (RequestState.FAILED, {"error": "it went wrong", "dropped": 1})


@pytest.mark.parametrize("count", [1, 3])
def test_what_a_shard_answered_counts_when_the_number_changes_before_the_others_did(ledger: Ledger, count: int) -> None:
    one, two = divided(ledger, 2).values()
    number = requests.add(ledger.conn, RequestKind.DROP, "sink:a", "{}", NOW)
    finish(ledger, one, dropped=6, not_parked=1)
    for lease in (one, two):
        leases.give_back(ledger.conn, lease)
    held = divided(ledger, count).values()
    for lease in held:
        requests.take_over(ledger.conn, lease, NOW)
    for lease in held:
        assert answered(ledger.conn, number)[0] is not RequestState.DONE
        finish(ledger, lease, RequestState.FAILED, error=requests.NOTHING_PARKED)
    assert answered(ledger.conn, number) == (RequestState.DONE, {"dropped": 6, "not_parked": 1})


def backfilled(after: int, seen: int) -> dict[str, int]:
    return {"total": 10, "after": after, "seen": seen}


def test_a_backfill_goes_on_where_it_was_when_the_number_changes(ledger: Ledger) -> None:
    number = requests.add_backfill(ledger.conn, "sink:a", "{}", NOW)
    [whole] = requests.claim(ledger.conn, ledger.held["a"], 4)
    requests.note(ledger.conn, ledger.held["a"], whole.id, json.dumps(backfilled(5, 5)))
    held = divided(ledger, 2)
    assert requests.add_backfill(ledger.conn, "sink:a", "{}", NOW) == number
    assert [each.id for each in requests.backfills(ledger.conn)] == [number], "and none of its parts"
    parts = [requests.claim(ledger.conn, lease, 4)[0] for lease in held.values()]
    assert [json.loads(part.answer or "") for part in parts] == [backfilled(5, 5), {"total": 0, "after": 5, "seen": 0}]
    for lease, part, after in zip(held.values(), parts, (8, 7), strict=True):
        requests.note(ledger.conn, lease, part.id, json.dumps(backfilled(after, 8)))
    assert answered(ledger.conn, number) == (RequestState.CLAIMED, {"total": 20, "after": 7, "seen": 16})
    for lease in held.values():
        leases.give_back(ledger.conn, lease)
    wish(ledger, 1)
    change(ledger)
    lease = taken(ledger, WHOLE)
    requests.take_over(ledger.conn, lease, NOW)
    [whole] = requests.claim(ledger.conn, lease, 4)
    assert (whole.id, json.loads(whole.answer or "")["after"]) == (number, 7)
    assert ledger.rows("request") == 1


def test_a_backfill_that_is_stopped_ends_in_all_shards(ledger: Ledger) -> None:
    one, two = divided(ledger, 2).values()
    number = requests.add_backfill(ledger.conn, "sink:a", "{}", NOW)
    [part] = requests.claim(ledger.conn, one, 4)
    requests.note(ledger.conn, one, part.id, json.dumps(backfilled(8, 8)))
    assert requests.stop_backfill(ledger.conn, "sink:a", NOW) == backfilled(8, 8)
    with pytest.raises(RequestClosed):
        requests.note(ledger.conn, one, part.id, "{}")
    assert requests.claim(ledger.conn, two, 4) == []
    assert answered(ledger.conn, number)[0] is RequestState.FAILED


def test_parts_that_no_holder_claims_are_answered_in_time(ledger: Ledger) -> None:
    one, _ = divided(ledger, 2).values()
    number = requests.add(ledger.conn, RequestKind.RETRY, "sink:a", "{}", NOW)
    finish(ledger, one, queued=1)
    assert retirement.expire_requests(ledger.conn, NOW + 1, NOW + HOUR) == 1
    state, answer = answered(ledger.conn, number)
    assert state is RequestState.FAILED
    assert answer is not None
    assert "no replica claimed this request in time" in str(answer["error"])
    assert answer["queued"] == 1


def test_requests_to_a_forgotten_sink_are_answered_with_their_parts(ledger: Ledger) -> None:
    divided(ledger, 2)
    number = requests.add(ledger.conn, RequestKind.RETRY, "sink:a", "{}", NOW)
    assert retirement.answer_requests(ledger.conn, "sink:a", NOW) == 3
    assert answered(ledger.conn, number)[0] is RequestState.FAILED
    assert ledger.conn.scalar(select(schema.request.c.id).where(schema.request.c.done_at.is_(None))) is None


def test_a_change_that_waits_for_replicas_is_said_before_a_start_too(ledger: Ledger) -> None:
    wish(ledger, 1, 2)
    waits = (
        "replicas have different numbers of shards (1 at replica 0; 2 at replica 1): it keeps 1 until all have the same"
    )
    assert divisions(ledger.conn, {"a": 1, "b": 1}) == {"a": waits}
    wish(ledger, 1)
    assert divisions(ledger.conn, {"a": 1}) == {}
    assert divisions(ledger.conn, {"a": 3})["a"].startswith("the ledger has 1 for it, this configuration 3")
