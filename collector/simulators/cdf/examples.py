"""Transformations as a plant might have them, for the demo and for `lineage-collector simulate`."""

from typing import Any

from collector.simulators.cdf.entities import Transformation
from collector.simulators.cdf.project import Project

_DEFINITIONS: list[dict[str, Any]] = [
    {
        "external_id": "sap_pumps_to_assets",
        "name": "Pumps from SAP to assets",
        "destination": {"type": "assets"},
        "query": "select `key` as externalId, cast(`description` as string) as name from `sap`.`pumps`"
        " where is_new('pumps', lastUpdatedTime)",
        "schedule": "*/15 * * * *",
        "tags": ["sap"],
    },
    {
        "external_id": "historian_tags_to_timeseries",
        "name": "Historian tags to time series",
        "destination": {"type": "timeseries"},
        "query": "select t.tag as externalId, t.unit as unit, a.id as assetId\n"
        "from `historian`.`tags` t join _cdf.assets a on a.externalId = t.pump",
    },
    {
        "external_id": "pumps_to_model",
        "name": "Pumps into the data model",
        "destination": {
            "type": "nodes",
            "view": {"space": "sp_core", "externalId": "Pump", "version": "v1"},
            "instanceSpace": "sp_plant",
        },
        "query": "select p.`key` as externalId, p.description as name, p.weight as weight from `sap`.`pumps` p",
    },
    {
        "external_id": "workorders_clean",
        "name": "Work orders cleaned",
        "destination": {"type": "raw", "database": "clean", "table": "workorders"},
        "query": "with open_orders as (select * from `sap`.`workorders` where status != 'CLSD')\n"
        "select `key`, order_no, pump, cost from open_orders",
    },
    {
        "external_id": "workorders_to_events",
        "name": "Work orders to events",
        "destination": {"type": "events"},
        "query": "select order_no as externalId, cost as metadata from `clean`.`workorders`",
        "conflict_mode": "delete",
    },
]


def populate(project: Project) -> list[Transformation]:
    """Adds five transformations, chained by the tables and resources that they read and write."""
    return [project.add_transformation(**definition) for definition in _DEFINITIONS]
