"""The AsyncAPI document of the Kafka topics, made by FastStream from the broker and a model of the payload.

`python -m tests.asyncapi` writes docs/asyncapi.json again. It is never served: FastStream's page for it
brings a route that lets anybody publish.
"""

import json
import re
from datetime import datetime
from pathlib import Path
from typing import Any
from uuid import UUID

from faststream.kafka import KafkaBroker
from faststream.specification import AsyncAPI
from pydantic import BaseModel, ConfigDict, Field

from collector import __version__
from collector.hint import Hint
from collector.model import EventKind
from config.sinks import HintTopic, KafkaSink

FILE = Path(__file__).parents[1] / "docs" / "asyncapi.json"
_Facets = dict[str, dict[str, Any]]


class _Part(BaseModel):
    model_config = ConfigDict(extra="allow")


class Run(_Part):
    run_id: UUID = Field(alias="runId", description="Stable for ever: the same after a restart and on another machine.")
    facets: _Facets = {}


class Job(_Part):
    namespace: str = Field(examples=["cdf://api.cognitedata.com/my-project"])
    name: str = Field(examples=["transformation/load-assets"])
    facets: _Facets = {}


class Dataset(_Part):
    namespace: str
    name: str
    facets: _Facets = {}


class InputDataset(Dataset):
    input_facets: _Facets = Field(default={}, alias="inputFacets")


class OutputDataset(Dataset):
    output_facets: _Facets = Field(default={}, alias="outputFacets")


class RunEvent(_Part):
    """An OpenLineage run event. Consumers remove repeats by (run.runId, eventType, eventTime)."""

    event_type: EventKind = Field(alias="eventType")
    event_time: datetime = Field(alias="eventTime", description="When the change of state happened on the platform.")
    producer: str = Field(json_schema_extra={"format": "uri"})
    schema_url: str = Field(alias="schemaURL", json_schema_extra={"format": "uri"})
    run: Run
    job: Job
    inputs: list[InputDataset] = []
    outputs: list[OutputDataset] = []


class HintMessage(Hint):
    """Something changed at a source: with this run, else with the runs of this job, else with any of them."""

    source: str = Field(description="The source's name in the configuration.", examples=["plant-a"])


_KEY = {
    "type": "string",
    "description": "The rule of the OpenLineage clients, run:{namespace}/{name} of the root parent's job, else the "
    "parent's, else the event's own: all runs of a job, and a parent with all its children, are in one partition, "
    "as long as the topic's number of partitions stays.",
    "examples": ["run:cdf://api.cognitedata.com/my-project/transformation/load-assets"],
}
_HEADERS = {
    "type": "object",
    "properties": {"content-type": {"type": "string", "const": "application/json"}},
    "required": ["content-type"],
}


def asyncapi_document() -> dict[str, Any]:
    """AsyncAPI 3.0, for the default topic. Needs no Kafka."""
    topic = KafkaSink.model_fields["topic"].default
    broker = KafkaBroker("localhost:9092", description="Any broker of your cluster.", logger=None)
    broker.publisher(
        topic,
        schema=RunEvent,
        title="RunEvents",
        description="Every change of state of every watched run, in order per run, at least once.",
    )
    hints = broker.subscriber(
        HintTopic.model_fields["topic"].default,
        batch=True,
        group_id=HintTopic.model_fields["group"].default,
        title="Hints",
        description="That something changed on a platform, so that a poll comes at once. What a hint says is never believed.",
    )
    hints(_hints)
    made = AsyncAPI(
        broker,
        title="Lineage collector",
        version=__version__,
        schema_version="3.0.0",
        description="OpenLineage run events of transformations on managed platforms.",
    )
    document: dict[str, Any] = made.to_specification().to_jsonable()
    for name, message in document["components"]["messages"].items():
        del message["correlationId"]  # FastStream's own header, which this sink does not send
        if not name.startswith("RunEvents"):
            continue
        message["headers"] = _HEADERS
        message["bindings"] = {"kafka": {"key": _KEY, "bindingVersion": "0.5.0"}}
    return document


async def _hints(message: HintMessage) -> None:
    """Of this shape; `collector.app.hint_topic` reads them."""


def rendered() -> str:
    text = json.dumps(asyncapi_document(), indent=2, ensure_ascii=False) + "\n"
    return re.sub(r"\b(RunEvents|Hints):(\w+)", r"\1.\2", text)  # AsyncAPI allows no colon in the name of a component


if __name__ == "__main__":
    FILE.write_text(rendered(), encoding="utf-8")
