"""What differs between a run of the ledger and a Marquez's, and what is safe to send again."""

import json
from dataclasses import replace
from typing import Any

import pytest

from collector.ledger.acknowledged import AcknowledgedEvent, AcknowledgedRun
from collector.ledger.resend import ResendFrom
from collector.model import EventKind
from exporters.sinks.marquez.comparison import (
    Aspect,
    Difference,
    ExpectedRun,
    decision,
    differences,
    doubles,
    expected,
)
from exporters.sinks.marquez.stored import StoredRun, parse

OTHER, START, RUNNING = EventKind.OTHER, EventKind.START, EventKind.RUNNING
COMPLETE, FAIL = EventKind.COMPLETE, EventKind.FAIL
A, B, LINK = ("ns", "a"), ("ns", "b"), ("s3://x", "linked")


def dataset(name: tuple[str, str], *links: tuple[str, str]) -> dict[str, Any]:
    identifiers = [{"namespace": link[0], "name": link[1], "type": "TABLE"} for link in links]
    return {"namespace": name[0], "name": name[1], "facets": {"symlinks": {"identifiers": identifiers}}}


def acknowledged(
    *kinds: EventKind, started_at: int | None = None, parent: str | None = None, **body: Any
) -> AcknowledgedRun:
    facets = {"parent": {"job": {"namespace": "ns", "name": parent}}} if parent is not None else {}
    content = {"job": {"namespace": "ns", "name": "job/1"}, "run": {"facets": facets}, **body}
    events = tuple(AcknowledgedEvent(seq, kind, 1000 * (seq + 1)) for seq, kind in enumerate(kinds))
    return AcknowledgedRun(1, "r", "key", "job/1", started_at, events, json.dumps(content).encode(), has_start=True)


def made(*kinds: EventKind, **given: Any) -> ExpectedRun:
    run = expected(acknowledged(*kinds, **given))
    assert run is not None
    return run


def like(run: ExpectedRun) -> StoredRun:
    """A run that is as expected."""
    inputs, outputs = (frozenset(each.name for each in side or ()) for side in (run.inputs, run.outputs))
    return StoredRun(run.run_id, run.state, run.started_at, run.ended_at, inputs, outputs)


@pytest.mark.parametrize(
    ("kinds", "state", "started_at", "ended_at"),
    [
        ((OTHER, START), "RUNNING", 2000, None),
        ((START, RUNNING), "RUNNING", 2000, None),
        ((START, COMPLETE), "COMPLETED", 1000, 2000),
        ((START, RUNNING, FAIL), "FAILED", 2000, 3000),
        ((COMPLETE,), "COMPLETED", None, 1000),
    ],
)
def test_state_and_times_follow_from_the_events(
    kinds: tuple[EventKind, ...], state: str, started_at: int | None, ended_at: int | None
) -> None:
    run = made(*kinds)
    assert (run.state, run.started_at, run.ended_at) == (state, started_at, ended_at)
    assert differences(run, like(run)) == []


def test_a_run_that_is_only_queued_is_not_expected() -> None:
    assert expected(acknowledged(OTHER)) is None


def test_a_start_that_retention_removed_is_still_expected() -> None:
    assert made(COMPLETE, started_at=500).started_at == 500


@pytest.mark.parametrize(("parent", "job"), [(None, "job/1"), ("flow", "flow.job/1"), ("job", "job.job/1")])
def test_a_child_is_looked_for_under_the_name_that_marquez_gives_it(parent: str | None, job: str) -> None:
    assert made(START, parent=parent).job == job


def test_datasets_are_compared_once_the_run_ended() -> None:
    assert made(START, inputs=[dataset(A)]).inputs is None
    run = made(START, COMPLETE, inputs=[dataset(A)], outputs=[dataset(B)])
    assert differences(run, replace(like(run), inputs=frozenset(), outputs=frozenset())) == [
        Difference(Aspect.INPUTS, "ns a", None),
        Difference(Aspect.OUTPUTS, "ns b", None),
    ]


