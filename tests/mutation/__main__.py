"""`make mutate`: breaks the code in many small ways, one at a time, and looks whether a test notices.

PATHS="collector/redaction.py collector/polling" limits it to these modules and folders, COUNT=200 to so many mutants of each area, drawn by
SEED=0; COUNT=all takes all. What was tried stays in .cache/mutation until the module changes: the command goes on where it was ended. AGAIN=1 tries
survivors again, for a test that is new. Exits with 1 where less than 90 % were killed, or a survivor has no reason in survivors.toml, or a reason
is for a line that is not there any more.
"""

import argparse
import os
import sys
import time
import traceback
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from functools import partial

from cosmic_ray.work_item import WorkItem

from tests.mutation import survivors
from tests.mutation.areas import AREAS, asked, modules
from tests.mutation.mutants import ROOT, Change, Mutant, Session, session
from tests.mutation.survivors import outdated, reason_of
from tests.mutation.trials import Patience, Reach, Trial, load, reach, trial

SURVIVED = "survived"
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
        score, done = Score(len(there)), 0
        load(list(dict.fromkeys(test for owner in sessions for test in asked(owner.path))))
        for one in sessions:
            mine = [item for owner, item in chosen if owner is one]
            if mine:
                print(f"{path}: {done} of {len(chosen)} tried, now {len(mine)} of {one.path}", flush=True)
            done += len(mine)
            for change, outcome in tried(one, mine):
                score.results[outcome] += 1
                if outcome == SURVIVED:
                    score.survivors.append(change)
    return score


def drawn(there: list[tuple[Session, WorkItem]], seed: int, count: int) -> list[tuple[Session, WorkItem]]:
    """So many, in the order of the source. Those of a smaller count are among those of a larger one."""
    ranked = sorted(range(len(there)), key=lambda index: there[index][0].rank(there[index][1], seed))
    return [there[index] for index in sorted(ranked[:count])]


def tried(one: Session, items: Iterable[WorkItem]) -> Iterator[tuple[Change, str]]:
    """Each as a change, with what became of it, now or before; those that are not Python are left out."""
    mutants = [mutant for item in items if (mutant := one.mutant(item))]
    known, again = one.outcomes(), "AGAIN" in os.environ
    left = [each for each in mutants if each.id not in known or (again and known[each.id] == SURVIVED)]
    if left:
        tests = asked(one.path)
        reached = reach(tests, one.path)
        _in_another_process(partial(try_all, one.path, tests, left, reached))
        known = one.outcomes()
    yield from ((each.change, known[each.id]) for each in mutants)


def _in_another_process(work: Callable[[], None]) -> None:
    pid = os.fork()
    if pid == 0:
        code = 1
        try:
            work()
            code = 0
        except SystemExit as ended:
            print(ended, file=sys.stderr)
        except BaseException:  # noqa: BLE001 - nothing of the parent may run in this process
            traceback.print_exc()
        finally:
            sys.stdout.flush()
            os._exit(code)
    if os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]):
        raise SystemExit(1)


def try_all(path: str, tests: Sequence[str], mutants: Sequence[Mutant], reached: Reach) -> None:
    load(tests, path)
    with session(path) as one:
        for mutant in mutants:
            result = tried_now(mutant, tests, reached)
            outcome = SURVIVED if result.passed else _HOW.get(result.how, "killed")
            one.note(mutant.item, outcome, killed=not result.passed)
            report(mutant.change, outcome, result)


def tried_now(mutant: Mutant, tests: Sequence[str], reached: Reach) -> Trial:
    """By the tests that call its function, within twice what they take without a mutant, and some more: many mutants are
    loops without an end.
    """
    chosen = reached.of(mutant.change.function)
    if not chosen:
        return Trial(passed=True, how="no test calls it", cpu=0, seconds=0)
    cpu = sum(reached.seconds[test] for test in chosen)
    return trial(tests, mutant, Patience(4 + int(2 * cpu), 30 + int(10 * cpu)), chosen)


def report(change: Change, outcome: str, result: Trial) -> None:
    begun = time.strftime("%H:%M:%S")
    print(
        f"{begun} {outcome} {result.cpu:.1f} s {change.path}:{change.line} {change.now} [{result.how[:60]}]", flush=True
    )


_HOW = {"not even imported": "not imported", "not ended in time": "not ended"}


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
