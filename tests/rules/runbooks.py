"""The pages in docs/runbooks, taken apart."""

import re
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from tests.rules.alert_rules import RUNBOOKS

_FENCE = re.compile(r"^```(\w+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)


@dataclass(frozen=True, slots=True)
class Page:
    file: Path
    text: str

    @property
    def name(self) -> str:
        return self.file.stem

    @property
    def headings(self) -> list[str]:
        return re.findall(r"^#+ (.+)$", self.prose, re.MULTILINE)

    @property
    def prose(self) -> str:
        """All but what is to be typed."""
        return _FENCE.sub("", self.text)

    def blocks(self, language: str) -> list[str]:
        return [body for kind, body in _FENCE.findall(self.text) if kind == language]

    def lines(self, language: str) -> list[str]:
        """Commands, or queries: one a line."""
        return [line for body in self.blocks(language) for line in body.splitlines() if line.strip()]

    def section(self, heading: str) -> str:
        return self.text.partition(f"\n## {heading}\n")[2].partition("\n## ")[0]


@cache
def pages() -> tuple[Page, ...]:
    """All of them, that of how to use them too."""
    return tuple(Page(file, file.read_text()) for file in sorted(RUNBOOKS.glob("*.md")))


def alert_pages() -> list[Page]:
    return [page for page in pages() if page.name != "README"]


def commands(program: str) -> list[str]:
    """Every command line on the pages that begins with this program, each once."""
    found = (line for page in pages() for line in page.lines("sh"))
    return sorted({line for line in found if line.split()[0] == program})
