"""One page of a poll as steps in the lives of its runs: pure."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta

from collector.lifecycle import Step, VanishedPolicy, missed, observe
from collector.model import Observation, Poll, Run, Skip


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
    """Several observations of one run in a page are taken in one after the other, in the page's order."""
    current = dict(known)
    steps: list[Step] = []
    for seen in _parents_first(page.observations):
        step = observe(current.get(seen.key), seen, enrich_within=policy.enrich_within)
        steps.append(step)
        current[seen.key] = step.run
    for key in page.missing:
        if key in current:
            step = missed(current[key], at, policy.on_vanished)
            steps.append(step)
            current[key] = step.run
    skips = (*page.skips, *(skip for step in steps for skip in step.skips))
    changed = tuple(step for step in steps if step.transitions or step.run != known.get(step.run.key))
    return Decided(changed, skips)


def _parents_first(observations: Iterable[Observation]) -> list[Observation]:
    observations = list(observations)
    parents = {seen.parent.key for seen in observations if seen.parent is not None and seen.parent.key is not None}
    return sorted(observations, key=lambda seen: seen.key not in parents)
