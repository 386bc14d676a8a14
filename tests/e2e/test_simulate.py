"""`simulate` prints a configuration that works as it is."""

import asyncio
import json
from pathlib import Path

import orjson
import pytest
import yaml

from tests.program import program
from tests.servers.ports import free_port


async def printed(process: asyncio.subprocess.Process, last: str) -> str:
    """What it prints, up to the line that begins so."""
    assert process.stdout is not None
    lines = [""]
    while not lines[-1].startswith(last):
        lines.append((await asyncio.wait_for(process.stdout.readline(), 90)).decode())
        assert lines[-1], "it ended"
    return "".join(lines)


async def said(folder: Path, *words: str) -> tuple[int, str]:
    async with program(*words, folder=folder) as process:
        out, _ = await asyncio.wait_for(process.communicate(), 120)
        return process.returncode or 0, out.decode()


async def test_check_and_run_take_what_simulate_prints(tmp_path: Path) -> None:
    async with program("simulate", "all", folder=tmp_path) as simulators:
        text = await printed(simulators, "  path:")
        (tmp_path / "lineage-collector.yaml").write_text(text + f"http: {{listen: '127.0.0.1:{free_port()}'}}\n")
        code, out = await said(tmp_path, "check", "--json")
        assert code == 0, out
        assert {row["part"] for row in json.loads(out)} >= {"source plant-a", "source customers", "source prep"}
        async with program("run", folder=tmp_path):
            await until_complete(tmp_path / "events.ndjson", {"cdf", "dataprep"})


async def until_complete(file: Path, platforms: set[str]) -> None:
    """A run of each platform is reported to its end."""
    while True:
        events = [orjson.loads(line) for line in file.read_bytes().splitlines()] if file.exists() else []
        ended = {event["job"]["namespace"].partition(":")[0] for event in events if event["eventType"] == "COMPLETE"}
        if ended >= platforms:
            return
        await asyncio.sleep(0.2)


@pytest.mark.parametrize("platform", ["cdf", "wetransform", "dataprep"])
async def test_the_commands_that_it_prints_work(tmp_path: Path, platform: str) -> None:
    async with program("simulate", platform, folder=tmp_path) as simulator:
        text = await printed(simulator, "  path:")
        (tmp_path / "lineage-collector.yaml").write_text(text)
        [line] = [line for line in text.splitlines() if "trigger" in line]
        code, out = await said(tmp_path, *line.removeprefix("#   lineage-collector ").split())
        assert (code, out.strip().rpartition(": ")[2]) == (0, "succeeded"), "a run that the API starts ends"
        assert (tmp_path / "events.ndjson").read_bytes().count(b'"COMPLETE"') == 1


async def test_a_marquez_is_printed_as_a_sink(tmp_path: Path) -> None:
    async with program("simulate", "marquez", "--host", "0.0.0.0", folder=tmp_path) as simulator:
        [sink] = yaml.safe_load(await printed(simulator, "  url:"))["sinks"]
    assert (sink["type"], sink["url"].rpartition(":")[0]) == ("marquez", "http://127.0.0.1")
