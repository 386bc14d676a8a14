"""The last run and the outcomes of each job, kept up to date with its runs: right after a restart, cheap to scrape."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import cache

from sqlalchemy import Connection, Insert, bindparam, select

from collector.clock import to_ms
from collector.ledger import schema
from collector.ledger.detail import ms
from collector.ledger.rows import chunks
from collector.model import EventKind, Run

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


def note(conn: Connection, source_id: int, runs: Sequence[tuple[Run, EventKind | None]], now_ms: int) -> None:
    """Each run with its terminal event, if that was made just now."""
    before = _states(conn, source_id, {run.job.name for run, _ in runs})
    after = dict(before)
    for run, ended_by in runs:
        after[run.job.name] = following(after.get(run.job.name), run, ended_by)
    rows = [
        {**asdict(state), "source_id": source_id, "updated_at": now_ms}
        for name, state in sorted(after.items())
        if state != before.get(name)
    ]
    if rows:
        conn.execute(_put(conn.dialect.name), rows)


@cache
def _put(dialect: str) -> Insert:
    statement = schema.upsert(dialect, schema.job)
    new = {column.name: statement.excluded[column.name] for column in schema.job.c if not column.primary_key}
    return statement.on_conflict_do_update(index_elements=["source_id", "name"], set_=new)


def following(known: JobState | None, run: Run, ended_by: EventKind | None) -> JobState:
    """The job's state once this is known of the run; the last run is the one that began last."""
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
    )


def _states(conn: Connection, source_id: int, names: Iterable[str]) -> Mapping[str, JobState]:
    found: dict[str, JobState] = {}
    for some in chunks(sorted(names)):
        found.update({row[0]: JobState(*row) for row in conn.execute(_STATES, {"of_source": source_id, "names": some})})
    return found


_STATES = select(*(schema.job.c[name] for name in JobState.__slots__)).where(
    schema.job.c.source_id == bindparam("of_source"), schema.job.c.name.in_(bindparam("names", expanding=True))
)
