"""What the chart's values make of the alert rules."""

import re
from typing import Any

import pytest

from tests import metric_names
from tests.rules.alert_rules import PLAIN, everything_on, groups, page_of, plain, rule_object, rules_of, settings
from tests.servers.helm import Helm, HelmRefusedError
from tests.servers.prometheus import Promtool

SPECIFIED = {
    "LineageCollectorDown": ("5m", "critical"),
    "LineagePollFailing": ("10m", "warning"),
    "LineageSourceAuthFailing": ("5m", "critical"),
    "LineageSourceThrottled": ("30m", "warning"),
    "LineageDeliveryBehind": ("15m", "critical"),
    "LineageLedgerFilling": ("10m", "warning"),
    "LineageEventsParked": ("0s", "warning"),
    "LineageRunStale": ("10m", "warning"),
    "LineageLeaseUnheld": ("5m", "warning"),
    "LineageLeaseHeldTwice": ("5m", "critical"),
    "LineageReplicasDiffer": ("30m", "warning"),
    "LineageClockSkew": ("10m", "info"),
    "LineageLedgerReset": ("0s", "critical"),
}


def test_what_wakes_people_by_default(helm: Helm) -> None:
    rules = rules_of(groups(helm))
    assert {name: (rule["for"], rule["labels"]["severity"]) for name, rule in rules.items() if name in SPECIFIED} == (
        SPECIFIED
    )
    off = {name for name, alert in settings()["rules"].items() if not alert["enabled"]}
    assert set(rules) == set(settings()["rules"]) - off
    assert {settings()["rules"][name]["severity"] for name in off} == {"info"}


def test_there_are_none_unless_asked_for(helm: Helm) -> None:
    with pytest.raises(HelmRefusedError, match="could not find template"):
        rule_object(helm, {"enabled": False})


def test_one_alert_is_set_by_its_values(helm: Helm) -> None:
    changed = {
        "for": "1h30m",
        "severity": "page",
        "oldest": "1h1m1s",
        "window": "7m",
        "labels": {"team": "data"},
        "annotations": {"dashboard_url": "https://grafana.example.com/d/x?var-sink={{ $labels.sink }}"},
    }
    rules = rules_of(groups(helm, {"rules": {"LineageDeliveryBehind": changed}}))
    rule = rules["LineageDeliveryBehind"]
    assert rule["for"] == "1h30m"
    assert rule["labels"] == {"severity": "page", "service": "lineage-collector", "team": "data"}
    assert rule["annotations"]["dashboard_url"].endswith("{{ $labels.sink }}")
    assert "[7m])) > 3661\n" in rule["expr"]
    assert rules["LineageEventsParked"]["labels"]["severity"] == "warning"
    assert not {"dashboard_url", "page_url"} & {*rules["LineageEventsParked"]["annotations"]}


def test_what_is_said_for_all_alerts(helm: Helm) -> None:
    own = {"name": "mine", "rules": [{"alert": "Mine", "expr": "vector(1)", "annotations": {"a": "{{ $value }}"}}]}
    made = rule_object(
        helm,
        {
            "namespace": "monitoring",
            "labels": {"release": "kube-prometheus-stack"},
            "annotations": {"note": "x"},
            "runbookUrl": "https://wiki.example.com/lineage/",
            "pagesUrl": "https://lineage.example.com/",
            "aggregateBy": ["cluster", "namespace"],
            "interval": "1m",
            "ruleLabels": {"team": "data", "service": "lineage"},
            "ruleAnnotations": {"contact": "data@example.com"},
            "additionalGroups": [own],
        },
    )
    assert made["metadata"]["namespace"] == "monitoring"
    assert made["metadata"]["labels"]["release"] == "kube-prometheus-stack"
    assert made["metadata"]["annotations"] == {"note": "x"}
    *ours, last = made["spec"]["groups"]
    assert last == own
    assert {group["interval"] for group in ours} == {"1m"}
    for name, rule in rules_of(ours).items():
        assert rule["labels"] == {"severity": rule["labels"]["severity"], "team": "data", "service": "lineage"}
        assert rule["annotations"]["runbook_url"] == f"https://wiki.example.com/lineage/{name}.md"
        assert rule["annotations"]["contact"] == "data@example.com"
        assert rule["annotations"]["page_url"] == f"https://lineage.example.com{page_of(name)}"
        assert "(namespace" not in rule["expr"]


