from datetime import timedelta
from typing import cast
from uuid import UUID

import pytest

from collector.model import Job, Run, RunState
from collector.platforms.wetransform.api import Api
from collector.platforms.wetransform.automations import Automation
from collector.platforms.wetransform.definitions import Definitions
from collector.platforms.wetransform.lineage import Place
from collector.platforms.wetransform.runs import Meaning, RunOrigin, Runs
from collector.platforms.wetransform.schedule import next_look, retry_after_failures
from collector.platforms.wetransform.steps import STATES, state_of, table
from collector.testing.clock import START, SimulatedClock
from config.sources import WetransformIntervals as Intervals
from simulators.wetransform.scenarios import STEPS

PATIENCE = timedelta(minutes=10)
WISHED = Intervals()


def run(step: str | None, state: RunState, *, progressed: float = 0, seen: float = 0, due: float | None = None) -> Run:
    """Times are seconds after START."""
    job = Job("t", "wetransform://api.wetransform.com/acme", "transformation/t", "JOB", "WETRANSFORM")
    return Run(
        key="k",
        run_id=UUID(int=1),
        job=job,
        state=state,
        raw_state=step,
        seen_at=START + timedelta(seconds=seen),
        progressed_at=START + timedelta(seconds=progressed),
        queued_at=START,
        due_at=None if due is None else START + timedelta(seconds=due),
    )


def state(step: str | None, known: Run | None = None, *, after: float = 0, **overrides: RunState) -> RunState:
    now = START + timedelta(seconds=after)
    return state_of(step, known, now, states=table(overrides), overridden=overrides, patience=PATIENCE)


class TestSteps:
    def test_the_table_has_every_step_of_the_vendor_and_no_other(self) -> None:
        assert tuple(STATES) == STEPS

    @pytest.mark.parametrize("step", STEPS)
    def test_only_processed_and_failed_end_a_run(self, step: str) -> None:
        assert state(step).terminal == (step in {"processed", "failed"})

    @pytest.mark.parametrize(
        ("step", "expected"),
        [
            ("pending", RunState.QUEUED),
            ("to_download", RunState.QUEUED),
            ("created", RunState.RUNNING),
            ("imported", RunState.RUNNING),
            ("to_review", RunState.WAITING),
            ("to_select", RunState.WAITING),
            ("to_match", RunState.RUNNING),
            ("processed", RunState.SUCCEEDED),
            ("failed", RunState.FAILED),
            (None, RunState.UNKNOWN),
            ("recalibrating", RunState.UNKNOWN),
            ("PROCESSED", RunState.UNKNOWN),
        ],
    )
    def test_what_a_step_means(self, step: str | None, expected: RunState) -> None:
        assert state(step) is expected

    @pytest.mark.parametrize("step", ["to_match", "to_submit"])
    def test_a_step_that_may_wait_does_so_after_a_time(self, step: str) -> None:
        known = run(step, RunState.RUNNING, progressed=100)
        assert state(step, known, after=699) is RunState.RUNNING
        assert state(step, known, after=700) is RunState.WAITING
        other = run("matching", RunState.RUNNING, progressed=100)
        assert state(step, other, after=5000) is RunState.RUNNING

    @pytest.mark.parametrize(
        ("before", "expected"), [("to_submit", RunState.WAITING), ("transformed", RunState.RUNNING)]
    )
    def test_only_the_time_at_the_step_itself_counts_and_it_goes_on_counting(
        self, before: str, expected: RunState
    ) -> None:
        assert state("to_submit", run(before, RunState.RUNNING), after=7200) is expected

    def test_no_other_step_waits_however_long_it_takes(self) -> None:
        known = run("transforming", RunState.RUNNING)
        assert state("transforming", known, after=90_000) is RunState.RUNNING

    def test_configuration_wins(self) -> None:
        known = run("to_match", RunState.RUNNING)
        assert state("to_match", to_match=RunState.WAITING) is RunState.WAITING
        assert state("to_match", known, after=90_000, to_match=RunState.RUNNING) is RunState.RUNNING
        assert state("to_review", to_review=RunState.RUNNING) is RunState.RUNNING
        assert state("archived", archived=RunState.SUCCEEDED) is RunState.SUCCEEDED


