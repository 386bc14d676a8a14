"""A job as CDF shows it, as an observation in our words. Pure."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from hashlib import sha256
from itertools import count
from urllib.parse import urlsplit
from uuid import NAMESPACE_URL, UUID, uuid5

from cachetools import LRUCache

from collector import names
from collector.lifecycle import DERIVED
from collector.lineage.sql import SqlLineage
from collector.model import Dataset, Facts, Job, Observation, Parent, Run, RunState, Skip, SkipKind
from collector.platforms.cdf.datasets import read_counter, rows_read, rows_written, written
from collector.platforms.cdf.lineage import data_flow
from collector.platforms.cdf.rows import REMEMBERED, Definition, JobRow
from config.base import address

COUNTER = "counter"
"""In a run's handle: how the names of the metrics of its output begin."""


@dataclass(frozen=True, slots=True)
class Place:
    """Namespaces of the jobs and datasets of a source. `namespace` is that of its own `project`."""

    base_url: str
    project: str
    namespace: str
    canceled_errors: tuple[str, ...]

    @property
    def account(self) -> str:
        """What run ids are derived from where CDF gives no UUID, whatever namespace the jobs have."""
        return names.namespace("cdf", address(self.base_url), self.project)

    def dataset_namespace(self, project: str | None) -> str:
        """Source and destination project of a job may differ from the project that was asked."""
        if project is None or project == self.project:
            return self.namespace
        return names.namespace("cdf", self.base_url, project)

    def uri(self, project: str | None) -> str:
        return f"{self.base_url}/api/v1/projects/{project or self.project}"

    def link(self, transformation_id: int | None) -> str | None:
        """The history of a transformation's runs in the vendor's user interface, which knows only the vendor's clusters."""
        host = urlsplit(self.base_url).hostname or ""
        if transformation_id is None or not host.endswith(".cognitedata.com"):
            return None
        return (
            f"https://fusion.cognite.com/{self.project}/transformations/{transformation_id}/run-history?cluster={host}"
        )


def observe(
    row: JobRow,
    place: Place,
    *,
    seen_at: datetime,
    job_name: str,
    definition: Definition | None = None,
    sql: SqlLineage | None = None,
    known: Run | None = None,
    parent: Parent | None = None,
    settled: bool = False,
) -> Observation:
    """`sql` is what the row's query does, None where that is not known. `known` is the run when it is tracked already:
    it stands in for what the row does not say.
    """
    output = written(
        row.destination, place.dataset_namespace(row.destination_project), place.uri(row.destination_project)
    )
    data = data_flow(
        row, sql, output.dataset, place.dataset_namespace(row.source_project), place.uri(row.source_project)
    )
    if row.query is None and known is not None:
        data = replace(data, problems=())
    state = row.state(place.canceled_errors)
    return Observation(
        key=str(row.id),
        run_id=_run_id(row, place, known),
        job=_job(row, place, job_name, definition, known),
        state=state,
        raw_state=row.status,
        seen_at=seen_at,
        queued_at=row.created,
        started_at=row.started,
        ended_at=row.ended,
        facts=Facts(
            inputs=data.inputs,
            outputs=(data.output,) if data.output is not None else None,
            error=row.error,
            error_language="SQL" if row.error is not None else None,
            engine="Spark",
            external_id=str(row.id),
            ids=_ids(row),
            link=place.link(row.transformation_id),
            problems=(*((output.problem,) if output.problem is not None else ()), *data.problems),
        ),
        parent=parent,
        handle={COUNTER: output.counter} if output.counter is not None else {},
        settled=(sql is not None or row.query is None) and (settled or _counted_nothing(row, state)),
    )


class Unchanged:
    """Observations of open jobs, for the polls that see nothing new: most of them. `basis` is all that an observation is made
    of beside the row.
    """

    def __init__(self) -> None:
        self._last: LRUCache[int, tuple[object, Observation]] = LRUCache(REMEMBERED)

    def get(self, row: JobRow, basis: object) -> Observation | None:
        """As it was made of the same; its `seen_at` is that of then."""
        last = self._last.get(row.id)
        return last[1] if last is not None and last[0] == (row, basis) else None

    def put(self, row: JobRow, basis: object, seen: Observation) -> Observation:
        """The observation with its edition, if it is kept."""
        if seen.state.terminal:
            self._last.pop(row.id, None)
            return seen
        seen = replace(seen, edition=next(_editions))
        self._last[row.id] = (row, basis), seen
        return seen


_editions = count()


def _run_id(row: JobRow, place: Place, known: Run | None) -> UUID:
    if row.uuid is not None:
        return row.uuid
    return known.run_id if known else uuid5(NAMESPACE_URL, f"{place.account}/job/{row.id}")


