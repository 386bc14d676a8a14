"""The tables of docs/performance.md that `make bench` writes, and what it does when something is wrong."""

import signal
import subprocess
from typing import Any

import pytest

from tests.bench import tables
from tests.bench.__main__ import (
    LONG,
    PAGE,
    PIECES,
    QUIET,
    Failed,
    Options,
    Piece,
    Usage,
    machine_line,
    measured,
    module,
    others,
)
from tests.bench.tables import Figure, written

MARKS = [
    *("figures", "machine", "figures-long", "machine-long"),
    *(mark for piece in (*PIECES, *LONG) for mark in piece.tables),
]
TABLES = {name: f"the {name}" for name in MARKS}
OPTIONS = Options(rounds=1, events=1, kafka=None)


def entrant(events: int, seconds: float) -> dict[str, float]:
    return {"events": events, "seconds": seconds, "cpu": seconds, "rss": 60.0, "p50": 0.01, "p99": 0.02}


def test_each_table_has_its_place_and_the_text_around_stays() -> None:
    page = PAGE.read_text(encoding="utf-8")
    again = written(page, TABLES)
    assert all(f"-->\nthe {name}\n<!-- /" in again for name in TABLES)
    assert written(again, TABLES) == again
    assert again.startswith(page[:200])
    assert again.count("<!-- bench: ") == len(MARKS), "and no place is left without a table"


@pytest.mark.parametrize("page", ["# Performance", "<!-- bench: idle -->\na\n<!-- /bench: idle -->\n" * 2])
def test_a_table_without_one_place_is_an_error(page: str) -> None:
    with pytest.raises(KeyError):
        written(page, {"idle": "x"})


def test_a_benchmark_that_fails_leaves_its_table_as_it_was_and_no_other(capsys: pytest.CaptureFixture[str]) -> None:
    def fails(_: Options) -> None:
        raise Failed("no room on the disk")

    pieces = [
        Piece("bad", fails, {"bad": str}, lambda _: [Figure("bad", 1, 1)]),
        Piece("odd", lambda _: {}, {"odd": lambda found: str(found["seconds"])}, lambda _: [Figure("odd", 1, 1)]),
        Piece("good", lambda options: options.rounds, {"good": str}, lambda found: [Figure("good", found, 2)]),
    ]
    found, failed = measured(pieces, OPTIONS)
    assert (found.pop("good"), failed) == ("1", ["bad", "odd"])
    assert found.keys() == {"figures"}
    head, _, good, _, last = found["figures"].splitlines()
    assert head.startswith("| figure")
    assert good == "| good | 1 | at least 2 | 0.50 |"
    assert last == "**Failed, so not among these, and their tables are of a former run: bad, odd.**"
    said = capsys.readouterr().err
    assert "bad failed, its table stays as it was:\nno room on the disk" in said
    assert "KeyError: 'seconds'" in said


