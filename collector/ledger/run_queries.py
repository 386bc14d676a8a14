"""Runs of the ledger for commands and pages: lists, which are limited, and single ones by their ids."""

import json
from collections.abc import Iterable
from dataclasses import dataclass, fields
from typing import Any

from sqlalchemy import ColumnElement, Connection, Select, and_, func, or_, select

from collector.ledger import schema
from collector.ledger.run_order import NEWEST_FIRST, behind, place_of
from collector.ledger.statements import KEYS, chunks, rows_of
from collector.model import RunState


@dataclass(frozen=True, slots=True)
class RunRow:
    source: str
    key: str
    run_uuid: str
    job: str
    state: RunState
    raw_state: str | None
    started_at: int | None
    ended_at: int | None
    updated_at: int
    abandoned_at: int | None


@dataclass(frozen=True, slots=True)
class RunFilter:
    """Which runs are wanted, None for all. `job` is the job's name, or what follows its first slash; `text` is a part of it, of the
    run's ids or of what is known of a run that failed. `since_ms` and `until_ms` are about the time at which it began, see `schema.BEGAN`.
    """

    source_id: int | None = None
    state: RunState | None = None
    job: str | None = None
    text: str | None = None
    since_ms: int | None = None
    until_ms: int | None = None

    def times(self) -> list[ColumnElement[bool]]:
        since = [self.since_ms <= schema.BEGAN] if self.since_ms is not None else []
        return [*since, *([self.until_ms > schema.BEGAN] if self.until_ms is not None else [])]

    def conditions(self) -> list[ColumnElement[bool]]:
        run, job = schema.run.c, self.job
        # the index of keys would read and sort all runs of a source
        of_source = [run.source_id + 0 == self.source_id] if self.source_id is not None else []
        in_state = [run.state == self.state] if self.state is not None else []
        of_job = [or_(run.job == job, run.job.endswith(f"/{job}", autoescape=True))] if job is not None else []
        return [*of_source, *in_state, *of_job, *([_holds(self.text)] if self.text is not None else [])]


def _holds(text: str) -> ColumnElement[bool]:
    """The errors of runs are part of what is stored as JSON, and spelled so there."""
    run, spelled = schema.run.c, json.dumps(text, ensure_ascii=False)[1:-1]
    names = [column.icontains(text, autoescape=True) for column in (run.job, run.key, run.run_uuid)]
    return or_(*names, and_(run.state == RunState.FAILED, run.detail.icontains(spelled, autoescape=True)))


_ALL = RunFilter()


@dataclass(frozen=True, slots=True)
class RunDetail:
    """`text` is what `collector.ledger.detail` reads, `id` the run's number in the ledger."""

    id: int
    key: str
    text: str


def runs(conn: Connection, limit: int, wanted: RunFilter = _ALL, *, since_ms: int | None = None) -> list[RunRow]:
    """Those that began last, first. `since_ms` leaves out those whose last event is older."""
    run = schema.run
    rows = _run_rows().where(*wanted.conditions())
    if since_ms is not None:
        rows = rows.where(run.c.last_event_time >= since_ms)
    return _as_runs(conn, rows.order_by(*NEWEST_FIRST).limit(limit))


def latest_event(conn: Connection) -> int:
    """The number of the event that was made last, 0 before the first."""
    return conn.scalar(select(func.max(schema.event.c.id))) or 0


def runs_changed(conn: Connection, after: int, limit: int, wanted: RunFilter = _ALL) -> dict[int, RunRow | None]:
    """The runs of the events behind the one with this number, as they are now: by the numbers of these events, in their
    order; None for runs that are not wanted.
    """
    run, event = schema.run, schema.event
    made = conn.execute(
        select(event.c.id, event.c.run_id).where(event.c.id > after).order_by(event.c.id).limit(limit)
    ).all()
    rows = _run_rows().add_columns(run.c.id).where(run.c.id.in_({number for _, number in made}), *wanted.conditions())
    found: dict[int, RunRow] = {}
    for row in conn.execute(rows).mappings():
        named = {name: value for name, value in row.items() if name != "id"}
        found[row["id"]] = RunRow(**{**named, "state": RunState(row["state"])})
    return {number: found.get(run_number) for number, run_number in made}


