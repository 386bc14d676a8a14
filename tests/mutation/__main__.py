"""`make mutate`: breaks the code in many small ways, one at a time, and looks whether a test notices.

PATHS="collector/redaction.py collector/polling" limits it to these modules and folders, COUNT=200 to so many mutants of each area, drawn by
SEED=0; COUNT=all takes all. What was tried stays in .cache/mutation until the module changes: the command goes on where it was ended. AGAIN=1 tries
survivors again, for a test that is new.
"""

import argparse
import os
import random
import sys
import time
import tomllib
from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path

from cosmic_ray.work_item import WorkItem

from tests.mutation.areas import AREAS, asked, modules
from tests.mutation.mutants import ROOT, Change, Session, session
from tests.mutation.trials import Patience, Trial, load, trial

SURVIVED = "survived"
EXPLAINED = Path(__file__).with_name("survivors.toml")


@dataclass(slots=True)
class Score:
    """Of one area: how many mutants there are, and what became of those that were tried."""

    there: int
    results: Counter[str] = field(default_factory=Counter)
    survivors: list[Change] = field(default_factory=list)

    @property
    def killed(self) -> int:
        return self.results.total() - self.results[SURVIVED]


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="make mutate", description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.parse_args()
    paths = os.environ.get("PATHS", "").split() or [*AREAS]
    if strange := [each for each in paths if not each.startswith((*AREAS,)) or not (ROOT / each).exists()]:
        parser.error(f"{', '.join(strange)}: choose modules and folders in {', '.join(AREAS)}")
    seed, count = int(os.environ.get("SEED", "0")), os.environ.get("COUNT", "150")
    print(f"seed {seed}, {count} mutants of each", flush=True)
    scores = {path: area_score(path, seed, count) for path in paths}
    print(f"\n{table(scores)}")
    unexplained = [
        each
        for score in scores.values()
        for each in score.survivors
        if (each.path, each.was, each.now) not in explained()
    ]
    for each in unexplained:
        print(
            f"\n{each.path}:{each.line} survived, and has no reason in {EXPLAINED.name}:\n-   {each.was}\n+   {each.now}"
        )
    sys.exit(bool(unexplained))


def area_score(path: str, seed: int, count: str) -> Score:
    with ExitStack() as stack:
        sessions = [stack.enter_context(session(each)) for each in modules(path)]
        there = [(one, item) for one in sessions for item in one.items()]
        chosen = there if count == "all" else drawn(there, seed, int(count))
        score = Score(len(there))
        for one in sessions:
            for change, outcome in tried(one, [item for owner, item in chosen if owner is one]):
                score.results[outcome] += 1
                if outcome == SURVIVED:
                    score.survivors.append(change)
    return score


def drawn(there: list[tuple[Session, WorkItem]], seed: int, count: int) -> list[tuple[Session, WorkItem]]:
    """So many, in the order of the source. Those of a smaller count are among those of a larger one."""
    order = list(range(len(there)))
    random.Random(seed).shuffle(order)
    return [there[index] for index in sorted(order[:count])]


def tried(one: Session, items: Iterable[WorkItem]) -> Iterator[tuple[Change, str]]:
    """Each as a change, with what became of it, now or before; those that are not Python are left out."""
    known, tests = one.outcomes(), asked(one.path)
    patience: Patience | None = None
    for item in items:
        mutant = one.mutant(item)
        if mutant is None:
            continue
        outcome = known.get(item.job_id)
        if outcome is None or (outcome == SURVIVED and "AGAIN" in os.environ):
            patience = patience or with_the_code_as_it_is(tests)
            result = trial(tests, mutant, patience)
            outcome = SURVIVED if result.passed else _HOW.get(result.how, "killed")
            one.note(item, outcome, killed=not result.passed)
            report(mutant.change, outcome, result)
        yield mutant.change, outcome


def report(change: Change, outcome: str, result: Trial) -> None:
    begun = time.strftime("%H:%M:%S")
    print(
        f"{begun} {outcome} {result.cpu:.1f} s {change.path}:{change.line} {change.now} [{result.how[:60]}]", flush=True
    )


_HOW = {"not even imported": "not imported", "not ended in time": "not ended"}


def with_the_code_as_it_is(tests: list[str]) -> Patience:
    """Three times what the tests take without a mutant, and some more: many mutants are loops without an end."""
    load(tests)
    found = trial(tests, None, Patience(600, 600))
    if not found.passed:
        raise SystemExit(f"{' '.join(tests)} fail without any mutant: {found.how}")
    print(f"{' '.join(tests)}: {found.cpu:.1f} s of CPU", flush=True)
    return Patience(5 + int(3 * found.cpu), 30 + int(3 * found.seconds))


def explained() -> set[tuple[str, str, str]]:
    known = tomllib.loads(EXPLAINED.read_text(encoding="utf-8"))
    return {
        (each["place"].partition(":")[0], each["was"], now) for each in known["survivor"] for now in each["mutants"]
    }


def table(scores: dict[str, Score]) -> str:
    lines = ["| code | mutants | tried | killed | survived | with a reason | score |", "|---|---|---|---|---|---|---|"]
    reasons = explained()
    for path, score in scores.items():
        known = sum((each.path, each.was, each.now) in reasons for each in score.survivors)
        share = f"{100 * score.killed / score.results.total():.0f} %" if score.results.total() else ""
        lines.append(
            f"| `{path}` | {score.there} | {score.results.total()} | {score.killed} | {len(score.survivors)} | {known} | {share} |"
        )
    return "\n".join(lines)


if __name__ == "__main__":
    main()
