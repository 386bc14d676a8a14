"""A run as a row: versioned JSON of all that is known, and columns for what queries need."""

import json
from collections.abc import MutableMapping
from dataclasses import dataclass, replace
from datetime import datetime
from functools import cache
from operator import itemgetter
from threading import Lock
from typing import Any

import orjson
from cachetools import LRUCache, cached
from pydantic import TypeAdapter, ValidationError

from collector.clock import from_ms, to_ms
from collector.errors import LedgerError
from collector.ledger.schema import clean
from collector.model import Job, Run

VERSION = 1
"""Fields with a default come and go without a new one."""
_KEPT = 512 * 1024
"""Characters of runs in memory that were read last: each is read for what is asked about it, and again for its end."""


@dataclass(frozen=True, slots=True)
class _Detail:
    version: int
    run: Run


@cache
def _adapter() -> "TypeAdapter[_Detail]":
    return TypeAdapter(_Detail)


def columns(run: Run) -> dict[str, Any]:
    """The columns of `schema.run` that are made of the run alone."""
    return {
        "key": run.key,
        "run_uuid": str(run.run_id),
        "job": run.job.name,
        "state": run.state.value,
        "raw_state": None if run.raw_state is None else clean(run.raw_state),
        "started_at": ms(run.started_at),
        "ended_at": ms(run.ended_at),
        "last_event_time": ms(run.last_event_at),
        "seen_at": to_ms(run.seen_at),
        "misses": run.misses,
        "enrich_until": ms(run.enrich_until),
        "abandoned_at": ms(run.abandoned_at),
        "detail": written(_adapter(), _Detail(VERSION, run)),
    }


@dataclass(frozen=True, slots=True)
class WatchRow:
    """A row of `schema.watch` but for the run's number: when an open run was last seen, and is to be looked at again."""

    seen_at: int
    due_at: int | None
    misses: int


def watch_row(run: Run, now_ms: int) -> WatchRow:
    """When the run is due; a `seen_at` in the future (the clock ran ahead) does not delay it, an explicit `due_at` does."""
    seen_at = to_ms(run.seen_at)
    due_at = min(seen_at, now_ms) if run.due_at is None else to_ms(run.due_at)
    return WatchRow(seen_at, None if run.state.terminal else due_at, run.misses)


def as_last_seen(run: Run, last: WatchRow) -> Run:
    """The run as it was last seen: the row wins over what was written with the whole run."""
    due_at = run.due_at if last.due_at is None else _due(run, last)
    if (to_ms(run.seen_at), due_at, run.misses) == (last.seen_at, run.due_at, last.misses):
        return run
    seen_at = run.seen_at if to_ms(run.seen_at) == last.seen_at else from_ms(last.seen_at)
    return replace(run, seen_at=seen_at, due_at=due_at, misses=last.misses)


def _due(run: Run, last: WatchRow) -> datetime | None:
    if last.due_at is None or last.due_at <= last.seen_at:
        return None
    return run.due_at if ms(run.due_at) == last.due_at else from_ms(last.due_at)


def written(adapter: "TypeAdapter[Any]", value: Any) -> str:
    """The value as JSON."""
    try:
        return adapter.dump_json(value).decode()
    except ValueError:
        # text with half a surrogate pair, as broken JSON escapes make it: stored with a question mark in its place
        values = adapter.dump_python(value, mode="json")
        return json.dumps(values, ensure_ascii=False).encode("utf-8", "replace").decode()


COLUMNS = (
    "key",
    "run_uuid",
    "job",
    "state",
    "raw_state",
    "started_at",
    "ended_at",
    "last_event_time",
    "seen_at",
    "misses",
    "enrich_until",
    "abandoned_at",
    "detail",
)
"""What `columns` gives."""


def ms(moment: datetime | None) -> int | None:
    return None if moment is None else to_ms(moment)


def read(key: str, text: str) -> Run:
    """The run that `columns` wrote in `detail`. Raises `LedgerError` naming the run."""
    return _read(key, text)[0]


@cached(LRUCache(_KEPT, getsizeof=itemgetter(1)), lock=Lock())
def _read(key: str, text: str) -> tuple[Run, int]:
    """The run, and the length of its text."""
    try:
        found = _adapter().validate_json(text)
    except ValidationError as error:
        raise _unreadable(key, error.errors()[0]["msg"]) from error
    return _present(key, found), len(text)


def read_short(key: str, text: str, jobs: MutableMapping[Job, Job]) -> Run:
    """The run without its facts but for the ids, with the equal job of `jobs` where there is one: for many runs at
    once. Raises as `read` does.
    """
    try:
        data = orjson.loads(text)
        data["run"]["facts"] = {"ids": data["run"]["facts"].get("ids", {})}
        run = _present(key, _adapter().validate_python(data))
    except ValidationError as error:
        raise _unreadable(key, error.errors()[0]["msg"]) from error
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise _unreadable(key, str(error)) from error
    return replace(run, job=jobs.setdefault(run.job, run.job))


def _present(key: str, found: _Detail) -> Run:
    if found.version != VERSION:
        raise LedgerError(
            f"run {key} is stored in format {found.version}, which this version of the collector cannot read"
        )
    return found.run


def _unreadable(key: str, cause: str) -> LedgerError:
    return LedgerError(f"the stored row of run {key} cannot be read: {cause}")
