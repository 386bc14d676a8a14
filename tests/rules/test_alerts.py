"""Each alert, rendered by the real Helm, fires, stays silent and resolves in the real promtool."""

from pathlib import Path
from typing import Any

import pytest

from tests import metric_names
from tests.rules import alert_rules
from tests.rules.alert_rules import Groups, Rule, as_file, everything_on, groups, rules_of
from tests.rules.cases import scenarios, unit_tests, words_test
from tests.servers.helm import Helm
from tests.servers.prometheus import Promtool

ALERTS = sorted(alert_rules.settings()["rules"])


@pytest.fixture(scope="module")
def rendered(helm: Helm) -> Groups:
    return groups(helm, everything_on())


@pytest.fixture(scope="module")
def rules(rendered: Groups) -> dict[str, Rule]:
    return rules_of(rendered)


def test_promtool_has_nothing_against_them(rendered: Groups, promtool: Promtool, tmp_path: Path) -> None:
    file = tmp_path / "all.yml"
    file.write_text(as_file(rendered))
    checked = promtool("check", "rules", "--lint=all", "--lint-fatal", str(file))
    assert checked.returncode == 0, checked.stdout + checked.stderr
    assert f"{len(ALERTS)} rules found" in checked.stdout


def test_every_alert_of_the_values_is_written_and_tested(rules: dict[str, Rule]) -> None:
    assert sorted(rules) == ALERTS
    assert sorted(scenarios()) == ALERTS


@pytest.mark.parametrize("alert", ALERTS)
def test_alert(alert: str, rules: dict[str, Rule], promtool: Promtool, tmp_path: Path) -> None:
    rule, scenario = rules[alert], scenarios()[alert]
    bare = {key: value for key, value in rule.items() if key != "annotations"}
    for name, written, tests in (("bare", bare, unit_tests), ("whole", rule, words_test)):
        (tmp_path / f"{name}.yml").write_text(as_file([{"name": name, "rules": [written]}]))
        (tmp_path / f"{name}.test.yml").write_text(tests(rule, scenario, f"{name}.yml"))
        done = promtool("test", "rules", str(tmp_path / f"{name}.test.yml"))
        assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("alert", ALERTS)
def test_the_cases_of_an_alert_are_complete(alert: str) -> None:
    cases = scenarios()[alert].cases
    assert any(case.fires for case in cases)
    assert any(not case.fires for case in cases)
    assert any(case.resolves for case in cases)


@pytest.mark.parametrize("alert", ALERTS)
def test_an_alert_says_what_a_person_needs(alert: str, rules: dict[str, Rule]) -> None:
    rule, text = rules[alert], scenarios()[alert].description
    summary = rule["annotations"]["summary"]
    assert summary.endswith(".")
    assert "{{" not in summary, "one summary for all alerts of a group"
    assert rule["annotations"]["runbook_url"].endswith(f"/docs/runbooks/{alert}.md")
    for case in scenarios()[alert].cases:
        for label in {"source", "sink", "lease"}.intersection(*(_labels(case.expect) or [set()])):
            assert f"$labels.{label}" in rule["annotations"]["description"], f"the {label} is not named"
    assert text.endswith((".", "`."))
    assert rule["labels"]["severity"] in {"critical", "warning", "info"}


@pytest.mark.parametrize("alert", ALERTS)
def test_an_alert_uses_what_there_is(alert: str, rules: dict[str, Rule]) -> None:
    expr = rules[alert]["expr"]
    assert metric_names.unknown(expr) == []
    assert ":" not in expr.replace("[6h:1m]", ""), "metrics have no colons"
    assert "<" not in expr.replace(" < ", "").replace("\n< ", ""), "a word was not filled in"


def _labels(expect: Any) -> list[set[str]]:
    return [set(labels) for alerts in expect.values() for labels in alerts]
