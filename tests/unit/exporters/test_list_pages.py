"""Lists on pages: what is parked and skipped by cause, sources and sinks, replicas and leases."""

from dataclasses import replace
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
from sqlalchemy import Connection, delete, update

from collector.clock import to_ms
from collector.ledger import activity, leases, replicas, schema, shard_count
from collector.ledger.activity import MINUTE_MS, Activity
from collector.ledger.configured_sources import Configured
from collector.ledger.replicas import Replica
from collector.ledger.skips import OVERFLOW
from collector.model import Skip, SkipKind
from collector.testing.clock import SimulatedClock
from exporters.web import list_pages
from exporters.web.responses import short_count
from tests.rules.alert_rules import RUNBOOKS
from tests.unit.exporters.test_run_pages import data, page, served
from tests.unit.ledger.ledgers import ALL, COMPLETE, NOW, SECOND, START, Ledger

MINUTE = to_ms(SimulatedClock().now()) // MINUTE_MS * MINUTE_MS


def refused(conn: Connection) -> None:
    ledger = Ledger(conn)
    ledger.configure(marquez=ALL, kafka=ALL)
    for key, cause in (("a", "422: too long"), ("b", "422: too long"), ("c", "400: no name & more")):
        ledger.happen(key, START)
        ledger.park(
            *(head for head in ledger.claim("marquez") if head.body == f"{key} START".encode()),
            sink="marquez",
            cause=cause,
        )
    ledger.happen("a", COMPLETE)
    ledger.drain("marquez")
    ledger.park(ledger.claim("kafka")[0], sink="kafka", cause="422: too long")


async def test_parked_events_are_chosen_by_sink_and_cause(tmp_path: Path) -> None:
    async with served(tmp_path, refused) as client:

        async def found(query: str) -> list[tuple[str, str]]:
            answer = await data(client, f"/api/v1/parked?{query}")
            assert [cause["count"] for cause in answer["causes"]] == [2, 1, 1], "always all of them"
            return sorted((event["sink"], event["cause"][:3]) for event in answer["parked"])

        assert await found("") == [("kafka", "422"), ("marquez", "400"), ("marquez", "422"), ("marquez", "422")]
        assert await found("sink=marquez&cause=422: too long") == [("marquez", "422")] * 2
        assert await found("cause=422: too long") == [("kafka", "422"), ("marquez", "422"), ("marquez", "422")]
        assert await found("sink=other") == []
        shown = await page(client, f"/parked?sink=marquez&cause={quote('400: no name & more')}")
        every = await page(client, "/parked")
    assert 'href="/parked?sink=marquez&amp;cause=400%3A%20no%20name%20%26%20more"' in every
    assert "Only those of marquez with the cause <q>400: no name &amp; more</q>" in shown
    assert shown.count('<td class="nowrap">START') == 1
    assert "/LineageEventsParked.md" in every


def left_out(conn: Connection) -> None:
    ledger = Ledger(conn)
    ledger.configure(marquez=ALL)
    ledger.poll(skips=(Skip(SkipKind.SQL, "one", "line 3"), Skip(SkipKind.SQL, "two", "line 4")))
    ledger.now += SECOND
    ledger.poll(skips=(Skip(SkipKind.SQL, "two", "line 4"), Skip(SkipKind.ROW, "three", "no id")))


async def test_skips_are_grouped_by_kind(tmp_path: Path) -> None:
    async with served(tmp_path, left_out) as client:
        answer = await data(client, "/api/v1/skipped?kind=sql&source=source")
        none = await data(client, "/api/v1/skipped?source=other")
        shown = await page(client, "/skipped?kind=sql")
    assert [(group["kind"], group["subjects"], group["count"]) for group in answer["groups"]] == [
        ("row", 1, 1),
        ("sql", 2, 3),
    ]
    assert sorted(skip["subject"] for skip in answer["skipped"]) == ["one", "two"]
    assert (none["skipped"], none["groups"]) == ([], answer["groups"])
    assert 'href="/skipped?source=source&amp;kind=row"' in shown
    assert "/LineageRowsUnreadable.md" in shown
    assert "Only the kind sql" in shown


def test_each_kind_of_skip_is_explained() -> None:
    explained = list_pages.KINDS
    assert {*explained} == {*SkipKind, OVERFLOW}
    missing = [name for _, name in explained.values() if name and not (RUNBOOKS / f"{name}.md").exists()]
    assert missing == []


