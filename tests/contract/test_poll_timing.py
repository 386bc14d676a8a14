"""START and terminal events are the same bytes whether a run was watched closely or seen only when it was over, on the
platforms that report the times of runs.
"""

import orjson
import pytest

from collector.lineage.custom_facets import PLATFORM
from collector.testing.poller import SimulatedPoller
from simulators.cdf import Ending, Scenario
from simulators.dataprep import Level, Switches
from tests import openlineage
from tests.cdf_rig import _platform, cdf_rig
from tests.dataprep_rig import dataprep_rig

_DESTINATION = {"type": "raw", "database": "lake", "table": "pumps"}
_QUERY = "select p.id as key, o.name from sap.pumps p join erp.orders o on p.id = o.id"


def events_by_kind(poller: SimulatedPoller) -> dict[tuple[str, bool], str]:
    """The START and the terminal event of each run."""
    found = {}
    for line in poller.events:
        event = orjson.loads(line)
        if event["eventType"] not in {"OTHER", "RUNNING"}:
            key = event["run"]["facets"][PLATFORM]["runKey"], event["eventType"] == "START"
            found[key] = orjson.dumps(event, option=orjson.OPT_INDENT_2 | orjson.OPT_SORT_KEYS).decode()
    return found


def compare(close: SimulatedPoller, late: SimulatedPoller, runs: int) -> None:
    assert openlineage.all_faults(close.events) == openlineage.all_faults(late.events) == []
    assert len(events_by_kind(close)) == 2 * runs
    assert events_by_kind(late) == events_by_kind(close)


@pytest.mark.parametrize("workflows", [False, True])
async def test_cdf(workflows: bool) -> None:
    async with cdf_rig(workflows=workflows) as rig:
        adapter, _ = _platform(rig.served.url, rig.clock, {"workflows": workflows})
        late = SimulatedPoller(adapter, rig.clock)
        for name in ("pumps", "orders", "sites"):
            rig.simulator.add_transformation(name, _DESTINATION, query=_QUERY)
        await late.cycle()
        await rig.poller.cycle()
        scenarios = [Scenario(1, 20), Scenario(2, 40, Ending.FAILED), Scenario(3, 30, Ending.CANCELLED)]
        if workflows:
            rig.simulator.start_workflow("nightly", list(zip(("pumps", "orders", "sites"), scenarios, strict=True)))
        else:
            for name, scenario in zip(("pumps", "orders", "sites"), scenarios, strict=True):
                rig.simulator.start_run(name, scenario)
        await rig.poller.follow(300)
        await late.follow(200)
        compare(rig.poller, late, 4 if workflows else 3)
        await adapter.close()


@pytest.mark.parametrize("stages", ["facet", "runs"])
@pytest.mark.parametrize("level", [Level.L2, Level.L1])
@pytest.mark.parametrize(
    "switches", [Switches(), Switches(stage_times=True, error_text="workloadError", flow_embed=False)]
)
async def test_dataprep(level: Level, stages: str, switches: Switches) -> None:
    async with dataprep_rig(level, switches, stages=stages) as rig:
        late = SimulatedPoller(rig.adapter(stages=stages), rig.clock)
        await late.cycle()
        await rig.poller.cycle()
        for scenario in ("complete", "failed", "quick", "partial", "canceled"):
            rig.simulator.start_run(scenario, pace=0.05)
        rig.simulator.workspace.run_flow(1)
        await rig.poller.follow(1800, every=4)
        await late.follow(600, every=60)
        found = {key for key, _ in events_by_kind(rig.poller)}
        compare(rig.poller, late, len(found))
        assert bool({key for key in found if key.startswith("jobs/")}) == (stages == "runs")
        assert any(key.startswith("flowRuns/") for key in found) == (level is Level.L2)
