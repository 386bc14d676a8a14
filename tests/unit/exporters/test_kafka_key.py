"""The key of a Kafka message is the one that the OpenLineage clients would use."""

import json
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import example, given, settings
from openlineage.client.event_v2 import Job, RunEvent, RunState
from openlineage.client.event_v2 import Run as TheirRun
from openlineage.client.facet_v2 import parent_run
from openlineage.client.serde import Serde
from openlineage.client.transport.kafka import KafkaTransport

from collector.lineage.events import EventMaker
from collector.model import Facts, Run, Transition
from exporters.sinks.kafka import key
from exporters.sinks.kafka.key import message_key
from tests.unit.lineage import models
from tests.unit.lineage.models import COMPLETE, run

RUN_ID = "0197f5a0-0000-7000-8000-000000000001"
RUN = parent_run.Run(runId=RUN_ID)
PARENT = parent_run.Job(namespace="dataprep://api.example/eu", name="flow/orders")
ROOT = parent_run.Root(
    run=parent_run.RootRun(runId=RUN_ID), job=parent_run.RootJob(namespace="plans", name="nightly, ü")
)


@pytest.mark.parametrize(
    "facets",
    [
        {},
        {"parent": parent_run.ParentRunFacet(run=RUN, job=PARENT)},
        {"parent": parent_run.ParentRunFacet(run=RUN, job=PARENT, root=ROOT)},
    ],
    ids=["alone", "parent", "root"],
)
def test_it_is_what_the_python_client_says(facets: dict[str, Any]) -> None:
    job = Job(namespace="cdf://api.example/p", name="transformation/a b")
    made = RunEvent(
        eventTime="2026-01-01T00:00:00Z",
        run=TheirRun(runId=RUN_ID, facets=facets),
        job=job,
        eventType=RunState.START,
        producer="p",
    )
    theirs = KafkaTransport._get_message_key(object.__new__(KafkaTransport), made)
    assert theirs is not None
    assert message_key(Serde.to_json(made).encode()) == theirs.encode()


@pytest.mark.parametrize(
    "facets",
    [None, {}, {"parent": None}, {"parent": {"job": {"namespace": "", "name": "x"}}}, {"parent": {"root": None}}],
)
def test_a_parent_that_names_no_job_is_passed_over(facets: dict[str, Any] | None) -> None:
    body = {"run": {"runId": RUN_ID, "facets": facets}, "job": {"namespace": "n", "name": "a"}}
    assert message_key(json.dumps(body).encode()) == b"run:n/a"


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"no json",
        b"[]",
        b'"text"',
        b"{}",
        b'{"run": {}}',
        b'{"run": [], "job": {}}',
        b'{"run": {}, "job": {"name": 1}}',
    ],
)
def test_what_is_no_run_event_has_no_key(body: bytes) -> None:
    assert message_key(body) is None


_TEMPTING = '","run":{"facets":{ "job":{"facets":{}},"name":"x","namespace":"y"},"outputs":[ "parent":{ \\'


def tempting() -> Run:
    """Whose texts look like the parts of an event."""
    made = run()
    return replace(made, job=replace(made.job, name=f"a{_TEMPTING}", description=_TEMPTING, sql=_TEMPTING))


@settings(deadline=None)
@given(models.runs())
@example((tempting(), COMPLETE))
@example((run(facts=Facts()), COMPLETE))
def test_it_is_the_same_whether_all_of_our_event_is_read_or_not(given_: tuple[Run, Transition]) -> None:
    body = EventMaker("plant").event(*given_)
    assert message_key(body) == key._parsed_key(body)


@pytest.mark.parametrize("facts", [models.FACTS, Facts(), Facts(inputs=())])
def test_an_event_of_ours_without_a_parent_is_not_read_as_a_whole(facts: Facts) -> None:
    body = EventMaker("plant").event(run(facts=facts), COMPLETE)
    assert key._canonical_key(body) == key._parsed_key(body) is not None


def test_a_name_with_a_backslash_is_not_taken_as_its_json_has_it() -> None:
    made = run()
    body = EventMaker("plant").event(replace(made, job=replace(made.job, name="a\\b")), COMPLETE)
    assert rb"a\\b" in body
    assert message_key(body) == key._parsed_key(body)
