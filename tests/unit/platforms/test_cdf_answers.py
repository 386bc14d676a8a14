"""What CDF's JSON means: rows, destinations, metrics, names. No network."""

import json
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from collector.model import RunState
from collector.platforms.answers import integer, moment
from collector.platforms.cdf.datasets import Written, rows_written, written
from collector.platforms.cdf.job_names import JobNames
from collector.platforms.cdf.observations import Place, Unchanged, observe
from collector.platforms.cdf.repeated_pages import summarized
from collector.platforms.cdf.rows import (
    JobRow,
    JobRows,
    last_signs_of_life,
    read_definition,
    read_execution,
    read_job,
    read_task_jobs,
)

CANCELED = ("Job cancelled by the user.",)
DIGEST_JOB: dict[str, Any] = {
    "id": 4711,
    "uuid": "5f0f1e9e-6a3c-4d0e-9d67-1f2c8a0f3b11",
    "transformationId": 12,
    "transformationExternalId": "tr_pump_to_asset",
    "sourceProject": "plant-a",
    "destinationProject": "plant-a",
    "destination": {
        "type": "nodes",
        "view": {"space": "sp_core", "externalId": "Pump", "version": "v1"},
        "instanceSpace": "sp_inst",
    },
    "conflictMode": "upsert",
    "query": "select 1",
    "createdTime": 1795300000000,
    "startedTime": 1795300001500,
    "lastSeenTime": 1795300031500,
    "ignoreNullFields": True,
    "status": "Running",
}


def job(**changed: Any) -> JobRow:
    row = read_job(DIGEST_JOB | changed)
    assert row is not None
    return row


def test_a_job_as_the_vendor_shows_it() -> None:
    row = job()
    assert row.uuid == UUID(DIGEST_JOB["uuid"])
    assert row.started == datetime.fromtimestamp(1795300001.5, UTC)
    assert row.ended is None
    assert row.state(CANCELED) is RunState.RUNNING


ODD: st.SearchStrategy[Any] = st.sampled_from(
    [None, "x", 0, -1, 1795300002500, 1795300031500.0, "1795300031500", [], {}, {"type": "assets"}]
)
SAID = st.dictionaries(st.sampled_from(sorted(DIGEST_JOB)), ODD) | st.fixed_dictionaries(
    {}, optional={"lastSeenTime": ODD}
)
STATUSES = st.fixed_dictionaries({}, optional={"status": st.sampled_from(["Created", "Running", "Completed", "odd"])})


@given(st.lists(st.tuples(SAID, STATUSES), max_size=6))
def test_a_job_that_says_the_same_again_is_read_as_before(polls: list[tuple[dict[str, Any], dict[str, Any]]]) -> None:
    rows = JobRows()
    for said, status in polls:
        data = DIGEST_JOB | status | said
        assert rows.read(data) == read_job(data)


def test_a_job_is_read_again_when_anything_but_its_sign_of_life_changed() -> None:
    rows = JobRows()
    first = rows.read(DIGEST_JOB)
    assert rows.read(DIGEST_JOB | {"lastSeenTime": 1795300061500}) is first
    assert rows.read(DIGEST_JOB | {"query": "select 2"}) == job(query="select 2")


@pytest.mark.parametrize("end", ["Completed", "Failed"])
def test_nothing_is_kept_of_a_job_that_ended(end: str) -> None:
    rows = JobRows()
    rows.read(DIGEST_JOB | {"status": "Running"})
    assert rows._last
    rows.read(DIGEST_JOB | {"status": end})
    assert not rows._last


@pytest.mark.parametrize("data", [None, 5, "x", [], {}, {"id": None}, {"id": "x"}, {"id": True}, {"id": -1}])
def test_what_is_no_job(data: Any) -> None:
    assert read_job(data) is None


