"""`explain`: why a run, a job or a dataset is there or not, where its events are, and what happens next."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sqlalchemy import Connection

from collector import views
from collector.app import configuration
from collector.app.listings import read
from collector.app.status import source_id
from collector.app.tables import Column, Kind, printable, show, show_json
from collector.clock import duration, moment
from collector.errors import LineageError
from collector.ledger import history, job_queries, queries, run_queries
from collector.ledger.history import RunHistory
from collector.ledger.job_queries import DatasetUse, JobRow
from collector.ledger.queries import SkipRow
from collector.ledger.run_queries import RunDetail, RunRow
from collector.numerals import counted
from config.mistakes import did_you_mean

_EVENTS = (
    Column("number", weight=40),
    Column("type", weight=99),
    Column("time", Kind.MOMENT, 90),
    Column("committed", Kind.MOMENT, 50),
    Column("sinks", Kind.NAME, 95),
)
FEW = 20
"""Things of one kind that are explained; a name that fits more should be longer."""


@dataclass(frozen=True, slots=True)
class _Found:
    """All that goes by the name that was asked for."""

    runs: Sequence[RunRow]
    details: Mapping[str, RunDetail]
    histories: Mapping[str, RunHistory]
    jobs: Sequence[JobRow]
    uses: Sequence[DatasetUse]
    skips: Sequence[SkipRow]
    names: Sequence[str]
    """Of jobs, for who misspelt one."""


def explain(config: Path, name: str, *, source: str | None, as_json: bool) -> int:
    """`name` is a run's UUID, the platform's own id of a run, the number of an event, or the name of a job or a dataset. Raises
    `LineageError` where the ledger knows nothing of that name.
    """
    found = read(configuration.load(config), lambda conn: _found(conn, name, source))
    if not (found.runs or found.jobs or found.uses or found.skips):
        raise LineageError(_nothing(name, found.names))
    parts = [
        *(_run(row, found) for row in found.runs),
        *(_job(row) for row in found.jobs),
        *_dataset(found.uses),
        *_left_out(found.skips),
    ]
    if as_json:
        show_json(parts)
        return 0
    for number, part in enumerate(parts):
        _show(part, first=not number)
    return 0


def _found(conn: Connection, name: str, source: str | None) -> _Found:
    number = source_id(conn, source) if source is not None else None
    runs = run_queries.runs_by_id(conn, name, source_id=number) or run_queries.runs_by_event(
        conn, name, source_id=number
    )
    details = run_queries.details(conn, [row.run_uuid for row in runs])
    histories = {run_uuid: history.of_run(conn, stored.id) for run_uuid, stored in details.items()}
    jobs = job_queries.jobs_named(conn, name, FEW, source_id=number)
    uses = job_queries.dataset_uses(conn, name, FEW, source_id=number)
    skips = queries.skips_of(conn, name, FEW, source_id=number)
    nothing = not (runs or jobs or uses or skips)
    return _Found(runs, details, histories, jobs, uses, skips, job_queries.job_names(conn) if nothing else ())


def _nothing(name: str, names: Sequence[str]) -> str:
    hint = did_you_mean(name, [*names, *(word.partition("/")[2] for word in names)])
    return f"the ledger knows no run, event, job or dataset {name!r}{hint or '; `lineage-collector runs` and `skipped` list what it knows'}"


def _run(row: RunRow, found: _Found) -> dict[str, Any]:
    of_run = found.histories.get(row.run_uuid, RunHistory((), ()))
    return {
        "run": row.key,
        "run_id": row.run_uuid,
        "source": row.source,
        "job": row.job,
        "state": row.state.value,
        "only_sinks": views.only_sinks(of_run),
        "explanation": views.sentences(found.details.get(row.run_uuid), of_run),
        "events": views.events(of_run),
    }


def _job(row: JobRow) -> dict[str, Any]:
    ended = row.succeeded + row.failed + row.canceled
    mean = f", {duration(row.duration_ms_sum / ended / 1000)} on average" if ended else ""
    outcomes = f"{row.succeeded} succeeded, {row.failed} failed, {row.canceled} were canceled{mean}"
    schedule = f"the platform runs it by {row.schedule!r}" if row.schedule else "no schedule is known"
    return {
        "job": row.name,
        "source": row.source,
        "state": row.state.value,
        "explanation": [
            f"Source {row.source} collects it; {schedule}.",
            f"Of its runs {outcomes}.",
            f"Its last run is {row.run_key} ({row.run_uuid}), {row.state.value}.",
        ],
    }


def _dataset(uses: Sequence[DatasetUse]) -> list[dict[str, Any]]:
    """By dataset, who writes and who reads it."""
    found: dict[tuple[str, str], list[str]] = {}
    for use in uses:
        verb = "writes" if use.is_output else "reads"
        found.setdefault((use.namespace, use.name), []).append(f"{use.job} of source {use.source} {verb} it.")
    return [{"dataset": f"{space} {name}", "explanation": sorted(lines)} for (space, name), lines in found.items()]


def _left_out(skips: Sequence[SkipRow]) -> list[dict[str, Any]]:
    return [
        {
            "left_out": skip.subject,
            "source": skip.source,
            "explanation": [f"{skip.kind}: {skip.cause} ({counted(skip.count, 'time')}, last {moment(skip.last_at)})"],
        }
        for skip in skips
    ]


def _show(part: Mapping[str, Any], *, first: bool) -> None:
    what = next(iter(part))
    about = [f"{name} {part[name]}" for name in ("source", "job", "state") if name in part and name != what]
    if not first:
        print()
    print(printable(f"{what.replace('_', ' ')} {part[what]}" + (f" ({', '.join(about)})" if about else "")))
    for sentence in part["explanation"]:
        print(printable(f"  {sentence}"))
    if part.get("events"):
        rows = [{**event, "sinks": ", ".join(map(_at_sink, event["sinks"]))} for event in part["events"]]
        show(rows, _EVENTS, as_json=False, nothing="")


def _at_sink(each: Mapping[str, Any]) -> str:
    return f"{each['sink']}: {each['standing']}{' ' + each['acknowledged'] if each['acknowledged'] else ''}"
