"""`status`, `skipped`, `parked list`: read from the ledger beside a running service or without one."""

import asyncio
import sys
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import Any, Never, TypeVar

from sqlalchemy import Connection

from collector import views
from collector.app import configuration, ledgers, live_view
from collector.app.status import status as looked
from collector.app.tables import Column, Kind, printable, show, show_head, show_json, show_lines
from collector.clock import Clock, SystemClock, duration
from collector.ledger import configured_sources, queries, replicas, retention
from collector.ledger import parked as parking
from collector.ledger.configured_sources import Configured
from collector.numerals import counted
from config.settings import Settings

T = TypeVar("T")

COLUMNS = {
    "sources": (
        Column("source", Kind.NAME, 99),
        Column("state", weight=95),
        Column("last_success", Kind.MOMENT, 80),
        Column("lag_seconds", Kind.SECONDS, 60),
        Column("active", weight=50),
        Column("abandoned", weight=20),
        Column("pending", weight=40),
        Column("parked", weight=70),
        Column("wrong", Kind.NOTE),
        Column("change", Kind.REMARK),
        Column("backfill", Kind.REMARK),
        Column("last_error", Kind.ASIDE),
        Column("last_error_at", Kind.ASIDE),
    ),
    "sinks": (
        Column("sink", Kind.NAME, 99),
        Column("state", weight=95),
        Column("last_success", Kind.MOMENT, 60),
        Column("lag_seconds", Kind.SECONDS, 80),
        Column("pending", weight=85),
        Column("owed_bytes", Kind.BYTES, 40),
        Column("parked", weight=90),
        Column("doubts", weight=30),
        Column("in_flight", weight=20),
        Column("shards", weight=10),
        Column("wrong", Kind.NOTE),
        Column("shards_wait", Kind.REMARK),
        Column("backfill", Kind.REMARK),
        Column("last_error", Kind.ASIDE),
        Column("last_error_at", Kind.ASIDE),
    ),
    "replicas": (
        Column("replica", Kind.NAME, 99),
        Column("version", weight=90),
        Column("configuration", weight=85),
        Column("started", Kind.MOMENT, 60),
        Column("leases", weight=80),
        Column("wrong", Kind.NOTE),
    ),
    "ledger": (
        Column("path", Kind.NAME, 80),
        Column("bytes", Kind.BYTES, 99),
        Column("limit_bytes", Kind.BYTES, 90),
        Column("wrong", Kind.NOTE),
    ),
    "skipped": (
        Column("source", Kind.NAME, 90),
        Column("kind", weight=95),
        Column("subject", Kind.NAME, 99),
        Column("count", weight=80),
        Column("first", Kind.MOMENT, 20),
        Column("last", Kind.MOMENT, 60),
        Column("cause", Kind.NOTE),
    ),
    "parked": (
        Column("event", weight=97),
        Column("sink", Kind.NAME, 90),
        Column("source", Kind.NAME, 40),
        Column("run_id", weight=99),
        Column("type", weight=95),
        Column("parked", Kind.MOMENT, 60),
        Column("attempts", weight=30),
        Column("superseded", Kind.MOMENT, 20),
        Column("cause", Kind.NOTE),
    ),
}


def status(config: Path, *, as_json: bool) -> int:
    """0 when a service runs without a problem, else 1."""
    settings = configuration.load(config)
    found = asyncio.run(_now(settings))
    if as_json:
        show_json(found)
    else:
        _show_status(found)
    wrong = [row for row in (*found["sources"], *found["sinks"]) if row["wrong"] and row["state"] != "retired"]
    return 1 if wrong or found["ledger"]["wrong"] or not found["running"] else 0


def watch_status(config: Path, *, as_json: bool, clock: Clock | None = None) -> Never:
    """The status until the user ends it: redrawn on a terminal, else a line for each source or sink that changed."""
    settings = configuration.load(config)
    live_view.run(partial(_now, settings), _Watched(as_json).show, clock or SystemClock())


async def _now(settings: Settings) -> dict[str, Any]:
    """From the service, where one runs, else as the ledger has it."""
    from collector.app import control  # noqa: PLC0415 - the other commands ask no service

    found = await control.status(settings.control_path)
    return found if found is not None else await look(settings, partial(_status, settings))


WATCHED = (
    Column("time", Kind.MOMENT),
    Column("part"),
    Column("name"),
    Column("state"),
    Column("pending"),
    Column("parked"),
    Column("wrong"),
)


