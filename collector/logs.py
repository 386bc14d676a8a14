"""Structured logs: constant event names with fields, JSON unless on a terminal, no repeats in an outage."""

import json
import logging
import sys
import time
import traceback
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from types import TracebackType
from typing import Any, TextIO

from collector.redaction import redacted
from collector.secret_registry import secret_registry


def fields(**values: Any) -> dict[str, Any]:
    """For `extra=`: the fields of a log event. None is left out."""
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
        given = {key: _safe(value) for key, value in getattr(record, "fields", {}).items()}
        body |= {f"{key}_" if key in body else key: value for key, value in given.items()}
        if record.exc_info and record.exc_info[0] is not None:
            body["error"] = _traceback(record.exc_info)
        return json.dumps(body, default=str, ensure_ascii=False)


class TextFormatter(logging.Formatter):
    """For a terminal: time, level, event, key=value."""

    def format(self, record: logging.LogRecord) -> str:
        at = datetime.fromtimestamp(record.created, UTC).strftime("%H:%M:%S.%f")[:-3]
        given = " ".join(f"{key}={_shown(_safe(value))}" for key, value in getattr(record, "fields", {}).items())
        line = f"{at} {record.levelname.lower():<7} {_event(record):<22} {given}".rstrip()
        if record.exc_info and record.exc_info[0] is not None:
            line += "\n" + _traceback(record.exc_info).rstrip()
        return line


def _event(record: logging.LogRecord) -> str:
    """The name of a log event of this program; messages of libraries are prose, and may repeat their arguments."""
    said = record.getMessage()
    return said if record.name.startswith("lineage.") and not record.args else redacted(said)


def _safe(value: Any) -> Any:
    """Hides the program's secrets in all fields; vendors' texts were redacted where they came in."""
    if value is None or isinstance(value, bool | int | float):
        return value
    return secret_registry.hidden_in(value if isinstance(value, str | Mapping | list | tuple) else str(value))


def _traceback(error: Any) -> str:
    return redacted("".join(traceback.format_exception(*error)))


def _shown(value: Any) -> str:
    text = str(value)
    return json.dumps(text, ensure_ascii=False) if not text or " " in text or "\n" in text or '"' in text else text


class RepeatFilter(logging.Filter):
    """Passes the same warning (event, source or sink, cause) once a minute and counts how many were held back."""

    def __init__(self, every: float = 60.0, monotonic: Callable[[], float] = time.monotonic) -> None:
        super().__init__()
        self._every, self._monotonic = every, monotonic
        self._seen: dict[tuple[Any, ...], tuple[float, int]] = {}

    def filter(self, record: logging.LogRecord) -> bool:
        if record.levelno < logging.WARNING or record.exc_info:
            return True
        given = getattr(record, "fields", {})
        key = (record.name, record.getMessage(), given.get("source"), given.get("sink"), given.get("cause"))
        now = self._monotonic()
        since, held = self._seen.get(key, (-self._every, 0))
        if now - since < self._every:
            self._seen[key] = (since, held + 1)
            return False
        if held:
            record.fields = {**given, "repeated": held}
        if len(self._seen) > 1000:
            self._seen.clear()
        self._seen[key] = (now, 0)
        return True


def set_up(level: str, form: str, stream: TextIO | None = None) -> None:
    """Log to `stream` (default: standard error). `form` is auto, json or text; auto is text on a terminal."""
    stream = stream or sys.stderr
    handler = logging.StreamHandler(stream)
    as_text = form == "text" or (form == "auto" and stream.isatty())
    handler.setFormatter(TextFormatter() if as_text else JsonFormatter())
    handler.addFilter(RepeatFilter())
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level.upper())
    sys.excepthook = _crashed
    # no line says where in the code it is from, nor in which thread: to find that out is a third of what a record costs
    logging._srcfile = None  # noqa: SLF001 - the documented way
    logging.logThreads = logging.logProcesses = logging.logMultiprocessing = False
    for noisy in ("httpx", "httpcore", "aiohttp.access", "alembic"):
        logging.getLogger(noisy).setLevel(logging.WARNING)


def _crashed(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    """Logs an uncaught error like all else: on one line, without secrets."""
    logging.getLogger("lineage.process").critical("process.crashed", exc_info=(kind, error, trace))
