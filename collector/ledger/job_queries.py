"""Queries of jobs and of the datasets that they use; lists are limited."""

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, fields

from sqlalchemy import ColumnElement, Connection, func, or_, select, tuple_

from collector.ledger import schema
from collector.ledger.queries import MANY
from collector.ledger.statements import chunks
from collector.model import RunState


@dataclass(frozen=True, slots=True)
class JobRow:
    """A job's last run (the one that began last), and the outcomes of all its runs."""

    source: str
    name: str
    description: str | None
    run_key: str
    run_uuid: str
    state: RunState
    started_at: int | None
    ended_at: int | None
    succeeded: int
    failed: int
    canceled: int
    duration_ms_sum: int
    updated_at: int
    schedule: str | None
    duration_bounded: bool


@dataclass(frozen=True, slots=True)
class DatasetUse:
    """A job that reads or writes a dataset."""

    source: str
    job: str
    namespace: str
    name: str
    is_output: bool


def jobs(conn: Connection, limit: int, *, source_id: int | None = None) -> list[JobRow]:
    """By source and name."""
    return _jobs(conn, [] if source_id is None else [schema.job.c.source_id == source_id], limit)


def _jobs(conn: Connection, wanted: Sequence[ColumnElement[bool]], limit: int) -> list[JobRow]:
    job, source = schema.job, schema.source
    columns = [job.c[field.name] for field in fields(JobRow) if field.name != "source"]
    rows = select(source.c.name.label("source"), *columns).join(source, source.c.id == job.c.source_id).where(*wanted)
    found = conn.execute(rows.order_by(job.c.source_id, job.c.name).limit(limit)).mappings()
    return [JobRow(**{**row, "state": RunState(row["state"])}) for row in found]


def jobs_named(conn: Connection, name: str, limit: int, *, source_id: int | None = None) -> list[JobRow]:
    """Those with this name, or for which it is what follows the first slash."""
    job = schema.job
    named = or_(job.c.name == name, job.c.name.endswith(f"/{name}", autoescape=True))
    return _jobs(conn, [named] if source_id is None else [named, job.c.source_id == source_id], limit)


def jobs_after(
    conn: Connection,
    after: tuple[int, str] | None,
    limit: int,
    *,
    source_id: int | None = None,
    state: RunState | None = None,
    words: str | None = None,
) -> list[JobRow]:
    """By source and name, those behind `after`; `words` are somewhere in the name or the description."""
    job, wanted = schema.job, list[ColumnElement[bool]]()
    if after is not None:
        wanted.append(tuple_(job.c.source_id, job.c.name) > after)
    if source_id is not None:
        wanted.append(job.c.source_id == source_id)
    if state is not None:
        wanted.append(job.c.state == state)
    if words is not None:
        wanted.append(or_(*(column.icontains(words, autoescape=True) for column in (job.c.name, job.c.description))))
    return _jobs(conn, wanted, limit)


def jobs_of(conn: Connection, source_id: int, names: Iterable[str]) -> list[JobRow]:
    """Those of these names, by name."""
    job = schema.job
    of_source = job.c.source_id == source_id
    return [row for some in chunks(sorted(names)) for row in _jobs(conn, [of_source, job.c.name.in_(some)], len(some))]


def job_names(conn: Connection) -> list[str]:
    return list(conn.scalars(select(schema.job.c.name).limit(MANY)))


def dataset_uses(conn: Connection, name: str, limit: int, *, source_id: int | None = None) -> list[DatasetUse]:
    """Jobs that read or write datasets with this name (or `NAMESPACE NAME`), as far as their last success says."""
    job, source = schema.job, schema.source
    spelled = json.dumps(name.rpartition(" ")[2], ensure_ascii=False)
    found: list[DatasetUse] = []
    for column, is_output in ((job.c.inputs, False), (job.c.outputs, True)):
        rows = select(source.c.name, job.c.name, column).join(source, source.c.id == job.c.source_id)
        rows = rows.where(column.contains(spelled, autoescape=True))
        for of_source, of_job, text in conn.execute(
            rows if source_id is None else rows.where(job.c.source_id == source_id)
        ):
            named = [one for one in json.loads(text) if name in {one["name"], f"{one['namespace']} {one['name']}"}]
            found += [DatasetUse(of_source, of_job, one["namespace"], one["name"], is_output) for one in named]
    return found[:limit]


def job_counts(conn: Connection) -> dict[int, int]:
    """Jobs by source."""
    job = schema.job
    return dict(conn.execute(select(job.c.source_id, func.count()).group_by(job.c.source_id)).all())


def overdue(conn: Connection, source_id: int, started_before_ms: int) -> dict[str, int]:
    """Open runs under watch that run since before this time, by job."""
    run = schema.run
    runs_still = run.c.source_id == source_id, run.c.state == RunState.RUNNING, run.c.abandoned_at.is_(None)
    counts = select(run.c.job, func.count()).where(*runs_still, run.c.ended_at.is_(None))
    return dict(conn.execute(counts.where(run.c.started_at < started_before_ms).group_by(run.c.job)).all())
