"""Mistakes in a configuration, as values."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from difflib import get_close_matches

Path = tuple[str | int, ...]
"""Where a value stands: keys and list indexes from the top."""


@dataclass(frozen=True, slots=True)
class Mistake:
    """`place` is the file or the variable, `line` 0 without one; `key` reads `sources[0].name`, empty for the whole."""

    place: str
    key: str
    problem: str
    suggestion: str | None = None
    line: int = 0

    def __str__(self) -> str:
        where = f"{self.place}:{self.line}" if self.line else self.place
        subject = f"{where}: {self.key}" if self.key else where
        hint = f"; did you mean {self.suggestion}?" if self.suggestion else ""
        return f"{subject}: {self.problem}{hint}"


class ConfigurationMistakes(Exception):
    """All mistakes in a configuration."""

    def __init__(self, mistakes: Sequence[Mistake]) -> None:
        self.mistakes = tuple(sorted(mistakes, key=lambda mistake: mistake.line))
        super().__init__("\n".join(str(mistake) for mistake in self.mistakes))


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """What to add to a sentence about a word that is none of the known ones; empty when none is near."""
    close = get_close_matches(word, [*known], n=1)
    return f"; did you mean {close[0]}?" if close else ""


def dotted(path: Path) -> str:
    text = ""
    for step in path:
        text += f"[{step}]" if isinstance(step, int) else f".{step if step.isprintable() else ascii(step)}"
    return text.lstrip(".")
