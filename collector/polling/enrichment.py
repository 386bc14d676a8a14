"""Finds out, once and in time, what the terminal event of an ended run needs; a slow run holds up no other."""

import asyncio
import logging
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from itertools import islice

from collector.clock import Clock, from_ms, to_ms, until_set
from collector.errors import LeaseLapsed, LeaseLost, LedgerCorrupt, LedgerError, SourceError, Throttled
from collector.ledger import runs
from collector.ledger.held_lease import HeldLease
from collector.ledger.port import Ledger
from collector.ledger.runs import Ended
from collector.ledger.statements import chunks
from collector.lineage.job_aliases import as_on_platform
from collector.logs import fields
from collector.model import Run
from collector.platforms.base import Platform
from collector.polling.boundary import is_stopping
from collector.polling.commits import Committed, Found, Writer
from collector.redaction import redacted

log = logging.getLogger("lineage.enrich")

AT_ONCE = 4
LAST_CHANCE = 10.0
"""Seconds after a restart for those runs whose deadline had passed by then."""
SHORTEST_PAUSE, LONGEST_PAUSE = 0.5, 15.0
"""Seconds between two tries, of the platform and of the ledger."""
TOGETHER, LONGEST_HELD = 50, 0.25
"""Ends that are committed at once while more runs wait to be asked about, and the seconds that one waits for others."""
READ_AHEAD = 50
READ_ANEW_AFTER = 0.5
"""Seconds after which the list of ended runs is read again, if something was committed and there is more to ask about."""
MOST_LOOKED_AT = 10_000
MOST_TRIED = 1000
"""Runs in memory: those that are asked about, and those that will be again after a failure."""


@dataclass(slots=True)
class _Look:
    """A run that the platform is asked about now, or again after a pause; `cause` is why the last try failed."""

    until: datetime
    task: asyncio.Task[None] | None = None
    cause: str | None = None
    pauses: bool = False


