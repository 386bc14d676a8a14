"""What it costs to watch runs, as each platform estimates it, and in words."""

from datetime import timedelta
from typing import Any

import pytest

from collector.model import RunState
from collector.platforms.base import Load, Planning, load_finding, load_words
from collector.testing.clock import SimulatedClock
from simulators.cdf import Scenario as CdfScenario
from simulators.dataprep import Level
from simulators.wetransform import Scenario
from tests.cdf_rig import cdf_rig
from tests.dataprep_rig import dataprep_rig
from tests.wetransform_rig import wetransform_rig

RUNNING, WAITING = RunState.RUNNING, RunState.WAITING


@pytest.mark.parametrize(
    ("allowed", "is_reachable", "reachable"), [(None, True, 30), (60, True, 30), (20, True, 30), (5, False, 120)]
)
def test_what_follows_from_the_limit(allowed: int | None, is_reachable: bool, reachable: float) -> None:
    load = Load(runs=7, pages=3, reads=7, interval=30, allowed=allowed)
    assert (load.needed, load.is_reachable, load.reachable) == (20, is_reachable, reachable)


def test_in_words() -> None:
    words = load_words(
        Load(12, pages=2, reads=0, interval=30, allowed=60, each_end=4, note="one page lists 1,000 runs")
    )
    assert words == (
        "12 open runs: 2 pages every 30 s, 4.0 requests a minute; the limit is 60, which leaves the ends of 840 runs an "
        "hour; one page lists 1,000 runs"
    )
    assert "1 page and 3 single reads every" in load_words(Load(3, 1, 3, 30, None))
    assert "no limit of our own" in load_words(Load(3, 1, 3, 30, None))
    assert "nothing to ask" in load_words(Load(0, 0, 0, 30, 60))


def test_what_to_do_about_a_wish_that_cannot_be_met() -> None:
    good, bad = (
        load_finding(Load(1000, 0, 1000, 60, 1000)),
        load_finding(Load(1000, 0, 1000, 60, 300, setting="active_most")),
    )
    assert (good.ok, good.remedy) == (True, None)
    assert not bad.ok
    assert "the limit allows one round every 200 s" in bad.detail
    assert str(bad.remedy).startswith("set active_most to 200s or longer, or raise requests_per_minute")
    unset = load_finding(Load(1000, 0, 1000, 60, 300, setting=None))
    assert str(unset.remedy).startswith("raise requests_per_minute")


@pytest.mark.parametrize(
    ("runs", "limit", "workflows", "needed", "is_reachable"),
    [
        (0, None, False, 4, True),
        (1_000, 4, False, 4, True),
        (1_000, 3, False, 4, False),
        (1_001, 4, False, 6, False),
        (10_000, 60, True, 24, True),
    ],
)
async def test_cdf(runs: int, limit: int | None, workflows: bool, needed: float, is_reachable: bool) -> None:
    async with cdf_rig(requests_per_minute=limit, workflows=workflows) as rig:
        load = rig.platform.load({RUNNING: runs})
        assert (load.runs, load.needed, load.is_reachable) == (runs, needed, is_reachable)


async def test_cdf_keeps_to_its_estimate() -> None:
    async with cdf_rig() as rig:
        rig.simulator.add_transformation("pumps")
        await rig.poller.cycle()
        rig.simulator.start_run("pumps", CdfScenario(runs_for=None))
        rig.clock.advance(400)
        await rig.poller.cycle()
        before, load = rig.requests(), rig.platform.load({RUNNING: 1})
        for _ in range(10):
            rig.clock.advance(load.interval)
            await rig.poller.cycle()
        assert rig.requests() - before == load.needed * 5


@pytest.mark.parametrize(
    ("active", "waiting", "is_reachable", "reachable"),
    [
        (10, 0, True, 60),
        (300, 0, True, 60),
        (1000, 0, False, 200),
        (200, 800, True, 60),
        (0, 100_000, False, 2000),
    ],
)
async def test_wetransform(active: int, waiting: int, is_reachable: bool, reachable: float) -> None:
    async with wetransform_rig(SimulatedClock()) as rig:
        load = rig.adapter().load({RUNNING: active, WAITING: waiting})
        assert (load.runs, load.is_reachable) == (active + waiting, is_reachable)
        assert load.reachable == pytest.approx(reachable)
        assert "300 runs under way or 3000 that wait" in load_words(load)
        assert load_words(rig.adapter(requests_per_minute=None).load({})) == (
            "0 open runs: nothing to ask every 60 s, 0.0 requests a minute; no limit of our own"
        )


async def test_wetransform_counts_its_walks_of_the_list() -> None:
    async with wetransform_rig(SimulatedClock()) as rig:
        poller = rig.poller(discover=True)
        platform = rig.adapter(discover=True)
        assert platform.load({}).needed == 1, "of one page, until a walk has counted them"
        assert "1 page every 60 s" in load_words(platform.load({}))
        await poller.cycle()
        assert isinstance(poller.platform, Planning)
        load = poller.platform.load({})
        assert load is not None
        assert load.needed == 1


async def test_wetransform_keeps_to_its_estimate() -> None:
    async with wetransform_rig(SimulatedClock()) as rig:
        poller = rig.poller()
        for _ in range(20):
            poller.adopt(await poller.platform.watch(rig.start(Scenario.STUCK, 10).key, {}))
        await poller.follow(600, every=5)
        before = len(rig.statuses)
        await poller.follow(600, every=5)
        assert isinstance(poller.platform, Planning)
        load = poller.platform.load({RUNNING: 20})
        assert load is not None
        assert len(rig.statuses) - before == pytest.approx(load.needed * 10, rel=0.1)


@pytest.mark.parametrize(
    ("level", "runs", "changed", "needed"),
    [
        (Level.L2, 5000, {}, 2.4),
        (Level.L2, 5, {"stages": "runs"}, 22.4),
        (Level.L1, 0, {}, 2),
        (Level.L1, 250, {}, 6),
        (Level.L0, 250, {}, 250),
    ],
)
async def test_dataprep(level: Level, runs: int, changed: dict[str, Any], needed: float) -> None:
    async with dataprep_rig(level, requests_per_minute=60, **changed) as rig:
        assert rig.platform.load({RUNNING: runs}) is None, "the level is not known yet"
        await rig.platform.check()
        load = rig.platform.load({RUNNING: runs})
        assert load is not None
        assert load.runs == runs
        assert load.needed == pytest.approx(needed)
        assert load.is_reachable is (needed <= 60)
        assert level in load_words(load) or level is Level.L0


async def test_an_interval_that_uses_up_a_small_limit_is_no_secret() -> None:
    async with dataprep_rig(Level.L2, requests_per_minute=2, poll_interval=timedelta(seconds=10)) as rig:
        await rig.platform.check()
        load = rig.platform.load({})
        assert load is not None
        finding = load_finding(load)
        assert not finding.ok
        assert "poll_interval" in str(finding.remedy)
