"""The validator of the tests can fail: every rule against a good event or a good life with one thing wrong."""

from collections.abc import Callable
from copy import deepcopy
from dataclasses import replace
from typing import Any
from uuid import UUID

import orjson
import pytest
from hypothesis import given, settings
from jsonschema import Draft202012Validator
from openlineage.client import facet_v2

from collector.lineage import custom_facets, validation
from collector.lineage.events import EventMaker
from collector.model import EventKind, Run, RunState, Transition
from tests import openlineage
from tests.openlineage_schemas import own_facets, standard_facets, validator
from tests.unit.lineage import models
from tests.unit.lineage.models import COMPLETE, FAIL, PARENT, START, run, transition

MAKER = EventMaker("plant")
Event = dict[str, Any]
Change = Callable[[Event], object]


def good(kind: EventKind = EventKind.COMPLETE) -> Event:
    at = {EventKind.START: START, EventKind.FAIL: FAIL}.get(kind, replace(COMPLETE, kind=kind))
    made: Event = orjson.loads(MAKER.event(run(parent=PARENT), at))
    return made


def test_the_good_event_is_good() -> None:
    for kind in (EventKind.START, EventKind.COMPLETE, EventKind.FAIL):
        assert openlineage.faults(good(kind)) == []


def setting(*path: str | int, to: Any) -> Change:
    def change(event: Event) -> None:
        *way, last = path
        at: Any = event
        for step in way:
            at = at[step]
        at[last] = to

    return change


def without(*path: str | int) -> Change:
    def change(event: Event) -> None:
        *way, last = path
        at: Any = event
        for step in way:
            at = at[step]
        del at[last]

    return change


RUN, JOB, IN, OUT = ("run", "facets"), ("job", "facets"), ("inputs", 0), ("outputs", 0)
LINEAGE = (*OUT, "facets", "columnLineage")
SOURCE = (*LINEAGE, "fields", "name", "inputFields", 0)
STRAY = {"_producer": "https://x", "_schemaURL": "https://x"}


SHAPE: list[Change] = [
    without("eventType"),
    without("eventTime"),
    without("producer"),
    without("schemaURL"),
    without("run"),
    without("run", "runId"),
    without("job", "namespace"),
    without("job", "name"),
    without(*JOB, "jobType"),
    without(*JOB, "jobType", "integration"),
    without(*JOB, "sql", "query"),
    without(*JOB, "sql", "_producer"),
    without(*RUN, "parent", "run", "runId"),
    without(*RUN, "parent", "job"),
    without(*RUN, "nominalTime", "nominalStartTime"),
    without(*IN, "name"),
    without(*IN, "facets"),
    without(*OUT, "facets", "dataSource"),
    without(*OUT, "facets", "columnLineage", "fields"),
    without(*OUT, "facets", "schema", "fields", 0, "name"),
    without(*OUT, "facets", "symlinks", "identifiers", 0, "type"),
    setting("eventType", to="DONE"),
    setting("eventType", to="complete"),
    setting("eventTime", to="2026-11-22"),
    setting("eventTime", to="2026-11-22T06:00:00"),
    setting("eventTime", to="yesterday"),
    setting("producer", to="no address"),
    setting("schemaURL", to="https://openlineage.io/spec/1-0-0/OpenLineage.json#/$defs/RunEvent"),
    setting("run", "runId", to="zz"),
    setting("run", "runId", to=None),
    setting("extra", to=1),
    setting("inputs", to=None),
    setting("inputs", to={}),
    setting("job", "name", to=""),
    setting("job", "name", to="2024"),
    setting("job", "name", to="j" * 256),
    setting(*RUN, "nominalTime", "nominalStartTime", to="soon"),
    setting(*RUN, "nominalTime", "nominalEndTime", to=None),
    setting(*RUN, "nominalTime", "_schemaURL", to="https://openlineage.io/spec/facets/1-0-0/X.json"),
    setting(*RUN, "parent", "run", "runId", to="7"),
    setting(*RUN, "parent", "root", "run", "runId", to="7"),
    setting(*RUN, "externalQuery", "externalQueryId", to=4711),
    setting(*RUN, "tags", "tags", 0, "value", to=True),
    setting(*RUN, "extractionError", "totalTasks", to="1"),
    setting(*RUN, "errorMessage", to=STRAY | {"message": "x", "programmingLanguage": "SQL"}),
    setting(*IN, "namespace", to=""),
    setting(*IN, "name", to="n" * 256),
    setting(*IN, "outputFacets", to={}),
    setting(*OUT, "outputFacets", "outputStatistics", "rowCount", to="12"),
    setting(*OUT, "outputFacets", "outputStatistics", "rowCount", to=1.5),
    setting(*OUT, "facets", "dataSource", "uri", to="no address"),
    setting(*OUT, "facets", "lifecycleStateChange", "lifecycleStateChange", to="UPSERT"),
    setting(*OUT, "facets", "schema", "fields", to={}),
    setting(*OUT, "facets", "symlinks", "identifiers", 0, to={"type": "TABLE"}),
]
"""What is looked at while the program runs, too."""

