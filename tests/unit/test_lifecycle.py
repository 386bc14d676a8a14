from dataclasses import replace
from datetime import UTC, datetime, timedelta
from uuid import UUID

import pytest

from collector.lifecycle import Step, VanishedPolicy, begin, finish, missed, observe
from collector.model import (
    Dataset,
    Enrichment,
    EventKind,
    Facts,
    Interval,
    Job,
    Observation,
    Run,
    RunState,
    SkipKind,
)

ZERO = datetime(2026, 11, 22, 6, tzinfo=UTC)
WITHIN = timedelta(seconds=60)
JOB = Job("12", "cdf://h/p", "transformation/a", "QUERY", "CDF")
RUN_ID = UUID("5f0f1e9e-6a3c-4d0e-9d67-1f2c8a0f3b11")


def at(second: int) -> datetime:
    return ZERO + timedelta(seconds=second)


def seen(state: RunState, second: int, **more: object) -> Observation:
    return Observation("1", RUN_ID, JOB, state, state.value, at(second), **more)  # type: ignore[arg-type]


def take(known: Run | None, observation: Observation) -> Step:
    return observe(known, observation, enrich_within=WITHIN)


def events_of(step: Step) -> list[tuple[EventKind, datetime]]:
    return [(transition.kind, transition.at) for transition in step.transitions]


def test_a_run_between_two_polls_gets_both_events_with_the_platforms_times() -> None:
    step = take(None, seen(RunState.SUCCEEDED, 90, queued_at=at(1), started_at=at(2), ended_at=at(30)))
    assert step.transitions == ()
    assert step.run.enrich_until == at(150)
    done = finish(step.run, Enrichment())
    assert events_of(done) == [(EventKind.START, at(2)), (EventKind.COMPLETE, at(30))]
    assert all(transition.within is None for transition in done.transitions)


def test_an_end_that_only_its_details_tell_is_bounded_without_them() -> None:
    begun = take(None, seen(RunState.RUNNING, 10, queued_at=at(1), started_at=at(2)))
    ended = take(begun.run, seen(RunState.SUCCEEDED, 90, ended_by=at(30)))
    [end] = finish(ended.run, None, problem="429").transitions
    assert (end.at, end.within) == (at(30), Interval(at(10), at(30)))
    [end] = finish(ended.run, Enrichment(ended_at=at(20))).transitions
    assert (end.at, end.within) == (at(20), None)


def test_a_run_that_was_never_seen_before_its_end_may_have_begun_when_it_was_queued() -> None:
    step = take(None, seen(RunState.FAILED, 90, queued_at=at(1), ended_by=at(30)))
    start, end = finish(step.run, None, problem="429").transitions
    assert (start.at, start.within) == (at(1), Interval(at(1), at(30)))
    assert (end.at, end.within) == (at(30), Interval(at(1), at(30)))


def test_the_bounds_of_an_end_are_in_order_whatever_the_clocks_show() -> None:
    begun = take(None, seen(RunState.RUNNING, 60, queued_at=at(1), started_at=at(2)))
    ended = take(begun.run, seen(RunState.SUCCEEDED, 90, ended_by=at(30)))
    [end] = finish(ended.run, None).transitions
    assert (end.at, end.within) == (at(30), Interval(at(30), at(30)))


def test_a_run_that_ended_before_it_began_gets_both_at_its_end() -> None:
    step = take(None, seen(RunState.FAILED, 90, queued_at=at(1), ended_at=at(5)))
    assert events_of(finish(step.run, Enrichment())) == [(EventKind.START, at(5)), (EventKind.FAIL, at(5))]


def test_an_end_before_the_start_is_clamped_and_says_so() -> None:
    step = take(None, seen(RunState.SUCCEEDED, 90, started_at=at(10), ended_at=at(7)))
    done = finish(step.run, Enrichment())
    start, end = done.transitions
    assert (end.at, end.clamped_from) == (at(10), at(7))
    assert (start.within, end.within) == (None, Interval(at(7), at(10)))
    assert done.run.duration_bounded, "the time between them is none of the platform's"


