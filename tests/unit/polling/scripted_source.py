"""One scripted source, polled in simulated time over a real ledger, with what was written and when."""

from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

from collector.errors import LedgerError
from collector.model import Facts, Observation, Parent, Poll, RunState
from collector.polling.source import SourcePoller
from collector.reports import EventReport, SkipReport
from tests.e2e.pollers import Pollers, Reports, Scripted
from tests.unit.exporters.delivery_simulation import JOB

FIRST_POLL = 0.5


class Timed(Reports):
    """`ends` are the seconds at which terminal events were committed, `problems` those without details."""

    def __init__(self, pollers: Pollers) -> None:
        super().__init__()
        self._pollers = pollers
        self.ends: list[float] = []
        self.problems: list[float] = []

    def committed(self, report: EventReport) -> None:
        super().committed(report)
        if report.kind.terminal:
            self.ends.append(self._pollers.clock.monotonic())

    def skipped(self, report: SkipReport) -> None:
        super().skipped(report)
        if report.kind.value == "enrichment":
            self.problems.append(self._pollers.clock.monotonic())


@dataclass
class ScriptedSource:
    """One source whose polls bring what `seen` has, by number, and whose details come as `enriches` says."""

    pollers: Pollers
    platform: Scripted
    reports: Timed
    seen: dict[int, Sequence[Observation]] = field(default_factory=dict)

    async def advance(self, until: float) -> None:
        await self.pollers.advance(until - self.pollers.clock.monotonic())

    def written(self, *names: str, error: LedgerError | None = None, lost: bool = False) -> list[float]:
        """When these are written from now on, all writes where none is named. With `error` they are not, but that is
        raised; `lost` means that the commit happens all the same.
        """
        store, times = self.pollers.store, list[float]()

        async def write(through: Callable[..., Any], fn: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
            is_meant = not names or getattr(fn, "func", fn).__name__ in names
            if is_meant:
                times.append(self.pollers.clock.monotonic())
            if is_meant and error is not None and not lost:
                raise error
            answer = await through(store, fn, *args, **kwargs)
            if is_meant and error is not None:
                raise error
            return answer

        store.write = partial(write, type(store).write)  # type: ignore[method-assign]
        store.write_first = partial(write, type(store).write_first)  # type: ignore[method-assign]
        return times

    @property
    def poller(self) -> SourcePoller:
        return self.pollers.pollers["scripted"]

    def polled(self) -> list[float]:
        """When the platform was asked or a poll was left out."""
        return [at for at, _ in self.pollers.polls("scripted")]

    def run(self, key: str, state: RunState = RunState.SUCCEEDED, parent: str | None = None) -> Observation:
        made = self.platform.run(key, state)
        of = self.platform.run(parent, state) if parent is not None else None
        above = Parent(of.run_id, JOB.namespace, JOB.name, key=parent) if of is not None else None
        return replace(made, parent=above, facts=Facts(inputs=(), outputs=()))


@asynccontextmanager
async def scripted_source(folder: Path) -> AsyncIterator[ScriptedSource]:
    async with Pollers(folder) as pollers:
        reports = pollers.reports = Timed(pollers)
        made = ScriptedSource(pollers, await pollers.scripted("scripted"), reports)

        async def poll(number: int) -> AsyncIterator[Poll]:
            now = pollers.clock.now()
            yield Poll(tuple(replace(seen, seen_at=now) for seen in made.seen.get(number, ())))

        made.platform.script = poll
        yield made
