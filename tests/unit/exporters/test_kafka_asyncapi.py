"""The AsyncAPI document is up to date and describes what is really sent."""

import json
from typing import Any

import jsonschema
import pytest
from openlineage.client.event_v2 import InputDataset, Job, Run, RunEvent, RunState
from openlineage.client.facet_v2 import job_type_job
from openlineage.client.serde import Serde

from tests.asyncapi import FILE, rendered


@pytest.fixture(scope="module")
def document() -> Any:
    return json.loads(rendered())


def payload(document: Any, name: str = "RunEvents.Message") -> Any:
    message = document["components"]["messages"][name]
    return {**message["payload"], "components": document["components"]}


def test_the_file_is_fresh() -> None:
    assert FILE.read_text(encoding="utf-8") == rendered(), "run: python -m tests.asyncapi"


def test_every_reference_leads_somewhere(document: Any) -> None:
    def references(part: Any) -> list[str]:
        if isinstance(part, list):
            return [found for item in part for found in references(item)]
        if isinstance(part, dict):
            return [part["$ref"]] if "$ref" in part else references(list(part.values()))
        return []

    for reference in references(document):
        found = document
        for step in reference.removeprefix("#/").split("/"):
            found = found[step]


def test_an_event_of_the_openlineage_client_fits(document: Any) -> None:
    job_type = job_type_job.JobTypeJobFacet(processingType="BATCH", integration="CDF", jobType="TRANSFORMATION")
    made = RunEvent(
        eventTime="2026-01-01T00:00:00Z",
        eventType=RunState.COMPLETE,
        producer="https://example.org/collector",
        run=Run(runId="0197f5a0-0000-7000-8000-000000000001"),
        job=Job(namespace="cdf://x/p", name="transformation/a", facets={"jobType": job_type}),
        inputs=[InputDataset(namespace="cdf://x/p", name="raw/a/b")],
    )
    event = json.loads(Serde.to_json(made))
    jsonschema.validate(event, payload(document))
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate({**event, "eventType": "DONE"}, payload(document))


def test_a_hint_names_its_source(document: Any) -> None:
    schema = payload(document, "Hints.SubscribeMessage")
    jsonschema.validate({"source": "plant-a", "job": "7", "more": True}, schema)
    for wrong in ({}, {"source": 7}, {"source": "plant-a", "run": ""}):
        with pytest.raises(jsonschema.ValidationError):
            jsonschema.validate(wrong, schema)
    assert document["operations"]["Hints"]["action"] == "receive"


def test_only_the_header_that_is_sent_is_promised(document: Any) -> None:
    message = document["components"]["messages"]["RunEvents.Message"]
    assert list(message["headers"]["properties"]) == ["content-type"]
    assert "correlation" not in json.dumps(document)
