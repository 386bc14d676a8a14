"""The last run, the outcomes and the datasets of each job, updated with its runs: correct after a restart, cheap to scrape."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import cache

from pydantic import TypeAdapter
from sqlalchemy import ColumnElement, Connection, bindparam, func, or_, select, update

from collector.clock import to_ms
from collector.errors import LedgerError
from collector.ledger import graph, schema
from collector.ledger.detail import ms, read, written
from collector.ledger.leases import Lease, fence
from collector.ledger.run_order import NEWEST_FIRST
from collector.ledger.statements import KEYS, put, rows_of
from collector.model import Dataset, Definition, EventKind, Job, Run

_COUNTED = {EventKind.COMPLETE: "succeeded", EventKind.FAIL: "failed", EventKind.ABORT: "canceled"}


@dataclass(frozen=True, slots=True)
class JobState:
    """A row of `schema.job` but for the source and the time of writing."""

    name: str
    run_key: str
    run_uuid: str
    run_at: int
    state: str
    started_at: int | None = None
    ended_at: int | None = None
    succeeded: int = 0
    failed: int = 0
    canceled: int = 0
    duration_ms_sum: int = 0
    description: str | None = None
    schedule: str | None = None
    duration_bounded: bool = False


def note(conn: Connection, source_id: int, runs: Sequence[tuple[Run, EventKind | None]], now_ms: int) -> None:
    """Each run with its terminal event, if that was made just now."""
    before = _states(conn, source_id, {run.job.name for run, _ in runs})
    after = dict(before)
    for run, ended_by in runs:
        after[run.job.name] = following(after.get(run.job.name), run, ended_by)
    rows = [
        {**{name: getattr(state, name) for name in JobState.__slots__}, "source_id": source_id, "updated_at": now_ms}
        for name, state in sorted(after.items())
        if state != before.get(name)
    ]
    if rows:
        conn.execute(put(conn, schema.job, (*JobState.__slots__[1:], "updated_at")), rows)


def following(known: JobState | None, run: Run, ended_by: EventKind | None) -> JobState:
    """The job's state after this change of the run; the last run is the one that began last."""
    last = _last(run)
    if known is not None:
        counts = {name: getattr(known, name) for name in ("succeeded", "failed", "canceled", "duration_ms_sum")}
        is_last = known.run_key == last.run_key or last.run_at >= known.run_at
        last = replace(last if is_last else known, **counts)
    if ended_by is None:
        return last
    counted = _COUNTED[ended_by]
    took = to_ms(run.ended_at) - to_ms(run.started_at) if run.ended_at and run.started_at else 0
    more = {counted: getattr(last, counted) + 1, "duration_ms_sum": last.duration_ms_sum + took}
    return replace(last, **more)


def _last(run: Run) -> JobState:
    began = run.began_at or run.started_at or run.queued_at or run.progressed_at
    return JobState(
        name=run.job.name,
        run_key=run.key,
        run_uuid=str(run.run_id),
        run_at=to_ms(began),
        state=run.state.value,
        started_at=ms(run.started_at),
        ended_at=ms(run.ended_at),
        description=run.job.description and schema.clean(run.job.description),
        schedule=run.job.schedule and schema.clean(run.job.schedule),
        duration_bounded=run.duration_bounded,
    )


def _states(conn: Connection, source_id: int, names: Iterable[str]) -> Mapping[str, JobState]:
    return {row[0]: JobState(*row) for row in rows_of(conn, _STATES, sorted(names), of_source=source_id)}


_NAMED = schema.job.c.source_id == bindparam("of_source"), schema.job.c.name.in_(KEYS)
_STATES = select(*(schema.job.c[name] for name in JobState.__slots__)).where(*_NAMED)


def platform_ids(conn: Connection, source_id: int, name: str) -> list[str]:
    """The platform's ids of the jobs that had this name in the latest runs, the newest first."""
    run = schema.run
    rows = select(run.c.key, run.c.detail).where(run.c.source_id == source_id, run.c.job == name)
    found: dict[str, None] = {}
    for key, text in conn.execute(rows.order_by(*NEWEST_FIRST).limit(_LATEST)):
        with suppress(LedgerError):  # a run that cannot be read is listed as skipped already
            found.setdefault(read(key, text).job.key)
    return list(found)


