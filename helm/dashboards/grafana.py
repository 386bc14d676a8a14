"""Panels, variables and dashboards as Grafana's JSON (classic model, schema 42 of Grafana 12; older ones read it too)."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from collector.lineage.custom_facets import REPOSITORY

Json = dict[str, Any]

SOURCE: Json = {"type": "prometheus", "uid": "${datasource}"}
RUNBOOKS = f"{REPOSITORY}/blob/main/docs/runbooks"
SCHEMA_VERSION = 42
_COLUMNS = 24


@dataclass(frozen=True, slots=True)
class Query:
    """One line of a panel's legend, or with `{{label}}` in `legend` one per series. `instant` asks for the end of the
    shown time only, `exemplars` for the run ids that histograms carry.
    """

    expr: str
    legend: str = ""
    instant: bool = False
    exemplars: bool = False

    def json(self, ref: str, *, table: bool) -> Json:
        instant = self.instant or table
        return {
            "refId": ref,
            "datasource": SOURCE,
            "editorMode": "code",
            "expr": self.expr,
            "format": "table" if table else "time_series",
            "legendFormat": self.legend,
            "instant": instant,
            "range": not instant,
            "exemplar": self.exemplars,
        }


@dataclass(frozen=True, slots=True)
class Panel:
    """`limits` colour from a value on, `runbooks` are names of alerts. `fields`, `custom` and `options` are Grafana's own
    words for what differs from the default of the type.
    """

    type: str
    title: str
    description: str
    unit: str
    queries: Sequence[Query]
    width: int = 8
    height: int = 8
    limits: Sequence[tuple[float, str]] = ()
    runbooks: Sequence[str] = ()
    fields: Mapping[str, Any] = field(default_factory=dict)
    custom: Mapping[str, Any] = field(default_factory=dict)
    options: Mapping[str, Any] = field(default_factory=dict)
    overrides: Sequence[Json] = ()
    transformations: Sequence[Json] = ()

    def json(self, number: int, x: int, y: int) -> Json:
        table = self.type == "table"
        return {
            "id": number,
            "type": self.type,
            "title": self.title,
            "description": self.description,
            "datasource": SOURCE,
            "gridPos": {"x": x, "y": y, "w": self.width, "h": self.height},
            "links": [
                {"title": f"Runbook: {name}", "url": f"{RUNBOOKS}/{name}.md", "targetBlank": True}
                for name in self.runbooks
            ],
            "fieldConfig": {"defaults": self._defaults(), "overrides": list(self.overrides)},
            "options": dict(self.options),
            "targets": [query.json(chr(ord("A") + i), table=table) for i, query in enumerate(self.queries)],
            "transformations": list(self.transformations),
        }

    def _defaults(self) -> Json:
        steps = [{"color": "green", "value": None}, *({"color": color, "value": at} for at, color in self.limits)]
        return {
            "unit": self.unit,
            "color": {"mode": "palette-classic" if self.type == "timeseries" else "thresholds"},
            "custom": dict(self.custom),
            "mappings": [],
            "thresholds": {"mode": "absolute", "steps": steps},
            **self.fields,
        }


def stat(title: str, description: str, unit: str, expr: str, **more: Any) -> Panel:
    """One number, the newest."""
    options = {
        "colorMode": "value",
        "graphMode": "area",
        "justifyMode": "auto",
        "orientation": "auto",
        "reduceOptions": {"calcs": ["lastNotNull"], "fields": "", "values": False},
        "textMode": "auto",
        "wideLayout": True,
    }
    instant = more.pop("instant", False)
    sized = {"width": 3, "height": 4, **more}
    return Panel("stat", title, description, unit, [Query(expr, instant=instant)], options=options, **sized)


def graph(title: str, description: str, unit: str, *queries: Query, stacked: bool = False, **more: Any) -> Panel:
    """Lines over time from zero on, with their limits dashed."""
    custom = {
        "drawStyle": "line",
        "lineWidth": 1,
        "fillOpacity": 25 if stacked else 8,
        "showPoints": "never",
        "spanNulls": False,
        "stacking": {"mode": "normal" if stacked else "none", "group": "A"},
        "thresholdsStyle": {"mode": "dashed" if more.get("limits") else "off"},
    }
    options = {
        "legend": {"displayMode": "list", "placement": "bottom", "showLegend": True, "calcs": []},
        "tooltip": {"mode": "multi", "sort": "desc"},
    }
    fields = {"min": 0, **more.pop("fields", {})}
    return Panel("timeseries", title, description, unit, queries, custom=custom, options=options, fields=fields, **more)


def timeline(title: str, description: str, query: Query, states: Mapping[int, tuple[str, str]], **more: Any) -> Panel:
    """A row per series, coloured by its state: the words and the colour of each value."""
    mapping = {
        str(value): {"text": text, "color": color, "index": i}
        for i, (value, (text, color)) in enumerate(states.items())
    }
    fields = {"mappings": [{"type": "value", "options": mapping}]}
    options = {
        "alignValue": "left",
        "mergeValues": True,
        "rowHeight": 0.8,
        "showValue": "never",
        "legend": {"displayMode": "list", "placement": "bottom", "showLegend": True},
        "tooltip": {"mode": "single", "sort": "none"},
    }
    custom = {"fillOpacity": 70, "lineWidth": 0}
    return Panel(
        "state-timeline", title, description, "none", [query], fields=fields, custom=custom, options=options, **more
    )


def bars(title: str, description: str, unit: str, query: Query, **more: Any) -> Panel:
    """One bar per series, of now."""
    options = {
        "displayMode": "basic",
        "orientation": "horizontal",
        "valueMode": "color",
        "showUnfilled": True,
        "reduceOptions": {"calcs": ["lastNotNull"], "fields": "", "values": False},
        "legend": {"displayMode": "list", "placement": "bottom", "showLegend": False, "calcs": []},
    }
    fields = {"min": 0, **more.pop("fields", {})}
    return Panel("bargauge", title, description, unit, [query], options=options, fields=fields, **more)


@dataclass(frozen=True, slots=True)
class Column:
    """A column: `field` is a label, or `Value` (with ` #A` and so on where there are several queries)."""

    field: str
    title: str
    unit: str | None = None
    mappings: Sequence[Json] = ()
    links: Sequence[Json] = ()
    width: int | None = None

    def override(self) -> Json:
        properties: list[Json] = []
        if self.unit is not None:
            properties.append({"id": "unit", "value": self.unit})
        if self.mappings:
            properties.append({"id": "mappings", "value": list(self.mappings)})
            properties.append({"id": "custom.cellOptions", "value": {"type": "color-text"}})
        if self.links:
            properties.append({"id": "links", "value": list(self.links)})
        if self.width is not None:
            properties.append({"id": "custom.width", "value": self.width})
        return {"matcher": {"id": "byName", "options": self.title}, "properties": properties}


def table(
    title: str, description: str, unit: str, exprs: Sequence[str], columns: Sequence[Column], *, by: str, **more: Any
) -> Panel:
    """The rows of all queries joined by their labels, in the order of `columns`, the largest of the column `by` first."""
    shown = {column.field for column in columns}
    organize = {
        "indexByName": {column.field: i for i, column in enumerate(columns)},
        "renameByName": {column.field: column.title for column in columns},
        "excludeByName": {"Time": True, **{value: True for value in _values(len(exprs)) if value not in shown}},
    }
    transformations: list[Json] = [
        {"id": "merge", "options": {}},
        {"id": "organize", "options": organize},
        {"id": "sortBy", "options": {"fields": {}, "sort": [{"field": by, "desc": True}]}},
    ]
    overrides = [column.override() for column in columns if column.override()["properties"]]
    return Panel(
        "table",
        title,
        description,
        unit,
        [Query(expr) for expr in exprs],
        custom={"align": "auto", "cellOptions": {"type": "auto"}, "filterable": True, "inspect": False},
        options={"cellHeight": "sm", "showHeader": True},
        overrides=overrides,
        transformations=transformations,
        **more,
    )


def _values(queries: int) -> list[str]:
    """What Grafana calls the values' columns."""
    return ["Value"] if queries == 1 else [f"Value #{chr(ord('A') + i)}" for i in range(queries)]