@pytest.mark.parametrize("polled_while_queued", [True, False])
def test_a_start_before_its_request_is_clamped_and_its_duration_says_so(polled_while_queued: bool) -> None:
    queued = take(None, seen(RunState.QUEUED, 20, queued_at=at(10))).run if polled_while_queued else None
    step = take(queued, seen(RunState.RUNNING, 30, queued_at=at(10), started_at=at(7)))
    [start] = step.transitions
    assert (start.at, start.within, start.clamped_from) == (at(10), Interval(at(7), at(10)), at(7))
    ended = take(step.run, seen(RunState.SUCCEEDED, 40, ended_at=at(35)))
    done = finish(ended.run, Enrichment())
    assert done.transitions[-1].clamped_from is None
    assert done.run.started_within == Interval(at(7), at(10))
    assert done.run.duration_bounded


def test_a_clamped_start_that_is_made_at_the_end_says_so() -> None:
    step = take(None, seen(RunState.SUCCEEDED, 90, queued_at=at(10), started_at=at(7), ended_at=at(30)))
    done = finish(step.run, Enrichment())
    start, end = done.transitions
    assert (start.at, start.within, start.clamped_from) == (at(10), Interval(at(7), at(10)), at(7))
    assert (end.at, end.within, end.clamped_from) == (at(30), None, None)
    assert done.run.duration_bounded


def test_a_time_of_the_poll_that_was_clamped_lies_within_its_bounds() -> None:
    run = take(None, seen(RunState.QUEUED, 5, queued_at=at(50))).run
    [start] = take(run, seen(RunState.RUNNING, 15, queued_at=at(50))).transitions
    assert (start.at, start.within, start.clamped_from) == (at(50), Interval(at(5), at(50)), at(15))


def test_without_times_the_poll_gives_them_and_the_interval() -> None:
    run = take(None, seen(RunState.QUEUED, 5, queued_at=at(1))).run
    started = take(run, seen(RunState.RUNNING, 15, queued_at=at(1)))
    assert events_of(started) == [(EventKind.START, at(15))]
    assert started.transitions[0].within == Interval(at(5), at(15))
    ended = finish(take(started.run, seen(RunState.SUCCEEDED, 25)).run, Enrichment())
    assert events_of(ended) == [(EventKind.COMPLETE, at(25))]
    assert ended.transitions[0].within == Interval(at(15), at(25))


def test_a_run_without_times_that_was_never_seen_running_starts_when_it_was_last_seen_queued() -> None:
    run = take(None, seen(RunState.QUEUED, 5, queued_at=at(1))).run
    ended = finish(take(run, seen(RunState.SUCCEEDED, 25)).run, Enrichment())
    assert events_of(ended) == [(EventKind.START, at(5)), (EventKind.COMPLETE, at(25))]
    assert ended.run.started_within == Interval(at(5), at(25))
    assert ended.transitions[0].within == Interval(at(5), at(25))


def test_a_run_without_times_that_was_first_seen_when_it_had_ended_starts_when_it_was_asked_for() -> None:
    ended = finish(take(None, seen(RunState.SUCCEEDED, 25, queued_at=at(1))).run, Enrichment())
    assert events_of(ended) == [(EventKind.START, at(1)), (EventKind.COMPLETE, at(25))]


@pytest.mark.parametrize(("queued", "start"), [(None, 5), (1, 5), (20, 20), (40, 25)])
def test_a_start_that_nobody_reported_lies_between_the_looks_whatever_the_platforms_clock(
    queued: int | None, start: int
) -> None:
    """At the request, if that is not before the last look, nor after the first that saw the end."""
    run = take(None, seen(RunState.QUEUED, 5, queued_at=None if queued is None else at(queued))).run
    ended = finish(replace(take(run, seen(RunState.SUCCEEDED, 25)).run, last_event_at=None), Enrichment())
    assert events_of(ended)[0] == (EventKind.START, at(start))


