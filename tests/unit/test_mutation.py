"""What `make mutate` tries, by which tests, and what it knows of those that survive."""

import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.mutation import mutants
from tests.mutation.__main__ import EXPLAINED, Score, drawn, table
from tests.mutation.areas import AREAS, asked, modules
from tests.mutation.mutants import ROOT, Session, session

SOURCE = """\
@dataclass(frozen=True)
class Bounds:
    low: int | None

    def holds(self, value: int | None, *more: int) -> bool | None:
        return value is None or value > self.low + 1
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


def test_reasons_are_for_lines_that_are_still_there() -> None:
    for each in tomllib.loads(EXPLAINED.read_text(encoding="utf-8"))["survivor"]:
        path = each["place"].partition(":")[0]
        lines = [line.strip() for line in (ROOT / path).read_text(encoding="utf-8").splitlines()]
        assert each["was"] in lines, f"{each['place']} is another line now: try its mutants again"
        assert each["was"] not in each["mutants"]
        assert each["reason"]


def test_the_score_counts_what_was_tried() -> None:
    score = Score(there=400)
    score.results.update(killed=7, **{"not imported": 1, "not ended": 1, "survived": 1})
    assert table({"x.py": score}).splitlines()[-1] == "| `x.py` | 400 | 10 | 9 | 0 | 0 | 90 % |"
