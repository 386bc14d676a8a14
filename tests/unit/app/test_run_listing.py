"""`runs` and `runs show`, on a real ledger."""

import json
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Connection, update

from collector.app import run_listing
from collector.clock import to_ms
from collector.errors import ConfigurationError, LineageError
from collector.ledger import schema
from collector.model import Dataset, Facts, Interval
from tests.unit.ledger.ledgers import ALL, COMPLETE, FAIL, SECOND, START, T0, Ledger, a_job, a_run, in_ledger

CONFIG = """
sources:
  - {{platform: dataprep, name: source, workspace: 12345, token: geheim-4711}}
sinks:
  - {{type: file, name: marquez, path: {folder}/events.ndjson}}
ledger: {{path: {folder}/lineage.db}}
"""
Listed = Callable[..., Any]


def happened(conn: Connection) -> None:
    ledger = Ledger(conn, now=to_ms(datetime.now(UTC) - timedelta(hours=3)))
    ledger.configure(marquez=ALL)
    ledger.happen("exact", START)
    ledger.now += 90 * SECOND
    reads = Facts(inputs=(Dataset("gs://in", "a.csv"),), outputs=(Dataset("gs://out", "b.csv"),))
    ledger.happen("exact", COMPLETE, facts=reads)
    ledger.now += 7200 * SECOND
    ledger.happen("guessed", START, job=a_job("recipe/other"))
    ledger.now += 61 * SECOND
    failed = Facts(error="no rows in the table")
    ledger.happen("guessed", FAIL, job=a_job("recipe/other"), ended_within=Interval(T0, T0), facts=failed)
    ledger.park(ledger.claim("marquez")[0], sink="marquez", cause="422: no such thing")
    ledger.happen("open", START)


@pytest.fixture
def listed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Listed:
    """What a listing prints as JSON."""
    config = tmp_path / "c.yaml"
    config.write_text(CONFIG.format(folder=tmp_path))

    in_ledger(tmp_path / "lineage.db", happened)

    def asked(one: str | None = None, **wanted: Any) -> Any:
        if one is not None:
            assert run_listing.one(config, one, source=wanted.get("source"), as_json=True) == 0
        else:
            how = {name: wanted.pop(name, default) for name, default in (("limit", 50), ("as_json", True))}
            assert run_listing.runs(config, run_listing.Wanted(**wanted), **how) == 0
            wanted |= how
        out = capsys.readouterr().out
        return json.loads(out) if wanted.get("as_json", True) else out

    return asked


def test_runs_have_durations_that_say_whether_they_are_bounds_and_errors(listed: Listed) -> None:
    shown = {row["run"]: (row["duration_seconds"], row["duration_bounded"], row["error"]) for row in listed()}
    assert shown == {
        "open": (None, None, None),
        "guessed": (61, True, "no rows in the table"),
        "exact": (90, False, None),
    }


def test_runs_are_chosen_by_time_state_and_job(listed: Listed) -> None:
    def keys(**wanted: str) -> list[str]:
        return [row["run"] for row in listed(**wanted)]

    assert keys(since="2h") == ["open", "guessed"], "newest first"
    assert keys(since="5m") == []
    assert keys(since="2020-01-01") == ["open", "guessed", "exact"]
    assert keys(state="failed") == ["guessed"]
    assert keys(job="recipe/other") == keys(job="other") == ["guessed"]
    assert keys(job="r") == keys(job="%") == keys(job="ther") == []
    assert keys(job="other", state="running") == []


@pytest.mark.parametrize("since", ["yesterday", "none", "-2h", "5", ""])
def test_a_time_that_is_none_is_refused(listed: Listed, since: str) -> None:
    with pytest.raises(
        ConfigurationError, match=f"^--since: '{since}' is not a time; use for example 2h, 7d or 2026-01-31$"
    ):
        listed(since=since)


def test_lines_in_a_pipe_have_the_mark_too(listed: Listed) -> None:
    head, row = listed(as_json=False, state="failed").splitlines()
    assert dict(zip(head.split("\t"), row.split("\t"), strict=True))["duration_bounded"] == "yes"


def test_one_run_by_either_id(listed: Listed) -> None:
    shown = listed("guessed")
    assert listed(str(a_run("guessed").run_id)) == shown
    assert (shown["state"], shown["duration_seconds"], shown["duration_bounded"]) == ("failed", 61, True)
    assert shown["error"] == "no rows in the table"
    assert [each["type"] for each in shown["events"]] == ["START", "FAIL"]
    [parked] = listed("exact")["parked_events"]
    assert (parked["sink"], parked["type"], parked["cause"]) == ("marquez", "START", "422: no such thing")
    assert parked["parked"] is not None
    assert listed("exact")["inputs"] == ["gs://in a.csv"]
    assert listed("open")["inputs"] is None, "not known"


def test_a_run_that_is_not_there_is_said_in_a_sentence(listed: Listed) -> None:
    with pytest.raises(LineageError, match="the ledger has no run 'nope'; `lineage-collector runs` lists"):
        listed("nope")


def test_a_run_that_cannot_be_read_is_shown_all_the_same(listed: Listed, tmp_path: Path) -> None:
    in_ledger(tmp_path / "lineage.db", lambda conn: conn.execute(update(schema.run).values(detail="{")).rowcount)
    assert {row["duration_bounded"] for row in listed()} == {None}
    shown = listed("exact")
    assert (shown["state"], shown["problems"]) == ("succeeded", ["what else is stored of it cannot be read"])