@dataclass(frozen=True, slots=True)
class Variable:
    """A choice among the values of a label. A series without the label counts as chosen while all are."""

    name: str
    title: str
    values: str

    def json(self) -> Json:
        return {
            "name": self.name,
            "label": self.title,
            "type": "query",
            "datasource": SOURCE,
            "definition": self.values,
            "query": {"qryType": 1, "query": self.values, "refId": "PrometheusVariableQueryEditor-VariableQuery"},
            "refresh": 2,
            "sort": 1,
            "multi": True,
            "includeAll": True,
            "allValue": ".*",
            "current": {"text": ["All"], "value": ["$__all"]},
            "options": [],
            "regex": "",
            "hide": 0,
        }


@dataclass(frozen=True, slots=True)
class Dashboard:
    """`rows` are panels under their headings; they flow from left to right. `siblings` are uids by title."""

    uid: str
    title: str
    description: str
    span: str
    variables: Sequence[Variable]
    rows: Mapping[str, Sequence[Panel]]
    siblings: Mapping[str, str]
    restarts: str

    def json(self) -> Json:
        return {
            "uid": self.uid,
            "title": self.title,
            "description": self.description,
            "tags": ["lineage-collector", "openlineage"],
            "schemaVersion": SCHEMA_VERSION,
            "version": 1,
            "editable": True,
            "graphTooltip": 1,
            "fiscalYearStartMonth": 0,
            "preload": False,
            "refresh": "1m",
            "time": {"from": f"now-{self.span}", "to": "now"},
            "timepicker": {},
            "timezone": "browser",
            "weekStart": "",
            "links": self._links(),
            "annotations": {"list": [_ALERTS_OF_GRAFANA, _restarts(self.restarts)]},
            "templating": {"list": [_DATASOURCE, *(variable.json() for variable in self.variables)]},
            "panels": list(self._panels()),
        }

    def _links(self) -> list[Json]:
        others = [
            _link(title, f"/d/{uid}", icon="dashboard", new_tab=False) | {"keepTime": True, "includeVars": True}
            for title, uid in self.siblings.items()
        ]
        return [*others, _link("Runbooks", RUNBOOKS.replace("/blob/", "/tree/"), icon="doc")]

    def _panels(self) -> Iterator[Json]:
        number, y = 0, 0
        for heading, panels in self.rows.items():
            number += 1
            yield _row(number, heading, y)
            x, y, tallest = 0, y + 1, 0
            for panel in panels:
                if x + panel.width > _COLUMNS:
                    x, y, tallest = 0, y + tallest, 0
                number += 1
                yield panel.json(number, x, y)
                x, tallest = x + panel.width, max(tallest, panel.height)
            y += tallest


