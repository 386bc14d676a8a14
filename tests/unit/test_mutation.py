"""What `make mutate` tries, by which tests, and what it knows of those that survive."""

import ast
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from tests.mutation import mutants, survivors, trials
from tests.mutation.__main__ import Score, complaints, drawn, table
from tests.mutation.areas import AREAS, asked, modules
from tests.mutation.mutants import ROOT, Change, Session, session
from tests.mutation.survivors import Reason, outdated, reason_of
from tests.mutation.trials import SURVIVED, Trial, enough, statement, tried

SOURCE = """\
@dataclass(frozen=True)
class Bounds:
    low: int | None

    def holds(self, value: int | None, *more: int) -> bool | None:
        return value is None or value > self.low + 1

Mark = tuple[int | None, str]
"""


@pytest.fixture
def source(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.setattr(mutants, "ROOT", tmp_path)
    monkeypatch.setattr(mutants, "KEPT", tmp_path / "kept")
    monkeypatch.chdir(tmp_path)
    (tmp_path / "bounds.py").write_text(SOURCE)
    return "bounds.py"


def made(one: Session) -> Iterator[str]:
    for item in one.items():
        mutant = one.mutant(item)
        assert mutant is not None
        yield mutant.change.now


def test_mutants_change_what_is_done_and_no_types(source: str) -> None:
    with session(source) as one:
        found = set(made(one))
    assert {"return value is None and value > self.low + 1", "return value is None or value >= self.low + 1"} <= found
    assert {"return value is None or value > self.low - 1", "return value is None or value > self.low + 2"} <= found
    assert all(each.startswith(("return", "class")) for each in found), found
    assert not any(" == None" in each for each in found), "the same for None"


def test_what_became_of_a_mutant_is_kept_until_the_module_changes(source: str) -> None:
    with session(source) as one:
        item = one.items()[0]
        one.note(item, "killed", killed=True)
    with session(source) as again:
        assert again.outcomes() == {item.job_id: "killed"}
    Path(source).write_text(f"{SOURCE}\n")
    with session(source) as changed:
        assert changed.outcomes() == {}


MODULE = f"""\
from dataclasses import dataclass

LIMIT = 7

{SOURCE}
def unbounded() -> bool:
    return not 1

def count() -> int:
    found = 0
    while found < LIMIT:
        found += 1
    return found
"""
TESTS = """\
from bounds import LIMIT, Bounds, count, unbounded

def test_one():
    assert Bounds(LIMIT).holds(9)

def test_other():
    assert not Bounds(7).holds(8)

def test_limit():
    assert LIMIT == 7

def test_count():
    assert count() == LIMIT

def test_failing():
    assert unbounded()
"""


@pytest.fixture
def tried_mutants(source: str, monkeypatch: pytest.MonkeyPatch) -> dict[str, Trial]:
    """Those of `MODULE`, by their line."""
    monkeypatch.setattr(trials, "ROOT", Path.cwd())
    monkeypatch.setattr(trials, "_LEAST_CPU", 0.3)
    monkeypatch.setattr(trials, "_migrate_once", lambda: None)
    Path(source).write_text(MODULE)
    Path("test_bounds.py").write_text(TESTS)
    Path("pytest.ini").write_text(
        "[pytest]\naddopts = -p no:schemathesis\nasyncio_default_fixture_loop_scope = function\n"
    )
    chosen = ("LIMIT = 8", "return value is None or value > self.low - 1", "return  1", "found += 0", "return not 2")
    with session(source) as one:
        found = [mutant for item in one.items() if (mutant := one.mutant(item)) and mutant.change.now in chosen]
    return {mutant.change.now: trial for mutant, trial in tried(found, lambda _: ["test_bounds.py"])}


def test_mutants_are_tried_by_tests_that_reach_them(tried_mutants: dict[str, Trial]) -> None:
    became = {now: (trial.outcome, trial.how.removeprefix("test_bounds.py::")) for now, trial in tried_mutants.items()}
    assert became == {
        "LIMIT = 8": ("killed", "test_limit"),
        "return value is None or value > self.low - 1": ("killed", "test_other"),
        "return  1": (SURVIVED, "0 tests"),
        "return not 2": (SURVIVED, "0 tests"),
        "found += 0": ("not ended", "ended by SIGPROF"),
    }


def test_tests_are_taken_up_to_a_limit_and_one_in_any_case(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(trials, "ENOUGH", 6.0)
    seconds = {"a::slow": 9.0, "a::middling": 2.0, "a::quick": 1.0, "b::quick": 0.5, "b::other": 3.0, "c::quick": 0.1}
    assert [*enough(seconds, ["a", "b"])] == ["a::quick", "a::middling"], "those of the module come first"
    assert [*enough({name: seconds[name] for name in seconds.keys() - {"a::slow"}}, ["b", "a"])] == [
        *("b::quick", "b::other", "a::quick"),
    ]
    assert [*enough({"a::slow": 9.0}, ["a"])] == ["a::slow"]


def test_a_statement_is_without_those_within_it() -> None:
    text = """\
@cache
def holds(
    value: int,
) -> int:
    if (
        value
    ):
        return sum(
            (value, 1)
        )
    try:
        pass
    except ValueError:
        raise
"""
    tree = ast.parse(text)
    spans = [[*statement(tree, line)] for line in range(1, 15)]
    assert spans[:4] == [[1, 2, 3, 4]] * 4
    assert spans[4:7] == [[5, 6, 7]] * 3
    assert spans[7:10] == [[8, 9, 10]] * 3
    assert spans[10:] == [[11], [12], [13], [14]]


def test_a_smaller_sample_is_part_of_a_larger_one(source: str) -> None:
    with session(source) as one:
        there = [(one, item) for item in one.items()]
        few, more, other = ({item.job_id for _, item in drawn(there, *how)} for how in ((7, 3), (7, 9), (8, 9)))
    assert (len(few), len(more)) == (3, 9)
    assert few < more
    assert more != other


def test_each_module_has_tests_that_exist() -> None:
    for path in (path for area in AREAS for path in modules(area)):
        assert asked(path), path
        assert [each for each in asked(path) if not (ROOT / each).exists()] == [], path


def test_a_sample_stays_where_other_lines_change(source: str) -> None:
    def sample() -> set[str]:
        with session(source) as one:
            return {one.rank(item, 3).hex() for _, item in drawn([(one, item) for item in one.items()], 3, 8)}

    before = sample()
    Path(source).write_text(f"BEFORE = 7\n\n\n{SOURCE}")
    assert len(sample() & before) >= 6, "a mutant of the new line may be among them"


def test_a_mutant_names_its_function(source: str) -> None:
    with session(source) as one:
        changes = [mutant.change for item in one.items() if (mutant := one.mutant(item))]
    assert {(each.function, each.line) for each in changes} == {("Bounds", 1), ("Bounds.holds", 6)}


def test_reasons_are_complete() -> None:
    for each in survivors.reasons():
        assert (ROOT / each.module).exists(), each
        assert each.was not in each.mutants
        assert each.mutants
        assert each.reason


SAME, MISSING = (
    Change("bounds.py", "Bounds.holds", line, "return value is None or value > self.low + 1", now)
    for line, now in ((6, "return value is None or value > self.low | 1"), (60, "return value is None or value > 7"))
)


@pytest.fixture
def explained(source: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """By a reason for one of two survivors, and one for a line that is not there."""
    known = Reason(SAME.path, SAME.function, SAME.was, (SAME.now,), "low is even", equivalent=True)
    gone = Reason(SAME.path, "Bounds.lacks", SAME.was, (SAME.now,), "low is even")
    monkeypatch.setattr(survivors, "reasons", lambda: (known, gone))
    monkeypatch.setattr(survivors, "ROOT", Path.cwd())


@pytest.mark.usefixtures("explained")
def test_a_reason_is_found_by_its_function_wherever_the_line_is() -> None:
    assert [each and each.reason for each in map(reason_of, (SAME, replace(SAME, line=70), MISSING))] == [
        *("low is even", "low is even"),
        None,
    ]
    assert reason_of(replace(SAME, function="Bounds.lacks2")) is None
    assert [each.function for each in outdated(["bounds.py"])] == ["Bounds.lacks"]
    assert outdated(["other.py"]) == []


@pytest.mark.usefixtures("explained")
def test_the_score_counts_what_was_tried_but_what_no_test_could_notice() -> None:
    score = Score(there=400, survivors=[SAME, MISSING])
    score.results.update(killed=6, **{"not imported": 1, "not ended": 1, "survived": 2})
    assert table({"x.py": score}).splitlines()[-1] == "| `x.py` | 400 | 10 | 8 | 1 | 1 | 89 % |"


@pytest.mark.usefixtures("explained")
def test_survivors_without_a_reason_and_reasons_without_a_line_and_low_scores_are_complained_of() -> None:
    score = Score(there=400, survivors=[SAME, MISSING])
    score.results.update(killed=8, survived=2)
    unexplained, gone, low = complaints({"bounds.py": score})
    assert "bounds.py:60 in Bounds.holds survived" in unexplained
    assert "this line no longer in Bounds.lacks" in gone
    assert low == "bounds.py: 89% were killed, 90% are required"
    score.results.update(killed=1)
    assert len([*complaints({"bounds.py": score})]) == 2, "90 % are enough"