def test_the_time_of_the_request_stays_known_and_follows_the_platform() -> None:
    run = take(None, seen(RunState.QUEUED, 5, queued_at=at(1))).run
    run = take(run, seen(RunState.RUNNING, 15)).run
    assert run.queued_at == at(1)
    assert take(run, seen(RunState.RUNNING, 25, queued_at=at(2))).run.queued_at == at(2)


@pytest.mark.parametrize(
    ("state", "inputs"), [(RunState.SUCCEEDED, ()), (RunState.FAILED, ("x",)), (RunState.CANCELED, ("x",))]
)
def test_only_a_run_that_succeeded_has_no_datasets_where_none_were_found(
    state: RunState, inputs: tuple[str, ...]
) -> None:
    named = Facts(inputs=(Dataset("cdf://h/p", "x"),))
    ended = take(take(None, seen(RunState.RUNNING, 5, facts=named)).run, seen(state, 15)).run
    done = finish(ended, Enrichment(facts=Facts(inputs=())))
    assert tuple(each.name for each in done.run.facts.inputs or ()) == inputs


def test_the_start_of_a_run_that_succeeded_is_a_bound_where_only_its_end_has_a_time() -> None:
    run = take(None, seen(RunState.SUCCEEDED, 25, queued_at=at(1), ended_at=at(9))).run
    start, end = finish(run, Enrichment()).transitions
    assert (start.kind, start.at, start.within) == (EventKind.START, at(9), Interval(at(1), at(9)))
    assert (end.kind, end.at, end.within) == (EventKind.COMPLETE, at(9), None)


def test_a_duration_is_bounded_where_the_platform_did_not_report_an_end_of_it() -> None:
    """What the platform says late, with the details of the end, is as good."""
    times = {"started_at": at(3), "ended_at": at(9)}
    for given, found, bounded in [
        (times, Enrichment(), False),
        ({"started_at": at(3)}, Enrichment(), True),
        ({"ended_at": at(9)}, Enrichment(), True),
        ({}, Enrichment(), True),
        ({}, Enrichment(started_at=at(3), ended_at=at(9)), False),
        ({"started_at": at(3)}, Enrichment(ended_at=at(9)), False),
    ]:
        run = take(None, seen(RunState.SUCCEEDED, 25, queued_at=at(1), **given)).run
        assert not run.duration_bounded, "no end was made yet"
        assert finish(run, found).run.duration_bounded is bounded, (given, found)
    never_began = take(None, seen(RunState.FAILED, 25, queued_at=at(1), ended_at=at(9))).run
    assert not finish(never_began, Enrichment()).run.duration_bounded, "no time passed, and both are its end"
    seen_running = take(None, seen(RunState.RUNNING, 5)).run
    ended = take(seen_running, seen(RunState.SUCCEEDED, 25, ended_at=at(20))).run
    assert finish(ended, Enrichment()).run.duration_bounded, "nobody reported when it started"
    with_start = take(None, seen(RunState.RUNNING, 5, started_at=at(3))).run
    for second in (10, 20, 30):
        with_start = missed(with_start, at(second), VanishedPolicy.ABORT).run
    assert with_start.duration_bounded, "aborted when it was last seen"


def test_a_run_that_is_found_again_is_missed_anew() -> None:
    """Only misses in a row count."""
    run = take(None, seen(RunState.RUNNING, 5)).run
    for second in (10, 20):
        run = missed(run, at(second), VanishedPolicy.ABORT).run
    run = take(run, seen(RunState.RUNNING, 30)).run
    assert run.misses == 0
    for second in (40, 50):
        step = missed(run, at(second), VanishedPolicy.ABORT)
        run = step.run
        assert (run.open, step.transitions) == (True, ())


