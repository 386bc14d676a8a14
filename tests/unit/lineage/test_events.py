"""Events as sinks get them: valid whatever a platform says, and with no more than what is true by then."""

import tracemalloc
from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta, timezone
from typing import Any
from uuid import UUID

import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from collector.lifecycle import Step, VanishedPolicy, finish, missed, observe
from collector.lineage import custom_facets
from collector.lineage.events import EventMaker, job_name
from collector.lineage.facets import ENTRY, bytes_cache, written
from collector.model import (
    Dataset,
    Enrichment,
    EventKind,
    Facts,
    Field,
    Interval,
    Observation,
    Parent,
    Run,
    RunState,
    Stage,
    StageState,
    Transition,
)
from tests import openlineage
from tests.unit.lineage import models
from tests.unit.lineage.models import ASSETS, COMPLETE, FACTS, FAIL, JOB, PARENT, PUMPS, START, ZERO, run

MAKER = EventMaker("plant")
SECRET = "hunter2secret"


def event(of: Run, transition: Transition = COMPLETE, maker: EventMaker = MAKER) -> dict[str, Any]:
    made: dict[str, Any] = orjson.loads(maker.event(of, transition))
    return made


def facets(of: Run, transition: Transition = COMPLETE) -> dict[str, Any]:
    made: dict[str, Any] = event(of, transition)["run"]["facets"]
    return made


def output(dataset: Dataset, transition: Transition = COMPLETE) -> dict[str, Any]:
    [made] = event(run(facts=replace(FACTS, outputs=(dataset,), inputs=None)), transition)["outputs"]
    return dict(made)


@settings(deadline=None)
@given(models.runs())
def test_whatever_a_platform_says_its_events_are_valid(given_: tuple[Run, Transition]) -> None:
    assert openlineage.faults(MAKER.event(*given_)) == []


@pytest.mark.parametrize("transition", [START, COMPLETE, FAIL])
def test_a_full_event_is_valid(transition: Transition) -> None:
    assert openlineage.faults(MAKER.event(run(parent=PARENT), transition)) == []


def test_the_same_event_is_the_same_bytes() -> None:
    again = EventMaker("plant").event(run(), COMPLETE)
    assert MAKER.event(run(), COMPLETE) == again
    assert again == orjson.dumps(orjson.loads(again), option=orjson.OPT_SORT_KEYS), "canonical: keys are sorted"


# ---- what START may say ------------------------------------------------------------------------------------------


def test_a_start_says_nothing_that_only_the_end_can_know() -> None:
    made = event(run(), START)
    text = orjson.dumps(made).decode()
    assert "errorMessage" not in made["run"]["facets"]
    assert made["run"]["facets"][custom_facets.PLATFORM].keys().isdisjoint({"state", "platformState", "stages"})
    assert "outputFacets" not in made["outputs"][0]
    assert "version" not in made["outputs"][0]["facets"]
    assert "1200" not in text


def test_an_id_that_the_run_got_from_somebody_else_is_in_the_last_event() -> None:
    of = run(facts=Facts(external_id="dataflow-1"))
    assert "externalQuery" not in facets(of, START)
    assert facets(of)["externalQuery"]["externalQueryId"] == "dataflow-1"
    assert facets(run(), START)["externalQuery"]["externalQueryId"] == run().key


def test_an_id_that_the_key_is_made_of_is_in_every_event() -> None:
    of = run(key="workflow/8c1f", facts=Facts(external_id="8c1f"))
    assert facets(of, START)["externalQuery"]["externalQueryId"] == "8c1f"


def seen_in(state: RunState, second: int) -> Observation:
    """The same run at some moment: what it reads and writes is known all along, how it went at the end."""
    facts = replace(FACTS, stages=(), error=None, outputs=(replace(ASSETS, rows=None, bytes=None, files=None),))
    if state.terminal:
        facts = replace(facts, error="at last", stages=FACTS.stages)
    return Observation(
        "4711",
        models.RUN_ID,
        JOB,
        state,
        state.value,
        ZERO + timedelta(seconds=second),
        queued_at=ZERO,
        started_at=ZERO + timedelta(seconds=10) if state is not RunState.QUEUED else None,
        ended_at=ZERO + timedelta(seconds=100) if state.terminal else None,
        facts=facts,
    )


def life(seconds: list[int], end: RunState) -> list[bytes]:
    """The events that polls at these moments lead to."""
    lines: list[bytes] = []
    known: Run | None = None

    def note(step: Step) -> Run:
        lines.extend(MAKER.event(step.run, transition) for transition in step.transitions)
        return step.run

    for second in [*sorted(seconds), 200]:
        state = RunState.QUEUED if second < 10 else RunState.RUNNING if second < 100 else end
        known = note(observe(known, seen_in(state, second), enrich_within=timedelta(seconds=60)))
    found = Enrichment(Facts(outputs=(ASSETS,), tags=(("late", "true"),), problems=("the row counts are gone",)))
    note(finish(known, found))  # type: ignore[arg-type] # there was a poll
    return lines


