"""`runs --follow` and `status --watch`, on a real ledger: what changes between two looks is shown, until Ctrl-C."""

import asyncio
import io
import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Connection
from typer.testing import CliRunner

from collector.app import cli, ledgers, listings, run_listing
from collector.errors import LedgerError
from collector.testing.clock import SimulatedClock
from tests.unit.app.test_run_listing import CONFIG
from tests.unit.ledger.ledgers import ALL, COMPLETE, FAIL, SECOND, START, Ledger, a_job, in_ledger

Step = Callable[[], object]


class Script(SimulatedClock):
    """At each wait the next of these happens; after the last the user presses Ctrl-C."""

    def __init__(self, *steps: Step) -> None:
        super().__init__()
        self._steps = iter(steps)

    async def sleep(self, seconds: float) -> None:
        self.advance(seconds)
        step = next(self._steps, None)
        if step is None:
            raise KeyboardInterrupt
        await asyncio.to_thread(step)


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.fixture
def config(tmp_path: Path) -> Path:
    file = tmp_path / "c.yaml"
    file.write_text(CONFIG.format(folder=tmp_path))
    return file


@pytest.fixture
def happen(tmp_path: Path) -> Callable[..., Step]:
    """`happen("a", START)`: an event of a run, in a commit of its own."""
    kept: dict[str, Any] = {}

    def step(*given: Any, **more: Any) -> Step:
        def work(conn: Connection) -> None:
            ledger = kept.setdefault("ledger", Ledger(conn))
            ledger.conn = conn
            if not kept.get("configured"):
                ledger.configure(marquez=ALL)
                kept["configured"] = True
            ledger.now += SECOND
            ledger.happen(*given, **more)

        return lambda: in_ledger(tmp_path / "lineage.db", work)

    return step


def follow(config: Path, clock: Script, *, as_json: bool = False, limit: int = 50, **wanted: str) -> None:
    with pytest.raises(KeyboardInterrupt):
        run_listing.follow(config, run_listing.Wanted(**wanted), limit=limit, as_json=as_json, clock=clock)


def watch(config: Path, clock: Script, *, as_json: bool = False) -> None:
    with pytest.raises(KeyboardInterrupt):
        listings.watch_status(config, as_json=as_json, clock=clock)


def rows(out: str) -> list[tuple[str, str]]:
    head, *lines = out.splitlines()
    names = head.split("\t")
    cells = [dict(zip(names, line.split("\t"), strict=True)) for line in lines]
    return [(row["run"], row["state"]) for row in cells]


def test_a_run_is_a_line_again_when_it_changes(
    config: Path, happen: Callable[..., Step], capsys: pytest.CaptureFixture[str]
) -> None:
    happen("a", START)()
    happen("b", START)()
    follow(config, Script(happen("a", COMPLETE), lambda: None, happen("c", START), happen("c", FAIL)))
    assert rows(capsys.readouterr().out) == [
        ("a", "running"),
        ("b", "running"),
        ("a", "succeeded"),
        ("c", "running"),
        ("c", "failed"),
    ]


def test_only_wanted_runs_are_followed_one_object_a_line(
    config: Path, happen: Callable[..., Step], capsys: pytest.CaptureFixture[str]
) -> None:
    happen("a", START)()
    other = a_job("recipe/other")
    steps = happen("x", START, job=other), happen("a", FAIL), happen("x", FAIL, job=other)
    follow(config, Script(*steps), as_json=True, job="other")
    found = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [(row["run"], row["state"]) for row in found] == [("x", "running"), ("x", "failed")]
    follow(config, Script(), as_json=True, state="failed")
    found = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [row["run"] for row in found] == ["a", "x"], "the oldest first"


def test_a_terminal_is_drawn_anew(config: Path, happen: Callable[..., Step], monkeypatch: pytest.MonkeyPatch) -> None:
    happen("a", START)()
    terminal = Terminal()
    monkeypatch.setattr(sys, "stdout", terminal)
    follow(config, Script(happen("a", COMPLETE)))
    first, second = terminal.getvalue().split("\x1b[H\x1b[2J")[1:]
    assert "running" in first
    assert "succeeded" in second
    assert second.rstrip().endswith("Ctrl-C ends this.")


def test_a_look_that_fails_is_said_once_and_the_next_one_follows(
    config: Path, happen: Callable[..., Step], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    happen("a", START)()
    whole = ledgers.opened_readonly

    def fail() -> None:
        def broken(_: Any) -> Any:
            raise LedgerError("the ledger is being restored")

        monkeypatch.setattr(ledgers, "opened_readonly", broken)

    steps = fail, lambda: None, lambda: monkeypatch.setattr(ledgers, "opened_readonly", whole), happen("a", FAIL)
    follow(config, Script(*steps))
    printed = capsys.readouterr()
    assert rows(printed.out) == [("a", "running"), ("a", "failed")]
    assert printed.err == "the ledger is being restored; looking again every 2 s\n"


def test_the_status_is_watched_line_by_line(
    config: Path, happen: Callable[..., Step], capsys: pytest.CaptureFixture[str]
) -> None:
    happen("a", START)()
    watch(config, Script(lambda: None, happen("a", COMPLETE)))
    head, *lines = capsys.readouterr().out.splitlines()
    assert head.split("\t") == ["time", "part", "name", "state", "pending", "parked", "wrong"]
    named = [tuple(line.split("\t")[1:5]) for line in lines]
    assert [(part, pending) for part, _, _, pending in named] == [
        ("service", "-"),
        ("ledger", "-"),
        ("source", "1"),
        ("sink", "1"),
        ("source", "2"),
        ("sink", "2"),
    ]
    assert named[0][2] == "not running"


def test_the_status_is_watched_as_one_object_a_line(
    config: Path, happen: Callable[..., Step], capsys: pytest.CaptureFixture[str]
) -> None:
    happen("a", START)()
    watch(config, Script(lambda: None, happen("a", COMPLETE)), as_json=True)
    found = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [one["sinks"][0]["pending"] for one in found] == [1, 2]
    assert all({"time", "sources", "ledger"} <= one.keys() for one in found)


@pytest.mark.parametrize("words", [["runs", "--follow"], ["status", "--watch"]])
def test_ctrl_c_ends_quietly(
    words: list[str], config: Path, happen: Callable[..., Step], monkeypatch: pytest.MonkeyPatch
) -> None:
    happen("a", START)()
    for module in (run_listing, listings):
        monkeypatch.setattr(module, "SystemClock", Script)
    result = CliRunner().invoke(cli.app, [*words, "--config", str(config), "--json"])
    assert result.exit_code == 130
    assert "Aborted" not in result.output
    assert all(json.loads(line) for line in result.output.splitlines())
