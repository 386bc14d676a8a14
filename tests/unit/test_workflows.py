"""The workflows run code of others only as it was when somebody looked at it."""

import re
from pathlib import Path

WORKFLOWS = Path(__file__).parents[2] / ".github" / "workflows"


def test_every_action_is_named_by_its_commit_and_says_its_version() -> None:
    lines = [line for file in sorted(WORKFLOWS.glob("*.yaml")) for line in file.read_text().splitlines()]
    used = [line.split("uses:")[1].strip() for line in lines if "uses:" in line]
    pinned = re.compile(r"[\w-]+/[\w-]+@[0-9a-f]{40} # v\d+\.\d+\.\d+")
    assert used
    assert [action for action in used if not pinned.fullmatch(action)] == []
