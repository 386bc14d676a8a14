"""`status`, `runs`, `skipped`, `parked list`: what the ledger says, read beside a running service or without one."""

import asyncio
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import aiohttp
from sqlalchemy import Connection

from collector.app import loading
from collector.app.looking import source_id
from collector.app.looking import status as looked
from collector.app.showing import moment, show
from collector.clock import SystemClock
from collector.errors import ConfigurationError
from collector.ledger import parked as parking
from collector.ledger import reading
from collector.ledger.store import Store
from collector.model import RunState
from config.settings import Settings

T = TypeVar("T")


def status(config: Path, *, as_json: bool) -> int:
    """0 when nothing is wrong, 1 when something is."""
    settings = loading.load(config)
    told = asyncio.run(_running(settings)) or _read(settings, lambda conn: looked(conn, SystemClock(), {}, {}, {}))
    if as_json:
        print(json.dumps(told, indent=2, ensure_ascii=False))
    else:
        if not told["ledger"]:
            print("no service is running; this is what the ledger says")
        for kind in ("sources", "sinks"):
            show(told[kind], _columns(told[kind]), as_json=False, nothing=f"no {kind} yet")
            print()
    wrong = [row for kind in ("sources", "sinks") for row in told[kind] if row["wrong"] and row["state"] != "retired"]
    return 1 if wrong else 0


def runs(config: Path, *, source: str | None, state: str | None, limit: int, as_json: bool) -> int:
    settings = loading.load(config)
    wanted = _state(state)

    def read(conn: Connection) -> list[reading.RunRow]:
        number = source_id(conn, source) if source is not None else None
        return reading.runs(conn, limit, source_id=number, state=wanted)

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
    found = _read(loading.load(config), lambda conn: reading.skips(conn, limit))
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
    if not settings.ledger.path.exists():
        raise ConfigurationError([f"there is no ledger at {settings.ledger.path}: the service has not run there yet"])

    async def read() -> T:
        store = await asyncio.to_thread(Store.open_readonly, settings.ledger.path)
        try:
            return await store.read(fn)
        finally:
            await store.close()

    return asyncio.run(read())


async def _running(settings: Settings) -> dict[str, Any] | None:
    """What the service itself says, which knows more than the ledger; None when none runs."""
    if not settings.control_path.exists():
        return None
    try:
        async with (
            aiohttp.ClientSession(connector=aiohttp.UnixConnector(str(settings.control_path))) as session,
            session.get("http://service/status.json", timeout=aiohttp.ClientTimeout(total=10)) as answer,
        ):
            told: dict[str, Any] = await answer.json()
            return told
    except aiohttp.ClientConnectorError:
        return None


def _columns(rows: list[dict[str, Any]]) -> list[str]:
    return list(rows[0]) if rows else []


def _state(word: str | None) -> RunState | None:
    if word is None:
        return None
    try:
        return RunState(word)
    except ValueError:
        raise ConfigurationError([f"--state {word!r} is none of {', '.join(RunState)}"]) from None
