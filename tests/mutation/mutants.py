"""The mutants of a module, as cosmic-ray makes them, in a file of sessions that keeps what became of each."""

import ast
import hashlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from cosmic_ray.commands import init
from cosmic_ray.mutating import mutate_code
from cosmic_ray.plugins import get_operator
from cosmic_ray.work_db import WorkDB, use_db
from cosmic_ray.work_item import TestOutcome, WorkerOutcome, WorkItem, WorkResult

ROOT = Path(__file__).parents[2]
KEPT = ROOT / ".cache" / "mutation"
_SAME = ("_Is_Eq", "_IsNot_NotEq", "_Eq_Is", "_NotEq_IsNot")
"""Identity for equality and the other way round: nearly all of ours compare enums and None, for which they are the same."""


@dataclass(frozen=True, slots=True)
class Change:
    """A mutant as the first line that differs; `function` has it, with its class before it, or is empty."""

    path: str
    function: str
    line: int
    was: str
    now: str


@dataclass(frozen=True, slots=True)
class Mutant:
    """One of cosmic-ray's. `text` is the module's whole source with it, `was` the one without."""

    item: WorkItem
    was: str
    text: str

    @property
    def id(self) -> str:
        return str(self.item.job_id)

    @property
    def path(self) -> str:
        return str(self.item.mutations[0].module_path)

    @property
    def line(self) -> int:
        """The first that differs."""
        lines = zip(self.was.splitlines(), self.text.splitlines(), strict=False)
        return next(number for number, (one, other) in enumerate(lines, 1) if one != other)

    @property
    def change(self) -> Change:
        was, now = (text.splitlines()[self.line - 1].strip() for text in (self.was, self.text))
        return Change(self.path, function_at(ast.parse(self.was), self.line), self.line, was, now)


class Session:
    """What became of the mutants of one module. A module that changed gets a new one."""

    def __init__(self, path: str, work: WorkDB) -> None:
        self.path, self._work = path, work
        self._source = (ROOT / path).read_text(encoding="utf-8")
        self._lines = self._source.splitlines()
        tree = ast.parse(self._source)
        self._left_out, self._operators = _left_out(tree), _operators(tree)

    def items(self) -> list[WorkItem]:
        """Those that say something about the tests, in the order of the source."""
        mine = [item for item in self._work.work_items if self._is_of_use(item)]
        return sorted(mine, key=_order)

    def rank(self, item: WorkItem, seed: int) -> bytes:
        """Where a mutant comes in the order of this seed: it depends on its own line alone, so that samples stay when others change."""
        one = item.mutations[0]
        line = self._lines[one.start_pos[0] - 1]
        return hashlib.sha256(
            f"{seed} {self.path} {line} {one.start_pos[1]} {one.operator_name} {one.operator_args}".encode()
        ).digest()

    def mutant(self, item: WorkItem) -> Mutant | None:
        """None for one that is not Python: nobody could have written it."""
        one = item.mutations[0]
        text = mutate_code(self._source, get_operator(one.operator_name)(**one.operator_args), one.occurrence)
        return Mutant(item, self._source, text) if text and _is_python(text) else None

    def outcomes(self) -> dict[str, str]:
        """In words, by job id."""
        return {job: result.output or "" for job, result in self._work.results}

    def note(self, item: WorkItem, outcome: str, *, killed: bool) -> None:
        became = TestOutcome.KILLED if killed else TestOutcome.SURVIVED
        self._work.set_result(item.job_id, WorkResult(WorkerOutcome.NORMAL, outcome, became))

    def _is_of_use(self, item: WorkItem) -> bool:
        one = item.mutations[0]
        if one.operator_name.endswith(_SAME) or _is_within(one.start_pos, self._left_out):
            return False
        return "BinaryOperator" not in one.operator_name or _is_within(one.start_pos, self._operators)


@contextmanager
def session(path: str) -> Iterator[Session]:
    digest = hashlib.sha256((ROOT / path).read_bytes()).hexdigest()[:12]
    file = KEPT / f"{path.replace('/', '.')}-{digest}.sqlite"
    file.parent.mkdir(parents=True, exist_ok=True)
    is_new = not file.exists()
    with use_db(str(file), WorkDB.Mode.create) as work:
        if is_new:
            init([Path(path)], work, {})
        yield Session(path, work)


def function_at(tree: ast.AST, line: int, within: str = "") -> str:
    """The innermost function or class at this line, such as `Session.items`; none: the module itself."""
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef) and _has_line(node, line):
            return function_at(node, line, f"{within}.{node.name}".removeprefix("."))
    return within


def _has_line(node: ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef, line: int) -> bool:
    first = min(each.lineno for each in (node, *node.decorator_list))
    return first <= line <= (node.end_lineno or first)


def _order(item: WorkItem) -> tuple[tuple[int, int], str, int]:
    one = item.mutations[0]
    return one.start_pos, one.operator_name, one.occurrence


def _is_python(text: str) -> bool:
    try:
        ast.parse(text)
    except SyntaxError:
        return False
    return True


Place = tuple[int, int]


def _is_within(place: Place, spans: list[tuple[Place, Place]]) -> bool:
    return any(begin <= place < end for begin, end in spans)


def _left_out(tree: ast.AST) -> list[tuple[Place, Place]]:
    """Where a mutant would say nothing: types, which nobody evaluates, and what decorators get: `frozen` of dataclasses, the sizes of caches."""
    found: list[tuple[Place, Place]] = []
    for node in ast.walk(tree):
        found += [_span(part) for part in _types(node)]
        if isinstance(node, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            found += [_span(each) for each in node.decorator_list if isinstance(each, ast.Call)]
    return found


def _operators(tree: ast.AST) -> list[tuple[Place, Place]]:
    """Between the two sides of each operation. Other asterisks are those of parameters and arguments."""
    sides = [(_span(node.left), _span(node.right)) for node in ast.walk(tree) if isinstance(node, ast.BinOp)]
    return [(left[1], right[0]) for left, right in sides]


def _types(node: ast.AST) -> list[ast.expr]:
    if isinstance(node, ast.arg | ast.AnnAssign):
        return [node.annotation] if node.annotation else []
    if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
        return [node.returns] if node.returns else []
    return [node.value] if isinstance(node, ast.Assign) and _is_type(node.value) else []


def _is_type(value: ast.expr) -> bool:
    """An alias such as `Mark = tuple[str, int | None]`."""
    parts = [each for each in ast.walk(value) if isinstance(each, ast.expr)]
    named = all(
        isinstance(each, ast.Name | ast.Attribute | ast.Subscript | ast.Tuple | ast.BinOp) or _is_word(each)
        for each in parts
    )
    return named and any(isinstance(each, ast.Subscript) for each in parts)


def _is_word(value: ast.expr) -> bool:
    return isinstance(value, ast.Constant) and not isinstance(value.value, int | float | bytes)


def _span(node: ast.expr) -> tuple[Place, Place]:
    assert node.end_lineno is not None
    assert node.end_col_offset is not None
    return (node.lineno, node.col_offset), (node.end_lineno, node.end_col_offset)
