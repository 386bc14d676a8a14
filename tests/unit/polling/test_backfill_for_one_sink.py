"""A backfill of a source for one sink alone: what the ledger lacks is made for it, what it has is sent to it again."""

import json
from collections import Counter
from collections.abc import Mapping
from datetime import datetime
from typing import Any

import pytest
from sqlalchemy import Connection, delete, select

from collector.clock import to_ms
from collector.ledger import claims, configured_sinks, leases, requests, resend, schema
from collector.ledger.claims import Settlement
from collector.ledger.past_runs import Scope
from collector.ledger.requests import Request, RequestState
from collector.ledger.resend import ResendFrom, Window
from collector.model import EventKind, Parent
from collector.polling.past_runs import ProgressOfOne, family_ends
from tests.lease_faults import take_over
from tests.unit.exporters.delivery_simulation import JOB
from tests.unit.ledger.ledgers import ALL, START
from tests.unit.polling.scripted_source import FIRST_POLL, ScriptedSource
from tests.unit.polling.test_backfill import DAY, History, ended, known, stored

WEEK = 7 * DAY


class Sinks:
    """Each takes all that it is owed and does what it is asked, as the holder of its lease."""

    def __init__(self, scripted: ScriptedSource) -> None:
        self.scripted, self.store = scripted, scripted.pollers.store
        self.got: dict[str, list[str]] = {}
        self.open = True
        """Whether they work."""

    async def configure(self, *names: str) -> None:
        await self.store.write(configured_sinks.sync_sinks, dict.fromkeys(names, ALL), self._now())
        if not self.got:
            self.scripted.pollers.clock.start(self._work())
        self.got |= {name: self.got.get(name, []) for name in names}

    def _now(self) -> int:
        return to_ms(self.scripted.pollers.clock.now())

    async def _work(self) -> None:
        while True:
            await self.scripted.pollers.clock.sleep(5)
            if self.open:
                await self.store.write(self._turn)

    def _turn(self, conn: Connection) -> None:
        table = schema.sink
        for number, name in conn.execute(select(table.c.id, table.c.name).where(table.c.retired_at.is_(None))).all():
            lease = leases.take(conn, f"sink:{name}", "test", 0)
            assert lease is not None
            for request in requests.claim(conn, lease, 100):
                chosen = {run_id: ResendFrom(word) for run_id, word in json.loads(request.body)["runs"].items()}
                became = resend.runs(conn, lease, number, chosen, self._now()).became
                requests.finish(conn, lease, request.id, RequestState.DONE, json.dumps(became), self._now())
            for item in claims.claim(conn, number, self._now(), 100):
                self.got[name].append(f"{json.loads(item.body)['eventType']} {item.run_id}")
                claims.settle(conn, lease, number, Settlement(delivered=(item,)), self._now(), None)

    def ends(self, name: str) -> int:
        return sum(each.startswith("COMPLETE") for each in self.got[name])

    def starts(self, name: str) -> int:
        return sum(each.startswith("START") for each in self.got[name])

    def empty(self) -> None:
        for got in self.got.values():
            got.clear()


@pytest.fixture
async def sinks(scripted: ScriptedSource) -> Sinks:
    made = Sinks(scripted)
    await made.configure("a", "b")
    await scripted.advance(FIRST_POLL)
    return made


async def ask(scripted: ScriptedSource, since: datetime, sink: str = "a") -> int:
    body = json.dumps(Scope(Window(to_ms(since)), sink).body())
    now_ms = to_ms(scripted.pollers.clock.now())
    number: int = await scripted.pollers.store.write(requests.add_backfill, "source:scripted", body, now_ms)
    return number


async def wait(scripted: ScriptedSource, seconds: float = 120) -> None:
    await scripted.advance(scripted.pollers.clock.monotonic() + seconds)


async def answer(scripted: ScriptedSource, number: int) -> Mapping[str, Any]:
    found: Request = await stored(scripted, number)
    return {"state": found.state, **json.loads(found.answer or "{}")}


def counts(**some: int) -> dict[str, Any]:
    return {
        "state": RequestState.DONE,
        "seen": 0,
        "made": 0,
        "sent": 0,
        "waiting": 0,
        "recent": 0,
        "incomplete": 0,
        **some,
    }


async def polled(scripted: ScriptedSource, *keys: str) -> None:
    """Runs that polls saw and every sink got."""
    now = scripted.pollers.clock.now()
    number = len(scripted.polled()) + 1
    scripted.seen[number] = [ended(scripted, key, now) for key in keys]
    await wait(scripted)
    assert set(await known(scripted, *keys)) == set(keys)


