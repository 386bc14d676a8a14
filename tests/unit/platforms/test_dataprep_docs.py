"""The page for users says what the code does."""

from pathlib import Path

from collector.platforms.dataprep.states import STATES
from config.sources import DataprepSource

PAGE = (Path(__file__).parents[3] / "docs/platforms/dataprep.md").read_text()


def test_the_table_of_states_is_fresh() -> None:
    by_state: dict[str, list[str]] = {}
    for status, state in STATES.items():
        by_state.setdefault(state.value, []).append(f"`{status}`")
    rows = [f"| {', '.join(statuses)} | {state} |" for state, statuses in by_state.items()]
    table = "\n".join(["| status | run state |", "| --- | --- |", *rows])
    shown = PAGE.split("test_dataprep_docs.py -->\n")[1].split("\n<!-- end of states -->")[0]
    assert shown == table


def test_every_key_of_its_own_is_shown() -> None:
    own = {"base_url", "workspace", "token", "token_file", "stages", "requests_per_minute"}
    assert own <= DataprepSource.model_fields.keys()
    assert all(f"{key}:" in PAGE for key in own)
