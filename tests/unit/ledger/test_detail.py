"""A run goes into the ledger and comes back as it was."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from collector.clock import to_ms
from collector.errors import LedgerError
from collector.ledger import detail
from collector.model import Dataset, Facts, Field, Interval, Job, Parent, Run, RunState, Stage, StageState
from tests.unit.ledger.ledgers import NOW, T0, a_run, child_of

words = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
moments = st.datetimes(datetime(1971, 1, 1), datetime(2200, 1, 1), timezones=st.just(UTC))  # noqa: DTZ001
json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | words,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(words, inner, max_size=3),
    max_leaves=5,
)
facets = st.dictionaries(words, json_values, max_size=3)
pairs = st.lists(st.tuples(words, words), max_size=2).map(tuple)
fields = st.lists(st.builds(Field, words, st.none() | words, st.none() | words), max_size=2).map(tuple)
datasets = st.builds(
    Dataset,
    words,
    words,
    uri=st.none() | words,
    fields=fields,
    symlinks=st.lists(st.tuples(words, words, words), max_size=1).map(tuple),
    storage=st.none() | st.tuples(words, st.none() | words),
    rows=st.none() | st.integers(0, 2**63),
    facets=facets,
)
many_datasets = st.none() | st.lists(datasets, max_size=2).map(tuple)
jobs = st.builds(Job, words, words, words, words, words, owners=st.tuples(words), tags=pairs, sql=st.none() | words)
stages = st.builds(Stage, words, words, st.sampled_from(StageState), started_at=st.none() | moments)
intervals = st.builds(Interval, st.none() | moments, moments)
parents = st.builds(Parent, st.uuids(), words, words, st.none() | words, st.none() | st.uuids())
facts = st.builds(
    Facts,
    inputs=many_datasets,
    outputs=many_datasets,
    nominal_start=st.none() | moments,
    parameters=pairs,
    stages=st.lists(stages, max_size=2).map(tuple),
    ids=st.dictionaries(words, words, max_size=2),
    problems=st.lists(words, max_size=2).map(tuple),
)
run_values = st.builds(
    Run,
    key=words,
    run_id=st.uuids(),
    job=jobs,
    state=st.sampled_from(RunState),
    raw_state=st.none() | words,
    seen_at=moments,
    progressed_at=moments,
    queued_at=st.none() | moments,
    started_at=st.none() | moments,
    ended_at=st.none() | moments,
    started_within=st.none() | intervals,
    facts=facts,
    parent=st.none() | parents,
    handle=st.dictionaries(words, words, max_size=2),
    due_at=st.none() | moments,
    misses=st.integers(0, 5),
    enrich_until=st.none() | moments,
    abandoned_at=st.none() | moments,
)


@settings(max_examples=100, deadline=None)
@given(run_values)
def test_a_run_comes_back_as_it_was(run: Run) -> None:
    found = detail.read(run.key, detail.columns(run)["detail"])
    assert found == run
    assert found.seen_at.isoformat() == run.seen_at.isoformat()


def test_a_row_that_is_read_again_is_parsed_once() -> None:
    row = detail.columns(a_run("41"))
    assert detail.read("41", row["detail"]) is detail.read("41", str(row["detail"].encode(), "utf-8"))
    other = detail.columns(replace(a_run("41"), raw_state="Other"))
    assert detail.read("41", other["detail"]).raw_state == "Other"


@settings(max_examples=50, deadline=None)
@given(run_values)
def test_columns_say_what_is_asked_for(run: Run) -> None:
    columns = detail.columns(run)
    assert (columns["ended_at"] is None) == (run.ended_at is None)
    assert tuple(columns) == detail.COLUMNS


@settings(max_examples=100, deadline=None)
@given(run_values, run_values)
def test_the_last_look_wins_over_what_was_written_before(run: Run, later: Run) -> None:
    """To the millisecond; that a run is due since it was seen is as good as no separate time."""
    looked = replace(run, seen_at=later.seen_at, due_at=later.due_at, misses=later.misses)
    now_ms = to_ms(later.seen_at)
    found = detail.as_last_seen(run, detail.watch_row(looked, now_ms))
    assert (to_ms(found.seen_at), found.misses) == (to_ms(later.seen_at), later.misses)
    assert replace(found, seen_at=run.seen_at, due_at=run.due_at, misses=run.misses) == run
    if not run.state.terminal:
        due_ms = None if later.due_at is None else to_ms(later.due_at)
        expected = due_ms if due_ms is not None and due_ms > to_ms(later.seen_at) else None
        assert (None if found.due_at is None else to_ms(found.due_at)) == expected


def test_a_look_that_says_what_is_known_changes_nothing() -> None:
    run = a_run("r", seen_at=T0 + timedelta(microseconds=7), due_at=T0 + timedelta(seconds=9, microseconds=3), misses=2)
    assert detail.as_last_seen(run, detail.watch_row(run, NOW)) is run


def test_a_run_in_short_has_the_ids_of_its_facts_alone() -> None:
    facts = Facts(ids={"template_handle": "t"}, error="wrong", inputs=(Dataset("ns", "d"),))
    run, jobs = a_run("r", facts=facts, handle={"customer": "c"}, parent=child_of("p")), dict[Job, Job]()
    short = detail.read_short("r", detail.columns(run)["detail"], jobs)
    assert short == replace(run, facts=Facts(ids={"template_handle": "t"}))
    again = detail.read_short("r", detail.columns(run)["detail"], jobs)
    assert again.job is short.job, "thousands of runs of one job hold it once"


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("{}", "the stored row of run r cannot be read"),
        ("not json", "the stored row of run r cannot be read"),
        (detail.columns(a_run("r"))["detail"].replace('"version":1', '"version":2'), "stored in format 2"),
    ],
)
def test_a_row_that_cannot_be_read_is_named(text: str, complaint: str) -> None:
    with pytest.raises(LedgerError, match=complaint.partition(" of run")[0]):
        detail.read_short("r", text, {})
    with pytest.raises(LedgerError, match=complaint):
        detail.read("r", text)


def test_fields_that_came_later_take_their_defaults() -> None:
    text = detail.columns(a_run("r"))["detail"].replace('"misses":0,', "").replace('"key":"r"', '"key":"r","gone":1')
    assert detail.read("r", text) == a_run("r")
