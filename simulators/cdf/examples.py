"""Transformations as a plant has them: tables of SAP and of a historian into a data model for maintenance."""

from typing import Any

from simulators.cdf.entities import Destination, Transformation
from simulators.cdf.project import Project


def _view(external_id: str) -> Destination:
    view = {"space": "sp_maintenance", "externalId": external_id, "version": "v1"}
    return {"type": "nodes", "view": view, "instanceSpace": "sp_plant"}


_FUNCTIONAL_LOCATIONS = """\
--- Functional locations of plant 1010, with their German or else English text
with texts as (
  select TPLNR, first(PLTXT) as PLTXT
  from `sap`.`iflotx`
  where SPRAS in ('D', 'E')
  group by TPLNR
)
select
  concat('floc:', f.TPLNR) as externalId,
  t.PLTXT as name,
  f.EQART as category,
  node_reference('sp_plant', concat('floc:', f.TPLMA)) as parent
from `sap`.`iflot` f
left join texts t on t.TPLNR = f.TPLNR
where f.IWERK = '1010'"""

_EQUIPMENT = """\
with current_location as (
  select EQUNR, ILOAN, row_number() over (partition by EQUNR order by DATBI desc) as newest
  from `sap`.`equz`
)
select
  concat('equipment:', e.EQUNR) as externalId,
  k.EQKTX as name,
  upper(trim(e.HERST)) as manufacturer,
  e.SERGE as serialNumber,
  to_timestamp(e.INBDT, 'yyyyMMdd') as installedAt,
  node_reference('sp_plant', concat('floc:', l.ILOAN)) as functionalLocation
from `sap`.`equi` e
join `sap`.`eqkt` k on k.EQUNR = e.EQUNR
left join current_location l on l.EQUNR = e.EQUNR and l.newest = 1
where is_new('equipment', e.lastUpdatedTime)"""

_ORDERS_CLEAN = """\
select
  concat('order:', a.AUFNR) as key,
  a.AUFNR as order_no,
  a.KTEXT as short_text,
  h.EQUNR as equipment_no,
  h.PRIOK as priority,
  to_date(a.GSTRP, 'yyyyMMdd') as planned_start,
  cast(a.USER4 as double) as estimated_cost
from `sap`.`aufk` a
join `sap`.`afih` h on h.AUFNR = a.AUFNR
where a.AUTYP = '30' and a.LOEKZ is null"""

_ORDERS = """\
select
  concat('order:', order_no) as externalId,
  short_text as title,
  case priority when '1' then 'immediate' when '2' then 'high' else 'normal' end as priority,
  planned_start as plannedStart,
  estimated_cost as estimatedCost,
  node_reference('sp_plant', concat('equipment:', equipment_no)) as equipment
from `clean`.`work_orders`"""

_TAGS = """\
select
  concat('pi:', p.tag) as externalId,
  p.descriptor as name,
  p.engunits as unit,
  p.pointtype in ('Digital', 'String') as isString
from `historian`.`pi_points` p
where p.pointsource = 'OPC_DCS'"""

_DATAPOINTS = """\
select
  concat('pi:', tag) as externalId,
  to_timestamp(ts) as timestamp,
  cast(value as double) as value
from `historian`.`pi_hourly`
where is_good = true"""

_PUMP_HEALTH = """\
--- Vibration of the last week against the open orders of each pump
with vibration as (
  select t.equipment_no, max(h.value) as worst, avg(h.value) as mean
  from `historian`.`pi_hourly` h
  join `historian`.`tag_map` t on t.tag = h.tag
  where t.signal = 'vibration'
  group by t.equipment_no
),
open_orders as (
  select equipment_no, count(order_no) as open_orders
  from `clean`.`work_orders`
  group by equipment_no
)
select
  concat('health:', e.serialNumber) as externalId,
  e.name as name,
  v.worst as worstVibration,
  v.mean as meanVibration,
  coalesce(o.open_orders, 0) as openOrders
from cdf_nodes('sp_maintenance', 'Equipment', 'v1') e
join vibration v on concat('equipment:', v.equipment_no) = e.externalId
left join open_orders o on o.equipment_no = v.equipment_no"""

_SPARE_PARTS = """\
--- The supplier's catalogue, as the data team leaves it in the warehouse, for the materials we stock
select
  concat('part:', p.part_number) as externalId,
  coalesce(m.MAKTX, p.description) as name,
  p.manufacturer as manufacturer,
  p.unit_price as unitPrice,
  p.currency as currency,
  cast(p.lead_time_days as int) as leadTimeDays
from `warehouse`.`spare_parts` p
left join `sap`.`makt` m on m.MFRPN = p.part_number"""

_DEFINITIONS: list[dict[str, Any]] = [
    {
        "external_id": "sap_functional_locations_to_model",
        "name": "Functional locations from SAP into the data model",
        "destination": _view("FunctionalLocation"),
        "query": _FUNCTIONAL_LOCATIONS,
        "schedule": "0 2 * * *",
        "tags": ["sap", "master-data"],
    },
    {
        "external_id": "sap_equipment_to_model",
        "name": "Equipment from SAP into the data model",
        "destination": _view("Equipment"),
        "query": _EQUIPMENT,
        "schedule": "*/15 * * * *",
        "tags": ["sap", "master-data"],
    },
    {
        "external_id": "sap_work_orders_clean",
        "name": "Work orders from SAP, cleaned",
        "destination": {"type": "raw", "database": "clean", "table": "work_orders"},
        "query": _ORDERS_CLEAN,
        "schedule": "*/5 * * * *",
        "tags": ["sap"],
    },
    {
        "external_id": "work_orders_to_model",
        "name": "Work orders into the data model",
        "destination": _view("WorkOrder"),
        "query": _ORDERS,
    },
    {
        "external_id": "historian_tags_to_timeseries",
        "name": "Historian tags to time series",
        "destination": {"type": "timeseries"},
        "query": _TAGS,
        "tags": ["historian"],
    },
    {
        "external_id": "historian_hourly_to_datapoints",
        "name": "Hourly values of the historian to data points",
        "destination": {"type": "datapoints"},
        "query": _DATAPOINTS,
        "schedule": "5 * * * *",
        "tags": ["historian"],
    },
    {
        "external_id": "pump_health_to_model",
        "name": "Pump health: vibration against open orders",
        "destination": _view("PumpHealth"),
        "query": _PUMP_HEALTH,
    },
    {
        "external_id": "spare_parts_to_model",
        "name": "Spare parts from the warehouse into the data model",
        "destination": _view("SparePart"),
        "query": _SPARE_PARTS,
    },
]


def populate(project: Project) -> list[Transformation]:
    """Adds eight transformations, chained by the tables and views that they read and write.

    What reads `raw/warehouse/spare_parts` is the end of a chain that begins on the other two simulated platforms.
    """
    return [project.add_transformation(**definition) for definition in _DEFINITIONS]