def is_of(row: JobRow, run: Run) -> bool:
    """Whether the row is about this run, and not about a later job that got the same id."""
    return row.uuid is None or row.uuid == run.run_id or DERIVED in {row.uuid.version, run.run_id.version}


def given_away(row: JobRow) -> Skip:
    """For a row that is not of the run under its id."""
    cause = f"its id is now that of job {row.uuid} of transformation {row.external_id or row.transformation_id}, which is left out"
    return Skip(SkipKind.LATE, str(row.id), cause)


def _counted_nothing(row: JobRow, state: RunState) -> bool:
    """A job that never started."""
    return state.terminal and state is not RunState.SUCCEEDED and row.started is None


def counted(facts: Facts, handle: Mapping[str, str], sql: SqlLineage | None, metrics: Sequence[object]) -> Facts:
    """The rows that an ended run wrote, on its one output, and those that it read of each input."""
    counter, outputs = handle.get(COUNTER), facts.outputs
    rows = rows_written(metrics, counter) if counter is not None else None
    if rows is not None and outputs is not None and len(outputs) == 1:
        outputs = (replace(outputs[0], rows=rows),)
    return Facts(inputs=_counted_inputs(facts.inputs, sql, metrics), outputs=outputs)


def _counted_inputs(
    inputs: tuple[Dataset, ...] | None, sql: SqlLineage | None, metrics: Sequence[object]
) -> tuple[Dataset, ...] | None:
    """A count only where it is that of one input, which the query reads once."""
    if inputs is None or sql is None or sql.problems:
        return inputs
    counters = _counters(inputs, sql)
    return tuple(
        replace(each, rows=rows_read(metrics, counters[each.name])) if each.name in counters else each
        for each in inputs
    )


def _counters(inputs: Sequence[Dataset], sql: SqlLineage) -> dict[str, str]:
    """By the names of the inputs, the counters that count one input alone."""
    repeated = {read.name for read in sql.reads or () if read.repeated}
    counters = {each.name: read_counter(each.name) for each in inputs}
    shared = Counter(counters.values())
    return {
        name: counter
        for name, counter in counters.items()
        if counter is not None and shared[counter] == 1 and name not in repeated
    }


def candidates(row: JobRow, definition: Definition | None) -> tuple[str, ...]:
    """What include and exclude are compared with."""
    external_id = row.external_id or (definition.external_id if definition else None)
    return called(external_id, row.transformation_id, definition.name if definition else None)


def called(external_id: str | None, number: int | None, name: str | None) -> tuple[str, ...]:
    """All that a transformation may be chosen by: external id, id, its own name, and the name of its job."""
    numeric = str(number) if number is not None else None
    found = [each for each in (external_id, numeric, name) if each is not None]
    return (*found, *(names.dataset("transformation", each) for each in found[:1]))


def job_of(definition: Definition, place: Place) -> Job:
    """The job of a transformation that never ran."""
    name = names.dataset("transformation", definition.external_id or str(definition.id))
    return Job(str(definition.id), place.namespace, name, kind="QUERY", integration="CDF", description=definition.name)


def _job(row: JobRow, place: Place, name: str, definition: Definition | None, known: Run | None) -> Job:
    if known is not None and row.transformation_id is None:
        return known.job
    return Job(
        key=str(row.transformation_id) if row.transformation_id is not None else name,
        namespace=place.namespace,
        name=name,
        kind="QUERY",
        integration="CDF",
        description=definition.name if definition else None,
        owners=_owners(definition, place),
        tags=_tags(definition),
        sql=row.query,
        dialect="spark",
        schedule=definition.schedule if definition else None,
    )


def _owners(definition: Definition | None, place: Place) -> tuple[str, ...]:
    """The owner is a person's id or address: a digest distinguishes owners without naming them."""
    if definition is None or definition.owner is None:
        return ()
    return (f"user:{sha256(f'{place.namespace}/{definition.owner}'.encode()).hexdigest()[:16]}",)


def _tags(definition: Definition | None) -> tuple[tuple[str, str], ...]:
    if definition is None:
        return ()
    data_set = (("dataSetId", str(definition.data_set_id)),) if definition.data_set_id is not None else ()
    return (*((tag, "true") for tag in definition.tags), *data_set)


def _ids(row: JobRow) -> Mapping[str, str]:
    given = {
        "jobId": str(row.id),
        "transformationId": None if row.transformation_id is None else str(row.transformation_id),
        "transformationExternalId": row.external_id,
        "conflictMode": row.conflict_mode,
        "sourceProject": row.source_project,
        "destinationProject": row.destination_project,
    }
    return {name: value for name, value in given.items() if value is not None}
