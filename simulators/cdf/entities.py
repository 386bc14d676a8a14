"""What CDF keeps: transformations, their jobs and workflow executions, and how each looks in JSON."""

import re
from collections import deque
from dataclasses import dataclass, field
from typing import Any

from simulators.cdf.modes import Modes
from simulators.cdf.scenarios import Scenario, Snapshot, has_vanished, snapshot

Destination = dict[str, Any] | str

_RELATIONS = {
    "asset_hierarchy": "assethierarchy",
    "string_datapoints": "stringdatapoints",
    "sequence_rows": "sequencerows",
    "data_sets": "datasets",
    "nodes": "instances",
    "edges": "instances",
    "instances": "instances",
}


@dataclass(slots=True)
class Transformation:
    """A definition. Times are epoch milliseconds; `scenarios` are for the next jobs, `scenario` for all later ones."""

    id: int
    external_id: str
    name: str
    query: str
    destination: Destination
    created: int
    updated: int
    owner: str
    conflict_mode: str = "upsert"
    is_public: bool = True
    ignore_null_fields: bool = True
    source_project: str = ""
    destination_project: str = ""
    blocked: str | None = None
    schedule: str | None = None
    schedule_paused: bool = False
    data_set_id: int | None = None
    tags: list[str] = field(default_factory=list)
    scenario: Scenario = field(default_factory=Scenario)
    scenarios: deque[Scenario] = field(default_factory=deque)

    @property
    def destination_type(self) -> str:
        return self.destination if isinstance(self.destination, str) else str(self.destination["type"])

    def schedule_json(self) -> dict[str, Any]:
        return {
            "id": self.id,
            "externalId": self.external_id,
            "createdTime": self.created,
            "lastUpdatedTime": self.updated,
            "interval": self.schedule,
            "isPaused": self.schedule_paused,
        }

    def json(self, modes: Modes, caller: str) -> dict[str, Any]:
        body: dict[str, Any] = {
            "id": self.id,
            "externalId": self.external_id,
            "name": self.name,
            "query": self.query,
            "destination": self.destination,
            "conflictMode": self.conflict_mode,
            "isPublic": self.is_public,
            "ignoreNullFields": self.ignore_null_fields,
            "createdTime": self.created,
            "lastUpdatedTime": self.updated,
            "owner": {"user": self.owner} if modes.owner_is_object else self.owner,
            "ownerIsCurrentUser": self.owner == caller,
            "hasSourceOidcCredentials": False,
            "hasDestinationOidcCredentials": False,
        }
        if self.blocked is not None:
            body["blocked"] = {"reason": self.blocked, "createdTime": self.updated}
        if self.schedule is not None:
            body["schedule"] = self.schedule_json()
        if self.data_set_id is not None:
            body["dataSetId"] = self.data_set_id
        if self.tags:
            body["tags"] = list(self.tags)
        return body