ends = st.sampled_from([RunState.SUCCEEDED, RunState.FAILED, RunState.CANCELED])


@settings(deadline=None)
@given(st.lists(st.integers(0, 199), max_size=6), ends)
def test_start_and_end_do_not_depend_on_when_the_polls_came(seconds: list[int], end: RunState) -> None:
    of_some = [line for line in life(seconds, end) if b'"eventType":"OTHER"' not in line]
    assert of_some == life([50], end)
    assert len(of_some) == 2
    assert openlineage.all_faults(life(seconds, end)) == []


happenings = st.one_of(
    st.builds(seen_in, st.sampled_from(RunState), st.integers(0, 300)),
    st.sampled_from(VanishedPolicy),
    st.builds(Enrichment, st.sampled_from([Facts(), FACTS])) | st.none(),
)


@settings(deadline=None)
@given(st.lists(happenings, max_size=12), st.none() | st.just(PARENT))
def test_whatever_is_seen_the_events_of_a_run_are_one_legal_life(scenario: list[Any], parent: Parent | None) -> None:
    known: Run | None = None
    lines: list[bytes] = []
    for happening in scenario:
        step: Step | None = None
        if isinstance(happening, Observation):
            step = observe(known, replace(happening, parent=parent), enrich_within=timedelta(seconds=60))
        elif known is not None and isinstance(happening, VanishedPolicy):
            step = missed(known, ZERO + timedelta(seconds=400), happening)
        elif known is not None:
            step = finish(known, happening, problem=None if happening else "too slow")
        if step is not None:
            known = step.run
            lines += [MAKER.event(step.run, transition) for transition in step.transitions]
    assert openlineage.all_faults(lines, may_be_open=True) == []


# ---- facets, each only when true ---------------------------------------------------------------------------------


def test_what_is_unknown_is_not_there_and_what_is_empty_is_empty() -> None:
    unknown = event(run(facts=Facts()))
    assert not {"inputs", "outputs"} & unknown.keys()
    assert unknown["run"]["facets"].keys() == {custom_facets.PLATFORM}
    assert event(run(facts=Facts(inputs=(), outputs=())))["inputs"] == []


@pytest.mark.parametrize("kind", [EventKind.FAIL, EventKind.ABORT, EventKind.COMPLETE])
def test_an_error_is_in_the_event_when_the_run_failed(kind: EventKind) -> None:
    found = facets(run(), models.transition(kind)).get("errorMessage")
    assert (found is not None) == (kind is not EventKind.COMPLETE)
    if found is not None:
        assert (found["message"], found["programmingLanguage"]) == ("Table not found: sap.pumps", "SQL")


def test_the_language_of_an_error_is_not_made_up() -> None:
    of = run(job=replace(JOB, sql=None))
    assert facets(of, FAIL)["errorMessage"]["programmingLanguage"] == "unknown"


def test_a_long_error_is_cut_and_says_so_and_hides_its_secrets_first() -> None:
    maker = EventMaker("plant", error_limit=200)
    told_ = event(run(facts=Facts(error=f"token={SECRET} " + "x" * 1_000_000)), FAIL, maker)
    message = told_["run"]["facets"]["errorMessage"]["message"]
    assert len(message) == 200
    assert message.startswith("token=*** xxx")
    assert message.endswith("[cut, 1000020 characters in all]")


def test_no_secret_leaves_in_any_facet() -> None:
    text = f"password={SECRET}"
    dataset = replace(ASSETS, description=text, uri=f"https://me:{SECRET}@h/p", symlinks=(), columns=(), facets={})
    of = run(
        job=replace(JOB, description=text, sql=f"select 1 where password = '{SECRET}'"),
        raw_state=text,
        facts=Facts(
            outputs=(dataset,),
            error=text,
            parameters=(("api_key", SECRET), ("url", f"https://me:{SECRET}@h")),
            stages=(Stage("1", "wrangle", StageState.FAILED, message=text),),
            ids={"customer": text},
            link=f"https://h/p?sig={SECRET}",
            problems=(text,),
        ),
    )
    assert SECRET not in MAKER.event(of, FAIL).decode()


def test_parameters_keep_their_keys() -> None:
    shown = facets(run(facts=Facts(parameters=(("a=b", "c=d"), ("e", "")))))["executionParameters"]["parameters"]
    assert shown == [{"key": "a=b", "value": "c=d"}, {"key": "e", "value": ""}]


