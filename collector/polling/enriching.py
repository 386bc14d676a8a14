"""Finds out, once and in time, what the terminal event of an ended run needs; a slow run holds up no other."""

import asyncio
import logging
from collections.abc import Awaitable, Callable

from collector.clock import Clock, to_ms
from collector.errors import LedgerError, SourceError, Throttled
from collector.ledger import runs
from collector.ledger.store import Store
from collector.logs import fields
from collector.model import Enrichment, Run
from collector.platforms.base import Platform
from collector.polling.boundary import is_stopping
from collector.polling.commits import Committed, Writer
from collector.redaction import redacted

log = logging.getLogger("lineage.enrich")

AT_ONCE = 4
LAST_CHANCE = 10.0
"""Seconds for one try after a restart that came later than the deadline."""
LONGEST_PAUSE = 15.0
SHORTEST_LOOK, LONGEST_LOOK = 1.0, 8.0
"""Seconds between looks at the ledger: what ends nudges, so that only deadlines are met this way."""


class Enricher:
    """Enriches the runs of one source, `AT_ONCE` side by side."""

    def __init__(
        self,
        platform: Platform,
        writer: Writer,
        store: Store,
        clock: Clock,
        committed: Callable[[Committed], None],
    ) -> None:
        self._platform, self._writer, self._store, self._clock = platform, writer, store, clock
        self._committed = committed
        self._busy: dict[str, asyncio.Task[None]] = {}
        self._wake = asyncio.Event()

    def nudge(self) -> None:
        self._wake.set()

    async def run(self) -> None:
        """Until cancelled. A run whose enrichment is cancelled by a stop is found again at the next start."""
        look = SHORTEST_LOOK
        try:
            while True:
                self._wake.clear()
                await self._start_more()
                await _either(self._wake.wait(), self._clock.sleep(look))
                look = SHORTEST_LOOK if self._busy or self._wake.is_set() else min(2 * look, LONGEST_LOOK)
        finally:
            await self._stop()

    async def _start_more(self) -> None:
        room = AT_ONCE - len(self._busy)
        if room <= 0:
            return
        now_ms, most = to_ms(self._clock.now()), AT_ONCE + len(self._busy)
        waiting = await self._store.read(runs.enrichable, self._writer.source_id, now_ms, most)
        for run in [run for run in waiting if run.key not in self._busy][:room]:
            task = asyncio.create_task(self._enrich(run), name=f"enrich:{self._writer.source}:{run.key}")
            self._busy[run.key] = task
            task.add_done_callback(lambda done, key=run.key: self._done(key, done))  # type: ignore[misc]

    def _done(self, key: str, task: asyncio.Task[None]) -> None:
        del self._busy[key]
        self._wake.set()
        if not task.cancelled() and (error := task.exception()) is not None:
            log.error("enrich.broken", extra=fields(source=self._writer.source, run=key), exc_info=error)

    async def _enrich(self, run: Run) -> None:
        found, problem = await self._found(run)
        try:
            done = await self._store.write(self._writer.end, run.key, found, problem, self._clock.now())
        except LedgerError as error:
            told = fields(source=self._writer.source, run=run.key, cause=str(error))
            log.error("enrich.unwritten", extra=told)  # noqa: TRY400 - the cause says it all
            await self._clock.sleep(LONGEST_PAUSE)  # the run is found again then, and the platform asked again
        else:
            self._committed(done)

    async def _found(self, run: Run) -> tuple[Enrichment | None, str | None]:
        """The enrichment, or why there is none."""
        until = run.enrich_until or self._clock.now()
        left = max((until - self._clock.now()).total_seconds(), LAST_CHANCE)
        end, pause = self._clock.monotonic() + left, 0.5
        while True:
            try:
                async with asyncio.timeout(max(end - self._clock.monotonic(), 0.1)):
                    return await self._platform.enrich(run), None
            except (SourceError, TimeoutError) as error:
                cause = str(error) or "no answer in time"
                wait = max(pause, error.after or 0) if isinstance(error, Throttled) else pause
            except (Exception, asyncio.CancelledError) as error:
                # the boundary of the adapter: a bug there must not keep the run's end back, nor pass unseen
                if is_stopping():
                    raise
                log.exception("enrich.broken", extra=fields(source=self._writer.source, run=run.key))
                return (
                    None,
                    f"details of run {run.key} could not be read: {type(error).__name__}: {redacted(str(error))}",
                )
            pause = min(pause * 2, LONGEST_PAUSE)
            if self._clock.monotonic() + wait >= end:
                return None, f"details of run {run.key} could not be read within {left:.0f} s: {cause}"
            log.warning("enrich.retry", extra=fields(source=self._writer.source, run_id=str(run.run_id), cause=cause))
            await self._clock.sleep(wait)

    async def _stop(self) -> None:
        tasks = list(self._busy.values())
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def _either(*waits: Awaitable[object]) -> None:
    tasks = [asyncio.ensure_future(wait) for wait in waits]
    try:
        await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
