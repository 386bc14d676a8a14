"""What terminal events name: the datasets of the job, whatever became of the run."""

from datetime import UTC, datetime, timedelta
from uuid import uuid4

import pytest

from collector.lifecycle import Step, finish, observe
from collector.model import Dataset, Definition, Enrichment, EventKind, Facts, Job, Observation, RunState
from collector.polling.definitions import completed, jobs_to_know

ZERO = datetime(2026, 11, 22, 6, tzinfo=UTC)
SPACE = "dataprep://h/1"
JOB = Job("7", SPACE, "recipe/f.r", "JOB", "DATAPREP")
READ = Dataset("gs://in", "a.csv")
WRITTEN = Dataset("gs://out", "b.csv")
KNOWN = {JOB.name: Definition((READ,), (WRITTEN,))}
NO_SUCCESS = (RunState.FAILED, RunState.CANCELED)
NO_FACTS = Facts()


def end(state: RunState, found: Facts | None = None, before: Facts = NO_FACTS) -> Step:
    seen = Observation("1", uuid4(), JOB, state, state.value, ZERO, ended_at=ZERO, facts=before)
    run = observe(None, seen, enrich_within=timedelta(seconds=60)).run
    return finish(run, None if found is None else Enrichment(found), problem=None if found is not None else "too slow")


def named(step: Step) -> tuple[object, object]:
    return step.run.facts.inputs, step.run.facts.outputs


@pytest.mark.parametrize("state", NO_SUCCESS)
@pytest.mark.parametrize("found", [None, Facts(), Facts(inputs=(), outputs=())])
def test_a_run_that_did_not_succeed_names_what_earlier_ones_said(state: RunState, found: Facts | None) -> None:
    [step] = completed([end(state, found)], KNOWN).steps
    assert named(step) == ((READ,), (WRITTEN,))


@pytest.mark.parametrize("state", NO_SUCCESS)
def test_what_it_said_itself_comes_first(state: RunState) -> None:
    other = Dataset("gs://out", "c.csv")
    [step] = completed([end(state, Facts(inputs=(), outputs=()), Facts(outputs=(other,)))], KNOWN).steps
    assert named(step) == ((READ,), (other,))


def test_one_that_succeeded_is_believed() -> None:
    done = completed([end(RunState.SUCCEEDED, Facts(inputs=(), outputs=(WRITTEN,)))], KNOWN)
    assert named(done.steps[0]) == ((), (WRITTEN,))
    assert done.definitions == {JOB.name: Definition((), (WRITTEN,))}


def test_what_one_that_succeeded_does_not_know_stays_unknown_unless_its_details_were_not_read() -> None:
    partly = end(RunState.SUCCEEDED, None, Facts(outputs=(WRITTEN,)))
    assert named(completed([partly], KNOWN).steps[0]) == (None, (WRITTEN,))
    assert named(completed([partly], KNOWN, unread={"1"}).steps[0]) == ((READ,), (WRITTEN,))
    assert named(completed([end(RunState.SUCCEEDED, Facts())], KNOWN).steps[0]) == ((READ,), (WRITTEN,))


def test_of_two_runs_in_one_page_the_second_knows_what_the_first_said() -> None:
    other = Dataset("gs://out", "c.csv")
    said = end(RunState.SUCCEEDED, Facts(inputs=(READ,), outputs=(other,)))
    for second in (end(RunState.SUCCEEDED), end(RunState.FAILED)):
        done = completed([said, second], KNOWN)
        assert named(done.steps[1]) == ((READ,), (other,))
        assert done.definitions == {JOB.name: Definition((READ,), (other,))}


def test_what_is_about_one_run_is_no_part_of_the_definition() -> None:
    full = Dataset("gs://out", "b.csv", change="OVERWRITE", version="1", rows=1, bytes=2, files=3, facets={"x": {}})
    done = completed([end(RunState.SUCCEEDED, Facts(outputs=(full,)))], {})
    assert done.definitions == {JOB.name: Definition(None, (WRITTEN,))}
    assert done.steps[0].run.facts.outputs == (full,)


def test_a_run_of_the_same_page_counts() -> None:
    good, bad = end(RunState.SUCCEEDED, Facts(outputs=(WRITTEN,))), end(RunState.FAILED, Facts())
    done = completed([good, bad], {})
    assert named(done.steps[1]) == (None, (WRITTEN,))


def test_without_anything_known_nothing_is_made_up() -> None:
    step = end(RunState.FAILED, Facts(outputs=()))
    assert completed([step], {}).steps == (step,)
    assert completed([step], {}).definitions == {}


def test_what_must_be_looked_up() -> None:
    begun = observe(None, Observation("1", uuid4(), JOB, RunState.RUNNING, "r", ZERO), enrich_within=timedelta(0))
    assert begun.transitions[0].kind is EventKind.START
    assert jobs_to_know([begun, end(RunState.FAILED, Facts(inputs=(READ,), outputs=(WRITTEN,)))]) == set()
    assert jobs_to_know([end(RunState.FAILED, Facts(inputs=(READ,), outputs=()))]) == {JOB.name}
