"""Tables for people, JSON for scripts, plain lines in pipes.

Not `rich.table`: it cuts texts at their ends, where names differ, and leaves out no column.
"""

import json
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from typing import TYPE_CHECKING, Any

from collector.clock import duration
from collector.numerals import size

if TYPE_CHECKING:
    from rich.console import Console

Row = Mapping[str, Any]

SHORTEST = 13
"""The least number of letters that a shortened name keeps."""
_GAP = 2


class Kind(Enum):
    """How a column is shown to people; pipes and JSON have the raw values."""

    WORD = "word"
    """Never cut: ids, states, counts."""
    NAME = "name"
    """Shortened in the middle if the terminal is narrow."""
    MOMENT = "moment"
    SECONDS = "seconds"
    BYTES = "bytes"
    NOTE = "note"
    """What is wrong: below its row, if it is not empty."""
    REMARK = "remark"
    """As a note, of what is not wrong."""
    ASIDE = "aside"
    """In pipes and JSON only."""


@dataclass(frozen=True, slots=True)
class Column:
    """Columns of the least `weight` are left out first if a terminal is too narrow. `bounded_by` names the column
    that marks a number of seconds as a bound, which is shown by `~`.
    """

    name: str
    kind: Kind = Kind.WORD
    weight: int = 50
    bounded_by: str | None = None


def show(rows: Sequence[Row], columns: Sequence[Column], *, as_json: bool, nothing: str) -> None:
    """Print rows: a JSON array, a table on a terminal that fits its width, or tab-separated lines with a head when piped."""
    if as_json:
        show_json([dict(row) for row in rows])
    elif not rows:
        print(nothing, file=sys.stderr)
    elif sys.stdout.isatty():
        _table(rows, columns)
    else:
        show_head(columns)
        show_lines(rows, columns)


def show_json(value: object) -> None:
    """Print it for scripts."""
    print(json.dumps(value, default=str, indent=2, ensure_ascii=False))


def show_head(columns: Sequence[Column]) -> None:
    """Print the names of the columns, tab-separated."""
    print("\t".join(column.name for column in columns), flush=True)


def show_lines(rows: Sequence[Row], columns: Sequence[Column], *, as_json: bool = False) -> None:
    """Print a line for each row: tab-separated, or a JSON object."""
    for row in rows:
        cells = "\t".join(_cell(row.get(column.name)) for column in columns)
        print(json.dumps(dict(row), default=str, ensure_ascii=False) if as_json else cells, flush=True)


def show_one(row: Row, columns: Sequence[Column]) -> None:
    """Print one row, a line for each column that is not empty."""
    human = sys.stdout.isatty()
    shown = {column.name: (_human(row, column) if human else _cell(row.get(column.name))) for column in columns}
    widest = max(map(len, shown))
    for name, cell in shown.items():
        if row.get(name) is not None:
            print(f"{name.replace('_', ' '):<{widest}}  {cell}")


def _table(rows: Sequence[Row], columns: Sequence[Column]) -> None:
    from rich.console import Console  # noqa: PLC0415 - only where a person looks

    console = Console(highlight=False)
    beside = [column for column in columns if column.kind not in {Kind.NOTE, Kind.REMARK, Kind.ASIDE}]
    cells = {column.name: [_human(row, column) for row in rows] for column in beside}
    widths = fitted({column: _widest(column, cells[column.name]) for column in beside}, console.width)
    _line(console, [(_title(column).ljust(width), "bold") for column, width in widths.items()])
    for number, row in enumerate(rows):
        line = [(column, _padded(column, cells[column.name][number], width)) for column, width in widths.items()]
        _line(console, [(cell, _style(column.name, row.get(column.name))) for column, cell in line])
        _notes(console, row, columns)
    _remark(rows, beside, widths)


def _notes(console: "Console", row: Row, columns: Sequence[Column]) -> None:
    for column in columns:
        if column.kind in {Kind.NOTE, Kind.REMARK} and row.get(column.name) is not None:
            is_wrong = column.kind is Kind.NOTE and row.get("ok") is not True
            _note(console, _human(row, column), "red" if is_wrong else "")