async def remove_events(scripted: ScriptedSource, *kinds: EventKind) -> None:
    """As retention does it."""
    gone = delete(schema.event).where(schema.event.c.kind.in_([kind.value for kind in kinds]))
    await scripted.pollers.store.write(lambda conn: conn.execute(gone).rowcount)


def test_what_became_of_runs_that_are_sent_again_is_added_up() -> None:
    became = Counter({"queued": 2, "waiting": 3, "incomplete": 5, "unknown": 7})
    progress = ProgressOfOne(seen=40, made=1, recent=2).with_resent(became).with_resent(became)
    assert progress == ProgressOfOne(seen=40, made=1, sent=4, waiting=6, recent=2, incomplete=24)


async def test_what_the_ledger_does_not_know_is_made_for_that_sink_alone(
    scripted: ScriptedSource, sinks: Sinks
) -> None:
    now = scripted.pollers.clock.now()
    History(scripted, (ended(scripted, "old", now - DAY), ended(scripted, "older", now - 2 * DAY)))
    number = await ask(scripted, now - WEEK)
    await wait(scripted)
    assert await answer(scripted, number) == counts(seen=2, made=2)
    assert (sinks.starts("a"), sinks.ends("a"), sinks.got["b"]) == (2, 2, [])


async def test_what_polls_may_see_first_is_left_to_them(scripted: ScriptedSource, sinks: Sinks) -> None:
    """Else no other sink would ever get a run that ended just now, or while no service ran."""
    await wait(scripted)
    now = scripted.pollers.clock.now()
    History(scripted, (ended(scripted, "just now", now), ended(scripted, "old", now - DAY)))
    number = await ask(scripted, now - WEEK)
    scripted.seen[len(scripted.polled()) + 3] = [ended(scripted, "just now", now)]
    await wait(scripted)
    assert await answer(scripted, number) == counts(seen=2, made=1, recent=1)
    assert [len(sinks.got[name]) for name in "ab"] == [4, 2]


def test_a_family_is_as_late_as_the_last_of_it(scripted: ScriptedSource) -> None:
    now = scripted.pollers.clock.now()
    above = ended(scripted, "p", now)
    parent = Parent(above.run_id, JOB.namespace, JOB.name, key="p")
    alone, child = ended(scripted, "alone", now - DAY), ended(scripted, "c", now - DAY, parent=parent)
    late, early = to_ms(now), to_ms(now - DAY)
    assert family_ends([alone, child, above]) == {"alone": early, "c": late, "p": late}
    assert family_ends([]) == {}


async def test_what_the_ledger_has_is_sent_again_to_that_sink_alone(scripted: ScriptedSource, sinks: Sinks) -> None:
    await polled(scripted, "known", "other")
    sinks.empty()
    now = scripted.pollers.clock.now()
    History(scripted, (ended(scripted, "known", now), ended(scripted, "old", now - DAY)))
    number = await ask(scripted, now - WEEK)
    await wait(scripted)
    assert await answer(scripted, number) == counts(seen=2, made=1, sent=1)
    assert (sinks.starts("a"), sinks.ends("a"), sinks.got["b"]) == (2, 2, [])


async def test_what_retention_removed_is_made_again_under_its_id(scripted: ScriptedSource, sinks: Sinks) -> None:
    await polled(scripted, "known")
    before = (await known(scripted, "known"))["known"]
    first = list(sinks.got["a"])
    sinks.empty()
    await remove_events(scripted, *EventKind)
    now = scripted.pollers.clock.now()
    History(scripted, (ended(scripted, "known", before.ended_at),))
    number = await ask(scripted, now - WEEK)
    await wait(scripted)
    assert await answer(scripted, number) == counts(seen=1, made=1)
    assert (sinks.got["a"], sinks.got["b"]) == (first, [])
    after = (await known(scripted, "known"))["known"]
    assert (after.run_id, after.started_at, after.ended_at) == (before.run_id, before.started_at, before.ended_at)


async def test_what_retention_left_half_is_counted(scripted: ScriptedSource, sinks: Sinks) -> None:
    await polled(scripted, "known")
    sinks.empty()
    await remove_events(scripted, START)
    now = scripted.pollers.clock.now()
    History(scripted, (ended(scripted, "known", now),))
    number = await ask(scripted, now - WEEK)
    await wait(scripted)
    assert await answer(scripted, number) == counts(seen=1, incomplete=1)
    assert sinks.got == {"a": [], "b": []}


