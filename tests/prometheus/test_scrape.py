"""The real Prometheus scrapes the running program; promtool finds nothing to complain about."""

from collections.abc import Mapping
from pathlib import Path

import aiohttp

from collector.testing.faults import Fault, FaultKind
from simulators.cdf import Ending, Scenario
from tests.deployment import CDF, WETRANSFORM, Deployment
from tests.servers.prometheus import Promtool, StartPrometheus


async def page(url: str, headers: Mapping[str, str] | None = None) -> str:
    async with aiohttp.ClientSession() as client, client.get(f"{url}/metrics", headers=headers) as answer:
        return await answer.text()


async def test_prometheus_scrapes_the_running_program(
    tmp_path: Path, start_prometheus: StartPrometheus, promtool: Promtool
) -> None:
    async with Deployment(tmp_path) as deployment:
        for job, ending in zip(deployment.cdf.transformations, (Ending.COMPLETED, Ending.FAILED), strict=False):
            deployment.cdf.start_run(job, Scenario(0.1, 0.2, ending))
        await deployment.start()
        await deployment.settle()
        url = await deployment.pages()
        prometheus = start_prometheus(url.removeprefix("http://"))
        await prometheus.wait_for("sum(lineage_lease_held) == 7")  # three sources, two sinks, housekeeping, metrics
        events = await prometheus.wait_for("lineage_events_total > 0")
        assert {sample.labels["type"] for sample in events} == {"START", "COMPLETE", "FAIL"}
        await prometheus.wait_for("up == 1")
        assert len(await prometheus.targets()) == 1
        runs = await prometheus.query(f'sum by (outcome) (lineage_runs_total{{source="{CDF}"}})')
        assert {sample.labels["outcome"]: sample.value for sample in runs} == {
            "succeeded": 1,
            "failed": 1,
            "canceled": 0,
        }
        linted = promtool("check", "metrics", stdin=await page(url))
        assert (linted.returncode, linted.stdout, linted.stderr) == (0, "", "")
        in_openmetrics = await page(url, {"Accept": "application/openmetrics-text; version=1.0.0"})
        assert "# {run_id=" in in_openmetrics
        deployment.terminate()
        assert await deployment.ended() == 0


async def test_run_metrics_are_right_after_a_restart(tmp_path: Path) -> None:
    async with Deployment(tmp_path) as deployment:
        deployment.cdf.start_run(next(iter(deployment.cdf.transformations)), Scenario(0.1, 0.2, Ending.FAILED))
        await deployment.start()
        await deployment.settle()
        for simulator in (deployment.cdf, deployment.dataprep):
            simulator.faults.plan(Fault(FaultKind.HTML, times=-1))
        await deployment.until(lambda status: sum(bool(row["wrong"]) for row in status["sources"]) == 2)
        before = of_the_ledger(await page(await deployment.pages()))
        deployment.terminate()
        assert await deployment.ended() == 0
        await deployment.start()
        await deployment.until_ready()
        after = of_the_ledger(await page(await deployment.pages()))
    assert before == after
    assert [line for line in before if 'outcome="failed"' in line and line.endswith(" 1.0")]


def of_the_ledger(text: str) -> list[str]:
    names = ("run_last", "runs_total", "job_info", "deliveries_pending", "poll_last_success")
    samples = (line for line in text.splitlines() if line.startswith(tuple(f"lineage_{name}" for name in names)))
    return [line for line in samples if WETRANSFORM not in line]  # which has nothing to ask for, and so no failures
