"""What is true of the demo's plant, written down by hand: which job reads and writes what, column by column.

Names are (namespace, name); the namespaces of the three platforms are their words, for addresses differ from run to run.
"""

Name = tuple[str, str]

CDF, WETRANSFORM, DATAPREP = "cdf", "wetransform", "dataprep"
LANDING, CURATED, BIGQUERY = "gs://plant-landing", "gs://plant-curated", "bigquery"
ERP, SUPPLIER = "postgres://erp-replica.example.com:5432", "sftp://files.nordic-pumps.example"

SPARE_PARTS_FILE = "3f0c1f52-6a51-4f0e-9d0a-5a1d6f8f2c01"
HOURS_FILE = "b7d1a0c4-0f35-4b59-8f16-8c1c5a3a7e02"
SAMPLES_FILE = "e92b6d38-3c7a-4a0e-b1f4-7f5d2e9c4a03"


def _view(name: str) -> Name:
    return CDF, f"views/sp_maintenance/{name}/v1"


def _raw(name: str) -> Name:
    return CDF, f"raw/{name}"


FLOWS: dict[Name, tuple[set[Name], set[Name]]] = {
    (CDF, "transformation/sap_functional_locations_to_model"): (
        {_raw("sap/iflot"), _raw("sap/iflotx")},
        {_view("FunctionalLocation")},
    ),
    (CDF, "transformation/sap_equipment_to_model"): (
        {_raw("sap/equi"), _raw("sap/eqkt"), _raw("sap/equz")},
        {_view("Equipment")},
    ),
    (CDF, "transformation/sap_work_orders_clean"): ({_raw("sap/aufk"), _raw("sap/afih")}, {_raw("clean/work_orders")}),
    (CDF, "transformation/work_orders_to_model"): ({_raw("clean/work_orders")}, {_view("WorkOrder")}),
    (CDF, "transformation/historian_tags_to_timeseries"): ({_raw("historian/pi_points")}, {(CDF, "timeseries")}),
    (CDF, "transformation/historian_hourly_to_datapoints"): ({_raw("historian/pi_hourly")}, {(CDF, "datapoints")}),
    (CDF, "transformation/pump_health_to_model"): (
        {_view("Equipment"), _raw("historian/pi_hourly"), _raw("historian/tag_map"), _raw("clean/work_orders")},
        {_view("PumpHealth")},
    ),
    (CDF, "transformation/spare_parts_to_model"): (
        {(BIGQUERY, "acme-plant.maintenance.spare_parts"), _raw("sap/makt")},
        {_view("SparePart")},
    ),
    (WETRANSFORM, f"transformation/{SPARE_PARTS_FILE}"): (
        {(SUPPLIER, "outbox/spare-parts.xlsx")},
        {(LANDING, "deliveries/spare-parts.csv")},
    ),
    (WETRANSFORM, f"transformation/{HOURS_FILE}"): (
        {(WETRANSFORM, "sources/1c8e2f0a-54d9-4f43-a8b6-2d7f4b6c9e02")},
        {(LANDING, "deliveries/contractor-hours.csv")},
    ),
    (WETRANSFORM, f"transformation/{SAMPLES_FILE}"): (
        {(WETRANSFORM, "sources/9a4d7c16-2b8e-4e65-93d1-6c3f8a1b5d03")},
        {(LANDING, "deliveries/lab-results.csv")},
    ),
    (DATAPREP, "recipe/spare-parts.catalogue"): (
        {(LANDING, "deliveries/spare-parts.csv"), (ERP, "erp.public.materials")},
        {(CURATED, "spare-parts/catalogue.csv"), (BIGQUERY, "acme-plant.maintenance.spare_parts")},
    ),
    (DATAPREP, "recipe/contractors.hours"): (
        {(LANDING, "deliveries/contractor-hours.csv"), (ERP, "erp.public.cost_centers")},
        {(CURATED, "contractors/hours.csv"), (BIGQUERY, "acme-plant.maintenance.contractor_hours")},
    ),
    (DATAPREP, "recipe/laboratory.results"): (
        {(LANDING, "deliveries/lab-results.csv"), (LANDING, "lims/*.csv")},
        {(CURATED, "laboratory/results.csv"), (BIGQUERY, "acme-plant.quality.lab_results")},
    ),
}
"""What each job reads and writes."""

CHAIN: list[Name] = [
    (SUPPLIER, "outbox/spare-parts.xlsx"),
    (WETRANSFORM, f"transformation/{SPARE_PARTS_FILE}"),
    (LANDING, "deliveries/spare-parts.csv"),
    (DATAPREP, "recipe/spare-parts.catalogue"),
    (BIGQUERY, "acme-plant.maintenance.spare_parts"),
    (CDF, "transformation/spare_parts_to_model"),
    _view("SparePart"),
]
"""One chain over the three platforms."""