def test_a_process_that_fails_or_does_not_end_says_so_and_is_gone(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(
        Failed, match=r"(?s)tests\.bench\.nothing 7 ended with 1:.*No module named tests\.bench\.nothing"
    ):
        module("nothing", 7)
    started: list[subprocess.Popen[str]] = []
    popen = subprocess.Popen

    def starting(*words: Any, **how: Any) -> subprocess.Popen[str]:
        started.append(popen(*words, **how))
        return started[-1]

    monkeypatch.setattr("subprocess.Popen", starting)
    monkeypatch.setattr("tests.bench.__main__.PATIENCE", 0.1)
    with pytest.raises(Failed, match=r"tests\.bench\.responder did not end within 0 s"):
        module("responder")
    assert started[0].returncode == -signal.SIGTERM


def test_ratios_are_to_the_better_peer_and_medians_of_the_rounds() -> None:
    results = {
        "peer_http": [entrant(100, 1), entrant(100, 2), entrant(100, 50)],
        "peer_async_http": [entrant(100, 4)],
        "ours_http": [entrant(500, 2)],
        "ours_batch": [entrant(5000, 1)],
        "live_http": [entrant(1, 1)],
    }
    table = tables.delivery_table(results).splitlines()
    assert table[2:4] == ["| peer_http | 50 | 1.00 | 20.000 | 60 |", "| peer_async_http | 25 | 0.50 | 40.000 | 60 |"]
    assert table[4].startswith("| ours_http | 250 | 5.00 |")
    ratios = {figure.what: figure.ratio for figure in tables.delivery_figures(results)}
    assert ratios == {
        "HTTP, events/s to those of the better peer": 2,
        "HTTP in batches, events/s": 0.5,
        "commit to acknowledged, p50": 2,
        "commit to acknowledged, p99": None,
    }


def test_a_goal_is_reached_from_below_and_from_above() -> None:
    assert Figure("events/s", 20, 10).ratio == 2
    assert Figure("memory", 400, 200, most=True).ratio == 0.5
    assert Figure("nothing measured", 0, 200, most=True).ratio == 0
    assert tables.figures_table([Figure("nobody's goal", 7, unit=" ms")]).endswith("\n| nobody's goal | 7 ms | |  |")


def test_pages_are_shown_without_names_and_ids() -> None:
    paths = (
        "/runs/5f0f1e9e-6a3c",
        "/runs?run=500",
        "/jobs/plant-a/x%2Fy?depth=6",
        "/datasets/cdf/t?depth=6",
        "/jobs?text=load",
    )
    lines = tables.pages_table({"pages": {path: {"p50": 1, "max": 2} for path in paths}}).splitlines()[2:]
    assert [line.split("`")[1] for line in lines] == [
        *("/runs/…", "/runs?run=…", "/jobs/…?depth=6", "/datasets/…?depth=6", "/jobs?text=load")
    ]


def test_the_machine_says_when_others_used_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("os.cpu_count", lambda: 2)
    begun, quiet, crowded = Usage(100, 10, 0), Usage(130, 38, 100), Usage(200, 50, 100)
    assert (others(begun, quiet), others(begun, crowded)) == (0.01, 0.3)
    assert others(begun, quiet) < QUIET
    assert "Other processes" not in machine_line(3, begun, quiet)
    assert "**Other processes used 30 % of the machine" in machine_line(3, begun, crowded)
    assert "confluent-kafka" in machine_line(3, begun, quiet)
    assert "it took 1.7 minutes" in machine_line(3, begun, quiet)


def test_stores_are_compared_behind_the_same_backlogs() -> None:
    rows = [
        {"store": store, "events": events, "commit": 4.2, "page": 100.0, "claim": claim, "settle": 20.0}
        for store in ("sqlite", "postgres")
        for events, claim in ((1_000, 10.0), (100_000, 12.0))
    ]
    assert tables.ledger_table(rows).splitlines()[2] == "| SQLite | 1,000 | 4.2 | 200 | 20 | 40 |"
    of_shards = [{**row, "shard": 0.44, "all_shards": 7.26} for row in rows]
    assert tables.shards_table(of_shards).splitlines()[-1] == "| PostgreSQL | 100,000 | 0.4 | 7.3 |"
    growth = {figure.what: figure.measured for figure in tables.ledger_figures(rows)}
    assert growth["claim behind 100,000 events to one behind 1,000, PostgreSQL"] == 1.2
    assert growth["settle behind 100,000 events to one behind 1,000, SQLite"] == 1.0


def test_replicas_are_compared_with_one_process_on_sqlite() -> None:
    result = {
        "rates": {"HTTP": {"file": 800.0, "1": 600.0, "2": 900.0, "3": 950.0}},
        "latency": {"look": {"p50": 280.0, "p99": 520.0}, "notify": {"p50": 20.0, "p99": 41.0}},
        "stops": [0.9, 0.4, 0.6],
        "kill": 119.4,
        "standby": 0.2,
        "standby_asleep": 0.4,
        "standby_wakes": 7.25,
    }
    lines = tables.replicas_table(result).splitlines()
    shares = "0.20 % of a core, 0.40 % where the cores sleep, 7.2 wake-ups of threads a second"
    assert lines[-1] == f"A replica that stands by for everything: {shares}."
    assert lines[2:4] == ["| SQLite | 800 |", "| PostgreSQL, 1 replica | 600 |"]
    assert "after SIGTERM 0.40 to 0.90 s, median 0.60 s (of 3); after SIGKILL 119 s." in lines[-3]
    reached = {figure.what: figure.ratio for figure in tables.replicas_figures(result)}
    assert reached["HTTP, events/s with PostgreSQL to those with SQLite"] == 1.5
    assert reached["a replica that stands by, share of a core"] == pytest.approx(1.5)
