"""The vendor's own Python client against the CDF simulator: what it accepts, the simulator says right."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest

from collector.testing.faults import Fault, FaultKind
from simulators.cdf import CdfSimulator, Ending, Scenario
from simulators.server import Served

cognite = pytest.importorskip("cognite.client", reason="cognite-sdk is not installed")


@pytest.fixture
def simulator() -> CdfSimulator:
    made = CdfSimulator(seed=3)
    made.add_transformation(
        "pumps", {"type": "nodes", "view": {"space": "s", "externalId": "Pump", "version": "v1"}}, schedule="0 0 * * *"
    )
    made.add_transformation("raw", {"type": "raw", "database": "d", "table": "t"}, tags=["sap"])
    return made


@pytest.fixture
async def sdk(simulator: CdfSimulator) -> AsyncIterator[Any]:
    from cognite.client import AsyncCogniteClient, ClientConfig, global_config
    from cognite.client.credentials import OAuthClientCredentials

    global_config.disable_pypi_version_check = True
    async with Served(simulator) as served:
        credentials = OAuthClientCredentials(
            token_url=f"{served.url}/tenant/oauth2/v2.0/token",
            client_id="collector",
            client_secret="simulated-secret",
            scopes=["https://api.cognitedata.com/.default"],
        )
        # The client fetches its token without giving way to the server that shares its loop.
        await asyncio.to_thread(credentials.authorization_header)
        config = ClientConfig(
            client_name="collector-tests", project="plant-a", credentials=credentials, base_url=served.url
        )
        yield AsyncCogniteClient(config)


async def test_it_lists_and_reads_definitions(sdk: Any) -> None:
    listed = await sdk.transformations.list(limit=None)
    assert [found.external_id for found in listed] == ["pumps", "raw"]
    assert (await sdk.transformations.list(tags=None, destination_type="raw"))[0].destination.table == "t"
    read = await sdk.transformations.retrieve_multiple(external_ids=["pumps", "none"], ignore_unknown_ids=True)
    assert read[0].schedule.interval == "0 0 * * *"
    assert [found.interval for found in await sdk.transformations.schedules.list()] == ["0 0 * * *"]


async def test_it_starts_lists_and_cancels_jobs(sdk: Any, simulator: CdfSimulator) -> None:
    simulator.transformation("pumps").scenario = Scenario(runs_for=None)
    job = await sdk.transformations.run(transformation_external_id="pumps", wait=False)
    assert job.status.value == "Created"
    await sdk.transformations.cancel(transformation_external_id="pumps")
    read = await sdk.transformations.jobs.retrieve(id=job.id)
    assert (read.status.value, read.error) == ("Failed", "Job cancelled by the user.")
    assert [found.id for found in await sdk.transformations.jobs.list()] == [job.id]
    assert await sdk.transformations.jobs.retrieve(id=1) is None


async def test_it_reads_the_end_and_the_metrics(sdk: Any, simulator: CdfSimulator) -> None:
    simulator.transformation("raw").scenario = Scenario(0.0, 0.0, Ending.COMPLETED, metrics={"requests": 7})
    job = await sdk.transformations.run(transformation_external_id="raw", wait=False)
    await job.update_async()
    assert job.status.value == "Completed"
    assert [(row.name, row.count) for row in await job.metrics_async()] == [("requests", 7)]


async def test_it_retries_what_it_should(sdk: Any, simulator: CdfSimulator) -> None:
    simulator.faults.plan(Fault(FaultKind.STATUS, path="jobs", status=429))
    assert await sdk.transformations.jobs.list() == []


async def test_it_reads_workflow_executions_and_its_token(sdk: Any, simulator: CdfSimulator) -> None:
    made = simulator.start_workflow("nightly", [("pumps", Scenario()), ("gone", None)])
    detail = await sdk.workflows.executions.retrieve_detailed(made.id)
    started, never = detail.executed_tasks
    assert str(started.output.job_id) == simulator.expected_runs()[0]["key"]
    assert never.output.job_id is None
    listed = await sdk.workflows.executions.list(created_time_start=0)
    assert [found.id for found in listed] == [made.id]
    inspected = await sdk.iam.token.inspect()
    assert [project.url_name for project in inspected.projects] == ["plant-a"]


async def test_unknown_ids_are_named(sdk: Any) -> None:
    from cognite.client.exceptions import CogniteNotFoundError

    with pytest.raises(CogniteNotFoundError) as caught:
        await sdk.transformations.jobs.retrieve_multiple(ids=[5, 6])
    assert caught.value.not_found == [{"id": 5}, {"id": 6}]