def test_a_group_without_alerts_is_left_out(helm: Helm) -> None:
    off = {name: {"enabled": False} for name in settings()["rules"]}
    assert groups(helm, {"rules": off}) == []
    one = groups(helm, {"rules": {**off, "LineageRunStale": {"enabled": True}}})
    assert [group["name"] for group in one] == ["lineage-collector-runs"]


@pytest.mark.parametrize(
    ("changes", "complaint"),
    [
        ({"rules": {"LineageCollectorDwn": {"enabled": False}}}, "LineageCollectorDwn"),
        ({"rules": {"LineageCollectorDown": {"oldest": "5m"}}}, "oldest"),
        ({"rules": {"LineageCollectorDown": {"for": "5 minutes"}}}, "for"),
        ({"rules": {"LineageCollectorDown": {"for": 300}}}, "for"),
        ({"rules": {"LineageCollectorDown": {"severity": ""}}}, "severity"),
        ({"rules": {"LineageCollectorDown": {"severity": None}}}, "severity"),
        ({"rules": {"LineageDeliveryBehind": {"window": "0s"}}}, "window"),
        ({"rules": {"LineageSourceThrottled": {"share": 20}}}, "share"),
        ({"rules": {"LineageRunFailing": {"failures": 2.5}}}, "failures"),
        ({"rules": {"LineageRunFailing": {"labels": {"a-b": "c"}}}}, "a-b"),
        ({"selector": '{job="x"}'}, "selector"),
        ({"targetSelector": ""}, "targetSelector"),
        ({"aggregateBy": []}, "aggregateBy"),
        ({"additionalGroups": [{"rules": []}]}, "additionalGroups"),
        ({"runbookURL": "https://example.com"}, "runbookURL"),
    ],
)
def test_a_slip_is_refused(changes: dict[str, Any], complaint: str, helm: Helm) -> None:
    with pytest.raises(HelmRefusedError, match=complaint):
        groups(helm, changes)


def test_two_releases_do_not_mix(helm: Helm) -> None:
    """Every series is asked for by the namespace and the pods of the release; alerts carry the release's name."""
    for name, rule in rules_of(groups(helm, everything_on(), release="second")).items():
        matchers = re.findall(r"\b(?:lineage|process)_\w+\{([^}]*)\}|\bup\{([^}]*)\}", rule["expr"])
        asked = re.findall(r"\b(?:(?:lineage|process)_\w+|up)\b(?!\()", re.sub(r'"[^"]*"', "", rule["expr"]))
        assert len(matchers) == len(asked), name
        for inside in map("".join, matchers):
            assert inside.startswith('namespace="data", pod=~"second-lineage-collector-[0-9]+"'), name
        assert rule["labels"]["service"] == "second-lineage-collector"


def test_the_values_of_labels_exist(helm: Helm) -> None:
    known = metric_names.label_values()
    compared = 0
    for name, rule in rules_of(groups(helm, everything_on())).items():
        for metric, inside in re.findall(r"\b(lineage_\w+)\{([^}]*)\}", rule["expr"]):
            for label, value in re.findall(r'(\w+)=~?"([^"]*)"', inside):
                if label not in metric_names.OF_TARGETS:
                    assert set(value.split("|")) <= known[metric][label], f"{name}: {metric} {label}"
                    compared += 1
    assert compared > 10


def test_every_metric_that_the_alerts_join_by_instance_has_one_series_a_process(helm: Helm) -> None:
    """The age of the process is one series, so that a join by instance is never ambiguous."""
    assert metric_names.exported()["process_start_time_seconds"] == frozenset()
    assert metric_names.exported()["lineage_ledger_resets_total"] == frozenset()


def test_the_plain_rule_file_is_current(helm: Helm, promtool: Promtool) -> None:
    assert plain(helm) == PLAIN.read_text(), "run `make chart`"
    assert "namespace=" not in PLAIN.read_text()
    checked = promtool("check", "rules", "--lint=all", "--lint-fatal", str(PLAIN))
    assert checked.returncode == 0, checked.stdout + checked.stderr
