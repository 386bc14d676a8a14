"""Promises 3 to 5 over any sequence of observations."""

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from uuid import UUID

from hypothesis import given
from hypothesis import strategies as st

from collector.lifecycle import VanishedPolicy, finish, missed, observe
from collector.model import Enrichment, EventKind, Facts, Job, Observation, Run, RunState, Transition

ZERO = datetime(2026, 11, 22, 6, tzinfo=UTC)
WITHIN = timedelta(seconds=60)
JOB = Job("12", "cdf://h/p", "transformation/a", "QUERY", "CDF")
RUN_ID = UUID("5f0f1e9e-6a3c-4d0e-9d67-1f2c8a0f3b11")
ENDS = (RunState.SUCCEEDED, RunState.FAILED, RunState.CANCELED)

seconds = st.integers(-50, 500)
moments = seconds.map(lambda s: ZERO + timedelta(seconds=s))


def observation(state: RunState, seen_at: datetime, **times: datetime | None) -> Observation:
    return Observation("1", RUN_ID, JOB, state, state.value, seen_at, **times)  # type: ignore[arg-type]


@dataclass
class Life:
    """Takes observations as the poller does and keeps what came out."""

    run: Run | None = None
    events: tuple[Transition, ...] = ()

    def see(self, seen: Observation) -> None:
        step = observe(self.run, seen, enrich_within=WITHIN)
        self.run, self.events = step.run, self.events + step.transitions

    def miss(self, at: datetime, policy: VanishedPolicy) -> None:
        if self.run is not None:
            step = missed(self.run, at, policy)
            self.run, self.events = step.run, self.events + step.transitions

    def end(self, found: Enrichment | None) -> None:
        if self.run is not None:
            step = finish(self.run, found, problem=None if found else "too slow")
            self.run, self.events = step.run, self.events + step.transitions

    def kinds_and_times(self) -> list[tuple[str, datetime]]:
        return [
            (event.kind.value, event.at)
            for event in self.events
            if event.kind is EventKind.START or event.kind.terminal
        ]


anything = st.one_of(
    st.builds(
        observation,
        st.sampled_from(RunState),
        moments,
        queued_at=st.none() | moments,
        started_at=st.none() | moments,
        ended_at=st.none() | moments,
    ),
    st.tuples(moments, st.sampled_from(VanishedPolicy)),
    st.builds(Enrichment, st.just(Facts()), st.none(), st.none() | moments, st.none() | moments) | st.none(),
)


@given(st.lists(anything, max_size=25))
def test_whatever_is_seen_a_run_has_one_legal_life(scenario: list[object]) -> None:
    life = Life()
    for happening in scenario:
        if isinstance(happening, Observation):
            life.see(happening)
        elif isinstance(happening, tuple):
            life.miss(*happening)
        else:
            life.end(happening)  # type: ignore[arg-type]
    kinds = [event.kind.value for event in life.events]
    terminal = [kind for kind in kinds if kind in {"COMPLETE", "FAIL", "ABORT"}]
    assert kinds.count("START") <= 1
    assert kinds.count("OTHER") <= 1
    assert len(terminal) <= 1
    if terminal:
        assert kinds[-1] == terminal[0], "nothing comes after the end"
        assert "START" in kinds
    if "OTHER" in kinds:
        assert kinds[0] == "OTHER"
    if "RUNNING" in kinds:
        assert kinds.index("START") < kinds.index("RUNNING")
    times = [event.at for event in life.events]
    assert times == sorted(times)
    assert [event for event in life.events if is_out_of_bounds(event)] == []


def is_out_of_bounds(event: Transition) -> bool:
    if event.within is None:
        return event.clamped_from is not None
    return event.at > event.within.until or (event.within.after is not None and event.at < event.within.after)


@given(st.lists(st.integers(0, 600), min_size=1, max_size=12), st.integers(0, 600), st.sampled_from(ENDS))
def test_a_run_that_was_queued_until_its_end_begins_within_the_bounds(
    polls: list[int], asked_at: int, end: RunState
) -> None:
    """The platform gives the time of the request alone."""
    life, queued = Life(), ZERO + timedelta(seconds=asked_at)
    for second in sorted(polls):
        life.see(observation(RunState.QUEUED, ZERO + timedelta(seconds=second), queued_at=queued))
    last = ZERO + timedelta(seconds=max(polls))
    life.see(observation(end, last + timedelta(seconds=30), queued_at=queued))
    life.end(Enrichment())
    [start] = [event for event in life.events if event.kind is EventKind.START]
    assert start.within is not None
    assert start.within.after == last
    assert start.at == max(last, min(queued, last + timedelta(seconds=30))) or start.clamped_from is not None


@st.composite
def actual_runs(draw: st.DrawFn) -> tuple[datetime, datetime | None, datetime, RunState]:
    queued = ZERO + timedelta(seconds=draw(st.integers(0, 100)))
    began = draw(st.none() | st.integers(-5, 100))
    ended = draw(st.integers(-5, 300))
    start = None if began is None else queued + timedelta(seconds=began)
    return queued, start, (start or queued) + timedelta(seconds=ended), draw(st.sampled_from(ENDS))


def as_seen(actual: tuple[datetime, datetime | None, datetime, RunState], at: datetime) -> Observation:
    queued, start, end, outcome = actual
    if at >= max(end, start or end):
        return observation(outcome, at, queued_at=queued, started_at=start, ended_at=end)
    if start is not None and at >= start:
        return observation(RunState.RUNNING, at, queued_at=queued, started_at=start)
    return observation(RunState.QUEUED, at, queued_at=queued)


@given(actual_runs(), st.lists(st.integers(0, 600), max_size=12), st.lists(st.integers(0, 600), max_size=12))
def test_start_and_end_do_not_depend_on_the_polls_where_the_platform_gives_times(
    actual: tuple[datetime, datetime | None, datetime, RunState], some: list[int], others: list[int]
) -> None:
    lives = []
    for polls in (some, others):
        life = Life()
        for second in [*sorted(polls), 1000]:
            life.see(as_seen(actual, actual[0] + timedelta(seconds=second)))
        life.end(Enrichment())
        lives.append(life.kinds_and_times())
    assert lives[0] == lives[1]
    assert len(lives[0]) == 2


@given(actual_runs(), st.lists(st.integers(0, 600), max_size=12))
def test_repeats_and_reordering_after_the_end_are_silent(
    actual: tuple[datetime, datetime | None, datetime, RunState], polls: list[int]
) -> None:
    life = Life()
    life.see(as_seen(actual, ZERO + timedelta(seconds=2000)))
    life.end(Enrichment())
    before = life.kinds_and_times()
    for second in polls:
        life.see(as_seen(actual, actual[0] + timedelta(seconds=second)))
    assert life.kinds_and_times() == before


@given(st.lists(st.sampled_from([s for s in RunState if s is not RunState.WAITING]), min_size=1, max_size=10))
def test_without_times_the_interval_bounds_the_real_times(states: list[RunState]) -> None:
    """Each START and end lies between the poll before and the poll that saw it."""
    life, polls = Life(), [ZERO + timedelta(seconds=10 * n) for n in range(1, len(states) + 1)]
    for at, state in zip(polls, states, strict=True):
        life.see(observation(state, at, queued_at=ZERO))
    life.end(Enrichment())
    for event in life.events:
        if event.kind.value in {"START", "COMPLETE", "FAIL", "ABORT"}:
            assert event.within is not None
            assert event.within.until in polls
            assert event.within.after == (event.within.until - timedelta(seconds=10))
