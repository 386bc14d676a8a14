"""Runs that a backfill made for one sink alone: no other sink gets any event of them, whatever comes later."""

from collections import Counter

import pytest
from sqlalchemy import delete, select

from collector.errors import LedgerError
from collector.ledger import acknowledged, history, resend, restriction, retirement, schema
from collector.ledger.acknowledged import JobName, Uncompared
from collector.ledger.history import Standing
from collector.ledger.resend import ResendFrom, Resent
from collector.ledger.restriction import Alone
from collector.ledger.retirement import Retired
from collector.model import EventKind
from tests.unit.ledger.ledgers import ALL, COMPLETE, FAIL, START, Ledger, change, child_of


def made(ledger: Ledger, key: str, *kinds: EventKind, sink: str = "a", **more: object) -> None:
    """By a backfill for this sink alone."""
    ledger.commit(change(None, key, kinds, ledger.now, **more), alone=Alone(sink))


def made_anew(ledger: Ledger, key: str, *kinds: EventKind, sink: str = "a") -> None:
    """By a backfill for this sink alone, of a run whose events are gone."""
    ledger.commit(change(None, key, kinds, ledger.now), alone=Alone(sink, frozenset({key})))


def strand(ledger: Ledger, key: str) -> int:
    return int(ledger.conn.scalar(select(schema.run.c.strand_id).where(schema.run.c.key == key)) or 0)


def remove_events(ledger: Ledger) -> None:
    """As retention does it."""
    ledger.conn.execute(delete(schema.event))


def standings(ledger: Ledger, key: str) -> dict[str, set[Standing]]:
    number = ledger.conn.scalar(select(schema.run.c.id).where(schema.run.c.key == key))
    found = history.of_run(ledger.conn, number or 0)
    places = [each for event in found.events for each in event.deliveries]
    return {sink: {each.standing for each in places if each.sink == sink} for sink in ledger.sinks}


def test_later_events_of_the_run_go_to_its_sink_alone(ledger: Ledger) -> None:
    ledger.configure(a=ALL, b=ALL)
    made(ledger, "r", START)
    ledger.happen("r", COMPLETE)
    ledger.happen("other", START)
    assert ledger.drain("b") == ["other START"]
    assert ledger.drain("a") == ["r START", "other START", "r COMPLETE"]
    assert (ledger.tally("b"), ledger.owed_bytes("b")) == ((0, 0), 0)


def test_children_that_come_later_are_for_the_sink_of_their_parent(ledger: Ledger) -> None:
    ledger.configure(a=ALL, b=ALL)
    made(ledger, "p", START)
    ledger.happen("c", START, parent=child_of("p"))
    assert (ledger.drain("a"), ledger.drain("b")) == (["p START", "c START"], [])


def test_a_child_does_not_join_a_strand_that_others_get(ledger: Ledger) -> None:
    """Else its events would go to them, or theirs would lie between and be left out."""
    ledger.configure(a=ALL, b=ALL)
    ledger.happen("p", START, COMPLETE)
    ledger.drain("b")
    made(ledger, "c", START, COMPLETE, parent=child_of("p"))
    assert ledger.drain("b") == []
    assert ledger.drain("a") == ["p START", "c START", "p COMPLETE", "c COMPLETE"]
    assert strand(ledger, "c") != strand(ledger, "p")


def test_a_family_that_is_made_together_has_one_strand(ledger: Ledger) -> None:
    ledger.configure(a=ALL, b=ALL)
    family = (
        change(None, "p", [START, COMPLETE], ledger.now),
        change(None, "c", [START, FAIL], ledger.now, parent=child_of("p")),
    )
    ledger.commit(*family, alone=Alone("a"))
    assert ledger.drain("a") == ["p START", "c START", "c FAIL", "p COMPLETE"]
    assert ledger.drain("b") == []


def test_other_sinks_are_not_sent_it_again_from_the_ledger(ledger: Ledger) -> None:
    ledger.configure(a=ALL, b=ALL)
    made(ledger, "r", START, COMPLETE)
    ledger.drain("a")
    number, b = strand(ledger, "r"), ledger.sinks["b"]
    run_id = str(ledger.conn.scalar(select(schema.run.c.run_uuid)))
    restricted = Counter({Resent.RESTRICTED: 1})
    assert resend.preview(ledger.conn, b, [number]).became == restricted
    assert resend.strands(ledger.conn, ledger.held["b"], b, [number], ledger.now).became == restricted
    chosen = {run_id: ResendFrom.START}
    assert resend.runs(ledger.conn, ledger.held["b"], b, chosen, ledger.now).became == restricted
    assert ledger.rows("lane") == 0
    again = resend.runs(ledger.conn, ledger.held["a"], ledger.sinks["a"], chosen, ledger.now)
    assert again.became == {Resent.QUEUED: 1}