@pytest.mark.parametrize(
    ("status", "error", "state"),
    [
        ("Created", None, RunState.QUEUED),
        ("Running", None, RunState.RUNNING),
        ("Completed", None, RunState.SUCCEEDED),
        ("Failed", None, RunState.FAILED),
        ("Failed", "boom", RunState.FAILED),
        ("Failed", "Job cancelled by the user.", RunState.CANCELED),
        ("Failed", "  JOB CANCELLED by the user. \n", RunState.CANCELED),
        ("Failed", "Job cancelled by the user. Or not.", RunState.FAILED),
        ("Completed", "Job cancelled by the user.", RunState.SUCCEEDED),
        ("completed", None, RunState.UNKNOWN),
        ("Paused", None, RunState.UNKNOWN),
        ("", None, RunState.UNKNOWN),
        (None, None, RunState.UNKNOWN),
        (7, None, RunState.UNKNOWN),
        (["Failed"], None, RunState.UNKNOWN),
    ],
)
def test_states(status: Any, error: str | None, state: RunState) -> None:
    assert job(status=status, error=error).state(CANCELED) is state


@pytest.mark.parametrize(
    ("value", "read"),
    [(5, 5), (5.0, 5), ("17", 17), (True, None), (5.5, None), ("5x", None), (-1, None), (10**30, None), (None, None)],
)
def test_whole_numbers(value: Any, read: int | None) -> None:
    assert integer(value) == read


@pytest.mark.parametrize("value", [None, 0, 1795300, -1, "soon", 10**17, 1e300, [], True])
def test_what_is_no_moment(value: Any) -> None:
    assert moment(value) is None


def test_an_end_is_never_before_the_start_and_only_of_ended_jobs() -> None:
    early = job(status="Completed", finishedTime=1795300000000)
    assert early.ended == early.started
    assert job(status="Running", finishedTime=1795300009000).ended is None
    assert job(status="Failed", startedTime=None, finishedTime=1795300009000).ended is not None


def test_an_error_of_another_kind_is_still_shown() -> None:
    assert job(error={"message": "boom"}).error == '{"message":"boom"}'
    deep: Any = "x"
    for _ in range(500):
        deep = [deep]
    assert "wrong kind" in str(job(error=deep).error)


@pytest.mark.parametrize(("owner", "read"), [("anna", "anna"), ({"user": "anna"}, "anna"), ({}, None), (7, None)])
def test_owners_come_in_two_shapes(owner: Any, read: str | None) -> None:
    found = read_definition({"id": 1, "owner": owner, "tags": ["a", 5, ""]})
    assert found is not None
    assert (found.owner, found.tags) == (read, ("a",))


@pytest.mark.parametrize(
    ("schedule", "read"),
    [
        ({"interval": "0 2 * * *", "isPaused": False}, "0 2 * * *"),
        ({"interval": "0 2 * * *"}, "0 2 * * *"),
        ({"interval": "0 2 * * *", "isPaused": True}, None),
        ({"interval": 5}, None),
        ({}, None),
        (None, None),
        ("0 2 * * *", None),
    ],
)
def test_a_schedule_that_is_paused_is_none(schedule: Any, read: str | None) -> None:
    found = read_definition({"id": 1, "schedule": schedule})
    assert found is not None
    assert found.schedule == read


def test_executions_and_their_jobs() -> None:
    assert read_execution({"id": "x"}) is None
    assert read_execution([]) is None
    found = read_execution({"id": "x", "workflowExternalId": "w", "status": "TIMED_OUT"})
    assert found is not None
    assert found.state is RunState.FAILED
    tasks = [{"output": {"jobId": 5}}, {"output": {}}, {"output": None}, None, {"output": {"jobId": "x"}}]
    assert read_task_jobs({"executedTasks": tasks}) == (5,)
    assert read_task_jobs({"executedTasks": "none"}) == ()


# Destinations


