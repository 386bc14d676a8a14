"""What the demo shows while it runs: a table on a terminal, a line per event in a pipe."""

import asyncio
import sys
from collections import Counter
from pathlib import Path
from typing import Any, Self

import orjson

from collector.app.service import Service
from collector.ledger import queries
from collector.lineage.custom_facets import PLATFORM

ROWS = 18
_STYLE = {"succeeded": "green", "failed": "red", "canceled": "magenta", "running": "cyan", "waiting": "yellow"}


class View:
    """Shows the service as long as the context lasts; nothing when `quiet`."""

    def __init__(self, service: Service, file: Path, *, marquez: str, quiet: bool) -> None:
        self._service, self._file, self._marquez, self._quiet = service, file, marquez, quiet
        self._task: asyncio.Task[None] | None = None
        self._read = 0

    async def __aenter__(self) -> Self:
        if not self._quiet:
            work = self._table() if sys.stdout.isatty() else self._lines()
            self._task = asyncio.create_task(work, name="demo:view")
        return self

    async def __aexit__(self, *_: object) -> None:
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
            if not sys.stdout.isatty():
                self._print_new()

    async def _lines(self) -> None:
        print(f"pages on http://127.0.0.1:{self._service.port}, Marquez on {self._marquez}, events in {self._file}")
        while True:
            self._print_new()
            await asyncio.sleep(0.2)

    def _print_new(self) -> None:
        if not self._file.exists():
            return
        with self._file.open("rb") as file:
            file.seek(self._read)
            for line in file:
                if not line.endswith(b"\n"):
                    break
                self._read += len(line)
                event = orjson.loads(line)
                source = event["run"]["facets"][PLATFORM]["source"]
                print(f"{event['eventTime']} {event['eventType']:<8} {source:<10} {event['job']['name']}", flush=True)

    async def _table(self) -> None:
        from rich.live import Live  # noqa: PLC0415 - only where a person looks

        with Live(refresh_per_second=4, transient=True) as live:
            while True:
                live.update(await self._drawn())
                await asyncio.sleep(0.25)

    async def _drawn(self) -> Any:
        from rich.console import Group  # noqa: PLC0415
        from rich.table import Table  # noqa: PLC0415
        from rich.text import Text  # noqa: PLC0415

        latest = await self._service.store.read_shown(queries.runs, ROWS)
        everything = await self._service.store.read_shown(queries.runs, 10_000)
        status = await self._service.status()
        table = Table("source", "run", "job", "state", "seconds", box=None, header_style="bold")
        for row in latest:
            took = f"{(row.ended_at - row.started_at) / 1000:.1f}" if row.started_at and row.ended_at else ""
            state = Text(row.state.value, style=_STYLE.get(row.state.value, ""))
            table.add_row(row.source, row.key[:12], Text(row.job, overflow="ellipsis", no_wrap=True), state, took)
        counts = Counter(row.state.value for row in everything)
        runs = ", ".join(f"{count} {state}" for state, count in sorted(counts.items()))
        sinks = ", ".join(f"{sink['sink']}: {sink['pending']} pending" for sink in status["sinks"])
        head = f"pages on http://127.0.0.1:{self._service.port} · Marquez on {self._marquez}"
        return Group(Text(head, style="dim"), Text(f"{runs or 'no runs yet'} · {sinks}"), Text(""), table)
