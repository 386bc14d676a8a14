"""The chart's alert rules as Prometheus loads them, and as a plain rule file for a Prometheus without the operator."""

from typing import Any

import yaml

from tests.servers.helm import CHART, Helm

PLAIN = CHART.parents[1] / "docs" / "prometheus" / "lineage-collector.rules.yml"
RUNBOOKS = CHART.parents[1] / "docs" / "runbooks"
RELEASE = "lineage-collector"
MINIMAL = CHART / "ci" / "minimal-values.yaml"

Rule = dict[str, Any]
Groups = list[dict[str, Any]]

_HEAD = """\
# Alert rules for a Prometheus without the operator: the chart's, as they are by default. Made by `make chart`; do not edit.
# They expect this in prometheus.yml:
#
#   rule_files: [lineage-collector.rules.yml]
#   scrape_configs:
#     - job_name: lineage-collector
#       honor_labels: true          # keeps the program's own label `job`
#       static_configs: [{targets: ["127.0.0.1:17817"]}]
#
# Other thresholds, or the alerts that are off by default: render the chart with your own `prometheusRule.rules`,
# `selector: ""` and `targetSelector: job="..."`.
"""


def settings() -> dict[str, Any]:
    """The section `prometheusRule` of the chart's values."""
    return dict(yaml.safe_load((CHART / "values.yaml").read_text())["prometheusRule"])


def page_of(alert: str) -> str:
    """The page with the cause of this alert, as the rules of the chart have it."""
    written = yaml.safe_load((CHART / "rules" / "alerts.yaml").read_text())
    return next(str(rule["page"]) for group in written for rule in group["rules"] if rule["alert"] == alert)


def groups(helm: Helm, changes: dict[str, Any] | None = None, *, release: str = RELEASE) -> Groups:
    """`spec.groups` with these values of `prometheusRule`."""
    return list(rule_object(helm, changes, release=release)["spec"]["groups"])


def rule_object(helm: Helm, changes: dict[str, Any] | None = None, *, release: str = RELEASE) -> dict[str, Any]:
    values = yaml.safe_load(MINIMAL.read_text()) | {"prometheusRule": {"enabled": True, **(changes or {})}}
    only = ("--show-only", "templates/prometheusrule.yaml")
    [rendered] = helm.objects(values, *only, release=release)
    return rendered


def everything_on(**changes: dict[str, Any]) -> dict[str, Any]:
    """Values with every alert enabled, and `changes` of single ones."""
    return {"rules": {name: {"enabled": True, **changes.get(name, {})} for name in settings()["rules"]}}


def rules_of(found: Groups) -> dict[str, Rule]:
    """The alerts by name."""
    return {rule["alert"]: rule for group in found for rule in group["rules"]}


def as_file(found: Groups) -> str:
    """What Prometheus reads under `rule_files`."""
    return yaml.dump({"groups": found}, Dumper=_Dumper, sort_keys=False, width=120)


def plain(helm: Helm) -> str:
    return _HEAD + as_file(groups(helm, {"selector": "", "targetSelector": f'job="{RELEASE}"'}))


class _Dumper(yaml.SafeDumper):
    """Texts of several lines as they are written."""


def _text(dumper: yaml.SafeDumper, text: str) -> yaml.ScalarNode:
    return dumper.represent_scalar("tag:yaml.org,2002:str", text, style="|" if "\n" in text else None)


_Dumper.add_representer(str, _text)
