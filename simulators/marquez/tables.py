"""What Marquez keeps: its tables as rows in memory, with the look-ups that the rest needs."""

import random
from collections import defaultdict
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import Any
from uuid import UUID

_DEFAULT = (
    "The default global namespace for dataset, job, and run metadata not belonging to a user-specified namespace."
)
DONE = frozenset({"COMPLETED", "FAILED", "ABORTED"})


class Io(StrEnum):
    INPUT = "INPUT"
    OUTPUT = "OUTPUT"


@dataclass(slots=True)
class Namespace:
    name: str
    created_at: datetime
    updated_at: datetime
    owner: str
    description: str | None = None
    owned_by: set[str] = field(default_factory=set)
    """Owners that took over by a PUT: none can do so twice."""


@dataclass(slots=True)
class Job:
    uuid: UUID
    namespace: str
    name: str
    simple_name: str
    parent: UUID | None
    type: str
    created_at: datetime
    updated_at: datetime
    description: str | None
    location: str | None
    inputs: list[tuple[str, str]]
    current_run: UUID | None
    current_version: UUID | None = None


@dataclass(slots=True, eq=False)
class Facet:
    """One facet of one event. `owner` is the run, job or dataset; `scope` the job's or dataset's version."""

    owner: UUID
    name: str
    value: Any
    at: datetime
    kind: str = ""
    run: UUID | None = None
    scope: UUID | None = None


@dataclass(slots=True)
class Run:
    uuid: UUID
    parent: UUID | None
    created_at: datetime
    updated_at: datetime
    job: UUID
    namespace: str
    job_name: str
    args: dict[str, str]
    nominal_start: datetime | None = None
    nominal_end: datetime | None = None
    state: str | None = None
    transitioned_at: datetime | None = None
    started_at: datetime | None = None
    ended_at: datetime | None = None
    job_version: UUID | None = None
    states: list[tuple[str, datetime]] = field(default_factory=list)
    inputs: dict[UUID, None] = field(default_factory=dict)
    facets: list[Facet] = field(default_factory=list)


@dataclass(slots=True)
class JobVersion:
    uuid: UUID
    version: UUID
    job: UUID
    created_at: datetime
    location: str | None
    latest_run: UUID | None = None
    io: dict[tuple[UUID, Io], bool] = field(default_factory=dict)
    """Whether each dataset still is a current input or output of the job."""


@dataclass(slots=True)
class Column:
    uuid: UUID
    dataset: UUID
    name: str
    type: str | None
    description: str | None


@dataclass(slots=True)
class Dataset:
    """`namespace` and `name` are as stored; the names it goes by are the symlinks that lead to it."""

    uuid: UUID
    namespace: str
    name: str
    physical_name: str
    source: str
    created_at: datetime
    updated_at: datetime
    description: str | None = None
    current_version: UUID | None = None
    last_modified_at: datetime | None = None
    deleted: bool = False


@dataclass(slots=True)
class DatasetVersion:
    uuid: UUID
    version: UUID
    dataset: UUID
    created_at: datetime
    run: UUID | None
    namespace: str
    name: str
    lifecycle: str | None
    fields: list[dict[str, Any]]
    columns: dict[UUID, None] = field(default_factory=dict)


@dataclass(slots=True)
class Source:
    url: str
    created_at: datetime
    updated_at: datetime


@dataclass(slots=True)
class Symlink:
    namespace: str
    name: str
    dataset: UUID
    primary: bool


@dataclass(slots=True)
class ColumnEdge:
    output_version: UUID
    output: UUID
    input_version: UUID
    input: UUID
    description: str | None
    type: str | None
    updated_at: datetime


@dataclass(slots=True)
class RawEvent:
    kind: str
    at: datetime
    data: dict[str, Any]


