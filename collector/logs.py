"""Structured logs: constant event names with fields, JSON when nobody watches, no repeats in an outage."""

import json
import logging
import sys
import time
import traceback
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from types import TracebackType
from typing import Any, TextIO

from collector.own_secrets import own_secrets
from collector.redaction import redacted


def fields(**values: Any) -> dict[str, Any]:
    """For `extra=`: what a log event is about. None is left out."""
    return {"fields": {key: value for key, value in values.items() if value is not None}}


class JsonFormatter(logging.Formatter):
    """One JSON object a line: time, level, event, logger, and the event's fields; one of those names gets a `_`."""

    def format(self, record: logging.LogRecord) -> str:
        body = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "event": _event(record),
            "logger": record.name,
        }
        told = {key: _safe(value) for key, value in getattr(record, "fields", {}).items()}
        body |= {f"{key}_" if key in body else key: value for key, value in told.items()}
        if record.exc_info and record.exc_info[0] is not None:
            body["error"] = _traceback(record.exc_info)
        return json.dumps(body, default=str, ensure_ascii=False)


class TextFormatter(logging.Formatter):
    """For a terminal: time, level, event, key=value."""

    def format(self, record: logging.LogRecord) -> str:
        at = datetime.fromtimestamp(record.created, UTC).strftime("%H:%M:%S.%f")[:-3]
        told = " ".join(f"{key}={_shown(_safe(value))}" for key, value in getattr(record, "fields", {}).items())
        line = f"{at} {record.levelname.lower():<7} {_event(record):<22} {told}".rstrip()
        if record.exc_info and record.exc_info[0] is not None:
            line += "\n" + _traceback(record.exc_info).rstrip()
        return line


def _event(record: logging.LogRecord) -> str:
    """Of our own events the name; what libraries write is prose, and may repeat what they were given."""
    said = record.getMessage()
    return said if record.name.startswith("lineage.") and not record.args else redacted(said)


def _safe(value: Any) -> Any:
    """The last line of defence: vendors' words had their secrets taken out where they came in, this is for our own."""
    if value is None or isinstance(value, bool | int | float):
        return value
    return own_secrets.hidden_in(value if isinstance(value, str | Mapping | list | tuple) else str(value))


def _traceback(error: Any) -> str:
    return redacted("".join(traceback.format_exception(*error)))


def _shown(value: Any) -> str:
    text = str(value)
    return json.dumps(text, ensure_ascii=False) if not text or " " in text or "\n" in text or '"' in text else text


class RepeatFilter(logging.Filter):
    """Lets the same warning (event, source or sink, cause) through once a minute and tells how many were held back."""

    def __init__(self, every: float = 60.0, monotonic: Callable[[], float] = time.monotonic) -> None:
        super().__init__()
        self._every, self._monotonic = every, monotonic
        self._seen: dict[tuple[Any, ...], tuple[float, int]] = {}

    def filter(self, record: logging.LogRecord) -> bool:
        if record.levelno < logging.WARNING or record.exc_info:
            return True
        told = getattr(record, "fields", {})
        key = (record.name, record.getMessage(), told.get("source"), told.get("sink"), told.get("cause"))
        now = self._monotonic()
        since, held = self._seen.get(key, (-self._every, 0))
        if now - since < self._every:
            self._seen[key] = (since, held + 1)
            return False
        if held:
            record.fields = {**told, "repeated": held}
        if len(self._seen) > 1000:
            self._seen.clear()
        self._seen[key] = (now, 0)
        return True


def set_up(level: str, form: str, stream: TextIO | None = None) -> None:
    """Log to `stream` (standard error unless told). `form` is auto, json or text; auto is text on a terminal."""
    stream = stream or sys.stderr
    handler = logging.StreamHandler(stream)
    as_text = form == "text" or (form == "auto" and stream.isatty())
    handler.setFormatter(TextFormatter() if as_text else JsonFormatter())
    handler.addFilter(RepeatFilter())
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level.upper())
    sys.excepthook = _crashed
    for noisy in ("httpx", "httpcore", "aiohttp.access", "alembic"):
        logging.getLogger(noisy).setLevel(logging.WARNING)


def _crashed(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    """What nobody caught is told as all else is: on one line, without secrets."""
    logging.getLogger("lineage.process").critical("process.crashed", exc_info=(kind, error, trace))
