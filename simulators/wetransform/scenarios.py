"""What happens to a run of the wetransform simulator, as moves at times: made once when it starts, read against the clock."""

from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from random import Random

STEPS = (
    *("pending", "to_download", "downloading", "downloaded", "to_normalize", "normalizing", "normalized"),
    *("to_review", "reviewed", "to_parse", "parsing", "parsed", "to_select", "selected", "reusing"),
    *("to_import", "importing", "imported", "to_create", "creating", "created", "to_match", "matching", "matched"),
    *("to_transform", "transforming", "transformed", "to_submit", "submitting", "processed", "failed"),
)
"""The vendor's enumeration, in its order."""

QUEUED = frozenset({"pending", "to_download"})
BY_A_PERSON = frozenset({"to_review", "to_select"})
TERMINAL = frozenset({"processed", "failed"})
SUBMITTED = frozenset({"submitting", "processed"})

UNATTENDED = tuple(s for s in STEPS if s not in {"to_review", "reviewed", "to_select", "selected", "failed"})
"""The walk of a run that needs nobody: an earlier mapping is used again."""


class Scenario(StrEnum):
    STRAIGHT = "straight"
    """Every step that needs nobody."""
    FULL = "full"
    """Every step there is, a person's included, without a wait."""
    SKIPPING = "skipping"
    """Most steps are left out."""
    INSTANT = "instant"
    """Queued, then processed."""
    REVIEW = "review"
    """Waits in `to_review` for most of its duration (or for a control call)."""
    SELECT = "select"
    """Waits in `to_select` for most of its duration (or for a control call)."""
    MATCH = "match"
    """Waits in `to_match` for most of its duration: a person has to map columns."""
    BACKWARDS = "backwards"
    """Comes as far as `matching`, then a reviewer sends it back to `to_select`."""
    STUCK = "stuck"
    """Never leaves `at_step`."""
    FAILING = "failing"
    """Fails after `at_step`."""
    VANISHING = "vanishing"
    """Cannot be read any more after `at_step`."""
    BLINKING = "blinking"
    """Cannot be read for one step in the middle, then goes on."""
    UNKNOWN_STEP = "unknown_step"
    """Shows a step in the middle that is not in the vendor's enumeration."""
    NULL_STEP = "null_step"
    """Shows no step in the middle."""
    REOPENED = "reopened"
    """Is processed, and later shows `to_select` again."""
    UNTRACKED = "untracked"
    """A start that is answered without an automation id: no run comes of it."""


GONE = "(gone)"
"""In place of a step: the run cannot be read."""

NOVEL_STEP = "recalibrating"

_DETOURS: dict[Scenario, tuple[str, list[str | None]]] = {
    Scenario.REVIEW: ("to_parse", ["to_review", "reviewed"]),
    Scenario.SELECT: ("reusing", ["to_select", "selected"]),
    Scenario.BLINKING: ("to_import", [GONE]),
    Scenario.UNKNOWN_STEP: ("to_import", [NOVEL_STEP]),
    Scenario.NULL_STEP: ("to_import", [None]),
}
"""What is walked before a step of the straight walk."""
_ENDS: dict[Scenario, list[str]] = {Scenario.STUCK: [], Scenario.FAILING: ["failed"], Scenario.VANISHING: [GONE]}
_LINGERS_AT = {
    Scenario.REVIEW: "to_review",
    Scenario.SELECT: "to_select",
    Scenario.MATCH: "to_match",
    Scenario.REOPENED: "processed",
}
_WAITING_SHARE = 8
"""How many times an ordinary step's share such a step takes."""


@dataclass(frozen=True, slots=True)
class Plan:
    """How a run shall go. `duration` is the time from its creation to its last move; `at_step` is for the scenarios that name it."""

    scenario: Scenario = Scenario.STRAIGHT
    duration: timedelta = timedelta(seconds=20)
    at_step: str = "matching"


@dataclass(frozen=True, slots=True)
class Move:
    """From `at` on the run shows `step` (None: a null, GONE: it cannot be read)."""

    at: datetime
    step: str | None


def moves(plan: Plan, created_at: datetime, rng: Random) -> list[Move]:
    """The moves of a run made at `created_at`, in order of time, the first at `created_at` itself."""
    walk = _walk(plan, rng)
    lingers_at = _LINGERS_AT.get(plan.scenario)
    shares = [_WAITING_SHARE if step == lingers_at else rng.uniform(0.5, 1.5) for step in walk[:-1]]
    whole, passed, made = sum(shares), 0.0, [Move(created_at, walk[0])]
    for step, share in zip(walk[1:], shares, strict=True):
        passed += share
        made.append(Move(created_at + plan.duration * (passed / whole), step))
    return made


def rest_of_walk(step: str | None) -> tuple[str, ...]:
    """The steps that still lie before a run at `step` once nothing holds it up."""
    if step is None or step not in STEPS:
        return UNATTENDED[1:]
    place = STEPS.index(step)
    return tuple(s for s in UNATTENDED if STEPS.index(s) > place)


def _walk(plan: Plan, rng: Random) -> list[str | None]:
    straight: list[str | None] = list(UNATTENDED)
    match plan.scenario:
        case Scenario.FULL:
            return [s for s in STEPS if s != "failed"]
        case Scenario.SKIPPING:
            return ["pending", *(s for s in straight[1:-1] if rng.random() < 0.2), "processed"]
        case Scenario.INSTANT:
            return ["pending", "processed"]
        case Scenario.BACKWARDS:
            return [*_up_to("matching"), "to_select", "selected", *straight[straight.index("to_import") :]]
        case Scenario.REOPENED:
            return [*straight, "to_select"]
        case Scenario.STUCK | Scenario.FAILING | Scenario.VANISHING:
            return [*_up_to(plan.at_step), *_ENDS[plan.scenario]]
        case _ if plan.scenario in _DETOURS:
            place, detour = _DETOURS[plan.scenario]
            return [*straight[: straight.index(place)], *detour, *straight[straight.index(place) :]]
        case _:
            return straight


def _up_to(step: str) -> list[str | None]:
    """The unattended walk as far as `step`, which itself may be one of a person's."""
    place = STEPS.index(step)
    before: list[str | None] = [s for s in UNATTENDED if STEPS.index(s) < place]
    return [*before, step]