MEANING: list[Change] = [
    without(*RUN, custom_facets.PLATFORM),
    setting("eventTime", to="2026-11-22T06:00:00+01:00"),
    setting("job", "namespace", to="prod:eu"),
    setting(*RUN, "unheardOf", to=STRAY),
    setting(*RUN, "sql", to=STRAY),
    setting(*JOB, "nominalTime", to=STRAY),
    setting(*RUN, custom_facets.PLATFORM, "state", to="done"),
    setting(*RUN, custom_facets.PLATFORM, "link", to="no address"),
    setting(*RUN, custom_facets.PLATFORM, "unheardOf", to=1),
    setting(*RUN, custom_facets.PLATFORM, "stages", 0, "startedAt", to="soon"),
    without(*RUN, custom_facets.PLATFORM, "state"),
    without(*RUN, custom_facets.PLATFORM, "source"),
    setting(*RUN, custom_facets.OBSERVED, to=STRAY | {"ended": {"after": "2026-11-22T06:00:00Z"}}),
    setting(*IN, "inputFacets", to={}),
    setting(*OUT, "outputFacets", "inputStatistics", to=STRAY),
    setting(*OUT, "facets", custom_facets.RESOLVED, "count", to=0),
    setting(*OUT, "facets", custom_facets.RESOLVED, "names", to=["x"] * 101),
    setting(*SOURCE, "name", to="raw/other"),
    setting(*SOURCE, "field", to="not a column"),
    setting(*SOURCE, "transformations", 0, "type", to="MAYBE"),
    setting(*SOURCE, "transformations", 0, "subtype", to="FILTER"),
    setting(*LINEAGE, "fields", "stranger", to={"inputFields": []}),
    lambda event: event["inputs"].append(deepcopy(event["inputs"][0])),
    lambda event: event["outputs"][0]["facets"]["symlinks"]["identifiers"].append(
        {"namespace": event["outputs"][0]["namespace"], "name": event["outputs"][0]["name"], "type": "TABLE"}
    ),
]
"""What only the tests look at: our own facets, which are made in one place, and what fits together."""


@pytest.mark.parametrize("change", [*SHAPE, *MEANING])
def test_a_broken_event_is_found(change: Change) -> None:
    event = good()
    change(event)
    assert openlineage.faults(event)
    assert openlineage.all_faults([orjson.dumps(event)], may_be_open=True)


@pytest.mark.parametrize("change", SHAPE)
def test_a_broken_shape_is_found_at_run_time(change: Change) -> None:
    event = good()
    change(event)
    assert (validation.fault(orjson.dumps(event)) or "").startswith("not a valid OpenLineage event: ")


@pytest.mark.parametrize("body", [b"", b"{", b"null", b"[]", b'"x"', b"{}"])
def test_what_is_no_event_at_all_is_found_at_run_time(body: bytes) -> None:
    assert validation.fault(body)


def test_many_faults_are_shortened() -> None:
    fault = validation.fault(b'{"run":{"a":1},"job":{},"inputs":[{}],"outputs":[{}]}') or ""
    assert "eventTime: Field required" in fault
    assert fault.endswith(" more")
    assert len(fault) < 300


@settings(deadline=None)
@given(models.runs())
def test_what_the_tests_let_pass_the_program_lets_pass(given_: tuple[Run, Transition]) -> None:
    assert validation.fault(MAKER.event(*given_)) is None


