"""What the demo shows while it runs: a table on a terminal, a line per event in a pipe."""

import asyncio
import sys
from collections import Counter, deque
from collections.abc import Iterator, Mapping
from pathlib import Path
from textwrap import shorten
from typing import Any, Self

import orjson

from collector.app.service import Service
from collector.ledger import run_queries
from collector.ledger.run_queries import RunRow
from collector.lineage.custom_facets import PLATFORM

ROWS = 12
FAILURES = 3
_STYLE = {"succeeded": "green", "failed": "red", "canceled": "magenta", "running": "cyan", "waiting": "yellow"}
_MARK = {
    "queued": ".",
    "running": ">",
    "waiting": "?",
    "succeeded": "✓",
    "failed": "✗",
    "canceled": "-",
    "unknown": "!",
}
_ENDED = ("succeeded", "failed", "canceled")
EVENTS = {
    "OTHER": "a run waits in its platform's queue",
    "START": "it begins",
    "RUNNING": "it waits for a person",
    "COMPLETE": "it ended and succeeded (FAIL: it failed, ABORT: it was canceled)",
}
"""What the demo's events mean, in their order."""


class View:
    """Shows the service as long as the context lasts; nothing when `quiet`. `runs` are as many as there will be, None where they
    go on.
    """

    def __init__(self, service: Service, file: Path, *, marquez: str, runs: int | None, quiet: bool) -> None:
        self._service, self._file, self._marquez, self._quiet = service, file, marquez, quiet
        self._runs = runs
        self._task: asyncio.Task[None] | None = None
        self._read = 0
        self._failures: deque[str] = deque(maxlen=FAILURES)

    async def __aenter__(self) -> Self:
        if not self._quiet:
            self._introduce()
            work = self._table() if sys.stdout.isatty() else self._lines()
            self._task = asyncio.create_task(work, name="demo:view")
        return self

    async def __aexit__(self, *_: object) -> None:
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
            if not sys.stdout.isatty():
                self._print_new()

    def _introduce(self) -> None:
        """Stays above whatever follows, so that the page can be opened while it goes on."""
        print(
            "Three simulated platforms run transformations; the collector makes OpenLineage events of what it sees there."
        )
        print(f"pages    http://127.0.0.1:{self._service.port}")
        print(f"Marquez  {self._marquez}")
        print(f"events   {self._file}")
        for word, meaning in EVENTS.items():
            print(f"  {word:<8} {meaning}")
        if self._runs is None:
            print("Runs begin, and the pages stay open, until you press Ctrl-C.")
        else:
            print(
                "The pages go when the runs have ended, after about 20 seconds: `make demo ARGS=--forever` keeps them open."
            )
        print(flush=True)

    async def _lines(self) -> None:
        while True:
            self._print_new()
            await asyncio.sleep(0.2)

    def _print_new(self) -> None:
        for event in self._new_events():
            source = event["run"]["facets"][PLATFORM]["source"]
            print(f"{event['eventTime']} {event['eventType']:<8} {source:<10} {event['job']['name']}", flush=True)
            if error := _error(event):
                print(f"{'':<24} {error}", flush=True)

    def _new_events(self) -> Iterator[dict[str, Any]]:
        if not self._file.exists():
            return
        with self._file.open("rb") as file:
            file.seek(self._read)
            for line in file:
                if not line.endswith(b"\n"):
                    break
                self._read += len(line)
                yield orjson.loads(line)

    async def _table(self) -> None:
        from rich.live import Live  # noqa: PLC0415 - only where a person looks

        with Live(refresh_per_second=4, transient=True) as live:
            while True:
                live.update(await self._drawn())
                await asyncio.sleep(0.25)

    async def _drawn(self) -> Any:
        from rich.console import Group  # noqa: PLC0415
        from rich.text import Text  # noqa: PLC0415

        for event in self._new_events():
            if error := _error(event):
                self._failures.append(f"{event['job']['name']}: {error}")
        everything = await self._service.store.read_shown(run_queries.runs, 10_000)
        status = await self._service.status()
        counts = Counter(row.state.value for row in everything)
        owed = ", ".join(f"{sink['sink']} {sink['pending']}" for sink in status["sinks"])
        failures = [
            Text(f"✗ {' '.join(text.split())}", style="red", overflow="ellipsis", no_wrap=True)
            for text in self._failures
        ]
        head = [Text(progress(counts, self._runs), style="bold"), Text(f"events still to deliver: {owed}"), _legend()]
        return Group(*head, Text(""), _rows(everything[:ROWS]), *([Text(""), *failures] if failures else []))


def progress(counts: Mapping[str, int], runs: int | None) -> str:
    """How many runs are over, of all (None: without end): `12 of 42 runs ended: 9 succeeded, 3 failed`."""
    ended = ", ".join(f"{counts[state]} {state}" for state in _ENDED if counts.get(state))
    under_way = sum(count for state, count in counts.items() if state not in _ENDED)
    over = sum(counts.get(state, 0) for state in _ENDED)
    head = f"{over} of {runs} runs ended" if runs is not None else f"{over} runs ended"
    return f"{head}{': ' if ended else ''}{ended} · {under_way} under way"


def _legend() -> Any:
    from rich.text import Text  # noqa: PLC0415

    marks = [(f"{_MARK[state]} {state}", _STYLE.get(state, "")) for state in ("queued", "running", "waiting", *_ENDED)]
    return Text.assemble(*[part for mark in marks for part in (mark, "  ")], style="dim")


def _rows(latest: list[RunRow]) -> Any:
    from rich.table import Table  # noqa: PLC0415
    from rich.text import Text  # noqa: PLC0415

    table = Table("", "source", "job", "state", "seconds", box=None, header_style="bold")
    for row in latest:
        took = f"{(row.ended_at - row.started_at) / 1000:.1f}" if row.started_at and row.ended_at else ""
        state, style = row.state.value, _STYLE.get(row.state.value, "")
        mark = Text(_MARK.get(state, "!"), style=style)
        table.add_row(
            mark, row.source, Text(row.job, overflow="ellipsis", no_wrap=True), Text(state, style=style), took
        )
    return table


def _error(event: Mapping[str, Any]) -> str | None:
    """What a run failed of, in one line; None for any other event."""
    if event["eventType"] != "FAIL":
        return None
    said = event["run"]["facets"].get("errorMessage", {}).get("message", "the platform says no cause")
    return shorten(str(said), 160, placeholder=" …")