class Tables:
    """All rows, with keys as in the database's unique indexes and a look-up for each way that rows are found."""

    def __init__(self, rng: random.Random, started_at: datetime) -> None:
        self._rng = rng
        self.namespaces: dict[str, Namespace] = {}
        self.jobs: dict[UUID, Job] = {}
        self.job_by_name: dict[tuple[str, str], UUID] = {}
        self.runs: dict[UUID, Run] = {}
        self.job_versions: dict[UUID, JobVersion] = {}
        self.job_version_by_hash: dict[UUID, UUID] = {}
        self.sources: dict[str, Source] = {}
        self.datasets: dict[UUID, Dataset] = {}
        self.dataset_by_name: dict[tuple[str, str], UUID] = {}
        self.symlinks: dict[tuple[str, str], Symlink] = {}
        self.aliases: set[str] = set()
        self.columns: dict[UUID, Column] = {}
        self.dataset_versions: dict[UUID, DatasetVersion] = {}
        self.dataset_version_by_hash: dict[UUID, UUID] = {}
        self.column_edges: dict[tuple[UUID, UUID, UUID, UUID], ColumnEdge] = {}
        self.events: list[RawEvent] = []
        self._runs_of: defaultdict[UUID, list[Run]] = defaultdict(list)
        self._versions_of: defaultdict[UUID, list[JobVersion]] = defaultdict(list)
        self._job_facets: defaultdict[UUID, list[Facet]] = defaultdict(list)
        self._version_facets: defaultdict[UUID, list[Facet]] = defaultdict(list)
        self._links: defaultdict[UUID, list[Symlink]] = defaultdict(list)
        self._columns: defaultdict[UUID, list[Column]] = defaultdict(list)
        self._written: defaultdict[UUID, dict[UUID, None]] = defaultdict(dict)
        self._dataset_facets: defaultdict[UUID, list[Facet]] = defaultdict(list)
        self.upsert_namespace("default", started_at)
        self.namespaces["default"].description = _DEFAULT

    def new_id(self) -> UUID:
        return UUID(int=self._rng.getrandbits(128), version=4)

    def upsert_namespace(self, name: str, at: datetime, owner: str = "anonymous") -> Namespace:
        return self.namespaces.setdefault(name, Namespace(name, at, at, owner))

    def upsert_source(self, name: str, url: str, at: datetime) -> str:
        row = self.sources.setdefault(name, Source(url, at, at))
        row.url, row.updated_at = url, at
        return name

    def job(self, namespace: str, name: str) -> Job | None:
        found = self.job_by_name.get((namespace, name))
        return self.jobs[found] if found else None

    def add_job(self, job: Job) -> None:
        self.jobs[job.uuid] = job
        self.job_by_name[job.namespace, job.name] = job.uuid

    def add_run(self, run: Run) -> None:
        self.runs[run.uuid] = run
        self._runs_of[run.job].append(run)

    def runs_of(self, job: UUID) -> list[Run]:
        return self._runs_of[job]

    def add_job_version(self, version: JobVersion) -> None:
        self.job_versions[version.uuid] = version
        self.job_version_by_hash[version.version] = version.uuid
        self._versions_of[version.job].append(version)

    def versions_of(self, job: UUID) -> list[JobVersion]:
        return self._versions_of[job]

    def add_job_facet(self, facet: Facet) -> None:
        """Filed under its run, and under its job's version where an event without a run brought it."""
        if facet.run is not None:
            self._job_facets[facet.run].append(facet)
        if facet.scope is not None:
            self._version_facets[facet.scope].append(facet)

    def job_facets(self, run: UUID) -> list[Facet]:
        return self._job_facets[run]

    def scope_job_facets(self, run: UUID, version: UUID) -> None:
        """All that the run said of its job now belongs to that version of it."""
        for facet in self._job_facets[run]:
            if facet.scope is not None:
                self._version_facets[facet.scope].remove(facet)
            facet.scope = version
            self._version_facets[version].append(facet)

    def version_facets(self, version: UUID) -> list[Facet]:
        return self._version_facets[version]

    def dataset(self, namespace: str, name: str) -> Dataset | None:
        """By any of its names."""
        link = self.symlinks.get((namespace, name))
        return self.datasets.get(link.dataset) if link else None

    def add_symlink(self, link: Symlink) -> Symlink:
        """The link of that name: the one that came first stays."""
        kept = self.symlinks.setdefault((link.namespace, link.name), link)
        if kept is link:
            self._links[link.dataset].append(link)
            self.aliases |= set() if link.primary else {link.name}
        return kept

    def links(self, dataset: UUID) -> list[Symlink]:
        return self._links[dataset]

    def add_column(self, column: Column) -> None:
        self.columns[column.uuid] = column
        self._columns[column.dataset].append(column)

    def columns_of(self, dataset: UUID) -> list[Column]:
        return self._columns[dataset]

    def column(self, namespace: str, dataset: str, name: str) -> Column | None:
        found = self.dataset(namespace, dataset)
        return next((c for c in self.columns_of(found.uuid) if c.name == name), None) if found else None

    def add_dataset_version(self, version: DatasetVersion) -> None:
        self.dataset_versions[version.uuid] = version
        self.dataset_version_by_hash[version.version] = version.uuid
        self.set_writer(version, version.run)

    def set_writer(self, version: DatasetVersion, run: UUID | None) -> None:
        if version.run is not None:
            self._written[version.run].pop(version.uuid, None)
        version.run = run
        if run is not None:
            self._written[run][version.uuid] = None

    def input_versions(self, run: UUID) -> list[DatasetVersion]:
        return [self.dataset_versions[version] for version in self.runs[run].inputs]

    def output_versions(self, run: UUID) -> list[DatasetVersion]:
        return [self.dataset_versions[version] for version in self._written[run]]

    def add_dataset_facet(self, facet: Facet) -> None:
        assert facet.scope is not None
        self._dataset_facets[facet.scope].append(facet)

    def dataset_facets(self, version: UUID) -> list[Facet]:
        return self._dataset_facets[version]