def test_a_beginning_before_the_request_is_no_beginning() -> None:
    """A start never lies before the run was asked for, whichever way it is made."""
    early = {"queued_at": at(10), "started_at": at(4)}
    assert events_of(take(None, seen(RunState.RUNNING, 20, **early)))[0] == (EventKind.START, at(10))
    late = finish(take(None, seen(RunState.SUCCEEDED, 20, **early, ended_at=at(15))).run, Enrichment())
    assert events_of(late)[0] == (EventKind.START, at(10))
    never = finish(take(None, seen(RunState.CANCELED, 20, queued_at=at(10), ended_at=at(4))).run, Enrichment())
    assert events_of(never) == [(EventKind.START, at(10)), (EventKind.ABORT, at(10))]


def test_waiting_is_a_running_event_both_ways() -> None:
    run = take(None, seen(RunState.RUNNING, 5)).run
    waiting = take(run, seen(RunState.WAITING, 10))
    assert events_of(waiting) == [(EventKind.RUNNING, at(10))]
    assert events_of(take(waiting.run, seen(RunState.WAITING, 15))) == []
    assert events_of(take(waiting.run, seen(RunState.RUNNING, 20))) == [(EventKind.RUNNING, at(20))]


@pytest.mark.parametrize("other", [UUID(int=7), UUID(int=2**128 - 1)])
def test_a_key_that_is_given_again_is_reported(other: UUID) -> None:
    run = finish(take(None, seen(RunState.SUCCEEDED, 5)).run, Enrichment()).run
    step = take(run, replace(seen(RunState.SUCCEEDED, 10), run_id=other))
    assert (step.run, step.transitions) == (run, ())
    assert [skip.kind for skip in step.skips] == [SkipKind.LATE]


def test_a_run_that_comes_back_after_its_abort_is_reported_once() -> None:
    run = take(None, seen(RunState.RUNNING, 5)).run
    for second in (10, 20, 30):
        run = missed(run, at(second), VanishedPolicy.ABORT).run
    back = take(run, seen(RunState.RUNNING, 40))
    assert (back.transitions, [skip.kind for skip in back.skips]) == ((), [SkipKind.LATE])
    assert take(back.run, seen(RunState.RUNNING, 50)).skips == ()


def test_from_waiting_back_to_the_queue_is_out_of_waiting_too() -> None:
    waiting = take(take(None, seen(RunState.RUNNING, 5)).run, seen(RunState.WAITING, 10)).run
    back = take(waiting, seen(RunState.QUEUED, 20))
    assert events_of(back) == [(EventKind.RUNNING, at(20))]
    assert back.run.state is RunState.RUNNING
    assert events_of(take(back.run, seen(RunState.RUNNING, 25))) == []


def test_an_unknown_status_keeps_the_run_open_and_is_counted_once() -> None:
    run = take(None, seen(RunState.RUNNING, 5)).run
    strange = replace(seen(RunState.UNKNOWN, 10), raw_state="Pondering")
    step = take(run, strange)
    assert step.transitions == ()
    assert step.run.state is RunState.RUNNING
    assert step.run.open
    assert [skip.kind for skip in step.skips] == [SkipKind.STATUS]
    assert take(step.run, replace(strange, seen_at=at(15))).skips == ()


def test_a_contradiction_after_the_end_is_counted_and_not_reported() -> None:
    run = finish(take(None, seen(RunState.SUCCEEDED, 5)).run, Enrichment()).run
    step = take(run, seen(RunState.RUNNING, 10))
    assert step.transitions == ()
    assert [skip.kind for skip in step.skips] == [SkipKind.LATE]
    assert step.run == replace(run, raw_state="running")