def test_facets_of_others_are_let_pass() -> None:
    event = good()
    event["run"]["facets"]["acme_unheardOf"] = {**STRAY, "anything": [1, None]}
    assert validation.fault(orjson.dumps(event)) is None
    event["run"]["facets"]["acme_unheardOf"] = {"anything": 1}
    assert "acme_unheardOf" in (validation.fault(orjson.dumps(event)) or "")


@pytest.mark.parametrize(
    "change",
    [
        setting(*RUN, custom_facets.PLATFORM, "state", to="succeeded"),
        setting(*RUN, custom_facets.PLATFORM, "stageCount", to=1),
        setting(
            *OUT, "outputFacets", to={"outputStatistics": good()["outputs"][0]["outputFacets"]["outputStatistics"]}
        ),
        setting(*OUT, "facets", "version", to=good()["outputs"][0]["facets"]["version"]),
        setting(*RUN, "errorMessage", to=good(EventKind.FAIL)["run"]["facets"]["errorMessage"]),
    ],
)
def test_a_start_that_knows_the_end_is_found(change: Change) -> None:
    event = good(EventKind.START)
    change(event)
    assert openlineage.faults(event)


# ---- poller -------------------------------------------------------------------------------------------------------


def events_of(*kinds: str, parent: bool = False, **changed: Any) -> list[Event]:
    """Events of one run, a minute apart."""
    of = run(parent=PARENT if parent else None, **changed)
    waiting = replace(of, state=RunState.WAITING)
    return [
        orjson.loads(MAKER.event(waiting if kind == "RUNNING" else of, transition(EventKind(kind), minute)))
        for minute, kind in enumerate(kinds, start=1)
    ]


def test_a_running_that_does_not_say_whether_the_run_waits_is_found() -> None:
    [event] = events_of("RUNNING")
    del event["run"]["facets"][custom_facets.PLATFORM]["state"]
    assert "does not say whether" in openlineage.faults(event)[0]


@pytest.mark.parametrize("kind", ["FAIL", "ABORT"])
def test_a_run_that_did_not_succeed_and_counts_is_found(kind: str) -> None:
    [event] = events_of(kind)
    assert openlineage.faults(event) == []
    event["outputs"][0]["facets"]["lifecycleStateChange"] = good()["outputs"][0]["facets"]["lifecycleStateChange"]
    assert "change of its life" in openlineage.faults(event)[0]


def dumped(events: list[Event]) -> list[bytes]:
    return [orjson.dumps(event) for event in events]


@pytest.mark.parametrize(
    "kinds",
    [
        ["START", "COMPLETE"],
        ["OTHER", "START", "FAIL"],
        ["OTHER", "START", "RUNNING", "RUNNING", "ABORT"],
    ],
)
def test_a_good_life_is_good(kinds: list[str]) -> None:
    assert openlineage.all_faults(dumped(events_of(*kinds))) == []


@pytest.mark.parametrize(
    "kinds",
    [
        ["START"],
        ["COMPLETE"],
        ["START", "START", "COMPLETE"],
        ["START", "COMPLETE", "FAIL"],
        ["START", "COMPLETE", "RUNNING"],
        ["COMPLETE", "START"],
        ["START", "OTHER", "COMPLETE"],
        ["RUNNING", "START", "COMPLETE"],
        ["OTHER", "OTHER", "START", "COMPLETE"],
    ],
)
def test_a_broken_life_is_found(kinds: list[str]) -> None:
    assert openlineage.all_faults(dumped(events_of(*kinds)))


def test_a_run_may_be_open_if_it_may() -> None:
    assert openlineage.all_faults(dumped(events_of("START"))) != []
    assert openlineage.all_faults(dumped(events_of("START")), may_be_open=True) == []


def test_repeats_after_a_crash_do_not_count() -> None:
    start, end = dumped(events_of("START", "COMPLETE"))
    assert openlineage.all_faults([start, start, end, end]) == []


@pytest.mark.parametrize(
    "change",
    [
        setting(0, "eventTime", to="2026-11-22T07:00:00.000Z"),
        setting(0, "job", "name", to="transformation/another"),
        setting(0, "run", "facets", custom_facets.PLATFORM, "runKey", to="4712"),
        without(1, "inputs"),
        setting(1, "outputs", to=[]),
        without(1, "run", "facets", "nominalTime"),
        without(1, "job", "facets", "sql"),
        without(1, "inputs", 0, "facets", "schema"),
        setting(1, "run", "runId", to=str(UUID(int=5))),
    ],
)
def test_what_does_not_fit_together_is_found(change: Callable[[Any], object]) -> None:
    events = events_of("START", "COMPLETE")
    change(events)
    assert openlineage.all_faults(dumped(events), may_be_open=True)