def runs_before(
    conn: Connection, before: int | None, limit: int, searched: int, wanted: RunFilter = _ALL
) -> tuple[list[RunRow], int | None]:
    """As `runs`, of the `searched` runs behind the one with this number (None: the latest), and the number behind which to go
    on; None where there are no more.
    """
    run = schema.run
    further = behind(place_of(conn, before))
    in_time = select(run.c.id).where(*wanted.times(), *further).order_by(*NEWEST_FIRST)
    some = in_time  # of which without conditions the first ones are those
    if conditions := wanted.conditions():
        some = select(run.c.id).where(run.c.id.in_(in_time.limit(searched)), *conditions).order_by(*NEWEST_FIRST)
    numbers = conn.scalars(some.limit(min(limit, searched))).all()
    rows = _as_runs(conn, _run_rows().where(run.c.id.in_(numbers)).order_by(*NEWEST_FIRST))
    last = numbers[-1] if len(numbers) == limit else conn.scalar(in_time.limit(1).offset(searched - 1))
    if last is None:
        return rows, None
    rest = select(run.c.id).where(*wanted.times(), *behind(place_of(conn, last))).limit(1)
    return rows, last if conn.scalar(rest) is not None else None


def children_of(conn: Connection, run_id: int, limit: int) -> list[RunRow]:
    """In the order in which they were seen."""
    return _as_runs(conn, _run_rows().where(schema.run.c.parent_id == run_id).order_by(schema.run.c.id).limit(limit))


def abandoned_runs(conn: Connection, source_id: int, limit: int) -> list[RunRow]:
    """Open runs of a source that are no longer watched, the latest first."""
    run = schema.run
    # the states are there for the index of open runs
    of_source = run.c.source_id == source_id, run.c.state.in_([*RunState])
    lost = *of_source, run.c.ended_at.is_(None), run.c.abandoned_at.is_not(None)
    return _as_runs(conn, _run_rows().where(*lost).order_by(run.c.abandoned_at.desc()).limit(limit))


def runs_by_uuid(conn: Connection, run_uuids: Iterable[str]) -> dict[str, RunRow]:
    """By UUID, as many as are known."""
    found = (
        row for some in chunks(run_uuids) for row in _as_runs(conn, _run_rows().where(schema.run.c.run_uuid.in_(some)))
    )
    return {row.run_uuid: row for row in found}


def runs_by_id(conn: Connection, name: str, *, source_id: int | None = None) -> list[RunRow]:
    """Those with this UUID or this id on their platform, at most one of each source."""
    run = schema.run
    # named, so that the rows are found by their key
    sources = conn.scalars(select(schema.source.c.id)).all() if source_id is None else [source_id]
    by_key = _run_rows().where(run.c.source_id.in_(sources), run.c.key == name)
    by_uuid = _run_rows().where(run.c.source_id.in_(sources), run.c.run_uuid == name)
    return list({row.run_uuid: row for row in (*_as_runs(conn, by_uuid), *_as_runs(conn, by_key))}.values())


def runs_by_event(conn: Connection, name: str, *, source_id: int | None = None) -> list[RunRow]:
    """The run of the event with this number, or of the one that `parked list` calls so (`12.3`)."""
    parts = name.split(".")
    if len(parts) > 2 or not all(part.isascii() and part.isdigit() and len(part) < 19 for part in parts):
        return []
    run, event = schema.run, schema.event
    first, *rest = map(int, parts)
    of_event = (event.c.strand_id == first, event.c.seq == rest[0]) if rest else (event.c.id == first,)
    rows = _run_rows().where(run.c.id == select(event.c.run_id).where(*of_event).scalar_subquery())
    return _as_runs(conn, rows if source_id is None else rows.where(run.c.source_id == source_id))


def _run_rows() -> Select[Any]:
    run, source = schema.run, schema.source
    columns = [run.c[field.name] for field in fields(RunRow) if field.name != "source"]
    return select(source.c.name.label("source"), *columns).join(source, source.c.id == run.c.source_id)


def _as_runs(conn: Connection, rows: Select[Any]) -> list[RunRow]:
    return [RunRow(**{**row, "state": RunState(row["state"])}) for row in conn.execute(rows).mappings()]


def details(conn: Connection, run_uuids: Iterable[str]) -> dict[str, RunDetail]:
    """All that is stored of these runs, by UUID."""
    run = schema.run
    columns = select(run.c.run_uuid, run.c.id, run.c.key, run.c.detail).where(run.c.run_uuid.in_(KEYS))
    return {run_uuid: RunDetail(*found) for run_uuid, *found in rows_of(conn, columns, run_uuids)}


def runs_of_job(conn: Connection, source_id: int, job: str, limit: int) -> list[RunRow]:
    """Newest first."""
    run = schema.run
    wanted = run.c.source_id == source_id, run.c.job == job
    return _as_runs(conn, _run_rows().where(*wanted).order_by(*NEWEST_FIRST).limit(limit))