@pytest.mark.parametrize(
    ("namespace", "uri"),
    [
        ("gs://bucket", "gs://bucket"),
        ("bigquery", "https://bigquery.googleapis.com"),
        ("file", "file:///"),
        ("wasbs://c@acc.blob.core.windows.net", "wasbs://c@acc.blob.core.windows.net"),
        ("snowflake://org-acc", "snowflake://org-acc"),
        ("arn:aws:glue:eu-west-1:123", "arn:aws:glue:eu-west-1:123"),
        ("inmemory://", "inmemory:///"),
        ("postgres://_2001:db8::1_:5432", "postgres:///"),
        ("9 odd", "urn:unknown"),
    ],
)
def test_every_dataset_names_the_address_of_its_store(namespace: str, uri: str) -> None:
    source = output(Dataset(namespace, "x"))["facets"]["dataSource"]
    assert (source["name"], source["uri"]) == (namespace, uri)


@pytest.mark.parametrize(
    ("given_", "shown"),
    [
        ("https://h:8443/api", "https://h:8443/api"),
        ("https://me:secret@h/p", "https://***@h/p"),
        ("no address at all", models.SPACE),
    ],
)
def test_the_address_that_a_platform_gives_counts_if_it_is_one(given_: str, shown: str) -> None:
    assert output(replace(ASSETS, uri=given_))["facets"]["dataSource"]["uri"] == shown


def test_a_word_that_the_specification_does_not_have_is_left_out() -> None:
    assert output(ASSETS)["facets"]["lifecycleStateChange"]["lifecycleStateChange"] == "OVERWRITE"
    assert "lifecycleStateChange" not in output(replace(ASSETS, change="upsert"))["facets"]


def test_counts_are_reported_where_they_are_known() -> None:
    counts = output(ASSETS)["outputFacets"]["outputStatistics"]
    assert (counts["rowCount"], counts["size"], counts["fileCount"]) == (1200, 34_000, 1)
    assert "outputFacets" not in output(replace(ASSETS, rows=None, bytes=None, files=None))
    assert output(replace(ASSETS, rows=0, bytes=None, files=None))["outputFacets"]["outputStatistics"]["rowCount"] == 0
    [read] = event(run(facts=Facts(inputs=(replace(PUMPS, files=3),))))["inputs"]
    assert read["inputFacets"]["inputStatistics"]["fileCount"] == 3


def test_columns_say_where_they_come_from_in_new_words_and_in_marquezs() -> None:
    lineage = output(ASSETS)["facets"]["columnLineage"]
    assert lineage["fields"]["externalId"]["transformationType"] == "IDENTITY"
    name = lineage["fields"]["name"]
    assert (name["transformationType"], name["transformationDescription"]) == ("TRANSFORMED", "concat(id, site)")
    assert [source["field"] for source in name["inputFields"]] == ["id", "site"]
    assert lineage["dataset"][0]["transformations"] == [{"type": "INDIRECT", "subtype": "FILTER"}]


def test_a_column_that_is_used_twice_is_named_once() -> None:
    twice = tuple(replace(edge, source_field="id") for edge in ASSETS.columns[1:3])
    [source] = output(replace(ASSETS, columns=twice))["facets"]["columnLineage"]["fields"]["name"]["inputFields"]
    assert [step.get("description") for step in source["transformations"]] == ["concat(id, site)", None]


def test_an_event_that_json_cannot_hold_is_put_into_words() -> None:
    odd = {"own": {"_producer": "x", "set": {1}, "half": "\ud800", "big": 10**40, "nul": "a\0b"}}
    shown = output(replace(ASSETS, facets=odd))["facets"]["own"]
    assert shown == {"_producer": "x", "set": "{1}", "half": "", "big": str(10**40), "nul": "ab"}


def test_times_are_in_utc() -> None:
    at = COMPLETE.at.astimezone(timezone(timedelta(hours=2)))
    assert event(run(), replace(COMPLETE, at=at))["eventTime"] == "2026-11-22T06:04:00.000Z"


# ---- our own facets ----------------------------------------------------------------------------------------------

WITHIN = Interval(ZERO, ZERO + timedelta(seconds=30))
SHOWN = {"after": "2026-11-22T06:00:00.000Z", "until": "2026-11-22T06:00:30.000Z"}


@pytest.mark.parametrize(
    ("kind", "word"),
    [
        (EventKind.OTHER, "queued"),
        (EventKind.RUNNING, "moved"),
        (EventKind.COMPLETE, "ended"),
        (EventKind.START, None),
    ],
)
def test_what_is_a_bound_and_no_fact_says_so(kind: EventKind, word: str | None) -> None:
    shown = facets(run(), Transition(kind, ZERO, WITHIN)).get(custom_facets.OBSERVED)
    assert (shown or {}).get(word or "started") == (SHOWN if word else None)