async def test_the_next_holder_sends_nothing_twice(scripted: ScriptedSource, sinks: Sinks) -> None:
    await polled(scripted, "known")
    sinks.empty()
    now = scripted.pollers.clock.now()
    pages = (ended(scripted, "known", now), ended(scripted, "old", now - DAY)), (ended(scripted, "older", now - DAY),)
    history = History(scripted, *pages)
    history.failures = [1]
    number = await ask(scripted, now - WEEK)
    await scripted.advance(scripted.pollers.clock.monotonic() + 20)
    assert sinks.ends("a") == 2
    await scripted.pollers.store.write(take_over, "source:scripted", "second", -1)
    await wait(scripted, 300)
    assert await answer(scripted, number) == counts(seen=3, made=1, waiting=2)
    assert (sinks.starts("a"), sinks.ends("a"), sinks.got["b"]) == (3, 3, [])


async def test_a_second_sink_is_given_what_the_first_one_has(scripted: ScriptedSource, sinks: Sinks) -> None:
    await sinks.configure("a", "b", "c")
    now = scripted.pollers.clock.now()
    History(scripted, (ended(scripted, "old", now - DAY),))
    for sink, expected in (("a", counts(seen=1, made=1)), ("b", counts(seen=1, sent=1))):
        number = await ask(scripted, now - WEEK, sink)
        await wait(scripted)
        assert await answer(scripted, number) == expected
    assert [len(sinks.got[name]) for name in "abc"] == [2, 2, 0]


async def test_a_sink_that_is_behind_is_waited_for(
    scripted: ScriptedSource, sinks: Sinks, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("collector.polling.past_runs.MOST_LANES", 1)
    monkeypatch.setattr("collector.polling.past_runs.PART", 1)
    sinks.open = False
    now = scripted.pollers.clock.now()
    History(scripted, tuple(ended(scripted, f"r{number}", now - DAY) for number in range(3)))
    number = await ask(scripted, now - WEEK)
    await wait(scripted, 600)
    assert (await answer(scripted, number))["state"] is RequestState.CLAIMED
    assert len(await known(scripted, "r0", "r1", "r2")) == 1
    sinks.open = True
    await wait(scripted, 600)
    assert await answer(scripted, number) == counts(seen=3, made=3)


async def test_one_that_waits_for_its_sink_can_be_stopped(scripted: ScriptedSource, sinks: Sinks) -> None:
    await polled(scripted, "known")
    sinks.open = False
    now = scripted.pollers.clock.now()
    History(scripted, (ended(scripted, "known", now),))
    number = await ask(scripted, now - WEEK)
    await wait(scripted)
    await scripted.pollers.store.write(requests.stop_backfill, "source:scripted", to_ms(now))
    await wait(scripted)
    assert (await answer(scripted, number))["state"] is RequestState.FAILED
    sinks.open = True
    again = await ask(scripted, now - WEEK)
    await wait(scripted)
    assert (await answer(scripted, again))["state"] is RequestState.DONE


@pytest.mark.parametrize("left", [True, False])
async def test_a_sink_that_is_not_configured_is_reported(scripted: ScriptedSource, sinks: Sinks, left: bool) -> None:
    if left:
        await sinks.configure("b")
    now = scripted.pollers.clock.now()
    History(scripted, (ended(scripted, "old", now - DAY),))
    number = await ask(scripted, now - WEEK, "a" if left else "nobody")
    await wait(scripted)
    found = await answer(scripted, number)
    assert (found["state"], await known(scripted, "old")) == (RequestState.FAILED, {})
    assert "or it left the configuration" in found["error"]


async def test_what_the_sink_could_not_do_is_reported(scripted: ScriptedSource, sinks: Sinks) -> None:
    await polled(scripted, "known")
    sinks.open = False
    now = scripted.pollers.clock.now()
    History(scripted, (ended(scripted, "known", now),))
    number = await ask(scripted, now - WEEK)
    await wait(scripted)
    late = {"state": RequestState.FAILED, "answer": json.dumps({"error": "nobody claimed it"}), "done_at": 1}
    table = schema.request
    failed = table.update().where(table.c.target == "sink:a").values(late)
    await scripted.pollers.store.write(lambda conn: conn.execute(failed).rowcount)
    await wait(scripted)
    found = await answer(scripted, number)
    assert found["error"] == "sink a: nobody claimed it; the same command goes on with the rest"