@dataclass(slots=True)
class Job:
    """One run. What it copied from its definition stays, whatever happens to the definition."""

    id: int
    uuid: str
    transformation: Transformation
    created: int
    scenario: Scenario
    query: str
    destination: Destination
    conflict_mode: str
    cancelled: int | None = None
    pinned: Snapshot | None = None
    """What a test has set by hand; the scenario is over then."""

    @property
    def order(self) -> tuple[int, int]:
        return self.created, self.id

    def view(self, now: int) -> Snapshot:
        return self.pinned or snapshot(self.scenario, self.created, now, self.cancelled)

    def vanished(self, now: int) -> bool:
        return self.pinned is None and has_vanished(self.scenario, self.created, now)

    def json(self, now: int, modes: Modes) -> dict[str, Any]:
        """`JobRead`; the transformation's external id is today's, since an update of the definition changes it."""
        view = self.view(now)
        body: dict[str, Any] = {
            "id": self.id,
            "uuid": self.uuid,
            "transformationId": self.transformation.id,
            "transformationExternalId": self.transformation.external_id,
            "sourceProject": self.transformation.source_project,
            "destinationProject": self.transformation.destination_project,
            "destination": self.destination,
            "conflictMode": self.conflict_mode,
            "query": self.query,
            "createdTime": self.created,
            "ignoreNullFields": self.transformation.ignore_null_fields,
            "status": view.status,
        }
        optional = {
            "startedTime": view.started,
            "finishedTime": view.finished,
            "lastSeenTime": view.last_seen,
            "error": view.error,
        }
        body |= {name: value for name, value in optional.items() if modes.null_optionals or value is not None}
        return body | view.extra

    def metrics(self, now: int, modes: Modes) -> list[dict[str, Any]]:
        """Running totals that grow with the job; none before it has done anything."""
        view = self.view(now)
        if view.started is None or view.progress <= 0:
            return []
        at = view.last_seen or now
        totals = self.scenario.metrics if self.scenario.metrics is not None else self._usual_totals()
        rows = [{"timestamp": at, "name": name, "count": int(count * view.progress)} for name, count in totals.items()]
        earlier = [{**row, "timestamp": at - 1000, "count": int(str(row["count"])) // 2} for row in rows]
        return rows + earlier if modes.metrics_history else rows

    def _usual_totals(self) -> dict[str, int]:
        rows = 100 + self.id % 900
        kind = self.transformation.destination_type
        read = {f"raw.{table}.rows.read": rows + len(table) for table in _raw_tables(self.query)}
        requests = {
            "requests": rows // 10 + 2,
            "requestsWithoutRetries": rows // 10,
            "requests.200.response": rows // 10,
            **read,
        }
        if kind == "raw" and isinstance(self.destination, dict):
            return {f"raw.{self.destination['database']}.{self.destination['table']}.rows.created": rows} | requests
        relation = _RELATIONS.get(kind, kind)
        if relation == "instances":
            return {"instances.upserted": rows, "instances.upsertedNoop": rows // 4} | requests
        return {f"{relation}.created": rows - rows // 3, f"{relation}.updated": rows // 3} | requests


def _raw_tables(query: str) -> set[str]:
    """RAW tables of a query whose names are quoted, with a dot."""
    return {f"{database}.{table}" for database, table in re.findall(r"`(\w+)`\.`(\w+)`", query)}


@dataclass(slots=True)
class WorkflowTask:
    """A task of a workflow; `job` is None when it failed before a job existed, or when it runs something else."""

    id: str
    external_id: str
    task_type: str
    job: Job | None = None


@dataclass(slots=True)
class WorkflowExecution:
    """A run of a workflow; its status follows from its tasks' jobs, unless somebody terminated it."""

    id: str
    external_id: str
    version: str
    created: int
    tasks: list[WorkflowTask]
    terminated: int | None = None

    def status(self, now: int) -> str:
        if self.terminated is not None:
            return "TERMINATED"
        states = {self._task_status(task, now) for task in self.tasks}
        if states & {"IN_PROGRESS", "SCHEDULED"}:
            return "RUNNING"
        return "FAILED" if states & {"FAILED"} else "COMPLETED"

    def json(self, now: int) -> dict[str, Any]:
        status = self.status(now)
        body: dict[str, Any] = {
            "id": self.id,
            "workflowExternalId": self.external_id,
            "version": self.version,
            "status": status,
            "createdTime": self.created,
            "startTime": self.created,
            "metadata": {},
        }
        if status != "RUNNING":
            body["endTime"] = self._ended(now)
        if status == "TERMINATED":
            body["reasonForIncompletion"] = "cancelled"
        return body

    def detailed_json(self, now: int) -> dict[str, Any]:
        tasks = [self._task_json(task, now) for task in self.tasks]
        definition: dict[str, Any] = {"hash": "0", "description": None, "tasks": []}
        return self.json(now) | {"workflowDefinition": definition, "executedTasks": tasks}

    def _task_status(self, task: WorkflowTask, now: int) -> str:
        if task.job is None:
            return "FAILED" if task.task_type == "transformation" else "COMPLETED"
        view = task.job.view(now)
        if view.is_open and self.terminated is not None:
            return "CANCELED"
        if view.is_open:
            return "SCHEDULED" if view.started is None else "IN_PROGRESS"
        return "COMPLETED" if view.status == "Completed" else "FAILED"

    def _task_json(self, task: WorkflowTask, now: int) -> dict[str, Any]:
        external_id = task.job.transformation.external_id if task.job else task.external_id
        return {
            "id": task.id,
            "externalId": task.external_id,
            "taskType": task.task_type,
            "status": self._task_status(task, now),
            "startTime": self.created,
            "input": {"transformation": {"externalId": external_id, "concurrencyPolicy": "fail"}}
            if task.task_type == "transformation"
            else {},
            "output": {"jobId": task.job.id} if task.job else {},
        }

    def _ended(self, now: int) -> int:
        ends = [view.finished for task in self.tasks if task.job and (view := task.job.view(now)).finished is not None]
        return self.terminated or max(ends, default=self.created)
