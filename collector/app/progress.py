"""How far a long command is, on standard error: a bar on a terminal, a plain line every ten seconds elsewhere."""

import sys
from collections.abc import Callable
from types import TracebackType
from typing import TYPE_CHECKING, Self

from collector.clock import Clock

if TYPE_CHECKING:
    from rich.progress import Progress as Bar

EVERY = 10.0


class Progress:
    """`total` things of a kind, such as runs, from `with` to its end."""

    def __init__(self, kind: str, total: int, clock: Clock, *, quiet: bool = False) -> None:
        self._kind, self._total, self._clock, self._quiet = kind, total, clock, quiet
        self._said_at = clock.monotonic()
        self._bar: Bar | None = None

    def __enter__(self) -> Self:
        if sys.stderr.isatty() and not self._quiet:
            self._bar = _bar()
            self._bar.add_task(self._kind, total=self._total, note="")
            self._bar.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        if self._bar is not None:
            self._bar.stop()

    def reach(self, done: int, note: str, total: int | None = None) -> None:
        """So many are done by now; `note` stands beside it. `total` where it is known only now."""
        self._total = self._total if total is None else total
        if self._bar is not None:
            self._bar.update(self._bar.task_ids[0], completed=done, total=max(done, self._total), note=note)
        elif not self._quiet and self._clock.monotonic() - self._said_at >= EVERY:
            self._said_at = self._clock.monotonic()
            print(f"{done:,} of {max(done, self._total):,} {self._kind}, {note}", file=sys.stderr, flush=True)

    def beside(self, write: Callable[[], None]) -> None:
        """Print something without disturbing the bar."""
        if self._bar is None:
            write()
            return
        self._bar.stop()
        write()
        self._bar.start()


def _bar() -> "Bar":
    from rich.console import Console  # noqa: PLC0415 - only on a terminal
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn  # noqa: PLC0415

    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[note]}"),
        TimeRemainingColumn(),
    )
    return Progress(*columns, console=Console(stderr=True), transient=True)