def test_it_is_not_compared_with_what_another_sink_has(ledger: Ledger) -> None:
    ledger.configure(a=ALL, b=ALL)
    made(ledger, "r", START, COMPLETE)
    ledger.drain("a")
    job = JobName(ledger.source, "source", "transformation/1")
    pages = {}
    for name in "ab":
        detail = acknowledged.sink(ledger.conn, name)
        assert detail is not None
        pages[name] = acknowledged.page(ledger.conn, detail, job, None, None)
    assert [run.key for run in pages["a"].runs] == ["r"]
    assert (pages["b"].runs, pages["b"].others) == ((), {Uncompared.RESTRICTED: 1})


def test_its_history_says_so(ledger: Ledger) -> None:
    ledger.configure(a=ALL, b=ALL)
    made(ledger, "r", START)
    ledger.happen("r", COMPLETE)
    ledger.drain("a")
    assert standings(ledger, "r") == {"a": {Standing.DELIVERED}, "b": {Standing.RESTRICTED}}
    [marks] = history.marks(ledger.conn, [strand(ledger, "r")]).values()
    assert [(mark.sink, mark.standing) for mark in marks] == [("a", Standing.DELIVERED), ("b", Standing.RESTRICTED)]
    assert history.of_run(ledger.conn, strand(ledger, "r")).only_sinks == ("a",)


def test_a_sink_that_is_new_or_back_is_not_owed_it(ledger: Ledger) -> None:
    ledger.configure(a=ALL, b=ALL)
    ledger.configure(a=ALL)
    made(ledger, "r", START)
    ledger.happen("other", START)
    ledger.configure(a=ALL, b=ALL, c=ALL)
    assert (ledger.drain("b"), ledger.drain("c")) == (["other START"], ["other START"])


def test_its_sink_is_sent_what_came_while_it_was_away(ledger: Ledger) -> None:
    ledger.configure(a=ALL, b=ALL)
    made(ledger, "r", START)
    ledger.drain("a")
    ledger.configure(b=ALL)
    ledger.happen("r", COMPLETE)
    assert ledger.drain("b") == []
    ledger.configure(a=ALL, b=ALL)
    assert (ledger.drain("a"), ledger.drain("b")) == (["r COMPLETE"], [])


def test_no_other_sink_gets_it_once_its_own_is_removed(ledger: Ledger) -> None:
    """Numbers of sinks may come back in SQLite: a sink is meant by its name."""
    ledger.configure(b=ALL, a=ALL)
    made(ledger, "r", START)
    gone = Retired(ledger.sinks["a"], "a", ledger.now)
    ledger.configure(b=ALL)
    while retirement.remove_sink(ledger.conn, gone):
        pass
    ledger.configure(b=ALL, c=ALL)
    ledger.happen("r", COMPLETE)
    assert (ledger.drain("b"), ledger.drain("c")) == ([], [])
    ledger.configure(b=ALL, c=ALL, a=ALL)
    ledger.happen("late", START)
    assert ledger.drain("a") == ["late START"]


def test_a_second_sink_can_be_given_it(ledger: Ledger) -> None:
    ledger.configure(a=ALL, b=ALL, c=ALL)
    made(ledger, "r", START)
    restriction.widen(ledger.conn, [strand(ledger, "r")], "b")
    ledger.happen("r", COMPLETE)
    assert (ledger.drain("b"), ledger.drain("c")) == (["r COMPLETE"], [])
    ledger.happen("open to all", START)
    restriction.widen(ledger.conn, [strand(ledger, "open to all")], "b")
    assert ledger.drain("c") == ["open to all START"]


def test_a_run_without_events_is_made_anew_for_one_sink(ledger: Ledger) -> None:
    ledger.configure(a=ALL, b=ALL)
    ledger.happen("r", START, COMPLETE)
    for sink in "ab":
        ledger.drain(sink)
    remove_events(ledger)
    made_anew(ledger, "r", START)
    ledger.happen("r", COMPLETE)
    assert (ledger.drain("a"), ledger.drain("b")) == (["r START", "r COMPLETE"], [])
    assert ledger.rows("run") == 1
    assert standings(ledger, "r") == {"a": {Standing.DELIVERED}, "b": {Standing.RESTRICTED}}


def test_a_run_with_events_is_not_made_anew(ledger: Ledger) -> None:
    ledger.configure(a=ALL, b=ALL)
    ledger.happen("r", START, COMPLETE)
    with pytest.raises(LedgerError, match="has its START or its end already"):
        made_anew(ledger, "r", START)
    assert restriction.of_strands(ledger.conn, [strand(ledger, "r")]) == {}


def test_names_of_sinks_are_stored_whatever_they_hold() -> None:
    for names in (frozenset({"a"}), frozenset({'with "quotes", commas', "ä"}), frozenset[str]()):
        assert restriction.read(restriction.written(names)) == names
    assert restriction.read(None) is None
