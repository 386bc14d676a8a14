"""Runs, jobs and datasets: one good one of each, and Hypothesis strategies for any."""

from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

from hypothesis import strategies as st

from collector import names
from collector.lineage.custom_facets import resolved_names
from collector.model import (
    ColumnEdge,
    Dataset,
    EventKind,
    Facts,
    Field,
    Interval,
    Job,
    Parent,
    Run,
    RunState,
    Stage,
    StageState,
    Transition,
)

ZERO = datetime(2026, 11, 22, 6, tzinfo=UTC)
SPACE = "cdf://westeurope-1.cognitedata.com/plant-a"
RUN_ID = UUID("5f0f1e9e-6a3c-4d0e-9d67-1f2c8a0f3b11")

PUMPS = Dataset(
    SPACE,
    "raw/sap/pumps",
    uri="https://westeurope-1.cognitedata.com/api/v1/projects/plant-a",
    fields=(Field("id", "string"), Field("site"), Field("flow", "double", "in l/s")),
)
ASSETS = Dataset(
    SPACE,
    "assets",
    uri="https://westeurope-1.cognitedata.com/api/v1/projects/plant-a",
    fields=(Field("externalId"), Field("name")),
    columns=(
        ColumnEdge("externalId", SPACE, "raw/sap/pumps", "id", subtype="IDENTITY"),
        ColumnEdge("name", SPACE, "raw/sap/pumps", "id", subtype="TRANSFORMATION", description="concat(id, site)"),
        ColumnEdge("name", SPACE, "raw/sap/pumps", "site", subtype="TRANSFORMATION"),
        ColumnEdge("", SPACE, "raw/sap/pumps", "flow", type="INDIRECT", subtype="FILTER"),
    ),
    symlinks=(("postgres://erp:5432", "erp.public.assets", "TABLE"),),
    description="All assets",
    change="OVERWRITE",
    storage=("file", "csv"),
    version="0a1b",
    rows=1200,
    bytes=34_000,
    files=1,
    facets=resolved_names(["gs://b/1.csv"]),
)
JOB = Job(
    "12",
    SPACE,
    "transformation/pumps",
    "QUERY",
    "CDF",
    description="Pumps as assets",
    owners=("user:0a1b",),
    tags=(("plant", "true"),),
    sql="select id as externalId, concat(id, site) as name from sap.pumps where flow > 0",
    dialect="spark",
)
FACTS = Facts(
    inputs=(PUMPS,),
    outputs=(ASSETS,),
    error="Table not found: sap.pumps",
    engine="Spark",
    external_id="4711",
    nominal_start=ZERO,
    nominal_end=ZERO + timedelta(hours=1),
    parameters=(("region", "north"),),
    stages=(Stage("1", "wrangle", StageState.FAILED, "Failed", "spark", ZERO, ZERO, "out of memory"),),
    tags=(("synthesised", "true"),),
    ids={"jobId": "4711"},
    link="https://fusion.cognite.com/plant-a/transformations/12/run-history",
    problems=("line 3: an argument is no literal",),
)
PARENT = Parent(UUID(int=7), SPACE, "workflow/nightly", key="workflow/1")


def run(state: RunState = RunState.SUCCEEDED, **changed: Any) -> Run:
    made: dict[str, Any] = {
        "key": "4711",
        "run_id": RUN_ID,
        "job": JOB,
        "state": state,
        "raw_state": state.value,
        "seen_at": ZERO + timedelta(minutes=5),
        "progressed_at": ZERO + timedelta(minutes=5),
        "queued_at": ZERO,
        "began_at": ZERO + timedelta(minutes=1),
        "finished_at": ZERO + timedelta(minutes=4),
        "started_at": ZERO + timedelta(minutes=1),
        "ended_at": ZERO + timedelta(minutes=4),
        "facts": FACTS,
    }
    return Run(**made | changed)


def transition(kind: EventKind = EventKind.COMPLETE, minute: int = 4, **changed: Any) -> Transition:
    return Transition(kind, ZERO + timedelta(minutes=minute), **changed)


START, COMPLETE, FAIL = transition(EventKind.START, 1), transition(), transition(EventKind.FAIL)

