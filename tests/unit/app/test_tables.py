"""Tables for people, lines for pipes, and nothing that a terminal would obey."""

import io
import json
import re
import sys
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from typing import Any

import pytest
from rich.cells import cell_len

from collector.app.tables import Column, Kind, fitted, shortened, show
from collector.clock import duration, moment
from collector.numerals import size

ROWS: list[dict[str, Any]] = [
    {"source": "plant-a", "state": "failed", "since": datetime(2026, 11, 22, tzinfo=UTC), "ok": False, "cause": None},
    {"source": "prep", "state": "ok", "since": None, "ok": True, "cause": "a\tb\nc\x1b[31m\x9b\r"},
]
COLUMNS = (Column("source"), Column("state"), Column("ok"), Column("cause", Kind.NOTE))


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


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


Draw = Callable[..., list[str]]


@pytest.fixture
def draw(monkeypatch: pytest.MonkeyPatch) -> Draw:
    """What a terminal of so many columns shows of rows."""

    def drawn(width: int, rows: list[dict[str, Any]], columns: Sequence[Column]) -> list[str]:
        terminal = Terminal()
        monkeypatch.setattr(sys, "stdout", terminal)
        monkeypatch.setenv("TERM", "xterm")
        monkeypatch.setenv("COLUMNS", str(width))
        show(rows, columns, as_json=False, nothing="nothing")
        return terminal.getvalue().splitlines()

    return drawn


def plain(line: str) -> str:
    return re.sub(r"\x1b\[[0-9;]*m", "", line)


def test_a_table_for_people(draw: Draw) -> None:
    lines = draw(80, ROWS, COLUMNS)
    assert "\x1b[31mfailed" in lines[1], "in red"
    assert "\t" not in "".join(lines)
    assert plain(lines[2]).split() == ["prep", "ok", "yes"]
    assert plain(lines[3]).strip() == "a b c [31m", (
        "the words of others, without the escape before them, below their row"
    )
    assert len(lines) == 4, "no cause, no line"


@pytest.mark.parametrize(("ok", "red"), [(True, False), (False, True), (None, True)])
def test_what_is_well_is_not_written_in_red(draw: Draw, ok: bool | None, red: bool) -> None:
    [_, _, note] = draw(80, [{"source": "prep", "ok": ok, "cause": "valid"}], COLUMNS)
    assert ("\x1b[31m" in note) == red
    assert plain(note) == "    valid", "without blanks up to the edge"


RUN_ID = "5f0f1e9e-7c5d-4a55-a1d5-2f30c2f0e6a1"
RUN: dict[str, Any] = {
    "source": "plant-a",
    "run": 4711,
    "job": "transformation/tr_work_orders_to_maintenance_activities_daily",
    "ended": "2026-11-22T12:00:00.123+00:00",
    "duration_seconds": 3725.5,
    "bound": True,
    "run_id": RUN_ID,
    "owed_bytes": 1_572_864,
    "error": "the words of a vendor " * 20,
}
OF_A_RUN = (
    Column("source", Kind.NAME, 60),
    Column("run", weight=90),
    Column("job", Kind.NAME, 95),
    Column("ended", Kind.MOMENT, 20),
    Column("duration_seconds", Kind.SECONDS, 80, bounded_by="bound"),
    Column("run_id", weight=30),
    Column("owed_bytes", Kind.BYTES, 85),
    Column("error", Kind.NOTE),
)


@pytest.mark.parametrize("width", [40, 60, 80, 100, 120, 140, 200])
def test_a_table_fits_its_terminal_and_breaks_no_id(draw: Draw, width: int, capsys: pytest.CaptureFixture[str]) -> None:
    lines = [plain(line) for line in draw(width, [RUN, RUN], OF_A_RUN)]
    assert all(len(line) <= width for line in lines)
    [head, row] = lines[:2]
    assert ("run id" in head) is (RUN_ID in row) is (width >= 100), "whole, or not at all"
    assert ("ended" in head) is ("2026-11-22 12:00:00" in row) is (width >= 120)
    assert RUN_ID[:20] not in "".join(lines).replace(RUN_ID, "")
    assert "~1h 2m" in row
    assert "1.5 MiB" in row
    assert "words of a vendor" in lines[2]
    said = capsys.readouterr().err
    assert ("no room for: " in said) is (width < 120)
    assert "~ the platform did not report when it started, or ended: the time is a bound" in said


def test_names_are_shortened_in_the_middle(draw: Draw) -> None:
    row = plain(draw(80, [RUN], OF_A_RUN)[1])
    assert "transformation/tr" in row
    assert "_daily" in row
    assert "…" in row
    assert shortened("abcdefgh", 5) == "ab…gh"
    assert shortened("abc", 3) == "abc"
    assert shortened("名前" * 600, 9) == "名前…名前", "these take two columns each"
    assert cell_len(shortened("名前名前名前", 8)) == 7


def test_the_lightest_column_goes_first_and_one_always_stays() -> None:
    light, heavy = Column("a", weight=1), Column("b", weight=2)
    assert fitted({light: 10, heavy: 10}, 22) == {light: 10, heavy: 10}
    assert fitted({light: 10, heavy: 10}, 21) == {heavy: 10}
    assert fitted({light: 10, heavy: 10}, 5) == {heavy: 10}


@pytest.mark.parametrize(
    ("seconds", "words"),
    [
        (0, "0s"),
        (0.004, "4ms"),
        (0.0996, "0.10s"),
        (0.25, "0.25s"),
        (0.999, "1.0s"),
        (9.96, "10.0s"),
        (59.4, "59s"),
        (59.9, "60s"),
        (61, "1m 1s"),
        (120, "2m"),
        (7325, "2h 2m"),
        (90000, "1d 1h"),
    ],
)
def test_durations_for_people(seconds: float, words: str) -> None:
    assert duration(seconds) == words


@pytest.mark.parametrize(
    ("count", "words"),
    [
        (0, "0 B"),
        (1023, "1023 B"),
        (1024, "1.0 KiB"),
        (1_572_864, "1.5 MiB"),
        (200 * 2**20, "200 MiB"),
        (3 * 2**40, "3.0 TiB"),
    ],
)
def test_sizes_for_people(count: int, words: str) -> None:
    assert size(count) == words


def test_moments() -> None:
    assert moment(1_795_305_600_123) == "2026-11-22T00:00:00.123+00:00"
    assert moment(None) is None
