from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from itertools import permutations
from uuid import UUID, uuid4, uuid5

import pytest

from collector.lifecycle import VanishedPolicy
from collector.model import EventKind, Job, Observation, Parent, Poll, Run, RunState, Skip, SkipKind
from collector.polling.decision import Decided, Policy, decide

ZERO = datetime(2026, 11, 22, 6, tzinfo=UTC)
POLICY = Policy(timedelta(seconds=60), VanishedPolicy.LEAVE_OPEN)
SPACE = UUID(int=1)


def seen(key: str, state: RunState, second: int = 0, parent: str | None = None) -> Observation:
    job = Job(key, "cdf://h/p", f"transformation/{key}", "QUERY", "CDF")
    of = Parent(uuid5(SPACE, parent), "cdf://h/p", parent, key=parent) if parent else None
    at = ZERO + timedelta(seconds=second)
    return Observation(key, uuid5(SPACE, key), job, state, state.value, at, started_at=ZERO, parent=of)


def decided(known: dict[str, Run], page: Poll) -> Decided:
    return decide(known, page, ZERO, POLICY)


def runs(result: Decided) -> dict[str, Run]:
    return {step.run.key: step.run for step in result.steps}


def test_parents_come_before_their_children() -> None:
    page = Poll((seen("child", RunState.RUNNING, parent="flow"), seen("flow", RunState.RUNNING)))
    assert [step.run.key for step in decided({}, page).steps] == ["flow", "child"]


GENERATIONS = (
    seen("flow", RunState.RUNNING),
    seen("child", RunState.RUNNING, parent="flow"),
    seen("grandchild", RunState.SUCCEEDED, parent="child"),
)


@pytest.mark.parametrize("page", list(permutations(GENERATIONS)))
def test_a_grandparent_comes_before_its_children_and_theirs(page: Sequence[Observation]) -> None:
    assert [step.run.key for step in decided({}, Poll(tuple(page))).steps] == ["flow", "child", "grandchild"]


def test_a_generation_that_the_page_leaves_out_is_counted() -> None:
    known = runs(decided({}, Poll((seen("child", RunState.QUEUED, parent="flow"),))))
    page = Poll((seen("grandchild", RunState.RUNNING, parent="child"), seen("flow", RunState.RUNNING)))
    assert [step.run.key for step in decided(known, page).steps] == ["flow", "grandchild"]


def test_ancestors_that_ended_without_a_start_begin_from_the_top() -> None:
    known = runs(decided({}, Poll((seen("child", RunState.SUCCEEDED, parent="flow"),))))
    known |= runs(decided(known, Poll((seen("flow", RunState.SUCCEEDED),))))
    steps = decided(known, Poll((seen("grandchild", RunState.RUNNING, parent="child"),))).steps
    assert [step.run.key for step in steps] == ["flow", "child", "grandchild"]
    assert [transition.kind for step in steps for transition in step.transitions] == [EventKind.START] * 3


def test_parents_in_a_circle_are_all_taken_in() -> None:
    circle = tuple(seen(key, RunState.RUNNING, parent=of) for key, of in (("a", "b"), ("b", "c"), ("c", "a")))
    below, itself = seen("d", RunState.RUNNING, parent="a"), seen("e", RunState.RUNNING, parent="e")
    keys = [step.run.key for step in decided({}, Poll((below, *circle, itself))).steps]
    assert keys == ["e", "a", "b", "c", "d"]


def test_a_derived_id_is_kept_where_it_would_be_another_now() -> None:
    """It is derived from the platform's address, which may change. An id of the platform's own that changes is another run's."""
    known = runs(decided({}, Poll((seen("1", RunState.SUCCEEDED),))))
    again = seen("1", RunState.SUCCEEDED, 30)
    moved = decided(known, Poll((replace(again, run_id=uuid5(UUID(int=2), "1")),)))
    assert (moved.steps, moved.skips) == ((), ())
    [skip] = decided(known, Poll((replace(again, run_id=uuid4()),))).skips
    assert skip.kind is SkipKind.LATE
    of_the_platform = {"1": replace(known["1"], run_id=uuid4())}
    [skip] = decided(of_the_platform, Poll((replace(again, run_id=uuid4()),))).skips
    assert skip.kind is SkipKind.LATE


