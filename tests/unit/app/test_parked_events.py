"""`parked drop` says what would go and asks before it asks anybody to drop it."""

import io
import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Connection

from collector.app import parked_events, requests
from collector.errors import ConfigurationError
from collector.ledger.parked import Choice
from collector.ledger.requests import RequestKind
from tests.unit.app.test_run_listing import CONFIG
from tests.unit.ledger.ledgers import ALL, COMPLETE, NOW, SECOND, START, Ledger, a_run, in_ledger

Drop = Callable[..., int]


def happened(conn: Connection) -> None:
    ledger = Ledger(conn)
    ledger.configure(marquez=ALL)
    ledger.happen("a", START, COMPLETE)
    ledger.park(sink="marquez", cause="422: \x1b[31mno")
    ledger.park(sink="marquez", cause="422: no")
    ledger.now += SECOND
    ledger.happen("b", START)
    ledger.park(sink="marquez", cause="422: no")


@pytest.fixture
def sent_requests(monkeypatch: pytest.MonkeyPatch) -> list[tuple[RequestKind, str, Choice]]:
    """Requests that the service would get; other tests show that it does them."""
    found: list[tuple[RequestKind, str, Choice]] = []

    def parked(_: object, kind: RequestKind, sink: str, choice: Choice, *, as_json: bool) -> int:
        found.append((kind, sink, choice))
        return 0

    monkeypatch.setattr(requests, "parked", parked)
    return found


@pytest.fixture
def drop(tmp_path: Path) -> Drop:
    config = tmp_path / "c.yaml"
    config.write_text(CONFIG.format(folder=tmp_path))

    in_ledger(tmp_path / "lineage.db", happened)

    def act(choice: Choice = Choice(), **how: Any) -> int:  # noqa: B008
        return parked_events.drop(
            config, "marquez", choice, **{"yes": False, "dry_run": False, "as_json": False, **how}
        )

    return act


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


Requests = list[tuple[RequestKind, str, Choice]]


@pytest.mark.parametrize("answer", ["y\n", "YES\n"])
def test_what_somebody_agreed_to_is_dropped(
    drop: Drop,
    sent_requests: Requests,
    answer: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(sys, "stdin", Terminal(answer))
    assert drop() == 0
    said = capsys.readouterr()
    assert said.out == ""
    assert "would drop 3 parked events of sink marquez (1 COMPLETE, 2 START; of 2 runs):" in said.err
    assert f"START of transformation/1, run {a_run('b').run_id}, parked 2026-11-22T12:00:01" in said.err
    assert "422:  [31mno" in said.err, "nothing that a terminal obeys"
    assert "cannot be undone" in said.err
    assert sent_requests == [(RequestKind.DROP, "marquez", Choice(until_ms=NOW + SECOND))], "no more than was shown"


@pytest.mark.parametrize("answer", ["", "\n", "n\n", "yesterday\n"])
def test_what_nobody_agreed_to_stays(
    drop: Drop,
    sent_requests: Requests,
    answer: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(sys, "stdin", Terminal(answer))
    assert drop() == 1
    assert capsys.readouterr().err.endswith("nothing was dropped\n")
    assert sent_requests == []


def test_without_a_terminal_it_refuses_without_yes(
    drop: Drop, sent_requests: Requests, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "stdin", io.StringIO("y\n"))
    with pytest.raises(ConfigurationError, match=r"3 parked events.*no terminal to ask on: add --yes"):
        drop()
    assert sent_requests == []
    assert drop(yes=True) == 0
    assert len(sent_requests) == 1


def test_a_dry_run_asks_nobody(drop: Drop, sent_requests: Requests, capsys: pytest.CaptureFixture[str]) -> None:
    assert drop(dry_run=True, yes=True) == 0
    assert capsys.readouterr().out.startswith("would drop 3 parked events of sink marquez")
    assert drop(dry_run=True, as_json=True) == 0
    shown = json.loads(capsys.readouterr().out)
    assert shown["would_drop"] == len(shown["events"]) == 3
    assert sent_requests == []


def test_one_event_or_those_of_one_run_can_be_chosen(
    drop: Drop, sent_requests: Requests, capsys: pytest.CaptureFixture[str]
) -> None:
    def shown(choice: Choice) -> list[tuple[str, str]]:
        assert drop(choice, dry_run=True, as_json=True) == 0
        return [(one["event"], one["type"]) for one in json.loads(capsys.readouterr().out)["events"]]

    of_run = shown(Choice(run_id=str(a_run("a").run_id)))
    assert [kind for _, kind in of_run] == ["COMPLETE", "START"]
    assert shown(Choice(event=of_run[0][0])) == of_run[:1]
    assert len(shown(Choice(cause="422: no"))) == 2
    drop(Choice(event=of_run[0][0]), yes=True)
    [(_, _, choice)] = sent_requests
    assert choice.event == of_run[0][0]


def test_nothing_to_drop_needs_no_answer(drop: Drop, sent_requests: Requests) -> None:
    drop(Choice(run_id="nope"))
    assert [choice for _, _, choice in sent_requests] == [Choice(run_id="nope")], (
        "the service says that there is nothing"
    )