def family() -> tuple[list[Event], list[Event]]:
    child = events_of("START", "COMPLETE", parent=True)
    job = replace(run().job, name=PARENT.job)
    return events_of("START", "COMPLETE", key="workflow/1", run_id=PARENT.run_id, job=job), child


def test_a_good_family_is_good() -> None:
    (begin, end), (child_begin, child_end) = family()
    assert openlineage.all_faults(dumped([begin, child_begin, child_end, end])) == []


@pytest.mark.parametrize("order", [(1, 0, 2, 3), (0, 1, 3, 2), (0, 2, 1, 3), (1, 2, 0, 3)])
def test_a_family_in_another_order_is_found(order: tuple[int, ...]) -> None:
    (begin, end), (child_begin, child_end) = family()
    events = [begin, child_begin, child_end, end]
    assert openlineage.all_faults(dumped([events[place] for place in order]))


@pytest.mark.parametrize(
    "change",
    [
        setting("job", "name", to="transformation/pumps"),
        setting(*RUN, "parent", "job", "name", to="workflow/other"),
        setting(*RUN, "parent", "job", "namespace", to="cdf://elsewhere/p"),
        without(*RUN, "parent", "root"),
    ],
)
def test_a_child_that_does_not_fit_its_parent_is_found(change: Change) -> None:
    (begin, end), child = family()
    for event in child:
        change(event)
    assert openlineage.all_faults(dumped([begin, *child, end]))


# ---- the schemas themselves --------------------------------------------------------------------------------------


def test_the_schemas_have_the_formats_that_the_library_checks() -> None:
    schema = validator().schema
    assert isinstance(schema, dict)
    definitions = schema["$defs"]
    nominal = definitions["nominal_time_run.NominalTimeRunFacet"]["properties"]
    assert nominal["nominalStartTime"] == {"type": "string", "format": "date-time"}
    assert definitions["parent_run.Run"]["properties"]["runId"] == {"type": "string", "format": "uuid"}
    assert definitions["datasource_dataset.DatasourceDatasetFacet"]["properties"]["uri"]["format"] == "uri"


def test_every_facet_of_the_library_is_known() -> None:
    """More come with newer versions; these must never be lost by how keys are made of class names."""
    assert {"parent", "processing_engine", "nominalTime", "errorMessage"} <= standard_facets("run").keys()
    assert {"dataSource", "version", "schema", "columnLineage", "symlinks"} <= standard_facets("dataset").keys()
    assert {"sql", "jobType", "sourceCodeLocation"} <= standard_facets("job").keys()
    known = {
        made for entity in ("run", "job", "dataset", "input", "output") for made in standard_facets(entity).values()
    }
    assert len(known) >= 35


@pytest.mark.parametrize("key", sorted(own_facets()))
def test_the_schema_of_our_own_facet_is_valid_and_builds_on_the_installed_specification(key: str) -> None:
    name, content = own_facets()[key]
    Draft202012Validator.check_schema(content)
    assert content["properties"] == {key: {"$ref": f"#/$defs/{name}"}}
    facet = content["$defs"][name]
    base = next(base for base in (facet_v2.RunFacet, facet_v2.DatasetFacet) if name.endswith(base.__name__))
    assert facet["allOf"] == [{"$ref": base._get_schema()}]
    stem = key.removeprefix("lineageCollector_")
    assert name == f"LineageCollector{stem[0].upper()}{stem[1:]}{base.__name__}"


def test_our_own_facets_point_to_a_tag() -> None:
    assert {custom_facets.OBSERVED, custom_facets.PLATFORM, custom_facets.RESOLVED} == own_facets().keys()
    url = good()["run"]["facets"][custom_facets.PLATFORM]["_schemaURL"]
    name = own_facets()[custom_facets.PLATFORM][0]
    assert url == f"{custom_facets.SCHEMAS}/{name}.json#/$defs/{name}"
    assert "/v" in custom_facets.SCHEMAS
    assert "/main/" not in custom_facets.SCHEMAS
