"""wetransform's steps as run states: a table that configuration can override, and the one rule that needs the clock."""

from collections.abc import Mapping
from datetime import datetime, timedelta
from types import MappingProxyType

from collector.model import Run, RunState

STATES: Mapping[str, RunState] = MappingProxyType(
    {
        "pending": RunState.QUEUED,
        "to_download": RunState.QUEUED,
        "downloading": RunState.RUNNING,
        "downloaded": RunState.RUNNING,
        "to_normalize": RunState.RUNNING,
        "normalizing": RunState.RUNNING,
        "normalized": RunState.RUNNING,
        "to_review": RunState.WAITING,
        "reviewed": RunState.RUNNING,
        "to_parse": RunState.RUNNING,
        "parsing": RunState.RUNNING,
        "parsed": RunState.RUNNING,
        "to_select": RunState.WAITING,
        "selected": RunState.RUNNING,
        "reusing": RunState.RUNNING,
        "to_import": RunState.RUNNING,
        "importing": RunState.RUNNING,
        "imported": RunState.RUNNING,
        "to_create": RunState.RUNNING,
        "creating": RunState.RUNNING,
        "created": RunState.RUNNING,
        "to_match": RunState.RUNNING,
        "matching": RunState.RUNNING,
        "matched": RunState.RUNNING,
        "to_transform": RunState.RUNNING,
        "transforming": RunState.RUNNING,
        "transformed": RunState.RUNNING,
        "to_submit": RunState.RUNNING,
        "submitting": RunState.RUNNING,
        "processed": RunState.SUCCEEDED,
        "failed": RunState.FAILED,
    }
)
"""The vendor's 31 steps. That `to_review` and `to_select` wait for a person is read from their names: they alone have
no step in which the service itself works on them.
"""

PERHAPS_WAITING = frozenset({"to_match", "to_submit"})
"""Steps that pass by themselves, or wait for a person: only time shows which."""

Table = Mapping[str, RunState]


def table(overrides: Table) -> Table:
    """The vendor's steps with what configuration says of them; it may also name steps that are not known here."""
    return {**STATES, **overrides}


def state_of(
    step: str | None, known: Run | None, now: datetime, *, states: Table, overridden: Table, patience: timedelta
) -> RunState:
    """The run state of `step`. A step of `PERHAPS_WAITING` that has not moved for `patience` waits for a person,
    unless configuration says what it is. No step, or one that nobody knows, is `UNKNOWN`.
    """
    if step is None:
        return RunState.UNKNOWN
    if step in PERHAPS_WAITING and step not in overridden and _unmoved(step, known, now) >= patience:
        return RunState.WAITING
    return states.get(step, RunState.UNKNOWN)


def _unmoved(step: str, known: Run | None, now: datetime) -> timedelta:
    if known is None or known.raw_state != step:
        return timedelta()
    return now - known.progressed_at
