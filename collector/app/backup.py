"""`backup`: a checked copy of the ledger, beside a running service or without one."""

import sys
import time
from dataclasses import asdict
from pathlib import Path

import orjson

from collector.app import configuration
from collector.errors import LedgerError
from collector.ledger.sqlite.backup import back_up
from collector.views import size


def backup(config: Path, target: Path, *, as_json: bool) -> int:
    settings, began = configuration.load(config).ledger, time.monotonic()
    if settings.url is not None:
        raise LedgerError(
            f"the ledger is in PostgreSQL ({settings.place}): back it up with pg_dump --schema={settings.schema}"
        )
    ledger = settings.path
    made = back_up(ledger, target, _shown if sys.stderr.isatty() and not as_json else lambda *_: None)
    seconds = round(time.monotonic() - began, 3)
    if as_json:
        summary = {**asdict(made), "path": str(made.path), "ledger": str(ledger), "seconds": seconds}
        print(orjson.dumps(summary, option=orjson.OPT_INDENT_2).decode())
    else:
        held = f"{made.runs} runs and {made.events} events, schema {made.schema}"
        print(f"{made.path}: {size(made.bytes)} with {held}, copied from {ledger} and checked")
    return 0


def _shown(copied: int, total: int) -> None:
    end = "\n" if copied >= total else ""
    print(f"\r{size(copied)} of {size(total)} copied ", end=end, file=sys.stderr, flush=True)
