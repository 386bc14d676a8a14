"""The dashboards as the chart installs them."""

import json
from typing import Any

import pytest
import yaml

from config.quantities import parse_duration
from helm.dashboards import limits
from tests.dashboards.dashboard_files import FILES, dashboard
from tests.servers.helm import CHART, Helm, HelmRefusedError

MINIMAL = CHART / "ci" / "minimal-values.yaml"


def config_maps(helm: Helm, *settings: str) -> list[dict[str, Any]]:
    given = [word for setting in settings for word in ("--set-json", f"dashboards.{setting}")]
    objects = helm.objects(MINIMAL, *given)
    return [each for each in objects if any(name.endswith(".json") for name in each.get("data", {}))]


def test_there_are_none_unless_they_are_wanted(helm: Helm) -> None:
    assert config_maps(helm) == []


def test_each_dashboard_is_a_config_map_for_the_sidecar(helm: Helm) -> None:
    made = config_maps(helm, "enabled=true")
    assert [json.loads(text) for each in made for text in each["data"].values()] == [dashboard(file) for file in FILES]
    assert [name for each in made for name in each["data"]] == [f"{dashboard(file)['uid']}.json" for file in FILES]
    assert len({each["metadata"]["name"] for each in made}) == len(FILES)
    for each in made:
        assert each["kind"] == "ConfigMap"
        assert each["metadata"]["namespace"] == "data"
        assert each["metadata"]["labels"]["grafana_dashboard"] == "1"
        assert "annotations" not in each["metadata"]


def test_the_sidecar_may_have_wishes_of_its_own(helm: Helm) -> None:
    made = config_maps(
        helm,
        "enabled=true",
        'namespace="monitoring"',
        'labels={"grafana_dashboard": null, "dashboards": "yes"}',
        'annotations={"owner": "data"}',
        'folder="Lineage"',
        'folderAnnotation="k8s-sidecar-target-directory"',
    )
    assert len(made) == len(FILES)
    for each in made:
        assert each["metadata"]["namespace"] == "monitoring"
        assert each["metadata"]["labels"]["dashboards"] == "yes"
        assert "grafana_dashboard" not in each["metadata"]["labels"]
        wanted = {"owner": "data", "k8s-sidecar-target-directory": "Lineage"}
        assert each["metadata"]["annotations"] == wanted


@pytest.mark.parametrize("setting", ['lables={"a": "b"}', 'labels={"grafana_dashboard": 1}', 'folderAnnotation=""'])
def test_a_slip_is_refused(helm: Helm, setting: str) -> None:
    with pytest.raises(HelmRefusedError, match="dashboards"):
        config_maps(helm, "enabled=true", setting)


def test_panels_turn_red_where_alerts_fire() -> None:
    alerts = yaml.safe_load((CHART / "values.yaml").read_text())["prometheusRule"]["rules"]
    assert parse_duration(alerts["LineageDeliveryBehind"]["oldest"]).total_seconds() == limits.BEHIND_SECONDS
    assert alerts["LineageLedgerFilling"]["ratio"] == limits.LEDGER_FULL
    assert alerts["LineageSourceThrottled"]["share"] == limits.THROTTLED
    assert parse_duration(alerts["LineageClockSkew"]["skew"]).total_seconds() == limits.SKEW_SECONDS
    assert alerts["LineagePollFailing"]["intervals"] == limits.POLLS_MISSED
    assert parse_duration(alerts["LineageRunWaitingLong"]["oldest"]).total_seconds() == limits.WAITING_SECONDS
