"""One page of a poll as steps in the lives of its runs: pure."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from collector.clock import to_ms
from collector.lifecycle import DERIVED, Step, VanishedPolicy, begin, missed, observe
from collector.model import Observation, Parent, Poll, Run, Skip, SkipKind

NAMED = 5


@dataclass(frozen=True, slots=True)
class Policy:
    """What the configuration says about the lives of a source's runs."""

    enrich_within: timedelta
    on_vanished: VanishedPolicy


@dataclass(frozen=True, slots=True)
class Decided:
    """Steps that change something, parents before their children, and everything that was left out."""

    steps: tuple[Step, ...]
    skips: tuple[Skip, ...]


def decide(known: Mapping[str, Run], page: Poll, at: datetime, policy: Policy) -> Decided:
    """Several observations of one run in a page are taken in one after the other, in the page's order. `known` holds,
    beside the runs of the page, their parents and their open children: a parent begins before its children, and does
    not end at once as long as there are any.
    """
    current = dict(known)
    steps: list[Step] = []
    parents = _parents_of_open(known.values()) | _parents_of(page)
    for observed in _parents_first(page.observations, known):
        seen = by_known_ids(observed, current)
        for above in _not_begun(current, seen.parent):
            step = begin(above)
            steps.append(step)
            current[above.key] = step.run
        reported = replace(seen, settled=False) if seen.key in parents else seen
        step = observe(current.get(seen.key), reported, enrich_within=policy.enrich_within)
        steps.append(step)
        current[seen.key] = step.run
    waits = _parents_of_open(current.values()) if policy.on_vanished is VanishedPolicy.ABORT else set()
    for key in page.missing:
        if key in current and key not in waits:
            step = missed(current[key], at, policy.on_vanished)
            steps.append(step)
            current[key] = step.run
    skips = (*page.skips, *_unread(page.unread), *(skip for step in steps for skip in step.skips))
    return Decided(_changes(steps, known), skips)


def _changes(steps: Iterable[Step], known: Mapping[str, Run]) -> tuple[Step, ...]:
    return tuple(step for step in steps if step.transitions or step.run != known.get(step.run.key))


def turns(ended: Mapping[str, Run], children: Iterable[Run], at: datetime) -> dict[str, Run]:
    """Those of the runs that ended which may have their terminal events now, all at once.

    The end of a parent goes out with those of its children or after them: it waits for children that ended and are not
    among these, and until its deadline for the ones that go on. `children` are all that have no terminal event yet.
    """
    turn, children = dict(ended), list(children)
    while early := {
        above for child in children if (above := _above(child.parent)) and _holds_back(child, above, turn, at)
    }:
        turn = {key: run for key, run in turn.items() if key not in early}
    return turn


def _holds_back(child: Run, above: str, turn: Mapping[str, Run], at: datetime) -> bool:
    if above not in turn or child.key in turn:
        return False
    until = turn[above].enrich_until
    return child.state.terminal or (until is not None and to_ms(at) < to_ms(until))


def by_known_ids(seen: Observation, known: Mapping[str, Run]) -> Observation:
    """A run and its parent keep the ids that they have, where ids are derived and are now derived from another address."""
    run, above = known.get(seen.key), known.get(_above(seen.parent) or "")
    if run is not None and run.run_id.version == seen.run_id.version == DERIVED:
        seen = replace(seen, run_id=run.run_id)
    if above is not None and seen.parent is not None and seen.parent.run_id.version == DERIVED:
        seen = replace(seen, parent=replace(seen.parent, run_id=above.run_id))
    return seen


def _unread(keys: Sequence[str]) -> tuple[Skip, ...]:
    if not keys:
        return ()
    some = ", ".join(keys[:NAMED]) + (" and others" if len(keys) > NAMED else "")
    cause = f"{len(keys)} were not read this time and are due again: {some}"
    return (Skip(SkipKind.UNREAD, "open runs", cause),)


def _parents_of_open(runs: Iterable[Run]) -> set[str]:
    return {key for run in runs if run.open and (key := _above(run.parent)) is not None}


def _parents_of(page: Poll) -> set[str]:
    return {key for seen in page.observations if (key := _above(seen.parent))}


def _not_begun(runs: Mapping[str, Run], parent: Parent | None) -> list[Run]:
    """The ancestors that were seen to have ended and have no START yet, the highest first."""
    found: list[Run] = []
    while parent is not None and (run := runs.get(parent.key or "")) is not None and run not in found:
        found.append(run)
        parent = run.parent
    return [run for run in reversed(found) if begin(run).transitions]


def _above(parent: Parent | None) -> str | None:
    return parent.key if parent is not None else None


def _parents_first(observations: Iterable[Observation], known: Mapping[str, Run]) -> list[Observation]:
    """By the number of ancestors, as far as they are seen or known; of one run, and of one generation, as given. A
    circle of parents has an end like any other family: each member has the others as ancestors.
    """
    observations = list(observations)
    above = {seen.key: _above(seen.parent) for seen in observations}
    above |= {run.key: _above(run.parent) for run in known.values()}
    return sorted(observations, key=lambda seen: _ancestors(seen.key, above))


def _ancestors(key: str, above: Mapping[str, str | None]) -> int:
    passed = {key}
    while (parent := above.get(key)) is not None and parent not in passed:
        passed.add(parent)
        key = parent
    return len(passed)
