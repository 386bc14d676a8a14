"""`check` as somebody uses it who sets the program up, right or wrong."""

import asyncio
import json
import os
import pty
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from collector.ledger.queries import REFUSES_AFTER
from collector.testing.faults import Fault, FaultKind
from simulators.cdf import Scenario
from tests.deployment import CDF, DATAPREP, WETRANSFORM, Deployment
from tests.servers.ports import free_port


@pytest.fixture
async def deployment(tmp_path: Path) -> AsyncIterator[Deployment]:
    async with Deployment(tmp_path) as made:
        yield made


def of(deployment: Deployment, name: str) -> dict[str, Any]:
    """The settings of a source or sink."""
    everything = (*deployment.settings["sources"], *deployment.settings["sinks"])
    return next(part for part in everything if part["name"] == name)


async def findings(deployment: Deployment, code: int) -> dict[str, list[dict[str, Any]]]:
    """What `check --json` says, by source or sink."""
    deployment.configure()
    ended, out, err = await deployment.command("check", "--json")
    assert (ended, err) == (code, ""), out
    rows = json.loads(out)
    assert all(set(row) == {"part", "subject", "ok", "detail", "remedy"} for row in rows)
    for secret in ("simulated-secret", "wetransform-token", "dataprep-token"):
        assert secret not in out
    return {part: [row for row in rows if row["part"] == part] for part in dict.fromkeys(row["part"] for row in rows)}


def bad(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [row for row in rows if not row["ok"]]


async def test_all_is_well(deployment: Deployment) -> None:
    found = await findings(deployment, 0)
    assert list(found) == [
        "configuration",
        f"source {CDF}",
        f"source {WETRANSFORM}",
        f"source {DATAPREP}",
        "sink file",
        "sink marquez",
    ]
    code, out, err = await deployment.command("check")
    assert (code, err) == (0, "")
    head, *lines = out.splitlines()
    assert head == "part\tsubject\tok\tdetail\tremedy"
    assert len(lines) == sum(map(len, found.values()))
    assert all(line.count("\t") == 4 and line.split("\t")[2] == "yes" for line in lines)


async def test_what_is_dead_is_shown_and_the_rest_is_tried_all_the_same(deployment: Deployment) -> None:
    nobody = f"http://127.0.0.1:{free_port()}"
    of(deployment, WETRANSFORM)["base_url"] = of(deployment, "marquez")["url"] = nobody
    found = await findings(deployment, 1)
    for part in (f"source {WETRANSFORM}", "sink marquez"):
        [row, *_] = bad(found[part])
        assert nobody.removeprefix("http://") in row["detail"]
        assert row["remedy"]
    assert not bad(found[f"source {CDF}"] + found[f"source {DATAPREP}"] + found["sink file"])


async def test_a_wrong_token_is_shown_with_what_to_do(deployment: Deployment) -> None:
    of(deployment, CDF)["auth"]["client_secret"] = "wrong-simulated-secret"
    of(deployment, WETRANSFORM)["token"] = of(deployment, DATAPREP)["token"] = "another-wetransform-token"
    found = await findings(deployment, 1)
    for name in (CDF, WETRANSFORM, DATAPREP):
        [row, *_] = bad(found[f"source {name}"])
        assert row["remedy"], row
        assert "401" in row["detail"] or "403" in row["detail"], row


async def test_a_wrong_port_is_something_else_that_answers(deployment: Deployment) -> None:
    of(deployment, CDF)["auth"]["token_url"] = of(deployment, CDF)["base_url"] = deployment.urls["marquez"]
    of(deployment, WETRANSFORM)["base_url"] = deployment.urls[DATAPREP]
    of(deployment, DATAPREP)["base_url"] = deployment.urls[CDF]
    of(deployment, "marquez")["url"] = deployment.urls[WETRANSFORM]
    found = await findings(deployment, 1)
    for part in (f"source {CDF}", f"source {WETRANSFORM}", f"source {DATAPREP}", "sink marquez"):
        [row, *_] = bad(found[part])
        assert row["detail"]
        assert row["remedy"], row


async def test_people_see_how_many_failed(deployment: Deployment) -> None:
    deployment.settings["sources"] = deployment.settings["sources"][:1]
    of(deployment, CDF)["auth"]["client_secret"] = "wrong"
    deployment.configure()
    code, out, err = await deployment.command("check")
    assert code == 1
    assert f"{len(out.splitlines()) - 1}" in err
    assert err.startswith("1 of ")


async def test_offline_asks_nobody(deployment: Deployment) -> None:
    code, out, _ = await deployment.command("check", "--offline", "--json")
    assert code == 0
    assert {row["part"] for row in json.loads(out)} == {"configuration"}
    for name in (CDF, WETRANSFORM, DATAPREP, "marquez"):
        assert await deployment.requests(name, ".") == 0


async def test_on_a_terminal_it_is_a_table(deployment: Deployment) -> None:
    deployment.configure()
    ours, theirs = pty.openpty()
    words = ("-m", "collector", "check", "--offline", "--config", str(deployment.config))
    process = await asyncio.create_subprocess_exec(sys.executable, *words, stdout=theirs, stderr=theirs)
    os.close(theirs)
    drawn = await asyncio.to_thread(read_to_the_end, ours)
    assert await process.wait() == 0
    assert "\t" not in drawn
    assert "configuration" in drawn
    assert "\x1b[" in drawn, "with colours"


def read_to_the_end(terminal: int) -> str:
    parts = []
    try:
        while part := os.read(terminal, 4096):
            parts.append(part)
    except OSError:  # Linux's way of saying that the other end is closed
        pass
    os.close(terminal)
    return b"".join(parts).decode()


async def test_a_backend_that_answers_400_to_everything_is_shown_everywhere(deployment: Deployment) -> None:
    deployment.marquez.faults.plan(Fault(FaultKind.STATUS, "/api/v1/", times=-1, status=400, body={"message": "no"}))
    for job in list(deployment.cdf.transformations)[:REFUSES_AFTER]:
        deployment.cdf.start_run(job, Scenario(0.1, 0.2))
    await deployment.start()
    status = await deployment.until(lambda shown: shown["sinks"][1]["state"] == "refusing")
    row = status["sinks"][1]
    assert (row["sink"], row["last_success"]) == ("marquez", None)
    assert "which are parked: " in row["wrong"]
    assert "400" in row["wrong"]
    code, out, _ = await deployment.command("status")
    assert code == 1
    assert "refusing" in out
    async with aiohttp.ClientSession() as client, client.get(f"{await deployment.pages()}/metrics") as answer:
        page = await answer.text()
    [refused] = [line for line in page.splitlines() if line.startswith('lineage_sink_refused{sink="marquez"}')]
    assert float(refused.split()[-1]) >= REFUSES_AFTER
    found = await findings(deployment, 1)
    by_subject = {row["subject"]: row for row in bad(found["sink marquez"])}
    assert "parked retry" in by_subject["refusals"]["remedy"]
    assert "400" in by_subject["Marquez"]["detail"]
    assert "check the url of this sink (without /api/v1)" in by_subject["Marquez"]["remedy"]