COLUMNS: dict[Name, dict[str, set[tuple[Name, str]]]] = {
    _view("FunctionalLocation"): {
        "externalId": {(_raw("sap/iflot"), "TPLNR")},
        "name": {(_raw("sap/iflotx"), "PLTXT")},
        "category": {(_raw("sap/iflot"), "EQART")},
        "parent": {(_raw("sap/iflot"), "TPLMA")},
    },
    _view("Equipment"): {
        "externalId": {(_raw("sap/equi"), "EQUNR")},
        "name": {(_raw("sap/eqkt"), "EQKTX")},
        "manufacturer": {(_raw("sap/equi"), "HERST")},
        "serialNumber": {(_raw("sap/equi"), "SERGE")},
        "installedAt": {(_raw("sap/equi"), "INBDT")},
        "functionalLocation": {(_raw("sap/equz"), "ILOAN")},
    },
    _raw("clean/work_orders"): {
        "key": {(_raw("sap/aufk"), "AUFNR")},
        "order_no": {(_raw("sap/aufk"), "AUFNR")},
        "short_text": {(_raw("sap/aufk"), "KTEXT")},
        "equipment_no": {(_raw("sap/afih"), "EQUNR")},
        "priority": {(_raw("sap/afih"), "PRIOK")},
        "planned_start": {(_raw("sap/aufk"), "GSTRP")},
        "estimated_cost": {(_raw("sap/aufk"), "USER4")},
    },
    _view("WorkOrder"): {
        "externalId": {(_raw("clean/work_orders"), "order_no")},
        "title": {(_raw("clean/work_orders"), "short_text")},
        "priority": {(_raw("clean/work_orders"), "priority")},
        "plannedStart": {(_raw("clean/work_orders"), "planned_start")},
        "estimatedCost": {(_raw("clean/work_orders"), "estimated_cost")},
        "equipment": {(_raw("clean/work_orders"), "equipment_no")},
    },
    (CDF, "timeseries"): {
        "externalId": {(_raw("historian/pi_points"), "tag")},
        "name": {(_raw("historian/pi_points"), "descriptor")},
        "unit": {(_raw("historian/pi_points"), "engunits")},
        "isString": {(_raw("historian/pi_points"), "pointtype")},
    },
    (CDF, "datapoints"): {
        "externalId": {(_raw("historian/pi_hourly"), "tag")},
        "timestamp": {(_raw("historian/pi_hourly"), "ts")},
        "value": {(_raw("historian/pi_hourly"), "value")},
    },
    _view("PumpHealth"): {
        "externalId": {(_view("Equipment"), "serialNumber")},
        "name": {(_view("Equipment"), "name")},
        "worstVibration": {(_raw("historian/pi_hourly"), "value")},
        "meanVibration": {(_raw("historian/pi_hourly"), "value")},
        "openOrders": {(_raw("clean/work_orders"), "order_no")},
    },
    _view("SparePart"): {
        "externalId": {((BIGQUERY, "acme-plant.maintenance.spare_parts"), "part_number")},
        "name": {
            ((BIGQUERY, "acme-plant.maintenance.spare_parts"), "description"),
            (_raw("sap/makt"), "MAKTX"),
        },
        "manufacturer": {((BIGQUERY, "acme-plant.maintenance.spare_parts"), "manufacturer")},
        "unitPrice": {((BIGQUERY, "acme-plant.maintenance.spare_parts"), "unit_price")},
        "currency": {((BIGQUERY, "acme-plant.maintenance.spare_parts"), "currency")},
        "leadTimeDays": {((BIGQUERY, "acme-plant.maintenance.spare_parts"), "lead_time_days")},
    },
}
"""Where the values of each column that CDF writes come from, one step back."""

TOLD: dict[Name, str] = {
    (CDF, "transformation/pump_health_to_model"): "Pump health: vibration against open orders",
    (WETRANSFORM, f"transformation/{SPARE_PARTS_FILE}"): "Nordic Pumps: spare parts, monthly to Spare parts catalogue",
    (DATAPREP, "recipe/spare-parts.catalogue"): "The supplier's catalogue, matched with our materials",
}
"""What some jobs are said to be."""

FIELDS: dict[Name, set[str]] = {
    **{name: set(columns) for name, columns in COLUMNS.items()},
    _raw("sap/iflot"): {"TPLNR", "EQART", "TPLMA", "IWERK"},
    _raw("sap/iflotx"): {"TPLNR", "PLTXT", "SPRAS"},
    _raw("sap/equi"): {"EQUNR", "HERST", "SERGE", "INBDT", "lastUpdatedTime"},
    _raw("sap/eqkt"): {"EQUNR", "EQKTX"},
    _raw("sap/equz"): {"EQUNR", "ILOAN", "DATBI"},
    _raw("sap/aufk"): {"AUFNR", "KTEXT", "GSTRP", "USER4", "AUTYP", "LOEKZ"},
    _raw("sap/afih"): {"AUFNR", "EQUNR", "PRIOK"},
    _raw("sap/makt"): {"MFRPN", "MAKTX"},
    _raw("historian/pi_points"): {"tag", "descriptor", "engunits", "pointtype", "pointsource"},
    _raw("historian/pi_hourly"): {"tag", "ts", "value", "is_good"},
    _raw("historian/tag_map"): {"tag", "equipment_no", "signal"},
    (LANDING, "deliveries/spare-parts.csv"): {
        *("part_number", "description", "manufacturer", "unit_price", "currency", "lead_time_days", "delivered_by"),
    },
    (LANDING, "deliveries/contractor-hours.csv"): {"contractor", "order_no", "work_date", "hours", "cost_center"},
    (LANDING, "deliveries/lab-results.csv"): {
        *("sample_id", "sampling_point", "taken_at", "analyte", "result", "unit"),
    },
}
"""The columns that some event named, each once. `externalId` of the view Equipment is both written and read."""
