"""`backfill` counts what it would do, has it done, and refuses what cannot be meant."""

import json
from collections.abc import AsyncIterator, Callable
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Connection, update

from collector.app import backfill, requests
from collector.app.control import RequestResult
from collector.app.status import status
from collector.clock import SystemClock
from collector.errors import ConfigurationError, LineageError
from collector.ledger import requests as ledger_requests
from collector.ledger import schema
from collector.ledger.requests import Request, RequestKind, RequestState
from collector.model import Observation, Poll, RunState
from tests.unit.app.test_run_listing import CONFIG
from tests.unit.ledger.ledgers import ALL, COMPLETE, NOW, START, T0, Ledger, a_run, in_ledger

Backfill = Callable[..., Any]
MORE = "  - {platform: wetransform, name: twin, tenant: t, token: geheim-4712}\nsinks:\n  - {type: file, name: twin, path: '-'}\n"


def happened(conn: Connection) -> None:
    ledger = Ledger(conn)
    ledger.configure(marquez=ALL)
    ledger.happen("over", START, COMPLETE)
    ledger.drain("marquez")
    ledger.happen("waits", START)
    ledger.commit(polled_at_ms=NOW + 3_600_000)


@pytest.fixture
def act(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Backfill:
    config = tmp_path / "c.yaml"
    config.write_text(CONFIG.format(folder=tmp_path).replace("sinks:\n", MORE))
    in_ledger(tmp_path / "lineage.db", happened)

    def done(name: str, **how: Any) -> Any:
        assert backfill.backfill(config, name, backfill.Options(**{"as_json": True, **how})) == 0
        out = capsys.readouterr().out
        return json.loads(out) if how.get("as_json", True) else out

    return done


def test_a_preview_counts_what_a_sink_would_be_sent(act: Backfill) -> None:
    counts = {"strands": 1, "events": 2, "waiting": 1, "incomplete": 0, "restricted": 0}
    assert act("marquez", dry_run=True) == {
        "request": "dry run",
        "sink": "marquez",
        "since": None,
        "until": None,
        **counts,
    }
    words = "would send 1 run with 2 events to sink marquez; not sent: 1 that it is owed already\n"
    assert act("sink:marquez", dry_run=True, as_json=False) == words


@pytest.mark.parametrize(
    ("name", "how", "words"),
    [
        ("nobody", {}, "there is no source and no sink named 'nobody'; configured are source:source, source:twin"),
        ("twin", {}, "a source and a sink have the name twin: use source:twin or sink:twin"),
        ("source:twin", {"since": "7d"}, "wetransform lists no past runs"),
        ("source", {}, "needs --since"),
        ("marquez", {"since": "2026-01-31", "until": "2026-01-30"}, "--since must be before --until"),
        (
            "marquez",
            {"sink": "marquez"},
            "--sink goes with a source; sink marquez is filled from the ledger without it",
        ),
        (
            "source",
            {"sink": "marqez", "since": "7d"},
            "there is no sink named 'marqez' in the configuration; configured are marquez, twin; did you mean marquez?",
        ),
        ("marquez", {"until": "yesterday"}, "--until: 'yesterday' is not a time"),
    ],
)
def test_what_cannot_be_meant_is_refused(act: Backfill, name: str, how: dict[str, str], words: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        act(name, **how)
    assert words in caught.value.mistakes[0]


def test_what_is_done_is_followed_and_counted(
    act: Backfill, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    answers = {
        "sink:marquez": {"total": 2, "seen": 2, "strands": 2, "events": 3, "waiting": 0, "incomplete": 0},
        "source:source": {"seen": 5, "known": 3, "made": 2},
    }
    asked: list[Any] = []

    async def done(_: object, target: str, body: Any, look: Callable[[Request], None]) -> RequestResult:
        asked.append((target, body))
        under_way = json.dumps({"since_ms": 0, "until_ms": None})
        answer = json.dumps(answers[target])
        look(Request(1, RequestKind.BACKFILL, target, under_way, 0, RequestState.CLAIMED, answer))
        return RequestResult(RequestState.DONE, answers[target])

    monkeypatch.setattr(requests, "backfill", done)
    assert act("marquez", as_json=False) == "put on the way 2 runs with 3 events to sink marquez\n"
    assert act("source", since="2026-01-31")["since"] == "1970-01-01T00:00:00.000+00:00"
    said = "2 of 5 past runs of source source were made; 3 were known\n"
    assert act("source", since="1970-01-01", as_json=False) == said
    assert [target for target, _ in asked] == ["sink:marquez", "source:source", "source:source"]
    assert asked[0][1] == {"since_ms": None, "until_ms": None}


def test_one_for_one_sink_is_counted(act: Backfill, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[Any] = []
    counts = {"seen": 9, "made": 2, "sent": 4, "waiting": 2, "recent": 0, "incomplete": 1}

    async def done(_: object, target: str, body: Any, look: Callable[[Request], None]) -> RequestResult:
        asked.append(body)
        look(Request(1, RequestKind.BACKFILL, target, json.dumps(body), 0, RequestState.CLAIMED, json.dumps(counts)))
        return RequestResult(RequestState.DONE, counts)

    monkeypatch.setattr(requests, "backfill", done)
    found = act("source", since="2026-01-31", sink="marquez")
    assert {name: found[name] for name in counts} == counts
    assert (found["only_sink"], asked[0]["sink"]) == ("marquez", "marquez")
    assert act("source", since="2026-01-31", sink="marquez", as_json=False) == (
        "2 of 9 past runs of source source were made for sink marquez alone, 4 were sent to it again from the ledger; "
        "not sent: 2 that it is owed already, 1 of which retention removed a part\n"
    )


def test_another_that_is_under_way_is_not_taken_for_ones_own(
    tmp_path: Path, act: Backfill, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    async def done(_: object, target: str, body: Any, look: Callable[[Request], None]) -> RequestResult:
        answer = {"seen": 1, "known": 0, "made": 1}
        look(Request(1, RequestKind.BACKFILL, target, '{"since_ms": 0}', 0, RequestState.CLAIMED, json.dumps(answer)))
        return RequestResult(RequestState.DONE, answer)

    monkeypatch.setattr(requests, "backfill", done)
    options = backfill.Options(since="1970-01-01", sink="marquez")
    assert backfill.backfill(tmp_path / "c.yaml", "source", options) == 1
    said = capsys.readouterr()
    assert "1 of 1 past runs of source source were made; 0 were known" in said.out
    assert "yours, which was not begun: repeat the command" in said.err


def test_a_preview_says_of_each_run_what_would_be_done(
    act: Backfill, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    class Listing:
        async def poll(self, *_: object) -> AsyncIterator[Poll]:
            old = (_past(key) for key in ("over", "waits", "old"))
            yield Poll((*old, _past("new", T0 + timedelta(hours=1))))

        async def close(self) -> None: ...

    monkeypatch.setattr("collector.app.factory.history", lambda *_: Listing())
    alone = act("source", since="2026-11-01", sink="marquez", dry_run=True)
    assert {row["run"]: row["would"] for row in alone["runs"]} == {
        "over": "send again",
        "waits": "waiting",
        "old": "make",
        "new": "left to polls",
    }
    counts = {name: alone[name] for name in ("seen", "made", "sent", "waiting", "recent")}
    assert counts == {"seen": 4, "made": 1, "sent": 1, "waiting": 1, "recent": 1}
    for_all = act("source", since="2026-11-01", dry_run=True)
    assert {row["run"]: row["would"] for row in for_all["runs"]} == {
        "over": "known",
        "waits": "known",
        "old": "make",
        "new": "make",
    }
    lines = act("source", since="2026-11-01", dry_run=True, as_json=False).splitlines()
    assert lines[0].split("\t") == ["would", "ended", "run", "job"]
    assert lines[-1] == "2 of 4 past runs of source source would be made; 2 were known"


def _past(key: str, at: datetime = T0) -> Observation:
    made = a_run(key)
    return Observation(key, made.run_id, made.job, RunState.SUCCEEDED, "done", at, started_at=at, ended_at=at)


def test_what_failed_says_why(act: Backfill, monkeypatch: pytest.MonkeyPatch) -> None:
    async def done(*_: object) -> RequestResult:
        return RequestResult(RequestState.FAILED, {"error": "502"})

    monkeypatch.setattr(requests, "backfill", done)
    with pytest.raises(LineageError, match="502"):
        act("source", since="7d")


def test_one_that_is_under_way_is_shown_and_stopped(
    act: Backfill, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = tmp_path / "c.yaml"
    with pytest.raises(LineageError, match="no backfill of sink marquez is under way"):
        backfill.stop(config, "marquez", as_json=False)
    body, progress = '{"since_ms": null, "until_ms": null}', '{"total": 9, "seen": 4, "events": 6}'

    shown: list[Any] = []

    def look(conn: Connection) -> None:
        [row] = status(conn, SystemClock(), {"source"}, {}, {}, {})["sinks"]
        shown.append(row["backfill"])

    def begun(conn: Connection) -> None:
        number = ledger_requests.add_backfill(conn, "sink:marquez", body, NOW)
        conn.execute(update(schema.request).where(schema.request.c.id == number).values(answer=progress))
        look(conn)

    in_ledger(tmp_path / "lineage.db", begun)
    assert {name: shown[0][name] for name in ("seen", "total", "new")} == {"seen": 4, "total": 9, "new": 6}
    assert backfill.stop(config, "marquez", as_json=False) == 0
    words = "the backfill of sink marquez was stopped after 4 runs; what was done until then stays\n"
    assert capsys.readouterr().out == words
    in_ledger(tmp_path / "lineage.db", look)
    assert shown[1] is None
