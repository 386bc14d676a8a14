"""The JSON and the forms as docs/openapi.yaml describes them, by schemathesis: whatever it permits is answered as it says."""

import asyncio
from pathlib import Path
from typing import Any

from hypothesis import HealthCheck, given, settings

from tests.unit.exporters.test_actions import ALICE, Desk, acting
from tests.unit.exporters.test_run_pages import described

EXAMPLES = 4
"""Requests of each operation."""


async def test_each_operation_answers_as_it_is_described(tmp_path: Path) -> None:
    import schemathesis
    from schemathesis import checks

    checked = [
        checks.not_a_server_error,
        checks.status_code_conformance,
        checks.content_type_conformance,
        checks.response_schema_conformance,
    ]
    operations: list[Any] = list(schemathesis.openapi.from_dict(described()).get_all_operations())
    assert len(operations) == sum(len(methods) for methods in described()["paths"].values())
    async with acting(tmp_path, Desk()) as client:
        for operation in operations:

            @settings(max_examples=EXAMPLES, derandomize=True, database=None, suppress_health_check=list(HealthCheck))
            @given(operation.ok().as_strategy())
            def ask(case: Any) -> None:
                case.call_and_validate(base_url=str(client._base_url), headers=dict(ALICE), checks=checked)

            await asyncio.to_thread(ask)