def seconds_to_next_look(known: Run | None, new: RunState, step: str, *, after: float, born: float = 0) -> float:
    now = START + timedelta(seconds=after)
    due = next_look(WISHED, known, new, step, now=now, born_at=START + timedelta(seconds=born))
    assert due is not None
    return (due - now).total_seconds()


class TestSchedule:
    def test_a_young_run_is_read_every_five_seconds(self) -> None:
        assert seconds_to_next_look(None, RunState.QUEUED, "pending", after=0) == 5
        known = run("matching", RunState.RUNNING, seen=50, due=55)
        assert seconds_to_next_look(known, RunState.RUNNING, "matching", after=55) == 5

    def test_then_ever_more_rarely_until_once_a_minute(self) -> None:
        intervals, after, last = [], 60.0, 5.0
        for _ in range(9):
            known = run("matching", RunState.RUNNING, seen=after, due=after + last)
            after += last
            last = seconds_to_next_look(known, RunState.RUNNING, "matching", after=after)
            intervals.append(round(last, 2))
        assert intervals == [7.5, 11.25, 16.88, 25.31, 37.97, 56.95, 60, 60, 60]

    def test_a_run_that_waits_is_read_every_ten_minutes_and_after_a_day_every_hour(self) -> None:
        known = run("to_review", RunState.WAITING, progressed=100)
        assert seconds_to_next_look(run("parsing", RunState.RUNNING), RunState.WAITING, "to_review", after=100) == 600
        assert seconds_to_next_look(known, RunState.WAITING, "to_review", after=3700) == 600
        assert seconds_to_next_look(known, RunState.WAITING, "to_review", after=100 + 12 * 3600) == 1800
        assert seconds_to_next_look(known, RunState.WAITING, "to_review", after=100 + 24 * 3600) == 3600
        assert seconds_to_next_look(known, RunState.WAITING, "to_review", after=100 + 90 * 3600) == 3600

    def test_a_wait_at_another_step_does_not_count(self) -> None:
        known = run("to_review", RunState.WAITING, progressed=100)
        assert seconds_to_next_look(known, RunState.WAITING, "to_select", after=100 + 24 * 3600) == 600

    def test_a_run_that_leaves_waiting_is_read_often_again(self) -> None:
        known = run("to_review", RunState.WAITING, seen=3000, due=3600)
        assert seconds_to_next_look(known, RunState.RUNNING, "reviewed", after=3600) == 5

    def test_a_run_that_a_hint_made_due_is_read_often_again(self) -> None:
        known = run("matching", RunState.RUNNING, seen=3000, due=3001)
        assert seconds_to_next_look(known, RunState.RUNNING, "matching", after=3001) == 5

    def test_a_run_grows_old_though_the_answer_does_not_tell_its_creation(self) -> None:
        clock = SimulatedClock()
        place, meaning = Place("wetransform://h/acme", "https://h"), Meaning(table({}), {}, PATIENCE)
        runs = Runs(cast("Api", None), cast("Definitions", None), place, clock, meaning, WISHED)
        clock.advance(605)
        known, nobody = run("matching", RunState.RUNNING, seen=600, due=605), RunOrigin(None, None)
        read = Automation(str(UUID(int=1)), "matching", None, "", None, None, None, None, None, None)
        assert runs.observation(read, nobody, known).due_at == clock.now() + timedelta(seconds=7.5)

    @pytest.mark.parametrize(("ahead", "seconds"), [(59, 5), (60, 7.5), (86_400, 7.5)])
    def test_a_run_that_is_dated_ahead_is_not_young_until_then(self, ahead: float, seconds: float) -> None:
        known = run("matching", RunState.RUNNING, seen=100, due=105)
        assert seconds_to_next_look(known, RunState.RUNNING, "matching", after=105, born=105 + ahead) == seconds

    def test_nobody_looks_at_a_run_that_ended(self) -> None:
        assert next_look(WISHED, None, RunState.FAILED, "failed", now=START, born_at=START) is None

    def test_failures_are_retried_ever_more_rarely(self) -> None:
        waits = [retry_after_failures(WISHED, n).total_seconds() for n in (1, 2, 3, 50)]
        assert waits == [10, 20, 40, 600]
