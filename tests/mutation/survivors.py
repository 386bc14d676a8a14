"""What is known of the mutants that no test notices: survivors.toml, by function and line as it reads, not by its number."""

import ast
import tomllib
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from tests.mutation.mutants import ROOT, Change, function_at

FILE = Path(__file__).with_name("survivors.toml")


@dataclass(frozen=True, slots=True)
class Reason:
    """`equivalent`: does what the code does, but for speed or memory, so that no test could notice it."""

    module: str
    function: str
    was: str
    mutants: tuple[str, ...]
    reason: str
    equivalent: bool = False

    @property
    def line(self) -> tuple[str, str, str]:
        return self.module, self.function, self.was


@cache
def reasons() -> tuple[Reason, ...]:
    found = tomllib.loads(FILE.read_text(encoding="utf-8"))["survivor"]
    return tuple(Reason(**{**each, "mutants": tuple(each["mutants"])}) for each in found)


def reason_of(change: Change) -> Reason | None:
    line = change.path, change.function, change.was
    return next((each for each in reasons() if each.line == line and change.now in each.mutants), None)


def outdated(modules: Iterable[str]) -> list[Reason]:
    """Those for lines of these modules that are not there any more."""
    concerned = [each for each in reasons() if each.module in set(modules)]
    lines = {line for module in {each.module for each in concerned} for line in _lines(module)}
    return [each for each in concerned if each.line not in lines]


def _lines(module: str) -> set[tuple[str, str, str]]:
    source = (ROOT / module).read_text(encoding="utf-8")
    tree = ast.parse(source)
    return {(module, function_at(tree, at), line.strip()) for at, line in enumerate(source.splitlines(), 1)}