def test_an_id_that_the_platform_uses_again_after_the_end_is_counted_once_whatever_its_state() -> None:
    first = replace(seen(RunState.SUCCEEDED, 5), queued_at=at(0))
    run = finish(take(None, first).run, Enrichment()).run
    assert take(run, replace(first, queued_at=at(60))).skips == ()
    for state in (RunState.SUCCEEDED, RunState.RUNNING):
        step = take(run, replace(seen(state, 100), queued_at=at(61)))
        assert ([skip.kind for skip in step.skips], step.transitions) == ([SkipKind.LATE], ())
        assert step.run.raw_state == run.raw_state
        assert take(step.run, replace(seen(RunState.FAILED, 110), queued_at=at(61))).skips == ()
        assert take(step.run, replace(seen(RunState.FAILED, 110), queued_at=at(200))).skips != ()


def test_a_contradiction_that_stays_is_counted_once() -> None:
    """A list of what changed shows a run that was opened again with every poll until something else changes."""
    run = finish(take(None, seen(RunState.SUCCEEDED, 5)).run, Enrichment()).run
    again = take(run, seen(RunState.RUNNING, 10))
    assert take(again.run, seen(RunState.RUNNING, 15)).skips == ()
    settled = take(again.run, seen(RunState.SUCCEEDED, 20))
    assert settled.skips == ()
    assert [skip.kind for skip in take(settled.run, seen(RunState.RUNNING, 25)).skips] == [SkipKind.LATE]


def test_the_same_raw_state_again_is_no_contradiction() -> None:
    """Before its terminal event is made, too: a poll may bring the same row twice, with the steps that led to its end."""
    run = take(None, replace(seen(RunState.SUCCEEDED, 5), raw_state="Complete")).run
    assert take(run, replace(seen(RunState.RUNNING, 5), raw_state="Complete")).skips == ()
    assert [skip.kind for skip in take(run, seen(RunState.RUNNING, 10)).skips] == [SkipKind.LATE]


def test_going_back_to_the_queue_changes_nothing() -> None:
    run = take(None, seen(RunState.RUNNING, 5)).run
    step = take(run, seen(RunState.QUEUED, 10))
    assert step.transitions == ()
    assert step.run.state is RunState.RUNNING


@pytest.mark.parametrize("policy", VanishedPolicy)
def test_the_third_miss_in_a_row_gives_a_run_up(policy: VanishedPolicy) -> None:
    run = take(None, seen(RunState.RUNNING, 5, started_at=at(3))).run
    for second in (10, 20):
        step = missed(run, at(second), policy)
        assert step.transitions == ()
        run = step.run
    step = missed(run, at(30), policy)
    assert step.run.state is RunState.UNKNOWN
    assert [skip.kind for skip in step.skips] == [SkipKind.VANISHED]
    expected = [(EventKind.ABORT, at(5))] if policy is VanishedPolicy.ABORT else []
    assert events_of(step) == expected
    assert not step.run.open
    assert [one.within for one in step.transitions] == [Interval(at(5), at(30))] * len(expected)


def test_an_abort_of_a_run_that_was_never_seen_under_way_claims_no_times() -> None:
    run = take(None, seen(RunState.QUEUED, 5, queued_at=at(1))).run
    for second in (10, 20):
        run = missed(run, at(second), VanishedPolicy.ABORT).run
    start, abort = missed(run, at(30), VanishedPolicy.ABORT).transitions
    assert (start.kind, start.at, start.within) == (EventKind.START, at(5), Interval(at(5), at(30)))
    assert (abort.kind, abort.at, abort.within) == (EventKind.ABORT, at(5), Interval(at(5), at(30)))


def test_a_run_that_comes_back_goes_on() -> None:
    run = take(None, seen(RunState.RUNNING, 5, started_at=at(3))).run
    for second in (10, 20, 30):
        run = missed(run, at(second), VanishedPolicy.LEAVE_OPEN).run
    assert not run.open
    assert take(run, seen(RunState.RUNNING, 40)).run.open
    back = take(run, seen(RunState.SUCCEEDED, 40, started_at=at(3), ended_at=at(35)))
    assert events_of(finish(back.run, Enrichment())) == [(EventKind.COMPLETE, at(35))]


