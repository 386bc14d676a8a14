"""Tables for people, JSON for scripts, plain lines in pipes."""

import json
import sys
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

Row = Mapping[str, Any]


def show(rows: Sequence[Row], columns: Sequence[str], *, as_json: bool, nothing: str) -> None:
    """Print rows: a JSON array, a table on a terminal, or tab-separated lines with a head when piped."""
    if as_json:
        print(json.dumps([dict(row) for row in rows], default=str, indent=2, ensure_ascii=False))
    elif not rows:
        print(nothing, file=sys.stderr)
    elif sys.stdout.isatty():
        _table(rows, columns)
    else:
        print("\t".join(columns))
        for row in rows:
            print("\t".join(_cell(row.get(column)) for column in columns))


def _table(rows: Sequence[Row], columns: Sequence[str]) -> None:
    from rich.console import Console  # noqa: PLC0415 - only where a person looks
    from rich.table import Table  # noqa: PLC0415
    from rich.text import Text  # noqa: PLC0415

    table = Table(header_style="bold", box=None, pad_edge=False)
    for column in columns:
        table.add_column(column.replace("_", " "), overflow="fold")
    for row in rows:
        table.add_row(*(Text(_cell(row.get(column)), style=_style(column, row.get(column))) for column in columns))
    Console().print(table)


_STYLES = {
    "failed": "red",
    "outage": "red",
    "auth": "red",
    "stuck": "red",
    "refusing": "red",
    "error": "red",
    "unavailable": "red",
    "False": "red",
    "succeeded": "green",
    "ok": "green",
    "delivering": "green",
    "True": "green",
    "running": "cyan",
    "waiting": "yellow",
    "throttled": "yellow",
    "paused": "yellow",
    "canceled": "magenta",
}


def _style(column: str, value: Any) -> str:
    return _STYLES.get(str(value), "") if column in {"state", "ok"} else ""


def _cell(value: Any) -> str:
    if value is None:
        return "-"
    if isinstance(value, bool):
        return "yes" if value else "no"
    return printable(str(value))


def printable(words: str) -> str:
    """Words of others on one line, with nothing in them that a terminal would obey."""
    return "".join(letter if letter.isprintable() else " " for letter in words)


def moment(ms: int | None) -> str | None:
    """Epoch milliseconds as ISO 8601, for JSON and tables alike."""
    return None if ms is None else datetime.fromtimestamp(ms / 1000, UTC).isoformat(timespec="milliseconds")