def _remark(rows: Sequence[Row], beside: Sequence[Column], widths: Mapping[Column, int]) -> None:
    """Below the table, on standard error: what it leaves out, and what its marks mean."""
    if missing := [_title(column) for column in beside if column not in widths]:
        print(f"no room for: {', '.join(missing)} (a wider terminal or --json shows them)", file=sys.stderr)
    if any(_is_bound(row, column) for row in rows for column in widths):
        print("~ the platform did not report when it started, or ended: the time is a bound", file=sys.stderr)


def fitted(widths: Mapping[Column, int], room: int) -> dict[Column, int]:
    """The columns that fit into the room, with their widths: names are shortened first, then the lightest are left out."""
    kept = dict(widths)
    while True:
        least = {column: _least(column, width) for column, width in kept.items()}
        if _total(least) <= room or len(kept) == 1:
            return _shared_out(kept, least, room)
        del kept[min(kept, key=lambda column: column.weight)]


def _least(column: Column, width: int) -> int:
    return min(width, max(SHORTEST, len(_title(column)))) if column.kind is Kind.NAME else width


def _shared_out(wished: Mapping[Column, int], least: dict[Column, int], room: int) -> dict[Column, int]:
    """The free width goes to the names that lack most."""
    spare = room - _total(least)
    while spare > 0 and (short := [column for column, width in least.items() if width < wished[column]]):
        least[max(short, key=lambda column: wished[column] - least[column])] += 1
        spare -= 1
    return least


def _total(widths: Mapping[Column, int]) -> int:
    return sum(widths.values()) + _GAP * (len(widths) - 1)


def _widest(column: Column, cells: Iterable[str]) -> int:
    return max(len(_title(column)), *map(_length, cells))


def _title(column: Column) -> str:
    if column.kind is Kind.SECONDS:
        return column.name.removesuffix("_seconds").replace("_", " ")
    if column.kind is Kind.BYTES and column.name != "bytes":
        return column.name.removesuffix("_bytes").replace("_", " ")
    return column.name.replace("_", " ")


def _length(words: str) -> int:
    from rich.cells import cell_len  # noqa: PLC0415

    return cell_len(words)


def _padded(column: Column, cell: str, width: int) -> str:
    cell = shortened(cell, width) if column.kind is Kind.NAME else cell
    return cell + " " * (width - _length(cell))


def shortened(words: str, width: int) -> str:
    """Without the middle, as names differ at their ends."""
    if _length(words) <= width:
        return words
    cuts = (f"{words[: kept // 2]}…{words[kept // 2 - kept :]}" for kept in range(width - 1, 1, -1))
    return next((cut for cut in cuts if _length(cut) <= width), "…")


def _line(console: "Console", parts: Sequence[tuple[str, str]]) -> None:
    from rich.text import Text  # noqa: PLC0415

    line = Text((" " * _GAP).join(""))
    for number, (cell, style) in enumerate(parts):
        line.append(" " * _GAP if number else "").append(cell, style=style)
    line.rstrip()
    console.print(line, no_wrap=True, overflow="ignore", crop=False)


def _note(console: "Console", words: str, style: str) -> None:
    from rich.padding import Padding  # noqa: PLC0415
    from rich.text import Text  # noqa: PLC0415

    console.print(Padding(Text(words, style=style), (0, 0, 0, 4), expand=False))


_WORDS = {
    "red": "failed outage auth stuck refusing error unavailable False",
    "green": "succeeded ok delivering True",
    "cyan": "running",
    "yellow": "waiting throttled paused",
    "magenta": "canceled",
}
_STYLES = {word: style for style, words in _WORDS.items() for word in words.split()}


def _style(column: str, value: Any) -> str:
    return _STYLES.get(str(value), "") if column in {"state", "ok"} else ""


def _human(row: Row, column: Column) -> str:
    value = row.get(column.name)
    if value is None:
        return "-"
    if column.kind is Kind.MOMENT:
        return str(value)[:19].replace("T", " ")
    if column.kind is Kind.SECONDS:
        return ("~" if _is_bound(row, column) else "") + duration(float(value))
    if column.kind is Kind.BYTES:
        return size(int(value))
    return _cell(value)


def _is_bound(row: Row, column: Column) -> bool:
    return column.bounded_by is not None and bool(row.get(column.bounded_by))


def _cell(value: Any) -> str:
    if value is None:
        return "-"
    if isinstance(value, bool):
        return "yes" if value else "no"
    return printable(str(value))


def printable(words: str) -> str:
    """Foreign text on one line, without control sequences of terminals."""
    return "".join(letter if letter.isprintable() else " " for letter in words)
