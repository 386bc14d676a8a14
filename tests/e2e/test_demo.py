"""The demo as a user runs it: its own verdict, and that the verdict can be trusted."""

import asyncio
import os
import sys
from pathlib import Path
from typing import Any

import orjson
import pytest

from simulators.demo import expected
from tests import openlineage
from tests.plant import CHAIN, FLOWS

pytestmark = pytest.mark.timeout(180)


async def demo(*words: str) -> tuple[int, dict[str, Any]]:
    """Exit code and summary."""
    if url := os.environ.get("MARQUEZ_URL"):
        words = (*words, "--marquez", url)
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "collector", "demo", "--json", *words, stdout=asyncio.subprocess.PIPE
    )
    out, _ = await process.communicate()
    return process.returncode or 0, orjson.loads(out)


async def test_the_demo_ends_well_and_its_events_tell_the_plants_story(tmp_path: Path) -> None:
    file = tmp_path / "events.ndjson"
    code, summary = await demo("--events", str(file))
    assert (code, summary["ok"], summary["wrong"]) == (0, True, [])
    assert [node.partition("://")[2].rpartition(":")[2] for node in summary["chain"] if "://" in node] == [
        name for space, name in CHAIN if space != "bigquery"
    ]
    states = {state for states in summary["runs"].values() for state in states}
    assert states == {"succeeded", "failed", "canceled"}
    lines = expected.read_lines(file)
    assert openlineage.all_faults(lines) == []
    events = list(map(orjson.loads, lines))
    assert {(event["job"]["namespace"].partition("://")[0], event["job"]["name"]) for event in events} == set(FLOWS)
    causes = {event["run"]["facets"]["errorMessage"]["message"] for event in events if event["eventType"] == "FAIL"}
    for words in ("floc:1010-PUMP-07", "Table or view not found", "Column 'hours'", "dataset does not exist"):
        assert any(words in cause for cause in causes), words