def test_a_run_that_ended_and_did_not_change_is_no_step() -> None:
    known = runs(decided({}, Poll((seen("1", RunState.SUCCEEDED),))))
    assert decided(known, Poll((seen("1", RunState.SUCCEEDED, 30),))).steps == ()


def test_two_observations_of_one_run_in_a_page_make_one_life() -> None:
    page = Poll((seen("1", RunState.QUEUED), seen("1", RunState.RUNNING, 1)))
    kinds = [transition.kind for step in decided({}, page).steps for transition in step.transitions]
    assert kinds == [EventKind.OTHER, EventKind.START]


def test_runs_that_are_missing_count_their_misses() -> None:
    known = runs(decided({}, Poll((seen("1", RunState.RUNNING),))))
    for misses in (1, 2, 3):
        result = decided(known, Poll(missing=("1", "never heard of")))
        known = runs(result)
        assert known["1"].misses == misses
    assert known["1"].abandoned_at == ZERO
    assert [skip.kind for skip in result.skips] == [SkipKind.VANISHED]


def test_a_known_run_and_its_parent_keep_ids_that_are_derived_anew() -> None:
    known = runs(decided({}, Poll((seen("flow", RunState.RUNNING), seen("child", RunState.RUNNING, parent="flow")))))
    moved = UUID(int=2)

    def elsewhere(key: str, state: RunState) -> Observation:
        parent = Parent(uuid5(moved, "flow"), "cdf://h/p", "flow", key="flow") if key != "flow" else None
        return replace(seen(key, state, 60), run_id=uuid5(moved, key), parent=parent)

    page = Poll((elsewhere("new", RunState.RUNNING), elsewhere("child", RunState.SUCCEEDED)))
    result = decided(known, page)
    after = runs(result)
    assert (after["child"].run_id, after["child"].state) == (known["child"].run_id, RunState.SUCCEEDED)
    assert after["new"].run_id == uuid5(moved, "new")
    assert after["new"].parent is not None
    assert after["new"].parent.run_id == known["flow"].run_id
    assert result.skips == ()


def test_a_parent_keeps_the_id_that_the_platform_gives_it() -> None:
    given = UUID("5f0e9ac4-6c0f-4c3e-9a53-0d6a1e0f7b11")
    known = runs(decided({}, Poll((seen("flow", RunState.RUNNING),))))
    page = Poll((replace(seen("child", RunState.RUNNING), parent=Parent(given, "cdf://h/p", "flow", key="flow")),))
    child = runs(decided(known, page))["child"]
    assert child.parent is not None
    assert child.parent.run_id == given


def test_another_run_under_a_known_key_is_left_out() -> None:
    known = runs(decided({}, Poll((seen("1", RunState.SUCCEEDED),))))
    result = decided(known, Poll((replace(seen("1", RunState.FAILED, 9), run_id=UUID(int=7)),)))
    assert [skip.kind for skip in result.skips] == [SkipKind.LATE]


def test_what_the_adapter_skipped_is_kept() -> None:
    skip = Skip(SkipKind.ROW, "row 3", "no id")
    assert decided({}, Poll(skips=(skip,))).skips == (skip,)


def test_runs_that_could_not_be_read_are_reported_and_count_no_miss() -> None:
    known = runs(decided({}, Poll((seen("1", RunState.RUNNING),))))
    result = decided(known, Poll(unread=tuple(map(str, range(1, 9)))))
    assert result.steps == ()
    [skip] = result.skips
    assert (skip.kind, skip.subject) == (SkipKind.UNREAD, "open runs")
    assert skip.cause == "8 were not read this time and are due again: 1, 2, 3, 4, 5 and others"
    [skip] = decided(known, Poll(unread=tuple("12345"))).skips
    assert skip.cause == "5 were not read this time and are due again: 1, 2, 3, 4, 5"
