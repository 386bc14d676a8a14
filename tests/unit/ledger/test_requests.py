"""What people and hints ask for."""

import json

import pytest
from sqlalchemy import insert

from collector.errors import LeaseLost, LedgerError
from collector.ledger import requests, retention, runs, schema
from collector.ledger.port import Change, take_announced
from collector.ledger.requests import Request, RequestKind, RequestState
from tests.lease_faults import take_over
from tests.unit.ledger.ledgers import ALL, HOUR, NOW, Ledger

SOURCE = "source:source"


def add(ledger: Ledger, kind: RequestKind = RequestKind.WATCH, target: str = SOURCE) -> int:
    return requests.add(ledger.conn, kind, target, '{"run": "7"}', NOW)


def get(ledger: Ledger, number: int) -> Request:
    found = requests.get(ledger.conn, number)
    assert found is not None
    return found


def restart(ledger: Ledger) -> list[Request]:
    """The process was killed and another one takes over."""
    ledger.configure(a=frozenset())
    return requests.take_over(ledger.conn, ledger.lease, NOW)


def test_a_request_is_done_once_by_the_holder_of_its_lease(ledger: Ledger) -> None:
    first, second, elsewhere = add(ledger), add(ledger), add(ledger, target="sink:a")
    claimed = requests.claim(ledger.conn, ledger.lease, 10)
    assert [request.id for request in claimed] == [first, second]
    assert claimed[0].body == '{"run": "7"}'
    assert requests.claim(ledger.conn, ledger.lease, 10) == []
    requests.finish(ledger.conn, ledger.lease, first, RequestState.DONE, '{"ok": true}', NOW + 1)
    done = get(ledger, first)
    assert (done.state, done.answer, done.done_at) == (RequestState.DONE, '{"ok": true}', NOW + 1)
    assert get(ledger, second).state is RequestState.CLAIMED
    assert get(ledger, elsewhere).state is RequestState.NEW


def test_only_so_many_are_claimed_at_once(ledger: Ledger) -> None:
    numbers = [add(ledger) for _ in range(3)]
    assert [request.id for request in requests.claim(ledger.conn, ledger.lease, 2)] == numbers[:2]


def test_a_request_is_answered_once_and_by_its_holder(ledger: Ledger) -> None:
    number = add(ledger)
    with pytest.raises(LedgerError, match=f"request {number} is not open for sink:a"):
        requests.finish(ledger.conn, ledger.held["a"], number, RequestState.DONE, "{}", NOW)
    requests.finish(ledger.conn, ledger.lease, number, RequestState.DONE, "{}", NOW)
    with pytest.raises(LedgerError):
        requests.finish(ledger.conn, ledger.lease, number, RequestState.FAILED, "{}", NOW)


def test_a_trigger_cut_off_by_a_kill_is_in_doubt_and_never_repeated(ledger: Ledger) -> None:
    trigger, watch, untouched = add(ledger, RequestKind.TRIGGER), add(ledger), add(ledger, RequestKind.TRIGGER)
    requests.claim(ledger.conn, ledger.lease, 2)
    [doubtful] = restart(ledger)
    assert (doubtful.id, doubtful.state) == (trigger, RequestState.DOUBTFUL)
    assert "it is unknown whether" in str(doubtful.answer)
    assert [request.id for request in requests.claim(ledger.conn, ledger.lease, 10)] == [watch, untouched]
    assert get(ledger, trigger).done_at == NOW


def test_without_the_lease_nothing_is_claimed(ledger: Ledger) -> None:
    add(ledger)
    take_over(ledger.conn, SOURCE, "another", 1000)
    with pytest.raises(LeaseLost):
        requests.claim(ledger.conn, ledger.lease, 10)
    with pytest.raises(LeaseLost):
        requests.take_over(ledger.conn, ledger.lease, NOW)


def test_requests_and_hints_wake_those_that_wait_for_them(ledger: Ledger) -> None:
    take_announced(ledger.conn)
    add(ledger)
    assert take_announced(ledger.conn) == {Change.REQUESTS}
    requests.hint(ledger.conn, ledger.source, NOW)
    assert take_announced(ledger.conn) == {Change.REQUESTS}
    assert runs.source_state(ledger.conn, ledger.source).hinted_at == NOW


def test_answers_are_forgotten_after_a_while_and_open_requests_are_not(ledger: Ledger) -> None:
    done, waiting = add(ledger), add(ledger)
    requests.finish(ledger.conn, ledger.lease, done, RequestState.DONE, "{}", NOW)
    assert retention.prune(ledger.conn, NOW)["request"] == 0
    assert retention.prune(ledger.conn, NOW + HOUR)["request"] == 1
    assert requests.get(ledger.conn, done) is None
    assert get(ledger, waiting).state is RequestState.NEW
    assert add(ledger) > waiting


def test_the_last_backfill_is_found_however_many_requests_came_since(ledger: Ledger) -> None:
    ledger.configure(a=ALL)
    first = requests.add_backfill(ledger.conn, "source:source", "{}", ledger.now)
    requests.stop_backfill(ledger.conn, "source:source", ledger.now)
    for kind, target in (("poll", "source:source"), ("backfill", "sink:a")):
        rows = [{"kind": kind, "target": target, "body": "{}", "created_at": 1, "state": "done", "done_at": 2}] * 1_100
        ledger.conn.execute(insert(schema.request), rows)
    found = requests.last_backfill(ledger.conn, "source:source")
    assert found is not None
    assert found.id == first


def test_hints_to_a_source_are_added_to_its_own_request(ledger: Ledger) -> None:
    numbers = {
        target: requests.add_poll(ledger.conn, target, [target], NOW) for target in ("source:b", "source:a", "source:c")
    }
    assert len(set(numbers.values())) == 3
    for target, number in numbers.items():
        assert requests.add_poll(ledger.conn, target, ["more"], NOW) == number
        found = requests.get(ledger.conn, number)
        assert found is not None
        assert json.loads(found.body) == {"keys": [target, "more"]}