def test_a_late_enrichment_leaves_a_problem_and_the_known_facts() -> None:
    outputs = (Dataset("ns", "raw/a/b"),)
    run = take(None, seen(RunState.SUCCEEDED, 5, facts=Facts(outputs=outputs))).run
    done = finish(run, None, problem="no answer in 60 s")
    assert done.run.facts.outputs == outputs
    assert done.run.facts.problems == ("no answer in 60 s",)
    assert finish(done.run, Enrichment()).transitions == ()


def test_a_look_that_was_asked_for_while_the_run_was_read_stays_due() -> None:
    known = replace(take(None, seen(RunState.RUNNING, 1)).run, due_at=at(20))
    assert take(known, seen(RunState.RUNNING, 20, due_at=at(80))).run.due_at == at(80)
    assert take(known, seen(RunState.RUNNING, 19, due_at=at(79))).run.due_at == at(20), "hastened after it was read"
    assert take(known, seen(RunState.RUNNING, 10, due_at=at(15))).run.due_at == at(15)
    assert take(known, seen(RunState.RUNNING, 10)).run.due_at is None, "read in every cycle"
    assert take(known, seen(RunState.SUCCEEDED, 10)).run.due_at is None


def test_a_clock_that_goes_back_does_not_take_back_when_a_run_was_seen() -> None:
    run = take(None, seen(RunState.RUNNING, 25)).run
    run = take(run, seen(RunState.RUNNING, 20)).run
    assert run.seen_at == at(25)
    ended = finish(take(run, seen(RunState.SUCCEEDED, 30)).run, Enrichment())
    assert ended.transitions[-1].within == Interval(at(25), at(30))


def test_a_run_progresses_when_its_raw_state_changes() -> None:
    run = take(None, seen(RunState.RUNNING, 5)).run
    run = take(run, seen(RunState.RUNNING, 15)).run
    assert run.progressed_at == at(5)
    for raw_state in ("matching", "transforming"):
        assert take(run, replace(seen(RunState.RUNNING, 25), raw_state=raw_state)).run.progressed_at == at(25)


def test_a_start_is_made_before_the_end_once_and_only_of_a_run_that_ended() -> None:
    ended = take(None, seen(RunState.SUCCEEDED, 25, queued_at=at(1), started_at=at(3))).run
    begun = begin(ended)
    assert events_of(begun) == [(EventKind.START, at(3))]
    for run in (begun.run, take(None, seen(RunState.QUEUED, 5)).run, finish(ended, Enrichment()).run):
        assert begin(run) == Step(run)


def test_enriched_times_win() -> None:
    run = take(None, seen(RunState.SUCCEEDED, 50, queued_at=at(1))).run
    done = finish(run, Enrichment(started_at=at(4), ended_at=at(44)))
    assert events_of(done) == [(EventKind.START, at(4)), (EventKind.COMPLETE, at(44))]


def test_an_open_run_does_not_become_another_one_that_got_its_key() -> None:
    other = UUID("9f2c0c1e-7a54-4a3b-8a4f-0c9f3f1a2b77")
    run = take(None, seen(RunState.RUNNING, 1)).run
    step = take(run, replace(seen(RunState.SUCCEEDED, 5), run_id=other, job=replace(JOB, key="13")))
    assert (step.run, step.transitions) == (run, ())
    assert [(skip.kind, skip.subject) for skip in step.skips] == [(SkipKind.LATE, "1")]


@pytest.mark.parametrize("derived_first", [True, False])
def test_an_id_that_stands_in_for_the_platforms_is_that_of_the_same_run(derived_first: bool) -> None:
    derived = UUID("11111111-2222-5333-8444-555555555555")
    first, second = (derived, RUN_ID) if derived_first else (RUN_ID, derived)
    run = take(None, replace(seen(RunState.RUNNING, 1), run_id=first)).run
    step = take(run, replace(seen(RunState.SUCCEEDED, 5), run_id=second))
    assert (step.run.state, step.run.run_id, step.skips) == (RunState.SUCCEEDED, first, ())
