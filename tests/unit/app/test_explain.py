"""`explain`, on a real ledger."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Connection, update

from collector.app import explain
from collector.errors import LineageError
from collector.ledger import jobs, schema
from collector.ledger.restriction import Alone
from collector.model import Dataset, Definition, Facts, Interval, Skip, SkipKind
from tests.unit.ledger.ledgers import ALL, COMPLETE, FAIL, SECOND, START, T0, Ledger, a_job, change, in_ledger

CONFIG = """
sources:
  - {{platform: dataprep, name: source, workspace: 12345, token: geheim-4711}}
sinks:
  - {{type: file, name: marquez, path: {folder}/events.ndjson}}
ledger: {{path: {folder}/lineage.db}}
"""
BOUNDS = "after 2026-11-22 12:00:00.000 UTC and not after 2026-11-22 12:00:00.000 UTC."
Explained = Callable[..., Any]


def happened(conn: Connection) -> None:
    ledger = Ledger(conn)
    ledger.configure(marquez=ALL)
    ledger.happen("good", START, COMPLETE)
    ledger.drain("marquez")
    ledger.happen("bad", START, job=a_job("recipe/other"))
    ledger.now += 61 * SECOND
    bounds = Interval(T0, T0)
    problems = Facts(problems=("the SQL could not be read",))
    ledger.happen("bad", FAIL, job=a_job("recipe/other"), ended_within=bounds, facts=problems)
    ledger.park(ledger.claim("marquez")[0], sink="marquez", cause="422: no such thing")
    ledger.postpone(sink="marquez")
    ledger.happen("open", START)
    ledger.commit(change(None, "alone", [START, COMPLETE], ledger.now), alone=Alone("other"))
    ledger.poll(skips=(Skip(SkipKind.FILTERED, "transformation/left-out", "`exclude` fits its name"),))
    defined = Definition((Dataset("gs://in", "a.csv"),), (Dataset("gs://out", "b.csv"),))
    jobs.define(conn, ledger.source, {"transformation/1": defined})


@pytest.fixture
def explained(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Explained:
    """What `explain` prints, as JSON or as text."""
    config = tmp_path / "c.yaml"
    config.write_text(CONFIG.format(folder=tmp_path))
    in_ledger(tmp_path / "lineage.db", happened)

    def asked(name: str, *, as_json: bool = True, source: str | None = None) -> Any:
        assert explain.explain(config, name, source=source, as_json=as_json) == 0
        out = capsys.readouterr().out
        return json.loads(out) if as_json else out

    return asked


def test_a_run_that_is_delivered_says_so(explained: Explained) -> None:
    [part] = explained("good")
    assert part["explanation"] == [
        "It succeeded 2026-11-22 12:00:00 UTC; nothing more is expected of it.",
        "marquez: all is delivered, the last event 2026-11-22 12:00:00 UTC.",
    ]
    assert [event["type"] for event in part["events"]] == ["START", "COMPLETE"]
    assert part["events"][0]["sinks"] == [
        {
            "sink": "marquez",
            "standing": "delivered",
            "attempts": 0,
            "cause": None,
            "next_attempt": None,
            "acknowledged": "2026-11-22T12:00:00.000+00:00",
        }
    ]


def test_people_see_when_each_event_was_acknowledged(explained: Explained) -> None:
    said = explained("good", as_json=False)
    assert said.count("marquez: delivered 2026-11-22T12:00:00.000+00:00") == 2


def test_a_run_with_trouble_says_what_where_and_what_to_do(explained: Explained) -> None:
    [part] = explained("bad")
    assert part["explanation"] == [
        "It failed 2026-11-22 12:01:01 UTC; nothing more is expected of it.",
        "The platform gave no time at which it ended: it was " + BOUNDS,
        "Not found out: the SQL could not be read",
        "marquez: START is parked; `lineage-collector parked retry` sends it again: 422: no such thing",
        "marquez: FAIL was tried once, next 2026-11-22 12:01:02 UTC; later events of this run wait behind it: no connection",
    ]


def test_an_open_run_says_when_it_is_looked_at_again(explained: Explained) -> None:
    [part] = explained("open")
    assert part["explanation"] == [
        "It is running, last seen 2026-11-22 12:01:01 UTC; it is looked at again at the next poll.",
        "marquez: 1 event waits to be sent.",
    ]


def test_a_run_for_one_sink_alone_says_so(explained: Explained) -> None:
    [run] = explained("alone")
    assert run["only_sinks"] == ["other"]
    words = "A backfill of its source made it for sink other alone: no other sink is sent any of its events."
    assert words in run["explanation"]
    assert {each["standing"] for event in run["events"] for each in event["sinks"]} == {"restricted"}


def test_the_number_of_an_event_leads_to_its_run(explained: Explained) -> None:
    number = explained("bad")[0]["events"][1]["number"]
    assert explained(str(number))[0]["run"] == "bad"


def test_a_job_by_its_name_with_or_without_its_kind(explained: Explained) -> None:
    [part] = explained("transformation/1")
    assert part["explanation"][:2] == [
        "Source source collects it; no schedule is known.",
        "Of its runs 2 succeeded, 0 failed, 0 were canceled, 0s on average.",
    ]
    assert [each["job"] for each in explained("other")] == ["recipe/other"]


def test_a_dataset_says_who_writes_and_who_reads_it(explained: Explained) -> None:
    assert explained("b.csv") == [
        {"dataset": "gs://out b.csv", "explanation": ["transformation/1 of source source writes it."]}
    ]
    assert explained("gs://in a.csv") == [
        {"dataset": "gs://in a.csv", "explanation": ["transformation/1 of source source reads it."]}
    ]


def test_what_was_left_out_says_why(explained: Explained) -> None:
    [part] = explained("transformation/left-out")
    assert part["explanation"][0].startswith("filtered: `exclude` fits its name (1 time, last 2026-11-22T12:01:01")


def test_a_name_that_nothing_has_names_the_nearest(explained: Explained) -> None:
    with pytest.raises(LineageError, match=r"no run, event, job or dataset 'recipe/othr'; did you mean recipe/other\?"):
        explained("recipe/othr")
    with pytest.raises(LineageError, match="'zzz'; `lineage-collector runs` and `skipped` list what it knows"):
        explained("zzz")


def test_a_run_that_cannot_be_read_still_says_where_its_events_are(explained: Explained, tmp_path: Path) -> None:
    def broken(conn: Connection) -> None:
        conn.execute(update(schema.run).values(detail="{"))

    in_ledger(tmp_path / "lineage.db", broken)
    [part] = explained("good")
    assert part["explanation"][0].startswith("It is not watched: the stored row of run good cannot be read")
    assert part["explanation"][1].startswith("marquez: all is delivered, ")


def test_text_has_no_control_characters_and_a_table_of_events(explained: Explained) -> None:
    text = explained("bad", as_json=False)
    assert text.startswith("run bad (source source, job recipe/other, state failed)\n  It failed")
    assert "FAIL\t" in text
    assert "marquez: retried" in text
