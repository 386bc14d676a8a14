"""What can be said of the dashboards without a server: whole, unambiguous, about metrics that exist, made of their source."""

import json
import re
from pathlib import Path
from typing import Any

import pytest

from helm.dashboards.__main__ import FOLDER, made, written
from helm.dashboards.grafana import SCHEMA_VERSION
from tests.dashboards.dashboard_files import (
    ALL_OVER_AN_HOUR,
    FILES,
    dashboard,
    expressions,
    panels,
    queries,
    variables,
    with_everything_chosen,
)
from tests.metric_names import unknown
from tests.servers.prometheus import Promtool

DOCS = Path(__file__).parents[2] / "docs"
RUNBOOKS = DOCS / "runbooks"
each_dashboard = pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)


def test_the_files_are_those_that_the_source_makes() -> None:
    assert {file.name: file.read_text(encoding="utf-8") for file in FOLDER.glob("*")} == {
        name: written(of) for name, of in made().items()
    }, "run make chart"


def test_the_dashboards_can_be_distinguished_and_lead_to_each_other() -> None:
    dashboards = [dashboard(file) for file in FILES]
    uids = {each["uid"] for each in dashboards}
    assert len(uids) == len(dashboards) == 2
    assert len({each["title"] for each in dashboards}) == 2
    for each in dashboards:
        linked = {link["url"].removeprefix("/d/") for link in each["links"] if link["url"].startswith("/d/")}
        assert linked == uids - {each["uid"]}
        assert all(len(uid) <= 40 for uid in uids), "Grafana takes no longer ones"


@each_dashboard
def test_every_panel_says_what_it_shows(file: Path) -> None:
    numbers = [panel["id"] for panel in dashboard(file)["panels"]]
    assert len(set(numbers)) == len(numbers)
    titles = [panel["title"] for panel in panels(file) if panel["type"] != "stat"]
    assert len(set(titles)) == len(titles)
    for panel in panels(file):
        assert panel["title"], panel
        assert panel["description"].endswith("."), panel["title"]
        assert panel["fieldConfig"]["defaults"]["unit"], panel["title"]
        assert panel["targets"], panel["title"]
        steps = panel["fieldConfig"]["defaults"]["thresholds"]["steps"]
        assert [step["value"] for step in steps[1:]] == sorted(step["value"] for step in steps[1:]), panel["title"]
        refs = [target["refId"] for target in panel["targets"]]
        assert len(set(refs)) == len(refs)


@each_dashboard
def test_no_panel_lies_over_another_or_out_of_sight(file: Path) -> None:
    taken: set[tuple[int, int]] = set()
    for panel in dashboard(file)["panels"]:
        x, y, width, height = (panel["gridPos"][key] for key in ("x", "y", "w", "h"))
        cells = {(column, line) for column in range(x, x + width) for line in range(y, y + height)}
        assert not cells & taken, panel["title"]
        assert x + width <= 24, panel["title"]
        taken |= cells


@each_dashboard
def test_every_query_goes_to_the_chosen_data_source(file: Path) -> None:
    parsed = dashboard(file)
    assert (
        parsed["templating"]["list"][0] | {"name": "datasource", "type": "datasource", "query": "prometheus"}
        == (parsed["templating"]["list"][0])
    )
    chosen = {"type": "prometheus", "uid": "${datasource}"}
    grafana = {"type": "grafana", "uid": "-- Grafana --"}
    assert [each for each in values_of(parsed, "datasource") if each not in (chosen, grafana)] == []
    asking = [*panels(file), *(target for panel in panels(file) for target in panel["targets"])]
    assert all("datasource" in part for part in asking)


@each_dashboard
def test_the_variables_are_used_and_the_used_are_there(file: Path) -> None:
    used = set(re.findall(r"\$(?!__)(\w+)", " ".join(expressions(file))))
    assert used == variables(file).keys()


@each_dashboard
def test_every_metric_and_label_is_exported(file: Path) -> None:
    wrong = {expr: found for expr in expressions(file) if (found := unknown(expr))}
    assert wrong == {}


@each_dashboard
def test_promtool_accepts_every_expression(file: Path, promtool: Promtool, tmp_path: Path) -> None:
    rules = [
        {"record": f"panel:{number}", "expr": with_everything_chosen(expr, ALL_OVER_AN_HOUR)}
        for number, expr in enumerate(expressions(file))
    ]
    asked_for = tmp_path / "rules.json"
    asked_for.write_text(json.dumps({"groups": [{"name": "panels", "rules": rules}]}))
    checked = promtool("check", "rules", str(asked_for))
    assert checked.returncode == 0, checked.stderr
    assert f"{len(rules)} rules found" in checked.stdout


@each_dashboard
def test_rates_fit_the_scrape_interval(file: Path) -> None:
    """A window that somebody wrote down is too short for some scrape interval, but for those that mean a time."""
    for query in queries(file):
        for window in re.findall(r"rate\([^\[\]]*\[([^\]]+)\]", query.expr):
            assert window in {"$__rate_interval", "$__range"}, query


@each_dashboard
def test_the_links_lead_to_runbooks(file: Path) -> None:
    links = {link["url"] for panel in panels(file) for link in panel["links"]}
    assert links
    for link in links:
        address, _, name = link.rpartition("/")
        assert address == "https://github.com/lineage-collector/lineage-collector/blob/main/docs/runbooks"
        assert (RUNBOOKS / name).is_file(), name


def test_the_page_names_both_and_leads_somewhere() -> None:
    page = (DOCS / "dashboards.md").read_text(encoding="utf-8")
    links = re.findall(r"\]\((?!https)([^)#]+)", page)
    assert {Path(link).name for link in links} >= {file.name for file in FILES}
    assert [link for link in links if not (DOCS / link).exists()] == []
    assert f"schema {SCHEMA_VERSION} " in page


def values_of(tree: Any, key: str) -> list[Any]:
    """Every value under `key`, at any depth."""
    if isinstance(tree, list):
        return [found for each in tree for found in values_of(each, key)]
    if not isinstance(tree, dict):
        return []
    return [found for name, each in tree.items() for found in ([each] if name == key else values_of(each, key))]
