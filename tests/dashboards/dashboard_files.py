"""The dashboards in the chart, as Grafana reads them: panels, queries, variables."""

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any

FOLDER = Path(__file__).parents[2] / "helm" / "lineage-collector" / "dashboards"
FILES = tuple(sorted(FOLDER.glob("*.json")))
ALL_OVER_AN_HOUR = MappingProxyType({"__rate_interval": "5m", "__range": "1h", "__interval": "1m", "__range_s": "3600"})
_VARIABLE = re.compile(r"\$(?:\{(\w+)\}|(\w+))")
_LABEL_VALUES = re.compile(r"label_values\((?P<series>.+), (?P<label>\w+)\)")


@dataclass(frozen=True, slots=True)
class PanelQuery:
    """A query of a panel. `instant`: Grafana asks for the end of the shown time alone."""

    panel: str
    expr: str
    legend: str
    instant: bool

    @property
    def labels(self) -> set[str]:
        """Those that the legend names."""
        return set(re.findall(r"\{\{\s*(\w+)\s*\}\}", self.legend))


def dashboard(file: Path) -> dict[str, Any]:
    parsed: dict[str, Any] = json.loads(file.read_text(encoding="utf-8"))
    return parsed


def panels(file: Path) -> list[dict[str, Any]]:
    """All but the headings."""
    return [panel for panel in dashboard(file)["panels"] if panel["type"] != "row"]


def queries(file: Path) -> Iterator[PanelQuery]:
    for panel in panels(file):
        for target in panel["targets"]:
            yield PanelQuery(panel["title"], target["expr"], target["legendFormat"], target["instant"])


def variables(file: Path) -> dict[str, str]:
    """The choices by name of the variable, each as PromQL that has a series for every value."""
    found = {}
    for variable in dashboard(file)["templating"]["list"]:
        if variable["type"] == "query" and (query := _LABEL_VALUES.fullmatch(variable["definition"])):
            found[variable["name"]] = f"group by ({query['label']}) ({query['series']})"
    return found


def annotations(file: Path) -> list[str]:
    return [each["expr"] for each in dashboard(file)["annotations"]["list"] if "expr" in each]


def expressions(file: Path) -> list[str]:
    return [*(query.expr for query in queries(file)), *variables(file).values(), *annotations(file)]


def with_everything_chosen(expr: str, times: Mapping[str, str]) -> str:
    """As Grafana sends it while every variable stands on All. KeyError for a variable that Grafana does not make."""

    def value(match: re.Match[str]) -> str:
        name = match[1] or match[2]
        return times[name] if name.startswith("__") else ".*"

    return _VARIABLE.sub(value, expr)
