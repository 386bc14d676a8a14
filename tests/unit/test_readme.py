"""The README's table of states, made from the code: `python -m tests.unit.test_readme` writes it anew."""

import re
from collections.abc import Iterable, Mapping
from pathlib import Path

from collector.model import RunState
from collector.platforms.cdf.rows import STATES as CDF
from collector.platforms.dataprep.states import STATES as DATAPREP
from collector.platforms.wetransform.steps import STATES as WETRANSFORM
from config.sources import CdfSource

README = Path(__file__).parents[2] / "README.md"
_BLOCK = re.compile(r"(<!-- states: .*? -->\n).*?(<!-- /states -->)", re.DOTALL)


def _words(states: Mapping[str, RunState], wanted: RunState) -> str:
    found: Iterable[str] = [f"`{word}`" for word, state in states.items() if state is wanted]
    return ", ".join(found) or "—"


def table() -> str:
    rows = ["| run state | CDF | wetransform | Dataprep |", "|---|---|---|---|"]
    for state in RunState:
        if state is not RunState.UNKNOWN:
            words = [_words(states, state) for states in (CDF, WETRANSFORM, DATAPREP)]
            if state is RunState.CANCELED:
                words[0] = f"`Failed` with the error `{CdfSource.model_fields['canceled_errors'].default[0]}`"
            rows.append(f"| {state.value} | {' | '.join(words)} |")
    return "\n".join(rows) + "\n"


def fresh(text: str) -> str:
    return _BLOCK.sub(lambda found: found[1] + table() + found[2], text)


def test_the_table_of_states_is_fresh() -> None:
    text = README.read_text()
    assert fresh(text) == text, "run: python -m tests.unit.test_readme"


def test_every_file_that_the_readme_links_to_is_there() -> None:
    links = re.findall(r"\]\(([^)#]+)\)", README.read_text())
    missing = [link for link in links if not link.startswith("http") and not (README.parent / link).exists()]
    assert missing == []


if __name__ == "__main__":
    README.write_text(fresh(README.read_text()))
