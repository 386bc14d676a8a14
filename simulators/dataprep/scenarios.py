"""What happens to a run from its creation on: named scenarios, and the timelines that they unfold to."""

from dataclasses import dataclass, field
from datetime import datetime, timedelta
from random import Random

TERMINAL = frozenset({"Complete", "Failed", "Canceled"})


@dataclass(frozen=True, slots=True)
class Change:
    at: datetime
    status: str | None


@dataclass(slots=True)
class Timeline:
    """The statuses of one thing, ordered by time; the last change up to a moment is what a reader sees then."""

    changes: list[Change]

    def at(self, moment: datetime) -> Change | None:
        seen = [change for change in self.changes if change.at <= moment]
        return seen[-1] if seen else None

    def set(self, status: str | None, at: datetime) -> None:
        """From `at` on the status is this, whatever was planned."""
        self.changes = [change for change in self.changes if change.at <= at]
        self.changes.append(Change(at, status))

    def first(self, statuses: frozenset[str | None]) -> Change | None:
        return next((change for change in self.changes if change.status in statuses), None)


@dataclass(frozen=True, slots=True)
class StagePlan:
    """One stage before it has times. `after` holds positions in the list of plans; `writes` an output's position."""

    job_type: str
    after: tuple[int, ...] = ()
    writes: int | None = None
    source: int | None = None
    late: bool = False
    """Published after the group had ended."""


@dataclass(slots=True)
class Stage:
    id: int
    plan: StagePlan
    timeline: Timeline
    engine: str | None
    after: tuple[int, ...] = ()
    error_id: int | None = None

    @property
    def created_at(self) -> datetime:
        return self.timeline.changes[0].at


@dataclass(frozen=True, slots=True)
class Scenario:
    """Times are seconds, drawn between two bounds and stretched by the run's pace."""

    queued: tuple[float, float] = (1.0, 6.0)
    stage: tuple[float, float] = (20.0, 90.0)
    begins_as: str = "Created"
    fails: str | None = None
    """Which stage fails: `validation` (before any), `first`, `wrangle` or `writing` (the last stage that writes)."""
    canceled: str | None = None
    """When it is canceled: `queued` or `running`."""
    odd: tuple[str | None, ...] = ()
    """Statuses that show for a while in the middle of the run."""
    deleted: str | None = None
    """When it is deleted: `running` or `ended`."""
    late_publish: bool = False
    stuck: bool = False


SCENARIOS: dict[str, Scenario] = {
    "complete": Scenario(),
    "quick": Scenario(queued=(0.2, 0.6), stage=(0.3, 0.9)),
    "long": Scenario(stage=(900.0, 1800.0)),
    "pending": Scenario(begins_as="Pending"),
    "failed": Scenario(fails="wrangle"),
    "failed_at_once": Scenario(queued=(0.2, 0.6), stage=(0.3, 0.9), fails="first"),
    "partial": Scenario(fails="writing"),
    "validation_failed": Scenario(fails="validation"),
    "canceled": Scenario(canceled="running"),
    "canceled_queued": Scenario(canceled="queued"),
    "undefined": Scenario(odd=("undefined", None)),
    "deleted": Scenario(deleted="running"),
    "deleted_later": Scenario(deleted="ended"),
    "late_publish": Scenario(late_publish=True),
    "stuck": Scenario(stuck=True),
}


@dataclass(slots=True)
class Unfolded:
    """A scenario with its times."""

    group: Timeline
    stages: list[Timeline] = field(default_factory=list)
    late: Timeline | None = None
    deleted_at: datetime | None = None