def test_a_beginning_that_is_a_bound_stays_one_to_the_end() -> None:
    of = run(started_within=WITHIN)
    assert {event(of, at)["run"]["facets"][custom_facets.OBSERVED]["started"]["until"] for at in (START, COMPLETE)} == {
        SHOWN["until"]
    }
    assert custom_facets.OBSERVED not in facets(run(started_at=None, started_within=WITHIN), START)


def test_an_end_says_what_the_platform_said_of_the_run() -> None:
    shown = facets(run(RunState.FAILED, raw_state="Failed"), FAIL)[custom_facets.PLATFORM]
    assert (shown["source"], shown["runKey"], shown["jobKey"]) == ("plant", "4711", "12")
    assert (shown["state"], shown["platformState"], shown["ids"]) == ("failed", "Failed", {"jobId": "4711"})
    assert shown["link"] == FACTS.link
    assert shown["stages"][0]["message"] == "out of memory"


def test_of_very_many_stages_only_the_first_are_listed() -> None:
    stages = tuple(Stage(str(number), "wrangle", StageState.SUCCEEDED) for number in range(500))
    shown = facets(run(facts=Facts(stages=stages)))[custom_facets.PLATFORM]
    assert (shown["stageCount"], len(shown["stages"])) == (500, custom_facets.MANY)
    assert openlineage.faults(MAKER.event(run(facts=Facts(stages=stages)), COMPLETE)) == []


# ---- families ----------------------------------------------------------------------------------------------------

GRAND = Parent(UUID(int=9), models.SPACE, "recipe/f.r", root_run_id=UUID(int=8), root_job="recipe/f")


@pytest.mark.parametrize(
    ("parent", "job", "named", "above", "root"),
    [
        (PARENT, "transformation/a", "workflow/nightly.transformation/a", "workflow/nightly", "workflow/nightly"),
        (replace(PARENT, job="recipe/f"), "recipe/f.r", "recipe/f.r", "recipe/f", "recipe/f"),
        (GRAND, "recipe/f.r.wrangle", "recipe/f.r.wrangle", "recipe/f.r", "recipe/f"),
        (replace(GRAND, job="r"), "s", "recipe/f.r.s", "recipe/f.r", "recipe/f"),
    ],
)
def test_a_child_is_named_after_its_parent_and_names_its_root(
    parent: Parent, job: str, named: str, above: str, root: str
) -> None:
    of = run(parent=parent, job=replace(JOB, name=job))
    told_ = event(of)
    facet = told_["run"]["facets"]["parent"]
    assert (told_["job"]["name"], job_name(of)) == (named, named)
    assert (facet["job"]["name"], facet["root"]["job"]["name"]) == (above, root)
    assert facet["root"]["run"]["runId"] == str(parent.root_run_id or parent.run_id)


def test_a_name_that_would_be_too_long_is_cut_behind_its_parents() -> None:
    named = job_name(run(parent=PARENT, job=replace(JOB, name="transformation/" + "x" * 240)))
    assert len(named) == 255
    assert named.startswith("workflow/nightly.transformation/x")


# ---- memory ------------------------------------------------------------------------------------------------------


def counted() -> tuple[list[int], Callable[[int], bytes]]:
    made: list[int] = []

    def make(key: int) -> bytes:
        made.append(key)
        return b"x" * 1000

    return made, make


def test_what_repeats_is_made_once_and_never_fills_the_memory() -> None:
    made, make = counted()
    kept = bytes_cache(4 * (1000 + ENTRY))(make)
    for key in (1, 2, 1, 2, 3, 4, 1, 5):
        kept(key)
    assert made == [1, 2, 3, 4, 5], "the one asked for last stays"
    kept(2)
    assert made[-1] == 2


def test_neither_the_argument_nor_a_buffer_is_kept() -> None:
    """Orjson leaves a buffer of 8 KiB behind the bytes that it returns, and a dataset with its columns is far larger than its facets."""

    def make(dataset: Dataset) -> bytes:
        return written({"name": dataset.name})

    kept = bytes_cache(2**30)(make)
    columns = [tuple(Field(f"column {number} of table {table}") for number in range(20)) for table in range(200)]
    kept(Dataset("n", "first"))
    tracemalloc.start()
    try:
        for table, of_table in enumerate(columns):
            kept(Dataset("n", f"table {table}", fields=of_table))
        taken, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert taken / len(columns) < 1.5 * ENTRY


@pytest.mark.parametrize("odd", ["\ud800", 2**64])
def test_what_orjson_cannot_write_is_kept_too(odd: object) -> None:
    made: list[object] = []

    def make(value: object) -> bytes:
        made.append(value)
        return b"x"

    kept = bytes_cache(10_000)(make)
    for value in (odd, odd, "other"):
        kept(value)
    assert made == [odd, "other"]


def test_a_value_beyond_the_bound_is_not_kept() -> None:
    made, make = counted()
    kept = bytes_cache(100)(make)
    assert kept(1) == kept(1)
    assert made == [1, 1]
