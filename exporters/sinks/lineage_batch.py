"""Batches of OpenLineage events: the bodies that backends take, and what their answers say about each event. Pure."""

from collections.abc import Mapping, Sequence
from typing import Any, Literal

from exporters.sinks.base import Delivered, Outcome, Park, Retry
from exporters.sinks.http import SHOWN, Answer

Form = Literal["array", "events"]
SETTINGS: Mapping[Form, str] = {"array": "`batch: true`", "events": "`batch: {form: events}`"}
"""How each form is configured."""
_FAILED = ("failed_events", "failedEvents")
"""As the specification spells it, and as OpenMetadata does."""


def encoded(form: Form, bodies: Sequence[bytes]) -> bytes:
    """The body of a batch: a bare array as in the specification, or an object with the list `events`."""
    array = b"[" + b",".join(bodies) + b"]"
    return array if form == "array" else b'{"events":' + array + b"}"


def outcomes(answer: Answer, count: int) -> list[Outcome] | None:
    """What an answer of 2xx to `count` events says about each; None where it leaves any of them open.

    204, or no body: all were taken. Otherwise those are not that the answer lists as failed.
    """
    if not answer.body.strip():
        return [Delivered()] * count
    report = answer.json
    if not isinstance(report, dict):
        return None
    listed = next((report[name] for name in _FAILED if name in report), None) or []
    failed = _failed(listed, count, answer.what) if isinstance(listed, list) else None
    if failed is None or not _agrees(report, count, len(failed)):
        return None
    return [failed.get(index, Delivered()) for index in range(count)]


def _failed(listed: list[Any], count: int, what: str) -> dict[int, Outcome] | None:
    """The outcomes of the events that are listed as failed, None where an entry names no event of the batch."""
    found: dict[int, Outcome] = {}
    for entry in listed:
        index = entry.get("index") if isinstance(entry, dict) else None
        if type(index) is not int or not 0 <= index < count:
            return None
        cause = f"{what} answered about this event: {str(entry.get('reason') or 'no reason given')[:SHOWN]}"
        found[index] = Retry(cause, sink_wide=False) if entry.get("retriable") is True else Park(cause)
    return found


def _agrees(report: Mapping[str, Any], count: int, failed: int) -> bool:
    """Whether what the answer counts is what it lists."""
    summary = report.get("summary")
    counted = summary if isinstance(summary, dict) else {}
    if counted.get("received", count) != count or counted.get("failed", failed) != failed:
        return False
    return failed > 0 or not str(report.get("status", "")).lower().startswith(("fail", "error"))