@pytest.mark.parametrize(
    ("destination", "name", "counter"),
    [
        ({"type": "assets"}, "assets", "assets"),
        ({"type": "asset_hierarchy"}, "assets", "assethierarchy"),
        ({"type": "string_datapoints"}, "string_datapoints", "stringdatapoints"),
        ({"type": "data_sets"}, "data_sets", "datasets"),
        ({"type": "raw", "database": "d.b", "table": "t/1:x"}, "raw/d.b/t%2F1%3Ax", "raw.d.b.t/1:x.rows"),
        ({"type": "sequence_rows", "externalId": "s 1"}, "sequence_rows/s 1", "sequencerows"),
        ({"type": "nodes"}, "nodes", "instances"),
        ({"type": "nodes", "view": None}, "nodes", "instances"),
        (
            {"type": "nodes", "view": {"space": "s", "externalId": "P", "version": "v1"}, "instanceSpace": "i"},
            "views/s/P/v1",
            "instances",
        ),
        ({"type": "edges", "edgeType": {"space": "s", "externalId": "e"}}, "edge_types/s/e", "instances"),
        ({"type": "edges", "view": {"space": "s", "externalId": "E", "version": "2"}}, "views/s/E/2", "instances"),
        ({"type": "edges"}, "edges", "instances"),
        (
            {
                "type": "instances",
                "dataModel": {"space": "s", "externalId": "M", "version": "1", "destinationType": "Pump"},
            },
            "data_models/s/M/1/Pump",
            "instances",
        ),
        (
            {
                "type": "instances",
                "dataModel": {
                    "space": "s",
                    "externalId": "M",
                    "version": "1",
                    "destinationType": "Pump",
                    "destinationRelationshipFromType": "parts",
                },
            },
            "data_models/s/M/1/Pump/parts",
            "instances",
        ),
    ],
)
def test_every_destination_is_a_dataset(destination: dict[str, Any], name: str, counter: str) -> None:
    found = written(destination, "cdf://h/p", "http://h")
    assert found.dataset is not None
    assert (found.dataset.namespace, found.dataset.name, found.counter) == ("cdf://h/p", name, counter)
    assert found.problem is None


@pytest.mark.parametrize(
    ("destination", "words"),
    [
        ({}, "does not say"),
        ({"type": 5}, "does not say"),
        ({"type": "well_log_layer"}, "well_log_layer is not known"),
        ({"type": "raw", "database": "d"}, "raw lacks a part"),
        ({"type": "nodes", "view": {"space": "s"}}, "nodes lacks a part"),
        ({"type": "nodes", "view": "Pump"}, "nodes lacks a part"),
        ({"type": "instances"}, "instances lacks a part"),
        ({"type": "sequence_rows"}, "sequence_rows lacks a part"),
    ],
)
def test_a_destination_that_is_not_understood_is_unknown_and_reported(destination: dict[str, Any], words: str) -> None:
    found = written(destination, "cdf://h/p", "http://h")
    assert (found.dataset, found.counter) == (None, None)
    assert words in str(found.problem)


@pytest.mark.parametrize("shape", ["assets", {"type": "assets"}])
def test_a_bare_string_is_an_old_destination(shape: Any) -> None:
    found = written(job(destination=shape).destination, "n", "u")
    assert isinstance(found, Written)
    assert found.dataset is not None
    assert found.dataset.name == "assets"


def test_another_project_has_its_own_namespace() -> None:
    place = Place("https://api.cognitedata.com", "plant-a", "cdf://api.cognitedata.com/plant-a", CANCELED)
    seen = observe(job(destinationProject="plant-b"), place, seen_at=datetime.now(UTC), job_name="transformation/x")
    assert seen.facts.outputs is not None
    assert seen.facts.outputs[0].namespace == "cdf://api.cognitedata.com/plant-b"
    assert seen.job.namespace == "cdf://api.cognitedata.com/plant-a"


# Metrics


def metric(name: str, count: Any, timestamp: Any = 1) -> dict[str, Any]:
    return {"name": name, "count": count, "timestamp": timestamp}