def busy(conn: Connection) -> None:
    refused(conn)
    did = {("source:source", MINUTE): Activity(events=1_234), ("sink:marquez", MINUTE): Activity(ok=56)}
    activity.note(conn, did)
    replicas.beat(conn, replicas.Replica("test", "1.0", "abc", frozenset({"source:source"})))


async def test_sources_and_sinks_are_listed(tmp_path: Path) -> None:
    async with served(tmp_path, busy) as client:
        sources, sinks = await page(client, "/sources"), await page(client, "/sinks")
        first = await page(client, "/")
    assert '<a href="/sources/source">source</a>' in sources
    assert '<span class="quiet">1,234</span>' in sources
    assert '<a href="/sinks/kafka">kafka</a>' in sinks
    assert '<td class="number failed" data-label="parked">3</td>' in sinks
    for count in ("1.2 k/h", "56/h"):
        assert f">{count}</span>" in first, "on its arrow"


async def test_lists_without_anything_say_so(tmp_path: Path) -> None:
    async with served(tmp_path, lambda _: None) as client:
        for path in ("/sources", "/sinks"):
            assert "There are none" in await page(client, path)


async def test_leases_are_shown_with_their_holder_and_since_when(tmp_path: Path) -> None:
    def held(conn: Connection) -> None:
        busy(conn)
        lease = leases.take(conn, "sink:kafka", "test", 60_000)
        assert lease is not None
        leases.give_back(conn, lease)

    async with served(tmp_path, held) as client:
        answer = await data(client, "/api/v1/replicas")
        shown = await page(client, "/replicas")
    found: dict[str, Any] = {each["lease"]: each for each in answer["leases"]}
    assert [*found] == ["sink:kafka", "sink:marquez", "source:source"]
    assert (found["sink:kafka"]["holder"], found["sink:kafka"]["since"]) == (None, None)
    assert found["source:source"]["holder"] == "test"
    assert found["source:source"]["since"] is not None
    assert '<span class="waiting">nobody</span>' in shown
    assert 'source <a href="/sources/source">source</a>' in shown


async def test_a_sink_with_shards_is_shown_with_all_its_holders_and_what_another_number_waits_for(
    tmp_path: Path,
) -> None:
    def divided(conn: Connection) -> None:
        busy(conn)
        conn.execute(delete(schema.replica))
        me = Replica("r1", "1", "abc", frozenset({"sink:kafka", "sink:marquez"}), shards={"kafka": 2})
        sink = replicas.register(conn, me, [Configured("source")], {"kafka": ALL, "marquez": ALL}, NOW).sinks["kafka"]
        conn.execute(update(schema.lease).where(schema.lease.c.name == "sink:kafka").values(expires_at=0))
        assert shard_count.change(conn, sink, "kafka").count == 2
        for number in range(2):
            assert leases.take(conn, f"sink:kafka#{number}", f"r{number + 1}", 60_000) is not None
        replicas.beat(conn, replace(me, id="r2", shards={"kafka": 3}))

    async with served(tmp_path, divided) as client:
        answer, listed = await data(client, "/api/v1/sinks/kafka"), await data(client, "/api/v1/sinks")
        shown, other = await page(client, "/sinks/kafka"), await page(client, "/sinks/marquez")
        held = await page(client, "/replicas")
    waits = "replicas have different numbers of shards (2 at r1; 3 at r2): it keeps 2 until all have the same"
    wanted = {"shards": 2, "shards_next": None, "shards_wait": waits, "holder": "r1, r2", "pending": 3}
    assert {name: answer[name] for name in wanted} == wanted
    [of_kafka] = [each for each in listed["sinks"] if each["sink"] == "kafka"]
    assert {name: of_kafka[name] for name in wanted} == wanted
    assert f'<dt>Shards</dt><dd>2 <span class="waiting">{waits}</span></dd>' in shown
    assert "<dt>Shards</dt>" not in other
    assert [held.count(f'<span class="quiet">shard {number}</span>') for number in range(3)] == [1, 1, 0]


@pytest.mark.parametrize(
    ("count", "words"),
    [
        (0, "0"),
        (999, "999"),
        (1_000, "1.0 k"),
        (99_400, "99.4 k"),
        (999_499, "999 k"),
        (12_345_678, "12.3 M"),
        (5 * 10**12, "5,000 G"),
    ],
)
def test_counts_are_short_on_arrows(count: int, words: str) -> None:
    assert short_count(count) == words