_LATEST = 100


def platform_name(conn: Connection, source_id: int, name: str) -> str | None:
    """What the platform calls the job that had this name in its latest run, None where none had."""
    run = schema.run
    rows = select(run.c.key, run.c.detail).where(run.c.source_id == source_id, run.c.job == name)
    for key, text in conn.execute(rows.order_by(*NEWEST_FIRST).limit(_LATEST)):
        with suppress(LedgerError):  # a run that cannot be read is listed as skipped already
            job = read(key, text).job
            return job.platform_name or job.name
    return None


def latest(conn: Connection, source_id: int, limit: int) -> list[Job]:
    """The jobs as their latest runs have them, by name."""
    job, run = schema.job, schema.run
    of_run = (run.c.source_id == job.c.source_id) & (run.c.key == job.c.run_key)
    rows = select(run.c.key, run.c.detail).join_from(job, run, of_run).where(job.c.source_id == source_id)
    found: list[Job] = []
    for key, text in conn.execute(rows.order_by(job.c.name).limit(limit)):
        with suppress(LedgerError):
            found.append(read(key, text).job)
    return found


def definitions(conn: Connection, source_id: int, names: Iterable[str]) -> dict[str, Definition]:
    """What is known of these jobs' datasets, by job name."""
    rows = rows_of(conn, _DEFINED.where(*_NAMED), sorted(names), of_source=source_id)
    return {name: Definition(_read(inputs), _read(outputs)) for name, inputs, outputs in rows}


_DEFINED = select(schema.job.c.name, schema.job.c.inputs, schema.job.c.outputs)


def defined(conn: Connection, source_id: int, after: str, limit: int) -> dict[str, Definition]:
    """What the jobs read and write whose names come after this one, by name."""
    job = schema.job
    rows = _DEFINED.where(job.c.source_id == source_id, job.c.name > after)
    found = conn.execute(rows.order_by(job.c.name).limit(limit))
    return {name: Definition(_read(inputs), _read(outputs)) for name, inputs, outputs in found}


def define(
    conn: Connection,
    source_id: int,
    known: Mapping[str, Definition],
    shown: Callable[[Definition], Definition] = lambda one: one,
) -> None:
    """Store what known jobs read and write; None leaves the stored value. `shown` has the names of events."""
    rows = [
        {"of_source": source_id, "of_name": name, "new_inputs": _text(one.inputs), "new_outputs": _text(one.outputs)}
        for name, one in sorted(known.items())
    ]
    if rows and conn.execute(_DEFINE, rows).rowcount:
        graph.note(conn, source_id, {name: shown(one) for name, one in known.items()})


def name_datasets(
    conn: Connection, lease: Lease, source_id: int, names: Iterable[str], shown: Callable[[Definition], Definition]
) -> None:
    """Store the datasets of these jobs under the names of events, which aliases may have changed. Raises `LeaseLost`."""
    fence(conn, lease)
    known = definitions(conn, source_id, names)
    graph.note(conn, source_id, {name: shown(one) for name, one in known.items()})


_NEW_INPUTS: ColumnElement[str] = func.coalesce(bindparam("new_inputs"), schema.job.c.inputs)
_NEW_OUTPUTS: ColumnElement[str] = func.coalesce(bindparam("new_outputs"), schema.job.c.outputs)
_DEFINE = (
    update(schema.job)
    .where(
        schema.job.c.source_id == bindparam("of_source"),
        schema.job.c.name == bindparam("of_name"),
        or_(schema.job.c.inputs.is_distinct_from(_NEW_INPUTS), schema.job.c.outputs.is_distinct_from(_NEW_OUTPUTS)),
    )
    .values(inputs=_NEW_INPUTS, outputs=_NEW_OUTPUTS)
)
"""Writes nothing where nothing changed, which is nearly always."""


@cache
def _datasets() -> "TypeAdapter[tuple[Dataset, ...]]":
    return TypeAdapter(tuple[Dataset, ...])


def _text(found: tuple[Dataset, ...] | None) -> str | None:
    return None if found is None else written(_datasets(), found)


def _read(text: str | None) -> tuple[Dataset, ...] | None:
    return None if text is None else _datasets().validate_json(text)
