"""The demo as a user runs it: its own verdict, and that the verdict can be trusted."""

import asyncio
import os
import sys
from pathlib import Path
from typing import Any

import orjson
import pytest

from simulators.demo import expected
from simulators.demo.view import progress
from tests import openlineage
from tests.demo_lineage import CHAIN, FLOWS
from tests.servers.ports import free_port


async def demo(*words: str) -> tuple[int, dict[str, Any]]:
    """Exit code and summary."""
    if url := os.environ.get("MARQUEZ_URL"):
        words = (*words, "--marquez", url)
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "collector", "demo", "--json", *words, stdout=asyncio.subprocess.PIPE
    )
    out, _ = await process.communicate()
    return process.returncode or 0, orjson.loads(out)


async def test_the_demo_ends_well_and_its_events_match_its_scenario(tmp_path: Path) -> None:
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


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (["--marquez", "http://127.0.0.1:{port}"], 1, "and whether the server is up"),
        (["--kafka", "127.0.0.1:{port}"], 1, "check that Kafka runs"),
        (["--marquez", "localhost"], 2, "--marquez localhost: is not a valid URL"),
        (["--kafka", "localhost"], 2, "--kafka localhost: is not a valid server"),
        (["--events", "/nowhere/at/all.ndjson"], 2, "cannot be written: No such file or directory"),
    ],
)
async def test_an_address_or_file_that_does_not_work_is_one_sentence(words: list[str], code: int, said: str) -> None:
    given = [word.format(port=free_port()) for word in words]
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "collector",
        "demo",
        *given,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    out, err = await process.communicate()
    assert (process.returncode, out) == (code, b"")
    [line] = err.decode().splitlines()
    assert line.startswith(f"error: {given[0]}")
    assert given[1].removeprefix("http://") in line
    assert said in line
    assert "Traceback" not in line


async def test_in_a_pipe_it_says_what_its_lines_mean_and_why_runs_failed(tmp_path: Path) -> None:
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "collector",
        "demo",
        "--events",
        str(tmp_path / "e.ndjson"),
        stdout=asyncio.subprocess.PIPE,
    )
    out, _ = await process.communicate()
    head, _, rest = out.decode().partition("\n\n")
    assert process.returncode == 0, out.decode()
    assert "pages    http://127.0.0.1:" in head
    assert all(f"  {word}" in head for word in ("OTHER", "START", "RUNNING", "COMPLETE"))
    assert "\n                         Column 'hours' holds values that are no numbers" in rest
    assert "\nruns that ended on each platform:\n" in rest
    page = next(line for line in head.splitlines() if line.startswith("pages ")).split()[1]
    assert "`make demo ARGS=--forever` keeps them open" in head
    assert rest.splitlines()[-1].startswith(f"its pages were at {page} until now")


def test_progress_says_how_many_runs_are_over() -> None:
    assert progress({}, 42) == "0 of 42 runs ended · 0 under way"
    counts = {"succeeded": 9, "failed": 3, "running": 2, "queued": 1}
    assert progress(counts, 42) == "12 of 42 runs ended: 9 succeeded, 3 failed · 3 under way"
    assert progress(counts, None) == "12 runs ended: 9 succeeded, 3 failed · 3 under way"