class _Watched:
    """Shows one status after another; times and ages alone are not a change."""

    def __init__(self, as_json: bool) -> None:
        self._as_json = as_json
        self._last: dict[str, dict[str, Any]] = {}
        if not as_json and not sys.stdout.isatty():
            show_head(WATCHED)

    def show(self, found: Mapping[str, Any], at: datetime) -> None:
        if sys.stdout.isatty() and not self._as_json:
            live_view.redraw(partial(_show_status, found))
            return
        before, self._last = self._last, {f"{row['part']} {row['name']}": row for row in _parts(found)}
        time = at.isoformat(timespec="milliseconds")
        if not self._as_json:
            changed = [row for name, row in self._last.items() if row != before.get(name)]
            show_lines([{"time": time, **row} for row in changed], WATCHED)
        elif self._last != before:
            show_lines([{"time": time, **found}], (), as_json=True)


def _parts(found: Mapping[str, Any]) -> list[dict[str, Any]]:
    """What a person wants to hear of: the service, the ledger, each source and each sink."""
    state = "running" if found["running"] else "not running"
    rows: list[dict[str, Any]] = [
        {"part": "service", "name": "service", "state": state},
        {"part": "ledger", "name": found["ledger"]["path"], "wrong": found["ledger"]["wrong"]},
    ]
    for part in ("source", "sink"):
        rows += [
            {"part": part, "name": row[part]}
            | {name: row.get(name) for name in ("state", "pending", "parked", "wrong")}
            for row in found[f"{part}s"]
        ]
    return rows


def _status(settings: Settings, conn: Connection) -> dict[str, Any]:
    """Without a service."""
    size, limit = retention.size(conn), int(settings.ledger.max_size)
    ledger = {"path": settings.ledger.place, "bytes": size.used, "limit_bytes": limit, "wrong": None}
    names = {source.name for source in settings.sources}
    configured = [Configured(source.name, source.account, source.former_name) for source in settings.sources]
    found = looked(conn, SystemClock(), names, {}, {}, ledger, configured_sources.new_names(conn, configured))
    return found | {"running": settings.ledger.url is not None and bool(replicas.services(conn))}


def _show_status(found: Mapping[str, Any]) -> None:
    """Present errors are below their row; former errors, each with its time, at the end."""
    _show_service(found)
    for kind in ("sources", "sinks"):
        rows = [{**row, "backfill": _backfill_words(kind, row.get("backfill"))} for row in found[kind]]
        show(rows, COLUMNS[kind], as_json=False, nothing=f"no {kind}")
        print()
    if len(found.get("replicas", ())) > 1:
        show(found["replicas"], COLUMNS["replicas"], as_json=False, nothing="")
        print()
    show([found["ledger"]], COLUMNS["ledger"], as_json=False, nothing="")
    if sys.stdout.isatty():
        _show_last_errors([row for row in (*found["sources"], *found["sinks"]) if row.get("last_error")])


def _backfill_words(kind: str, under_way: Mapping[str, Any] | None) -> str | None:
    if under_way is None:
        return None
    runs = (
        f"{under_way['seen']:,} of {counted(under_way['total'], 'run')}"
        if under_way["total"]
        else counted(under_way["seen"], "run")
    )
    came = "made" if kind == "sources" else "events put on their way"
    came = came if under_way.get("sink") is None else f"made or sent again, for sink {under_way['sink']} alone"
    return f"backfill under way: {runs} looked at, {under_way['new']:,} {came}"


def _show_service(found: Mapping[str, Any]) -> None:
    if found["running"] and sys.stdout.isatty() and "version" in found:
        up = duration(found["uptime_seconds"])
        print(f"lineage-collector {found['version']}, up {up} (since {found['started'][:19].replace('T', ' ')})\n")
    elif not found["running"]:
        print("no service is running; this is the state in the ledger", file=sys.stderr)


def _show_last_errors(rows: Sequence[Mapping[str, Any]]) -> None:
    if rows:
        print("\nlast errors")
    for row in rows:
        name = row.get("source") or row["sink"]
        print(printable(f"  {row['last_error_at'][:19].replace('T', ' ')}  {name}: {row['last_error']}"))


def skipped(config: Path, *, limit: int, as_json: bool) -> int:
    found = read(configuration.load(config), lambda conn: queries.skips(conn, limit))
    show([views.skip(row) for row in found], COLUMNS["skipped"], as_json=as_json, nothing="nothing was skipped")
    return 0


def parked(config: Path, *, limit: int, as_json: bool) -> int:
    found = read(configuration.load(config), lambda conn: parking.listing(conn, limit))
    rows = [views.parked_event(row) for row in found]
    show(rows, COLUMNS["parked"], as_json=as_json, nothing="nothing is parked")
    return 0


def read(settings: Settings, fn: Callable[[Connection], T]) -> T:
    return asyncio.run(look(settings, fn))


async def look(settings: Settings, fn: Callable[[Connection], T]) -> T:
    """One look at the ledger, which is closed again: it holds up nobody in between."""
    async with ledgers.reading(settings.ledger) as store:
        return await store.read(fn)
