"""Files that suppliers and contractors of a plant deliver, as transformations into the plant's own formats."""

from typing import Any

from simulators.wetransform.simulator import WetransformSimulator
from simulators.wetransform.state import Transformation

_DEFINITIONS: list[dict[str, Any]] = [
    {
        "name": "Nordic Pumps: spare parts, monthly",
        "key": "3f0c1f52-6a51-4f0e-9d0a-5a1d6f8f2c01",
        "source_id": "73ab4876-7734-47c1-87fd-e805ec99108d",
        "template_handle": "spare-parts",
        "template_name": "Spare parts catalogue",
        "columns": ("part_number", "description", "manufacturer", "unit_price", "currency", "lead_time_days"),
        "custom_fields": ("delivered_by",),
    },
    {
        "name": "Baltic Scaffolding: hours",
        "key": "b7d1a0c4-0f35-4b59-8f16-8c1c5a3a7e02",
        "source_id": "1c8e2f0a-54d9-4f43-a8b6-2d7f4b6c9e02",
        "template_handle": "contractor-hours",
        "template_name": "Contractor hours",
        "columns": ("contractor", "order_no", "work_date", "hours", "cost_center"),
        "custom_fields": (),
        "has_schedule": True,
    },
    {
        "name": "Aqua Lab: samples",
        "key": "e92b6d38-3c7a-4a0e-b1f4-7f5d2e9c4a03",
        "source_id": "9a4d7c16-2b8e-4e65-93d1-6c3f8a1b5d03",
        "template_handle": "lab-results",
        "template_name": "Laboratory results",
        "columns": ("sample_id", "sampling_point", "taken_at", "analyte", "result", "unit"),
        "custom_fields": (),
        "has_schedule": True,
    },
]


def populate(simulator: WetransformSimulator) -> list[Transformation]:
    """Adds three transformations with ids that are always the same."""
    return [simulator.state.add_transformation(simulator.account, **definition) for definition in _DEFINITIONS]