def _row(number: int, title: str, y: int) -> Json:
    place = {"x": 0, "y": y, "w": _COLUMNS, "h": 1}
    return {"id": number, "type": "row", "title": title, "collapsed": False, "gridPos": place, "panels": []}


def _link(title: str, url: str, *, icon: str = "external link", new_tab: bool = True) -> Json:
    return {"type": "link", "title": title, "url": url, "icon": icon, "targetBlank": new_tab}


def _restarts(expr: str) -> Json:
    """A line at each start of a process: the value is when that was, in milliseconds."""
    return {
        "name": "Restarts",
        "datasource": SOURCE,
        "enable": True,
        "iconColor": "orange",
        "expr": expr,
        "useValueForTime": "on",
        "titleFormat": "Collector started",
        "textFormat": "{{instance}}",
    }


_ALERTS_OF_GRAFANA = {
    "name": "Annotations & Alerts",
    "builtIn": 1,
    "datasource": {"type": "grafana", "uid": "-- Grafana --"},
    "enable": True,
    "hide": True,
    "iconColor": "rgba(0, 211, 255, 1)",
    "type": "dashboard",
}
_DATASOURCE = {
    "name": "datasource",
    "label": "Data source",
    "type": "datasource",
    "query": "prometheus",
    "current": {},
    "options": [],
    "refresh": 1,
    "regex": "",
    "multi": False,
    "includeAll": False,
    "hide": 0,
}