@pytest.mark.parametrize(
    ("rows", "counter", "expected"),
    [
        ([metric("assets.create", 3), metric("assets.update", 4)], "assets", 7),
        ([metric("assets.created", 3), metric("assets.updated", 4)], "assets", 7),
        ([metric("assets.create", 3), metric("assets.created", 3)], "assets", 3),
        ([metric("assets.created", 3, 1), metric("assets.created", 9, 5), metric("assets.created", 5, 3)], "assets", 9),
        ([metric("instances.upserted", 8), metric("instances.upsertedNoop", 5)], "instances", 8),
        ([metric("instances.upserted", 8), metric("instances.created", 5)], "instances", 5),
        ([metric("asset_hierarchy.created", 2)], "assethierarchy", 2),
        ([metric("raw.d.x.t.rows.created", 6), metric("raw.d.rows.created", 1)], "raw.d.x.t.rows", 6),
        ([metric("raw.D.t.rows.created", 6)], "raw.d.t.rows", None),
        ([metric("assets.read", 50), metric("events.created", 6)], "assets", None),
        ([metric("assets.deleted", 6)], "assets", None),
        ([metric("assets.created", 0)], "assets", 0),
        ([], "assets", None),
        ([None, 5, {}, metric("assets.created", "x"), metric("assets.created", -1), {"name": 5}], "assets", None),
        ([metric("assets.created", 5, None), metric("assets.updated", 1.0)], "assets", 6),
    ],
)
def test_rows_written(rows: list[Any], counter: str, expected: int | None) -> None:
    assert rows_written(rows, counter) == expected


# Names


def named(transformation_id: int | None, external_id: str | None) -> JobRow:
    return job(transformationId=transformation_id, transformationExternalId=external_id)


def test_the_first_name_stays() -> None:
    names = JobNames()
    assert names.name(named(1, "a/b"), lambda _: None) == "transformation/a%2Fb"
    assert names.name(named(1, "other"), lambda _: None) == "transformation/a%2Fb"
    again = JobNames()
    assert names.memory([named(1, "other"), named(2, "b")]) == {"name/1": "a/b"}
    again.learn(names.memory([named(1, "other")]))
    assert again.name(named(1, "other"), lambda _: None) == "transformation/a%2Fb"


def test_without_an_external_id_the_number_is_the_name() -> None:
    assert JobNames().name(named(17, None), lambda _: None) == "transformation/17"
    assert JobNames().name(named(None, "a"), lambda _: None) == "transformation/a"
    assert JobNames().name(named(None, None), lambda _: None).startswith("transformation/")


def test_a_name_that_moved_to_another_transformation() -> None:
    names = JobNames()
    names.name(named(1, "a"), lambda _: None)
    assert names.contested([named(2, "a"), named(1, "a"), named(3, "b")]) == {1}
    assert names.name(named(2, "a"), {1: "renamed"}.get) == "transformation/2"
    assert names.name(named(3, "a"), {1: "a"}.get) == "transformation/a"


@pytest.mark.parametrize(
    ("changed", "basis", "is_same"),
    [
        ({}, "as before", True),
        ({"lastSeenTime": 1795300061500}, "as before", True),
        ({"startedTime": 1795300002500}, "as before", False),
        ({"query": "select 2"}, "as before", False),
        ({"destination": {"type": "assets"}}, "as before", False),
        ({"id": 4712}, "as before", False),
        ({}, "another definition", False),
    ],
)
def test_an_open_job_is_observed_anew_when_anything_but_its_sign_of_life_changed(
    changed: dict[str, Any], basis: str, is_same: bool
) -> None:
    place = Place("https://api.example.com", "plant-a", "cdf://api.example.com/plant-a", CANCELED)
    unchanged = Unchanged()
    first = observe(job(), place, seen_at=datetime(2026, 11, 22, tzinfo=UTC), job_name="transformation/a")
    kept = unchanged.put(job(), "as before", first)
    again = unchanged.get(job(**changed), basis)
    assert again == (first if is_same else None)
    if again is not None:
        assert again.edition == kept.edition is not None


