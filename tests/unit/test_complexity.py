"""Functions stay short enough to be read at once, or say why they are one thought."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from radon.complexity import cc_rank, cc_visit
from radon.visitors import Class, Function

ROOT = Path(__file__).parents[2]
CODE = sorted(path for room in ("collector", "exporters", "config") for path in (ROOT / room).rglob("*.py"))


def _functions(blocks: list[Function | Class]) -> Iterator[Function]:
    """Each once: radon lists methods beside their class and in it."""
    for block in blocks:
        if isinstance(block, Function):
            yield block
            yield from _functions(block.closures)


def unexplained(code: str) -> list[str]:
    """The functions of grade C and worse that have no comment directly above their `def` or decorators."""
    lines = code.splitlines()
    return [
        f"{block.fullname}, complexity {block.complexity}"
        for block in _functions(cc_visit(code))
        if cc_rank(block.complexity) not in {"A", "B"} and not lines[block.lineno - 2].lstrip().startswith("#")
    ]


def test_functions_are_simple_or_say_why_they_are_one_thought() -> None:
    found = [f"{path.relative_to(ROOT)}: {each}" for path in CODE for each in unexplained(path.read_text())]
    assert not found, "split these, or say in one comment line directly above why each is one thought:\n" + "\n".join(
        found
    )


@pytest.mark.parametrize(
    ("above", "names"), [("x = 1", ["chosen, complexity 11"]), ("# one table of cases: words", [])]
)
def test_a_comment_directly_above_explains_a_complex_function(above: str, names: list[str]) -> None:
    branches = "\n".join(f"    if word == {number}:\n        return {number}" for number in range(10))
    assert unexplained(f"{above}\ndef chosen(word: int) -> int:\n{branches}\n    return 0\n") == names
