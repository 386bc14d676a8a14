"""Tables for people, lines for pipes, and nothing that a terminal would obey."""

import io
import json
import sys
from datetime import UTC, datetime
from typing import Any

import pytest

from collector.app.tables import moment, show

ROWS: list[dict[str, Any]] = [
    {"source": "plant-a", "state": "failed", "since": datetime(2026, 11, 22, tzinfo=UTC), "ok": False, "cause": None},
    {"source": "prep", "state": "ok", "since": None, "ok": True, "cause": "a\tb\nc\x1b[31m\x9b\r"},
]
COLUMNS = ("source", "state", "ok", "cause")


def test_lines_for_pipes(capsys: pytest.CaptureFixture[str]) -> None:
    show(ROWS, COLUMNS, as_json=False, nothing="nothing")
    assert capsys.readouterr().out == (
        "source\tstate\tok\tcause\n"
        "plant-a\tfailed\tno\t-\n"
        "prep\tok\tyes\ta b c [31m  \n"
    )  # fmt: skip


def test_json_for_scripts(capsys: pytest.CaptureFixture[str]) -> None:
    show(ROWS, COLUMNS, as_json=True, nothing="nothing")
    first, second = json.loads(capsys.readouterr().out)
    assert first == {**ROWS[0], "since": "2026-11-22 00:00:00+00:00"}
    assert second["cause"] == ROWS[1]["cause"]


def test_no_rows(capsys: pytest.CaptureFixture[str]) -> None:
    show([], COLUMNS, as_json=False, nothing="no runs")
    assert capsys.readouterr() == ("", "no runs\n")
    show([], COLUMNS, as_json=True, nothing="no runs")
    assert capsys.readouterr() == ("[]\n", "")


def test_a_table_for_people(monkeypatch: pytest.MonkeyPatch) -> None:
    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    terminal = Terminal()
    monkeypatch.setattr(sys, "stdout", terminal)
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", "80")
    show(ROWS, COLUMNS, as_json=False, nothing="nothing")
    drawn = terminal.getvalue()
    assert "\x1b[31mfailed" in drawn, "in red"
    assert "\t" not in drawn
    assert "[31m" in drawn.splitlines()[2], "the words of others, without the escape before them"
    assert "\x1b[31m" not in drawn.splitlines()[2]


def test_moments() -> None:
    assert moment(1_795_305_600_123) == "2026-11-22T00:00:00.123+00:00"
    assert moment(None) is None
