"""What each alert does, as the files in `scenarios/` describe it, and as promtool reads it."""

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import yaml

from tests.rules.alert_rules import RELEASE, Rule

Labels = Mapping[str, str]

TARGET = {"namespace": "data", "pod": f"{RELEASE}-0", "instance": "10.0.0.1:17817", "job": RELEASE}
"""What the operator puts on the series of the release's pod."""


@dataclass(frozen=True, slots=True)
class Case:
    """Series of one sample a minute, and the alerts that fire at moments such as `20m`, none where the list is empty."""

    about: str
    series: Mapping[str, str]
    expect: Mapping[str, Sequence[Labels]]

    @property
    def fires(self) -> bool:
        return any(self.expect.values())

    @property
    def resolves(self) -> bool:
        """Nothing fires after something did."""
        fired = [bool(self.expect[moment]) for moment in sorted(self.expect, key=_minutes)]
        return any(before and not any(fired[number:]) for number, before in enumerate(fired[:-1], 1))


@dataclass(frozen=True, slots=True)
class Scenario:
    """The cases of one alert; `description` is what a person reads when it fires first."""

    alert: str
    description: str
    cases: tuple[Case, ...]


@cache
def scenarios() -> dict[str, Scenario]:
    """By name of the alert."""
    by_alert = {}
    for file in sorted((Path(__file__).parent / "scenarios").glob("*.yaml")):
        for alert, body in yaml.safe_load(file.read_text()).items():
            by_alert[alert] = Scenario(alert, body["description"], tuple(Case(**case) for case in body["cases"]))
    return by_alert


def unit_tests(rule: Rule, scenario: Scenario, file: str) -> str:
    """A test file of promtool for the rule in `file`, which has no annotations."""
    return _file(file, [_test(rule, case, case.expect) for case in scenario.cases])


def words_test(rule: Rule, scenario: Scenario, file: str) -> str:
    """The same for the first time that it fires, with all annotations."""
    case = next(case for case in scenario.cases if case.fires)
    moment = next(moment for moment, alerts in case.expect.items() if alerts)
    words = {**rule["annotations"], "description": scenario.description}
    return _file(file, [_test(rule, case, {moment: case.expect[moment]}, words)])


def _file(rules: str, tests: Iterable[Mapping[str, Any]]) -> str:
    return yaml.safe_dump({"rule_files": [rules], "evaluation_interval": "1m", "tests": list(tests)})


def _test(
    rule: Rule, case: Case, expect: Mapping[str, Sequence[Labels]], words: Labels | None = None
) -> dict[str, Any]:
    series = [{"series": _targeted(name), "values": values} for name, values in case.series.items()]
    return {
        "name": f"{rule['alert']}: {case.about}",
        "interval": "1m",
        "input_series": series or [{"series": "unrelated", "values": "0x60"}],
        "alert_rule_test": [
            {
                "eval_time": moment,
                "alertname": rule["alert"],
                "exp_alerts": [_alert(rule, labels, words) for labels in alerts],
            }
            for moment, alerts in expect.items()
        ],
    }


def _alert(rule: Rule, labels: Labels, words: Labels | None) -> dict[str, Any]:
    alert: dict[str, Any] = {"exp_labels": {"namespace": TARGET["namespace"], **labels, **rule["labels"]}}
    return alert if words is None else {**alert, "exp_annotations": dict(words)}


def _targeted(series: str) -> str:
    """The series with the labels of its target, but for those that it has itself."""
    name, _, inside = series.removesuffix("}").partition("{")
    own = dict(re.findall(r'(\w+)="([^"]*)"', inside))
    matchers = [f'{label}="{value}"' for label, value in {**TARGET, **own}.items()]
    return f"{name}{{{', '.join(matchers)}}}"


def _minutes(moment: str) -> int:
    return int(moment.removesuffix("m"))