def unfold(scenario: Scenario, plans: list[StagePlan], begin: datetime, pace: float, random: Random) -> Unfolded:
    """The timelines of the group and of each planned stage, in order. `plans` of a validation failure stay at Created."""

    def drawn(bounds: tuple[float, float]) -> timedelta:
        return timedelta(milliseconds=round(random.uniform(*bounds) * pace * 1000))

    group = Timeline([Change(begin, scenario.begins_as)])
    created = begin + drawn((0.1, 0.15))
    started = begin + drawn(scenario.queued) + drawn((0.2, 0.3))
    if scenario.fails == "validation":
        group.set("Failed", started)
        return Unfolded(group, [Timeline([Change(created, "Failed")]) for _ in plans])
    stages = _stages(scenario, plans, created, started, [drawn(scenario.stage) for _ in plans])
    end = max(stage.changes[-1].at for stage in stages) + drawn((0.2, 1.0))
    group.changes.append(Change(started, "InProgress"))
    group.changes += _odd(scenario, started, end)
    if not scenario.stuck:
        group.changes.append(Change(end, "Failed" if _failed(stages) else "Complete"))
    unfolded = Unfolded(group, stages)
    _interrupt(unfolded, scenario, started, end)
    if scenario.late_publish:
        unfolded.late = Timeline(
            [Change(end + drawn((30.0, 60.0)), "InProgress"), Change(end + drawn((90.0, 120.0)), "Complete")]
        )
    return unfolded


def _stages(
    scenario: Scenario, plans: list[StagePlan], created: datetime, started: datetime, lasts: list[timedelta]
) -> list[Timeline]:
    doomed = _doomed(scenario, plans)
    done: list[Timeline] = []
    for position, plan in enumerate(plans):
        before = [done[index].changes[-1] for index in plan.after]
        begins = max([started, *(change.at for change in before)])
        if any(change.status != "Complete" for change in before):
            done.append(Timeline([Change(created, "Created"), Change(begins, "Canceled")]))
            continue
        ends = "Failed" if position == doomed else "Complete"
        changes = [Change(created, "Created"), Change(begins, "InProgress"), Change(begins + lasts[position], ends)]
        done.append(Timeline(changes[:2] if scenario.stuck else changes))
    return done


def _doomed(scenario: Scenario, plans: list[StagePlan]) -> int | None:
    if scenario.fails == "first":
        return 0
    wrangle = next(position for position, plan in enumerate(plans) if plan.job_type == "wrangle")
    if scenario.fails == "wrangle":
        return wrangle
    if scenario.fails == "writing":
        return max((position for position, plan in enumerate(plans) if plan.writes is not None), default=wrangle)
    return None


def _failed(stages: list[Timeline]) -> bool:
    return any(stage.changes[-1].status == "Failed" for stage in stages)


def _odd(scenario: Scenario, started: datetime, end: datetime) -> list[Change]:
    if not scenario.odd:
        return []
    step = (end - started) / (len(scenario.odd) + 2)
    odd = [Change(started + step * (place + 1), status) for place, status in enumerate(scenario.odd)]
    return [*odd, Change(started + step * (len(scenario.odd) + 1), "InProgress")]


def _interrupt(unfolded: Unfolded, scenario: Scenario, started: datetime, end: datetime) -> None:
    begin = unfolded.group.changes[0].at
    if scenario.canceled == "queued":
        cancel(unfolded.group, unfolded.stages, begin + (started - begin) / 2)
    if scenario.canceled == "running":
        cancel(unfolded.group, unfolded.stages, started + (end - started) / 2)
    if scenario.deleted == "running":
        unfolded.deleted_at = started + (end - started) / 2
    if scenario.deleted == "ended":
        unfolded.deleted_at = end + (end - started)


def cancel(group: Timeline, stages: list[Timeline], at: datetime) -> bool:
    """Cancel the group and its open stages at this time. False, with nothing changed, when the group had ended."""
    return finish(group, stages, "Canceled", at)


def finish(group: Timeline, stages: list[Timeline], status: str, at: datetime) -> bool:
    """End the group and its open stages with this status now. False, with nothing changed, when it had ended."""
    now = group.at(at)
    if now is not None and now.status in TERMINAL:
        return False
    for stage in stages:
        if stage.changes[0].at > at:
            stage.changes = [Change(at, status)]
        elif (seen := stage.at(at)) is None or seen.status not in TERMINAL:
            stage.set(status, at)
    group.set(status, at)
    return True