anything = st.text(st.characters(), max_size=40)
"""Control characters and halves of surrogate pairs too."""
something = anything.filter(lambda text: bool(names.clean(text).strip()))
words = st.sampled_from(["TABLE", "csv", "file", "spark"])
moments = st.datetimes(datetime(2020, 1, 1), datetime(2030, 1, 1), timezones=st.just(UTC))  # noqa: DTZ001 - Hypothesis wants them naive
counts = st.none() | st.integers(-1, 2**64)
spaces = st.sampled_from(
    [
        SPACE,
        "bigquery",
        "gs://bucket",
        "wasbs://c@acc.blob.core.windows.net",
        "file",
        "hdfs://h:8020",
        "x_y",
        "arn:aws:s3",
    ]
)
pairs = st.lists(st.tuples(something, anything), max_size=3).map(tuple)
intervals = st.none() | st.builds(Interval, st.none() | moments, moments)
jsons = st.recursive(
    st.none() | st.booleans() | st.integers() | anything,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(anything, inner, max_size=3),
    max_leaves=5,
)

fields = st.lists(
    st.builds(Field, something, st.none() | anything, st.none() | anything), max_size=4, unique_by=lambda one: one.name
).map(tuple)
datasets = st.builds(
    Dataset,
    spaces,
    st.builds(lambda text: names.dataset("raw", text), something),
    uri=st.none() | anything | st.sampled_from(["https://h:1/p", "https://me:secret@h/p", "jdbc:x"]),
    fields=fields,
    symlinks=st.lists(st.tuples(st.just("postgres://h:1"), something, words), max_size=2).map(tuple),
    description=st.none() | anything,
    change=st.sampled_from([None, "OVERWRITE", "CREATE", "TRUNCATE", "something"]),
    storage=st.none() | st.tuples(words, st.none() | words),
    version=st.none() | something,
    rows=counts,
    bytes=counts,
    files=counts,
)
sides = st.none() | st.lists(datasets, max_size=3, unique_by=lambda one: (one.namespace, one.name)).map(tuple)
jobs = st.builds(
    Job,
    something,
    st.just(SPACE),
    st.builds(lambda text: names.dataset("transformation", text), something),
    st.sampled_from(["QUERY", "JOB", "TASK"]),
    st.just("CDF"),
    description=st.none() | anything,
    owners=st.lists(something, max_size=2).map(tuple),
    tags=pairs,
    sql=st.none() | anything,
    dialect=st.none() | st.just("spark"),
)
stages = st.builds(
    Stage,
    something,
    something,
    st.sampled_from(StageState),
    st.none() | anything,
    st.none() | anything,
    st.none() | moments,
    st.none() | moments,
    st.none() | anything,
)
facts = st.builds(
    Facts,
    inputs=sides,
    outputs=sides,
    error=st.none() | anything,
    error_language=st.none() | something,
    engine=st.none() | something,
    engine_version=st.none() | something,
    external_id=st.none() | something,
    nominal_start=st.none() | moments,
    nominal_end=st.none() | moments,
    parameters=pairs,
    stages=st.lists(stages, max_size=2).map(tuple),
    tags=pairs,
    ids=st.dictionaries(something, anything, max_size=3),
    link=st.none() | st.just("https://h/p?a=1"),
    problems=st.lists(anything, max_size=2).map(tuple),
)
parents = st.builds(
    Parent,
    st.uuids(),
    st.just(SPACE),
    st.builds(lambda text: names.dataset("workflow", text[:20]), something),
    key=st.none() | something,
    root_run_id=st.none() | st.uuids(),
    root_namespace=st.none() | st.just(SPACE),
    root_job=st.none() | st.just("workflow/all"),
)


@st.composite
def runs(draw: st.DrawFn) -> tuple[Run, Transition]:
    """Any run, and any of its transitions."""
    kind = draw(st.sampled_from(EventKind))
    moving = (RunState.RUNNING, RunState.WAITING)
    made = run(
        draw(st.sampled_from(moving if kind is EventKind.RUNNING else tuple(RunState))),
        key=draw(something),
        run_id=draw(st.uuids()),
        job=draw(jobs),
        raw_state=draw(st.none() | anything),
        started_at=draw(st.none() | moments),
        started_within=draw(intervals),
        facts=draw(facts),
        parent=draw(st.none() | parents),
    )
    within, clamped = draw(intervals), draw(st.none() | moments)
    return made, Transition(kind, draw(moments), within, clamped, draw(st.none() | facts))
