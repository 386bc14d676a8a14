"""`status`, `runs`, `skipped`, `parked list`: what the ledger says, read beside a running service or without one."""

import asyncio
import json
import sys
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

from sqlalchemy import Connection

from collector.app import loading
from collector.app.status import source_id
from collector.app.status import status as looked
from collector.app.tables import moment, show
from collector.clock import SystemClock
from collector.errors import ConfigurationError
from collector.ledger import parked as parking
from collector.ledger import queries, retention
from collector.ledger.sqlite.store import Store
from collector.model import RunState
from config.settings import Settings

T = TypeVar("T")


def status(config: Path, *, as_json: bool) -> int:
    """0 when a service runs and nothing is wrong, else 1."""
    from collector.app import control  # noqa: PLC0415 - the other commands ask no service

    settings = loading.load(config)
    told = asyncio.run(control.status(settings.control_path)) or _read(settings, partial(_status, settings))
    if as_json:
        print(json.dumps(told, indent=2, ensure_ascii=False))
    else:
        _show_status(told)
    wrong = [row for row in (*told["sources"], *told["sinks"]) if row["wrong"] and row["state"] != "retired"]
    return 1 if wrong or told["ledger"]["wrong"] or not told["running"] else 0


def _status(settings: Settings, conn: Connection) -> dict[str, Any]:
    """Without a service."""
    size, limit = retention.size(conn), int(settings.ledger.max_size)
    ledger = {"path": str(settings.ledger.path), "bytes": size.used, "limit_bytes": limit, "wrong": None}
    names = {source.name for source in settings.sources}
    return looked(conn, SystemClock(), names, {}, {}, ledger)


def _show_status(told: Mapping[str, Any]) -> None:
    if not told["running"]:
        print("no service is running; this is what the ledger says", file=sys.stderr)
    for kind in ("sources", "sinks"):
        show(told[kind], _columns(told[kind]), as_json=False, nothing=f"no {kind}")
        print()
    show([told["ledger"]], _columns([told["ledger"]]), as_json=False, nothing="")


def runs(config: Path, *, source: str | None, state: str | None, limit: int, as_json: bool) -> int:
    settings = loading.load(config)
    wanted = _state(state)

    def read(conn: Connection) -> list[queries.RunRow]:
        number = source_id(conn, source) if source is not None else None
        return queries.runs(conn, limit, source_id=number, state=wanted)

    rows = [
        {
            "source": row.source,
            "run": row.key,
            "state": row.state.value,
            "platform_state": row.raw_state,
            "job": row.job,
            "started": moment(row.started_at),
            "ended": moment(row.ended_at),
            "run_id": row.run_uuid,
        }
        for row in _read(settings, read)
    ]
    show(rows, _columns(rows), as_json=as_json, nothing="no runs")
    return 0


def skipped(config: Path, *, limit: int, as_json: bool) -> int:
    found = _read(loading.load(config), lambda conn: queries.skips(conn, limit))
    rows = [
        {
            "source": row.source,
            "kind": row.kind,
            "subject": row.subject,
            "count": row.count,
            "first": moment(row.first_at),
            "last": moment(row.last_at),
            "cause": row.cause,
        }
        for row in found
    ]
    show(rows, _columns(rows), as_json=as_json, nothing="nothing was skipped")
    return 0


def parked(config: Path, *, limit: int, as_json: bool) -> int:
    found = _read(loading.load(config), lambda conn: parking.listing(conn, limit))
    rows = [
        {
            "sink": row.sink,
            "source": row.source,
            "run_id": row.run_uuid,
            "type": row.kind.value,
            "parked": moment(row.parked_at),
            "attempts": row.attempts,
            "superseded": moment(row.superseded_at),
            "cause": row.cause,
        }
        for row in found
    ]
    show(rows, _columns(rows), as_json=as_json, nothing="nothing is parked")
    return 0


def _read(settings: Settings, fn: Callable[[Connection], T]) -> T:
    async def read() -> T:
        store = await asyncio.to_thread(Store.open_readonly, settings.ledger.path)
        try:
            return await store.read(fn)
        finally:
            await store.close()

    return asyncio.run(read())


def _columns(rows: list[dict[str, Any]]) -> list[str]:
    return list(rows[0]) if rows else []


def _state(word: str | None) -> RunState | None:
    if word is None:
        return None
    try:
        return RunState(word)
    except ValueError:
        raise ConfigurationError([f"--state {word!r} is none of {', '.join(RunState)}"]) from None
