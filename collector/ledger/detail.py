"""A run as a row: versioned JSON of all that is known, and columns for what is asked for."""

import json
from dataclasses import dataclass
from datetime import datetime
from functools import cache
from typing import Any

from pydantic import TypeAdapter, ValidationError

from collector.clock import to_ms
from collector.errors import LedgerError
from collector.ledger.schema import clean
from collector.model import Run

VERSION = 1
"""Fields with a default come and go without a new one."""


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
        "poll_due_at": to_ms(run.due_at or run.seen_at) if run.open and not run.state.terminal else None,
        "misses": run.misses,
        "enrich_until": ms(run.enrich_until),
        "abandoned_at": ms(run.abandoned_at),
        "detail": written(_adapter(), _Detail(VERSION, run)),
    }


def written(adapter: "TypeAdapter[Any]", value: Any) -> str:
    """The value as JSON."""
    try:
        return adapter.dump_json(value).decode()
    except ValueError:
        # text with half a surrogate pair, as broken JSON escapes make it: kept with a question mark in its place
        values = adapter.dump_python(value, mode="json")
        return json.dumps(values, ensure_ascii=False).encode("utf-8", "replace").decode()


def ms(moment: datetime | None) -> int | None:
    return None if moment is None else to_ms(moment)


def read(key: str, text: str) -> Run:
    """The run that `columns` wrote in `detail`. Raises `LedgerError` naming the run."""
    try:
        found = _adapter().validate_json(text)
    except ValidationError as error:
        raise LedgerError(f"what is stored of run {key} cannot be read: {error.errors()[0]['msg']}") from error
    if found.version != VERSION:
        raise LedgerError(f"run {key} is stored in form {found.version}, which this version does not know")
    return found.run
