"""One platform run has one life, whatever its source is called, and however often that changes."""

from collections import Counter
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from simulators.cdf import Scenario
from simulators.demo import expected
from tests.deployment import CDF, Deployment, events

pytestmark = pytest.mark.crash

TERMINAL = {"COMPLETE", "FAIL", "ABORT"}


@pytest.fixture
async def deployment(tmp_path: Path) -> AsyncIterator[Deployment]:
    """Only CDF."""
    async with Deployment(tmp_path) as made:
        made.settings["sources"] = [each for each in made.settings["sources"] if each["name"] == CDF]
        made.renamed[CDF] = "plant-new"
        # what a run is called must not change with its address
        made.settings["sources"][0]["namespace"] = "cdf://plant.example.com/plant-a"
        yield made


@pytest.fixture
async def delivered(deployment: Deployment) -> Deployment:
    """One run that ended and one that goes on, both delivered under the source's first name."""
    short, long = list(deployment.cdf.transformations)[:2]
    deployment.cdf.start_run(short, Scenario(0.1, 0.2))
    deployment.cdf.start_run(long, Scenario(0.1, None))
    await deployment.start()
    await deployment.until_arrived(starts=2, ends=1)
    return deployment


def source(deployment: Deployment) -> dict[str, Any]:
    found: dict[str, Any] = deployment.settings["sources"][0]
    return found


async def restarted(deployment: Deployment) -> None:
    deployment.terminate()
    assert await deployment.ended() == 0, deployment.tail()
    await deployment.start()


def lives(deployment: Deployment) -> dict[str, Counter[str]]:
    """By run id, how many events of each kind the sink got; repeats of the same bytes count once."""
    found: dict[str, Counter[str]] = {}
    for event in events(list(dict.fromkeys(expected.read_lines(deployment.events)))):
        kind = "END" if event["eventType"] in TERMINAL else event["eventType"]
        found.setdefault(event["run"]["runId"], Counter())[kind] += 1
    return found


async def each_has_one_life(deployment: Deployment) -> None:
    """Once the long run ends, too."""
    await deployment.until_ready()
    deployment.cdf.cancel(list(deployment.cdf.transformations)[1])
    await deployment.until_arrived(starts=2, ends=2)
    await deployment.until(lambda status: all(row["pending"] == 0 for row in status["sinks"]))
    found = lives(deployment)
    assert [(kinds["START"], kinds["END"]) for kinds in found.values()] == [(1, 1), (1, 1)]
    assert sorted(deployment.marquez_states()) == sorted(found)


async def test_a_renamed_source_goes_on_where_it_was(delivered: Deployment) -> None:
    source(delivered)["name"] = "plant-new"
    await restarted(delivered)
    await each_has_one_life(delivered)
    assert [row["source"] for row in (await delivered.until(lambda _: True))["sources"]] == ["plant-new"]
    [said] = delivered.logged("source.renamed")
    assert (said["former_name"], said["source"]) == (CDF, "plant-new")


async def test_a_moved_source_that_does_not_say_so_has_no_second_lives(delivered: Deployment) -> None:
    """Its former self left, so that what it sees again comes over from there."""
    source(delivered).update(name="plant-new", base_url=delivered.urls[CDF].replace("127.0.0.1", "localhost"))
    await restarted(delivered)
    await each_has_one_life(delivered)
    assert delivered.logged("run.taken_over")


async def test_a_name_for_another_account_is_refused_until_it_says_what_it_was(delivered: Deployment) -> None:
    source(delivered)["base_url"] = delivered.urls[CDF].replace("127.0.0.1", "localhost")
    await restarted(delivered)
    assert await delivered.ended() == 2
    assert f"`former_name: {CDF}`" in delivered.tail()
    source(delivered).update(name="plant-new", former_name=CDF)
    await delivered.start()
    await each_has_one_life(delivered)


async def test_two_sources_of_one_account_are_refused_by_check(deployment: Deployment) -> None:
    deployment.settings["sources"].append({**source(deployment), "name": "twin"})
    deployment.configure()
    code, _, err = await deployment.command("check", "--offline")
    assert code == 2
    assert f"'{CDF}' (sources[0]) and 'twin' watch the same account of cdf" in err
