"""`ledger copy`: a ledger moves from a file to PostgreSQL, or back. `backup`: a checked copy beside a running service."""

import os
import sys
import time
from contextlib import AbstractContextManager, ExitStack
from dataclasses import asdict
from pathlib import Path
from typing import Any

from pydantic import ValidationError
from sqlalchemy import Connection

from collector.app import configuration, ledgers
from collector.app.tables import show_json
from collector.errors import ConfigurationError, LedgerError
from collector.ledger import transfer
from collector.ledger.postgres import transfer as of_postgres
from collector.ledger.postgres.database import Database
from collector.ledger.schema import REVISIONS
from collector.ledger.sqlite import transfer as of_file
from collector.ledger.sqlite.backup import back_up
from collector.numerals import counted, size
from config.environment import PREFIX
from config.explanations import explain
from config.secret import FromEnvironment
from config.settings import Ledger

PASSWORD = f"{PREFIX}LEDGER__PASSWORD"
"""The environment variable that also sets it for the service."""


def copy(source: str, target: str, *, schema: str, password_file: Path | None, as_json: bool) -> int:
    """Raises `ConfigurationError` for what cannot be meant, and `LedgerError` and its subclasses when nothing was copied."""
    began = time.monotonic()
    ends = [_end(place, schema, password_file) for place in (source, target)]
    if sum(isinstance(end, Path) for end in ends) != 1:
        raise ConfigurationError([_ONE_OF_EACH])
    shows = sys.stderr.isatty() and not as_json
    with ExitStack() as stack:
        read, write = stack.enter_context(_source(ends[0])), stack.enter_context(_target(ends[1]))
        copied = transfer.copy(read, write, _shown if shows else lambda *_: None)
    seconds = round(time.monotonic() - began, 3)
    said = {"from": _name(ends[0]), "to": _name(ends[1]), "schema": REVISIONS[-1], "seconds": seconds}
    if as_json:
        tables = {name: asdict(content) for name, content in copied.items()}
        show_json({**said, "tables": tables})
    else:
        rows = sum(content.rows for content in copied.values())
        held = f"{_held(copied['run'].rows, copied['event'].rows)}, {counted(rows, 'row')} in all"
        print(f"{_name(ends[1])}: {held}, copied from {_name(ends[0])} and compared")
    return 0


_ONE_OF_EACH = (
    "one end must be a file and the other PostgreSQL, such as: ledger copy lineage.db postgresql://me@db-1/lineage. For two "
    "files use `backup`, for two databases pg_dump and pg_restore"
)


def _end(place: str, schema: str, password_file: Path | None) -> Path | Database:
    if "://" not in place:
        return Path(place)
    values: dict[str, Any] = {"url": place, "schema": schema}
    if password_file is not None:
        values["password_file"] = password_file
    elif PASSWORD in os.environ:
        values["password"] = FromEnvironment(os.environ[PASSWORD])
    try:
        found = ledgers.database(Ledger.model_validate(values))
    except ValidationError as error:
        faults = [explain(each, Ledger) for each in error.errors()]
        raise ConfigurationError([f"{_OPTIONS[str(path[0])]} {problem}" for path, problem, _ in faults]) from None
    assert found is not None
    return found


_OPTIONS = {"url": "the address", "schema": "--schema", "password_file": "--password-file", "password": PASSWORD}


def _source(end: Path | Database) -> AbstractContextManager[Connection]:
    return of_file.source(end, ledgers.holder()) if isinstance(end, Path) else of_postgres.source(end)


def _target(end: Path | Database) -> AbstractContextManager[Connection]:
    return of_file.target(end, ledgers.holder()) if isinstance(end, Path) else of_postgres.target(end)


def _name(end: Path | Database) -> str:
    return str(end) if isinstance(end, Path) else end.name.removeprefix("ledger ")


def _shown(copied: int, total: int) -> None:
    end = "; comparing\n" if copied >= total else ""
    print(f"\r{copied:,} of {total:,} rows copied ", end=end, file=sys.stderr, flush=True)


def _held(runs: int, events: int) -> str:
    return f"{counted(runs, 'run')} and {counted(events, 'event')}"


def backup(config: Path, target: Path, *, as_json: bool) -> int:
    settings, began = configuration.load(config).ledger, time.monotonic()
    if settings.url is not None:
        raise LedgerError(
            f"the ledger is in PostgreSQL ({settings.place}): back it up with pg_dump --schema={settings.schema}"
        )
    ledger = settings.path
    made = back_up(ledger, target, _shown_bytes if sys.stderr.isatty() and not as_json else lambda *_: None)
    seconds = round(time.monotonic() - began, 3)
    if as_json:
        show_json({**asdict(made), "ledger": ledger, "seconds": seconds})
    else:
        held = f"{_held(made.runs, made.events)}, schema {made.schema}"
        print(f"{made.path}: {size(made.bytes)} with {held}, copied from {ledger} and checked")
    return 0


def _shown_bytes(copied: int, total: int) -> None:
    end = "\n" if copied >= total else ""
    print(f"\r{size(copied)} of {size(total)} copied ", end=end, file=sys.stderr, flush=True)