def test_an_observation_made_anew_is_another_edition() -> None:
    place = Place("https://api.example.com", "plant-a", "cdf://api.example.com/plant-a", CANCELED)
    first = observe(job(), place, seen_at=datetime(2026, 11, 22, tzinfo=UTC), job_name="transformation/a")
    one, another = Unchanged(), Unchanged()
    editions = [unchanged.put(job(), None, first).edition for unchanged in (one, one, another)]
    assert len(set(editions)) == 3


@pytest.mark.parametrize("unit", [1000, 1])
def test_the_last_sign_of_life_is_read_where_it_is_old(unit: int) -> None:
    """In milliseconds or, as other vendors have it, in seconds."""
    at = datetime(2026, 11, 22, tzinfo=UTC)
    times = {7: at - timedelta(seconds=1), 8: at, 9: at + timedelta(seconds=1)}
    jobs: list[Any] = [{"id": one, "lastSeenTime": int(time.timestamp() * unit)} for one, time in times.items()]
    values: list[Any] = [None, "soon", [], True]
    odd = [{"id": 10, "lastSeenTime": value} for value in values]
    assert last_signs_of_life([*jobs, *odd, {"id": 11}, "no job"], at) == {7: times[7]}


def test_a_job_that_ended_is_not_kept() -> None:
    place = Place("https://api.example.com", "plant-a", "cdf://api.example.com/plant-a", CANCELED)
    unchanged = Unchanged()
    for row in (job(), job(status="Completed", finishedTime=1795300002500)):
        seen = observe(row, place, seen_at=datetime(2026, 11, 22, tzinfo=UTC), job_name="transformation/a")
        unchanged.put(row, None, seen)
    assert unchanged.get(job(), None) is None


def listing(*jobs: Mapping[str, Any], compact: bool = True) -> bytes:
    text = json.dumps({"items": jobs}, separators=(",", ":") if compact else (", ", ": "))
    return text.encode()


@pytest.mark.parametrize("compact", [True, False])
def test_answers_that_differ_in_signs_of_life_alone_say_the_same(compact: bool) -> None:
    one, other = DIGEST_JOB | {"id": 1}, DIGEST_JOB | {"id": 2, "query": 'select "lastSeenTime":1795300031500'}
    heard = one["lastSeenTime"]
    later = [job | {"lastSeenTime": heard + 60_000} for job in (one, other)]
    pages = [(one, other), (later[0], other), later]
    answers = [answer for page in pages if (answer := summarized(listing(*page, compact=compact)))]
    assert [answer.heard_at for answer in answers] == [heard, heard, heard + 60_000]
    assert len({answer.digest for answer in answers}) == 1


@pytest.mark.parametrize(
    "change",
    [
        {"status": "Completed"},
        {"query": "select 2"},
        {"query": "lastSeenTime"},
        {"createdTime": 1795300031500},
        {"error": '"lastSeenTime":1795300031500'},
        {"surprise": 1},
        {"lastSeenTimes": 1},
    ],
)
def test_answers_that_differ_in_anything_else_do_not(change: dict[str, Any]) -> None:
    before, after = summarized(listing(DIGEST_JOB)), summarized(listing(DIGEST_JOB | change))
    assert before is not None
    assert after is None or after.digest != before.digest


@pytest.mark.parametrize("value", ["soon", "2026-11-22T06:00:00Z", None, True, 12, 1795300031.5, []])
def test_an_answer_with_an_odd_sign_of_life_is_like_no_other(value: Any) -> None:
    assert summarized(listing(DIGEST_JOB | {"lastSeenTime": value}, DIGEST_JOB)) is None


def test_jobs_that_nobody_heard_of_yet() -> None:
    queued = {name: value for name, value in DIGEST_JOB.items() if name != "lastSeenTime"}
    answer = summarized(listing(queued))
    assert answer is not None
    assert answer.heard_at is None
