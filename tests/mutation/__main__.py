"""`make mutate`: breaks the code in many small ways, one at a time, and looks whether a test notices.

PATHS="collector/redaction.py collector/polling" limits it to these modules and folders, COUNT=200 to so many mutants of each area, drawn by
SEED=0; COUNT=all takes all. What was tried stays in .cache/mutation until the module changes: the command goes on where it was ended. AGAIN=1 tries
survivors without a reason again, for a test that is new. Exits with 1 where less than 90 % were killed, or a survivor has no reason in survivors.toml, or a reason
is for a line that is not there any more.
"""

import argparse
import os
import sys
import time
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field

from cosmic_ray.work_item import WorkItem

from tests.mutation import survivors
from tests.mutation.areas import AREAS, asked, modules
from tests.mutation.mutants import ROOT, Change, Mutant, Session, session
from tests.mutation.survivors import outdated, reason_of
from tests.mutation.trials import SURVIVED, Trial, tried

REQUIRED = 0.9


@dataclass(slots=True)
class Score:
    """Of one area: how many mutants there are, and what became of those that were tried."""

    there: int
    results: Counter[str] = field(default_factory=Counter)
    survivors: list[Change] = field(default_factory=list)

    @property
    def killed(self) -> int:
        return self.results.total() - self.results[SURVIVED]

    @property
    def equivalent(self) -> int:
        known = map(reason_of, self.survivors)
        return sum(1 for each in known if each is not None and each.equivalent)

    @property
    def share(self) -> float | None:
        """Killed, of those that a test could notice."""
        noticeable = self.results.total() - self.equivalent
        return self.killed / noticeable if noticeable else None


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
    sys.exit(bool([*complaints(scores)]))


def complaints(scores: dict[str, Score]) -> Iterator[str]:
    """Each is printed: survivors without a reason, reasons without their line, and areas of which too few were killed."""
    for each in (each for score in scores.values() for each in score.survivors if reason_of(each) is None):
        yield _shown(
            f"{each.path}:{each.line} in {each.function or 'the module'} survived, and has no reason in {survivors.FILE.name}:\n-   {each.was}\n+   {each.now}"
        )
    for reason in outdated([module for path in scores for module in modules(path)]):
        yield _shown(
            f"{reason.module} has this line no longer in {reason.function or 'the module'}; take its reason out of {survivors.FILE.name}:\n    {reason.was}"
        )
    for path, score in scores.items():
        if score.share is not None and score.share < REQUIRED:
            yield _shown(f"{path}: {score.share:.0%} were killed, {REQUIRED:.0%} are required")


def _shown(complaint: str) -> str:
    print(f"\n{complaint}")
    return complaint


def area_score(path: str, seed: int, count: str) -> Score:
    with ExitStack() as stack:
        sessions = [stack.enter_context(session(each)) for each in modules(path)]
        there = [(one, item) for one in sessions for item in one.items()]
        chosen = there if count == "all" else drawn(there, seed, int(count))
        mutants = [(one, mutant) for one, item in chosen if (mutant := one.mutant(item))]
        try_all(path, mutants)
        score, outcomes = Score(len(there)), known(sessions)
    for _, mutant in mutants:
        score.results[outcomes[mutant.id]] += 1
        if outcomes[mutant.id] == SURVIVED:
            score.survivors.append(mutant.change)
    return score


def drawn(there: list[tuple[Session, WorkItem]], seed: int, count: int) -> list[tuple[Session, WorkItem]]:
    """So many, in the order of the source. Those of a smaller count are among those of a larger one."""
    ranked = sorted(range(len(there)), key=lambda index: there[index][0].rank(there[index][1], seed))
    return [there[index] for index in sorted(ranked[:count])]


def try_all(path: str, mutants: Sequence[tuple[Session, Mutant]]) -> None:
    """Those that were not tried before; with AGAIN, those that survived without a reason, too."""
    owners = {mutant.id: one for one, mutant in mutants}
    again, outcomes = "AGAIN" in os.environ, known(owners.values())
    unexplained = {
        each.id
        for _, each in (mutants if again else ())
        if outcomes.get(each.id) == SURVIVED and reason_of(each.change) is None
    }
    left = [each for _, each in mutants if each.id not in outcomes or each.id in unexplained]
    done = len(mutants) - len(left)
    print(f"{path}: {done} of {len(mutants)} were tried before", flush=True)
    for number, (mutant, result) in enumerate(tried(left, asked) if left else (), done + 1):
        owners[mutant.id].note(mutant.item, result.outcome, killed=result.outcome != SURVIVED)
        print(f"{time.strftime('%H:%M:%S')} {number} {shown(mutant.change, result)}", flush=True)


def known(sessions: Iterable[Session]) -> dict[str, str]:
    return {job: outcome for one in set(sessions) for job, outcome in one.outcomes().items()}


def shown(change: Change, result: Trial) -> str:
    return f"{result.outcome} {result.cpu:.1f} s {change.path}:{change.line} {change.now} [{result.how}]"


def table(scores: dict[str, Score]) -> str:
    lines = [
        "| code | mutants | tried | killed | equivalent | others | killed of those that are not equivalent |",
        "|---|---|---|---|---|---|---|",
    ]
    for path, score in scores.items():
        others = len(score.survivors) - score.equivalent
        share = "" if score.share is None else f"{100 * score.share:.0f} %"
        counts = score.there, score.results.total(), score.killed, score.equivalent, others
        lines.append(f"| `{path}` | {' | '.join(map(str, counts))} | {share} |")
    return "\n".join(lines)


if __name__ == "__main__":
    main()
