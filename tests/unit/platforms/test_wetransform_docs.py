"""The page for users says what the code does."""

import re
from pathlib import Path

import pytest
import yaml

from collector.platforms.wetransform.steps import PERHAPS_WAITING, STATES
from config.sources import WetransformSource

PAGE = (Path(__file__).parents[3] / "docs" / "platforms" / "wetransform.md").read_text()


def generated() -> str:
    """A row for each run state, in the order of the vendor's steps."""
    rows: dict[str, list[str]] = {}
    for step, state in STATES.items():
        later = " (waiting after `waiting_after`)" if step in PERHAPS_WAITING else ""
        rows.setdefault(state.value, []).append(f"`{step}`{later}")
    return "".join(f"| {', '.join(steps)} | {state} |\n" for state, steps in rows.items())


def test_the_table_of_states_is_fresh() -> None:
    shown = re.search(r"<!-- states: .*? -->\n\| step .*?\n\| --- .*?\n(.*?)<!-- end of states -->", PAGE, re.DOTALL)
    assert shown is not None
    assert shown[1] == generated()


def test_the_configurations_can_be_used(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "token").write_text("a-token")
    for name in ("WETRANSFORM_TOKEN", "WETRANSFORM_WEBHOOK_SECRET"):
        monkeypatch.setenv(name, "a-secret")
    blocks = re.findall(r"```yaml\n(.*?)```", PAGE, re.DOTALL)
    assert len(blocks) == 2
    for block in blocks:
        text = block.replace("/run/secrets/wetransform-token", str(tmp_path / "token"))
        for source in yaml.safe_load(text)["sources"]:
            assert WetransformSource.model_validate(source).job_namespace == "wetransform://api.wetransform.com/acme"