class Enricher:
    """Enriches the runs of one source, `AT_ONCE` side by side: others go on while one pauses after a failure. At its deadline a run's end goes out with what is known."""

    def __init__(
        self,
        platform: Platform,
        writer: Writer,
        store: Ledger,
        clock: Clock,
        committed: Callable[[Committed], None],
        held: HeldLease,
    ) -> None:
        self._platform, self._writer, self._store, self._clock = platform, writer, store, clock
        self._committed, self._held = committed, held
        self._looks: dict[str, _Look] = {}
        self._slots = asyncio.Semaphore(AT_ONCE)
        self._found: dict[str, Found] = {}
        self._wake = asyncio.Event()
        self._deadlines: dict[str, datetime] = {}
        self._unasked: deque[str] = deque()
        self._ahead: dict[str, Run] = {}
        self._read_at: datetime | None = None
        self._held_until: datetime | None = None
        self._nearest: datetime | None = None
        self._changed, self._capped = True, False
        self._began: datetime | None = None
        self._pause = SHORTEST_PAUSE

    @property
    def busy(self) -> bool:
        """Whether details of a run are being asked for, or found and not yet committed."""
        return bool(self._looks or self._found)

    def wake(self) -> None:
        """Something was committed: a run may have ended, or its turn have come."""
        self._changed = True
        self._wake.set()

    async def run(self) -> None:
        """Until cancelled. A run whose enrichment is cancelled by a stop is found again at the next start."""
        self._began = self._clock.now()
        try:
            async with asyncio.TaskGroup() as group:
                while True:
                    self._wake.clear()
                    await until_set(self._wake, self._clock, await self._seconds_after_a_round(group))
        finally:
            self._looks.clear()

    async def _seconds_after_a_round(self, group: asyncio.TaskGroup) -> float | None:
        """Until the next one, unless somebody nudges before; None: nothing has a deadline."""
        try:
            deadline = await self._round(group)
        except (LeaseLost, LedgerCorrupt):
            raise
        except LedgerError as error:
            pause, self._pause = self._pause, min(2 * self._pause, LONGEST_PAUSE)
            details = fields(source=self._writer.source, cause=str(error), then=f"tries again in {pause:.1f} s")
            log.error("enrichment.unwritten", extra=details)  # noqa: TRY400 - the cause says it all
            return pause
        self._pause = SHORTEST_PAUSE
        return None if deadline is None else max((deadline - self._clock.now()).total_seconds(), 0.001)

    async def _round(self, group: asyncio.TaskGroup) -> datetime | None:
        """Ask about more, end what can or must end; when there is more to do at the latest."""
        now = self._clock.now()
        if self._is_to_read(now) or (self._capped and not self._deadlines):
            await self._read_ended(now)
        is_late = self._nearest is not None and self._nearest <= now
        if is_late:
            self._cut_overdue(now)
        await self._ask_more(group)
        if not is_late and (held_until := self._others_awaited_until(now)) is not None:
            return min(held_until, self._nearest or held_until)
        for some in chunks(list(self._found)):
            await self._end(some)
        return self._nearest

    def _others_awaited_until(self, now: datetime) -> datetime | None:
        """Until when ends wait for others, so that many share a commit; None if those that are there are committed now."""
        if not self._unasked or not 0 < len(self._found) < TOGETHER:
            self._held_until = None
            return None
        until = self._held_until = self._held_until or now + timedelta(seconds=LONGEST_HELD)
        if until > now:
            return until
        self._held_until = None
        return None

    def _is_to_read(self, now: datetime) -> bool:
        """Only after a commit, and not for each one of many: the runs of a long list would else be read for every few of them."""
        is_fresh = self._read_at is not None and now - self._read_at < timedelta(seconds=READ_ANEW_AFTER)
        return self._changed and not (self._unasked and is_fresh)

    async def _read_ended(self, now: datetime) -> None:
        self._changed, self._read_at = False, now
        self._ahead.clear()
        try:
            ended = await self._store.read(runs.ended, self._writer.source_id, MOST_LOOKED_AT)
        except BaseException:
            self._changed = True
            raise
        self._capped = len(ended) == MOST_LOOKED_AT
        self._deadlines = {one.key: self._deadline(one) for one in ended}
        self._found = {key: found for key, found in self._found.items() if key in self._deadlines}
        self._unasked = deque(key for key in self._deadlines if key not in self._looks and key not in self._found)
        self._nearest = min(self._deadlines.values(), default=None)

    def _cut_overdue(self, now: datetime) -> None:
        for key, until in self._deadlines.items():
            if until <= now and key not in self._found:
                self._cut(key)
        self._nearest = min((until for until in self._deadlines.values() if until > now), default=None)

    def _deadline(self, run: Ended) -> datetime:
        until, began = from_ms(run.until_ms), self._began
        assert began is not None  # set by `run`
        return until if until > began else from_ms(to_ms(began) + int(LAST_CHANCE * 1000))

    def _cut(self, key: str) -> None:
        """There is no more time to ask about this run."""
        look = self._looks.pop(key, None)
        if look is None:
            cause = f"{AT_ONCE} runs are asked about at once, and its turn did not come"
        else:
            cause = look.cause or "no answer in time"
            if look.task is not None:
                look.task.cancel()
        self._found[key] = Found(problem=self._problem(key, cause))

    async def _end(self, keys: Sequence[str]) -> None:
        found = {key: self._found[key] for key in keys}
        done = await self._writer.ends(self._store, found, self._clock.now())
        by_others = self._changed
        if done.events or done.skips:
            self._committed(done)
        if sum(report.outcome is not None for report in done.events) < len(keys):
            return  # some wait for their children, or ended otherwise
        self._changed = by_others
        for key in keys:
            self._found.pop(key, None)
            self._deadlines.pop(key, None)

    async def _ask_more(self, group: asyncio.TaskGroup) -> None:
        chosen = self._chosen()
        if not chosen:
            return
        try:
            await self._read_ahead(chosen)
        except BaseException:
            self._unasked.extendleft(reversed(chosen))
            raise
        for run in [self._ahead.pop(key) for key in chosen if key in self._ahead]:
            self._looks[run.key] = look = _Look(self._deadlines[run.key])
            look.task = group.create_task(self._look(run, look), name=f"enrich:{self._writer.source}:{run.key}")

    def _chosen(self) -> list[str]:
        """Those that are asked about next, as many as there is room for."""
        asked_now = sum(not look.pauses for look in self._looks.values())
        room = min(AT_ONCE - asked_now, MOST_TRIED - len(self._looks))
        chosen: list[str] = []
        while self._unasked and len(chosen) < room:
            key = self._unasked.popleft()
            if key in self._deadlines and key not in self._found:
                chosen.append(key)
        return chosen

    async def _read_ahead(self, chosen: Sequence[str]) -> None:
        """The runs that are chosen, and those whose turn comes next."""
        if all(key in self._ahead for key in chosen):
            return
        keys = [*chosen, *islice(self._unasked, READ_AHEAD - len(chosen))]
        self._ahead = await self._store.read(runs.by_keys, self._writer.source_id, keys)

    async def _look(self, run: Run, look: _Look) -> None:
        found = await self._asked(run, look)
        if self._looks.pop(run.key, None) is not None:
            self._found[run.key] = found
            self._wake.set()

    async def _asked(self, run: Run, look: _Look) -> Found:
        pause = SHORTEST_PAUSE
        while True:
            try:
                async with self._slots:
                    return Found(await self._held.guard(self._platform.enrich(as_on_platform(run))))
            except (SourceError, TimeoutError, LeaseLapsed) as error:
                look.cause = str(error) or "no answer in time"
                wait = max(pause, error.after or 0) if isinstance(error, Throttled) else pause
            except (Exception, asyncio.CancelledError) as error:
                # the boundary of the adapter: a bug there must not keep the run's end back, nor pass unseen
                if is_stopping():
                    raise
                log.exception("enrichment.broken", extra=fields(source=self._writer.source, run=run.key))
                cause = f"{type(error).__name__}: {redacted(str(error))}"
                return Found(problem=f"details of run {run.key} could not be read: {cause}")
            if wait >= (look.until - self._clock.now()).total_seconds():
                return Found(problem=self._problem(run.key, look.cause))
            details = fields(source=self._writer.source, run_id=str(run.run_id), cause=look.cause)
            log.warning("enrichment.postponed", extra=details)
            look.pauses = True
            self._wake.set()
            await self._clock.sleep(wait)
            look.pauses = False
            pause = min(pause * 2, LONGEST_PAUSE)

    def _problem(self, key: str, cause: str) -> str:
        within = self._writer.policy.enrich_within.total_seconds()
        return f"details of run {key} could not be read within {within:g} s: {cause}"
