"""The file sink: events are appended as lines of JSON and synced to disk before they count as delivered."""

import asyncio
import os
import shutil
import tempfile
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

from collector.model import EventKind, Outgoing
from config.sinks import FileSink as Settings
from exporters.sinks.base import Context, Delivered, Finding, Outcome, Park, Retry
from exporters.sinks.journal import Journal, Pipe, explained

_STANDARD_OUTPUT = 1
_LITTLE_SPACE = 100 * 1024 * 1024


@dataclass(frozen=True, slots=True, eq=False)
class _Entry:
    """A batch that waits for its turn at the file."""

    lines: bytes
    written: asyncio.Future[Outcome]


class FileSink:
    """Batches that arrive during a write share the next write and its sync."""

    wants = frozenset(EventKind)
    capacity = 500
    rechecks = False
    longest_attempt = timedelta(seconds=60)

    def __init__(self, path: Path, *, rotate_at: int | None = None, keep: int | None = None) -> None:
        """`-` is standard output. Before the file would grow beyond `rotate_at` bytes it is renamed with a number;
        `keep` is how many of those are kept, None keeps all.
        """
        self._path = path
        self._target = Pipe(_STANDARD_OUTPUT) if str(path) == "-" else Journal(path, rotate_at, keep)
        self._entries: list[_Entry] = []
        self._writing: asyncio.Task[None] | None = None

    async def send(self, batch: Sequence[Outgoing]) -> AsyncIterator[tuple[Outgoing, Outcome]]:
        for item in (item for item in batch if b"\n" in item.body):
            yield item, Park("the event's JSON has line breaks in it, which lines of JSON cannot have")
        fitting = [item for item in batch if b"\n" not in item.body]
        if fitting:
            outcome = await self._written(b"".join(item.body + b"\n" for item in fitting))
            for item in fitting:
                yield item, outcome

    async def recheck(self, terminal: Outgoing) -> Outcome:
        return Delivered()  # what is on the disk stays unchanged

    async def check(self) -> list[Finding]:
        return [await asyncio.to_thread(_tried, self._path)]

    async def close(self, deadline: float) -> None:
        if self._writing is not None:
            await asyncio.wait((self._writing,), timeout=deadline)
        if self._writing is None or self._writing.done():
            self._target.close()

    async def _written(self, lines: bytes) -> Outcome:
        entry = _Entry(lines, asyncio.get_running_loop().create_future())
        self._entries.append(entry)
        if self._writing is None or self._writing.done():
            self._writing = asyncio.create_task(self._write(), name=f"file:{self._path}")
        return await entry.written

    async def _write(self) -> None:
        """In a separate task: a cancelled caller must not leave a thread writing for which nobody waits."""
        while self._entries:
            entries = [entry for entry in self._entries if not entry.written.cancelled()]
            self._entries.clear()
            outcome: Outcome = Delivered()
            try:
                await asyncio.to_thread(self._target.append, b"".join(entry.lines for entry in entries))
            except OSError as error:
                outcome = Retry(explained(error, self._path))
            for entry in entries:
                if not entry.written.cancelled():
                    entry.written.set_result(outcome)


def create(settings: Settings, context: Context) -> FileSink:
    return FileSink(settings.path, rotate_at=settings.rotate_at, keep=settings.keep)


def _tried(path: Path) -> Finding:
    """Whether the file can be written, without creating or changing it."""
    if str(path) == "-":
        return Finding("standard output", ok=True, detail="events go to standard output")
    subject = str(path)
    try:
        if path.exists():
            os.close(os.open(path, os.O_RDWR | os.O_APPEND))
        else:
            tempfile.TemporaryFile(dir=path.parent).close()
        free = shutil.disk_usage(path.parent).free
    except OSError as error:
        what, _, advice = explained(error, path).partition("; ")
        return Finding(subject, ok=False, detail=what, remedy=advice)
    mebibytes = free // (1024 * 1024)
    if free < _LITTLE_SPACE:
        return Finding(subject, ok=False, detail=f"only {mebibytes} MiB are free there", remedy="free some space there")
    return Finding(subject, ok=True, detail=f"can be written, {mebibytes} MiB free")
