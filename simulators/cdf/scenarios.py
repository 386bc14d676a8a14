"""How a simulated job goes, set beforehand and looked up lazily: nothing runs, the time of the question decides."""

import random
from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from enum import StrEnum
from typing import Any

CANCELLED_TEXT = "Job cancelled by the user."
"""What CDF writes into `error` of a job that was cancelled (integration tests of cognite-sdk 8.22)."""


class Ending(StrEnum):
    COMPLETED = "completed"
    FAILED = "failed"
    CANCELLED = "cancelled"
    NEVER_STARTED = "never_started"
    """Fails at the moment it should have started; there is no `startedTime`."""


@dataclass(frozen=True, slots=True)
class Scenario:
    """One job's life; all times are seconds.

    `starts_after` counts from the job's creation (None: it stays Created), `runs_for` from its start (None: it runs
    for ever), `vanishes_after` from its creation. `shown_as` replaces "Running", `ends_as` the last status.
    `heartbeat_stops_after` freezes `lastSeenTime`; `finished_early` makes `finishedTime` lie that long before
    `startedTime`. `metrics` are the final totals; None makes some up.
    """

    starts_after: float | None = 1.0
    runs_for: float | None = 5.0
    ends: Ending = Ending.COMPLETED
    error: str = "Request with id 7f2c to https://api.cognitedata.com failed with status 400: Invalid row."
    vanishes_after: float | None = None
    shown_as: str | None = None
    ends_as: str | None = None
    heartbeat_stops_after: float | None = None
    finished_early: float = 0.0
    metrics: Mapping[str, int] | None = None

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> "Scenario":
        """Raises ValueError for a key that a scenario does not have."""
        if unknown := set(data) - {known.name for known in fields(cls)}:
            raise ValueError(f"a scenario has no {', '.join(sorted(unknown))}")
        return cls(**{**data, "ends": Ending(data.get("ends", Ending.COMPLETED))})


@dataclass(frozen=True, slots=True)
class Snapshot:
    """A job's changing fields at one moment; times are epoch milliseconds."""

    status: str | None
    started: int | None = None
    finished: int | None = None
    last_seen: int | None = None
    error: str | None = None
    progress: float = 0.0
    extra: dict[str, Any] = field(default_factory=dict)

    @property
    def is_open(self) -> bool:
        return self.status not in {"Completed", "Failed"}


def has_vanished(scenario: Scenario, created: int, now: int) -> bool:
    return scenario.vanishes_after is not None and now >= created + _ms(scenario.vanishes_after)


def snapshot(scenario: Scenario, created: int, now: int, cancelled: int | None = None) -> Snapshot:
    """The job at `now`; `cancelled` is the time somebody cancelled it, if anybody did."""
    if cancelled is not None and cancelled <= now:
        return _cancelled(snapshot(scenario, created, cancelled - 1), cancelled)
    if scenario.starts_after is None:
        return Snapshot("Created")
    started = created + _ms(scenario.starts_after)
    if now < started:
        return Snapshot("Created")
    if scenario.ends is Ending.NEVER_STARTED:
        return Snapshot(scenario.ends_as or "Failed", finished=started, error=scenario.error)
    ended = None if scenario.runs_for is None else started + _ms(scenario.runs_for)
    if ended is None or now < ended:
        return _running(scenario, started, now)
    return _ended(scenario, started, ended)


def canonical(view: Snapshot) -> str:
    """Our word for a status: queued, running, succeeded, failed, canceled or unknown."""
    if view.status == "Failed":
        return "canceled" if view.error == CANCELLED_TEXT else "failed"
    return {"Created": "queued", "Running": "running", "Completed": "succeeded"}.get(view.status or "", "unknown")


def varied_scenario(rng: random.Random) -> Scenario:
    """A scenario of any kind that ends within some seconds, for demonstrations and end-to-end tests."""
    kind = rng.choices(
        ["plain", "failed", "cancelled", "brief", "never_started", "early"], weights=[50, 15, 10, 15, 6, 4]
    )[0]
    usual = Scenario(starts_after=rng.uniform(0.2, 1.5), runs_for=rng.uniform(1.0, 6.0))
    return {
        "plain": usual,
        "failed": replace(usual, ends=Ending.FAILED, error="cannot resolve '`key`' given input columns: [id, name]"),
        "cancelled": replace(usual, ends=Ending.CANCELLED),
        "brief": replace(usual, starts_after=0.01, runs_for=rng.uniform(0.02, 0.2)),
        "never_started": replace(usual, ends=Ending.NEVER_STARTED, error="Table or view not found: sap.pumps"),
        "early": replace(usual, finished_early=0.4),
    }[kind]


def _running(scenario: Scenario, started: int, now: int) -> Snapshot:
    seen = now if scenario.heartbeat_stops_after is None else min(now, started + _ms(scenario.heartbeat_stops_after))
    length = _ms(scenario.runs_for) if scenario.runs_for else 60_000
    return Snapshot(scenario.shown_as or "Running", started, None, seen, progress=min(1.0, (now - started) / length))


def _ended(scenario: Scenario, started: int, ended: int) -> Snapshot:
    finished = started - _ms(scenario.finished_early) if scenario.finished_early else ended
    usual = "Completed" if scenario.ends is Ending.COMPLETED else "Failed"
    errors = {Ending.COMPLETED: None, Ending.CANCELLED: CANCELLED_TEXT}
    return Snapshot(scenario.ends_as or usual, started, finished, ended, errors.get(scenario.ends, scenario.error), 1.0)


def _cancelled(before: Snapshot, at: int) -> Snapshot:
    if not before.is_open:
        return before
    return replace(before, status="Failed", finished=at, error=CANCELLED_TEXT)


def _ms(seconds: float) -> int:
    return round(seconds * 1000)