def test_datasets_are_not_compared_where_none_are_sent() -> None:
    run = expected(acknowledged(START, COMPLETE, inputs=[dataset(A)]), sends_datasets=False)
    assert run is not None
    assert (run.inputs, run.outputs) == (None, None)


def test_inputs_of_the_run_before_are_no_difference_and_outputs_are_one() -> None:
    run = made(START, COMPLETE, inputs=[dataset(A)], outputs=[dataset(A)])
    assert differences(run, replace(like(run), inputs=frozenset({A, B}))) == []
    assert differences(run, replace(like(run), outputs=frozenset({A, B}))) == [Difference(Aspect.OUTPUTS, None, "ns b")]


def test_a_dataset_may_be_shown_under_the_name_of_its_symlink() -> None:
    run = made(START, COMPLETE, inputs=[dataset(A, LINK)], outputs=[dataset(B, LINK)])
    assert differences(run, replace(like(run), inputs=frozenset({LINK}), outputs=frozenset({LINK}))) == []


ENDED, OPEN = made(START, COMPLETE, outputs=[dataset(A)]), made(START)


@pytest.mark.parametrize(
    ("run", "found", "mend"),
    [
        (ENDED, None, ResendFrom.START),
        (OPEN, None, ResendFrom.START),
        (ENDED, replace(like(ENDED), state="RUNNING", ended_at=None), ResendFrom.END),
        (ENDED, replace(like(ENDED), state="FAILED"), ResendFrom.END),
        (ENDED, replace(like(ENDED), ended_at=1500), ResendFrom.END),
        (ENDED, replace(like(ENDED), outputs=frozenset()), ResendFrom.END),
        (ENDED, replace(like(ENDED), started_at=None), ResendFrom.START),
        (ENDED, replace(like(ENDED), state="FAILED", ended_at=2001), None),
        (ENDED, replace(like(ENDED), outputs=frozenset({A, B})), None),
        (OPEN, replace(like(OPEN), state="NEW", started_at=None), ResendFrom.START),
        (OPEN, replace(like(OPEN), state="COMPLETED", ended_at=1500), None),
    ],
)
def test_only_what_is_not_newer_is_sent_again(
    run: ExpectedRun, found: StoredRun | None, mend: ResendFrom | None
) -> None:
    chosen = decision(run, found, differences(run, found), has_start=True)
    assert chosen.mend is mend
    assert (chosen.why is None) == (mend is not None)


def test_without_its_start_only_an_end_is_sent() -> None:
    half = replace(like(ENDED), state="RUNNING", ended_at=None)
    assert decision(ENDED, half, differences(ENDED, half), has_start=False).mend is ResendFrom.END
    assert decision(ENDED, None, differences(ENDED, None), has_start=False).mend is None


def test_a_double_has_another_id_and_the_same_times() -> None:
    other = replace(like(ENDED), run_id="other")
    assert doubles([ENDED], [like(ENDED), other, replace(other, run_id="third", ended_at=2001)]) == {"r": ["other"]}
    assert doubles([ENDED], [replace(other, started_at=None)]) == {}


def test_an_answer_is_read_and_what_is_none_is_refused() -> None:
    version = {"datasetVersionId": {"namespace": "ns", "name": "a", "version": "v"}, "facets": {}}
    content = {
        "id": "r",
        "state": "COMPLETED",
        "startedAt": "1970-01-01T00:00:01Z",
        "endedAt": "1970-01-01T00:00:02.000Z",
        "outputDatasetVersions": [version],
    }
    assert parse(content) == like(ENDED)
    wrong: list[Any] = [{}, {"id": "r", "state": "NEW", "outputDatasetVersions": [{}]}, []]
    for each in wrong:
        with pytest.raises(ValueError, match="not a run of Marquez"):
            parse(each)
