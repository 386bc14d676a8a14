"""The chart's rules in the real Prometheus, and what the real Alertmanager sends to people while a sink is down."""

from pathlib import Path
from typing import Any

import pytest

from collector.testing.faults import Fault, FaultKind
from simulators.cdf import Scenario
from tests.deployment import Deployment
from tests.rules.alert_rules import as_file, everything_on, groups
from tests.servers.alertmanager import StartAlertmanager
from tests.servers.helm import Helm
from tests.servers.prometheus import StartPrometheus

pytestmark = [pytest.mark.timeout(900), pytest.mark.crash]

SOON: dict[str, dict[str, Any]] = {
    "LineageCollectorDown": {"for": "10s"},  # a busy machine may fail a scrape or two
    "LineageDeliveryBehind": {"for": "2s", "oldest": "4s", "window": "5s"},
}
HERE = {"selector": "", "targetSelector": 'job="lineage"'}
"""The tests' Prometheus calls its only target so."""


async def test_people_hear_of_a_sink_that_is_down_and_that_it_is_back(
    tmp_path: Path, helm: Helm, start_prometheus: StartPrometheus, start_alertmanager: StartAlertmanager
) -> None:
    rules = tmp_path / "rules.yml"
    rules.write_text(as_file(groups(helm, {**everything_on(**SOON), **HERE})))
    alertmanager = start_alertmanager()
    async with Deployment(tmp_path) as deployment:
        deployment.marquez.faults.plan(Fault(FaultKind.STATUS, "POST /api/v1/", times=-1, status=503))
        for job in list(deployment.cdf.transformations)[:3]:
            deployment.cdf.start_run(job, Scenario(0.1, 0.2))
        await deployment.start()
        url = await deployment.pages()
        prometheus = start_prometheus(
            url.removeprefix("http://"),
            rules=[rules],
            alertmanagers=[alertmanager.target],
            labels={"namespace": "data"},
        )
        notification = await alertmanager.wait_for("firing", "LineageDeliveryBehind")
        assert notification.labels == {
            "alertname": "LineageDeliveryBehind",
            "namespace": "data",
            "service": "lineage-collector",
            "severity": "critical",
            "sink": "marquez",
        }
        assert notification.annotations["summary"] == "A sink does not get its events."
        assert notification.annotations["description"].startswith("The oldest event for sink marquez has waited for ")
        assert notification.annotations["runbook_url"].endswith("/docs/runbooks/LineageDeliveryBehind.md")
        deployment.marquez.faults.clear()
        back = await alertmanager.wait_for("resolved", "LineageDeliveryBehind")
        assert back.labels == notification.labels
        assert {notice.name for notice in alertmanager.notices} == {"LineageDeliveryBehind"}, "nothing else is wrong"
        assert await prometheus.query("lineage_lease_held == 0") == []
        deployment.terminate()
        assert await deployment.ended() == 0
    down = await alertmanager.wait_for("firing", "LineageCollectorDown")
    assert down.labels["severity"] == "critical"
    assert not {"instance", "pod"} & down.labels.keys(), "whichever replica it was"
