"""The loop of one source: its own schedule, deadline, failures and lease, so that no source delays another."""

import asyncio
import logging
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from functools import partial
from typing import Protocol

from collector.clock import Clock, to_ms, until_set
from collector.deadline import before
from collector.errors import LeaseGivenBack, LeaseLost, LedgerCorrupt, LedgerError, NotFound, SourceError, Throttled
from collector.faultpoints import Point, passing
from collector.ledger import configured_sources, memory, runs, stored
from collector.ledger.held_lease import STANDBY_LOOK, HeldLease, Leases
from collector.ledger.restriction import Alone
from collector.lineage.events import EventMaker
from collector.lineage.job_aliases import NO_ALIASES, JobAliases, as_on_platform
from collector.logs import fields
from collector.model import Observation, Poll, Skip, SkipKind
from collector.platforms.base import Platform, Remembering
from collector.polling.backfill import SourceBackfills
from collector.polling.boundary import is_stopping
from collector.polling.commits import Committed, Writer
from collector.polling.decision import Policy
from collector.polling.enrichment import Enricher
from collector.polling.load import Planner
from collector.polling.outages import LOOK, outlasting, waited_for_writes
from collector.polling.requests import PATIENCE, SourceRequests
from collector.polling.schedule import Rhythm, next_wait, result_of
from collector.redaction import redacted
from collector.reports import Observer, PollReport, PollResult, SkipReport, SourceStatus

log = logging.getLogger("lineage.poll")

TRACKED_AT_ONCE = 10_000
"""Open runs given to one cycle, the oldest due first: bounds memory whatever is open."""
SOONEST = 0.2
"""Seconds between two cycles of a source at the least, however soon its runs want to be read."""
ASKED_APART = 1.0
"""Seconds from one poll to the next that was asked for, so that many messages make no storm of requests to the platform."""
STUCK_AFTER = 60.0
"""Seconds over its time after which a loop counts as stuck."""
CLOSED_WITHIN = 5.0
"""Seconds for an adapter to close what it has open."""


class Room(Protocol):
    """Whether the ledger has room: `full` is why not, None while it has, as of the last look; `measure` looks."""

    @property
    def full(self) -> str | None: ...
    async def measure(self) -> str | None: ...


class _Paused(Exception):
    """The ledger is full; why."""


@dataclass(slots=True)
class Progress:
    """Of one poll, which began then by the monotonic clock."""

    began: float
    pages: int = 0
    _logged_at: float | None = None

    def is_to_log(self, now: float, every: float) -> bool:
        """Whether so long has passed since it began or was logged last."""
        if now - (self._logged_at or self.began) < every:
            return False
        self._logged_at = now
        return True


class SourcePoller:
    """Polls one source while its lease is held here, until cancelled."""

    def __init__(
        self,
        *,
        name: str,
        kind: str,
        source_id: int,
        platform: Platform,
        leases: Leases,
        maker: EventMaker,
        policy: Policy,
        rhythm: Rhythm,
        clock: Clock,
        random: Callable[[], float],
        observer: Observer,
        room: Room,
        history: Callable[[datetime], Platform],
        job_aliases: JobAliases = NO_ALIASES,
    ) -> None:
        """`history` makes another adapter of the platform, whose first look reaches back so far."""
        self._name, self._source_id = name, source_id
        self._platform, self._store, self._clock, self._random = platform, leases.store, clock, random
        self._leases, self._rhythm, self._observer, self._room = leases, rhythm, observer, room
        self._maker, self._policy, self._job_aliases = maker, policy, job_aliases
        self._history = history
        self._wake = asyncio.Event()
        self._unwritten = False
        """Whether the last cycle failed for the ledger and not for the source."""
        self._planner = Planner(name, source_id, platform, leases.store, clock, observer)
        self._held: HeldLease
        self._writer: Writer
        self._enricher: Enricher
        self._requests: SourceRequests
        self.status = SourceStatus(name, kind)
        self.expected_by = clock.monotonic() + STUCK_AFTER
        """By the monotonic clock, when the loop should have come round at the latest: liveness looks at it."""

    def wake(self) -> None:
        """Poll now: something outside hinted at a change."""
        self._wake.set()

    async def run(self) -> None:
        """Until cancelled; gives the lease back and closes the platform then."""
        try:
            taking = partial(configured_sources.take, source_id=self._source_id)
            lease = f"source:{self._name}"
            await self._leases.work(lease, PATIENCE, self._work, came_round=self._came_round, taking=taking)
        finally:
            await self._close_platform()

    def _came_round(self, held: bool) -> None:
        wrong = self.status.wrong if held else None
        self.status = replace(self.status, standby=not held, wrong=wrong)
        self._expect(STANDBY_LOOK)

    async def _work(self, held: HeldLease) -> None:
        """All that is done for the source while the lease is held. What it has in memory dies with it."""
        self._held = held
        self._writer = Writer(
            self._name, self._source_id, lambda: held.lease, self._maker, self._policy, job_aliases=self._job_aliases
        )
        self._enricher = Enricher(self._platform, self._writer, self._store, self._clock, self._log_commit, held)
        backfills = SourceBackfills(
            self._source_id,
            self._history,
            self._store,
            self._clock,
            held,
            has_room=lambda: self._room.full is None,
            take=self._take_past,
        )
        self._requests = SourceRequests(
            self._platform,
            self._store,
            self._source_id,
            self._clock,
            held,
            self._watch,
            self._make_due,
            backfills.begin,
        )
        await outlasting(self._remember, f"memory:{self._name}", self._clock, self._store)
        loops = {"poll": self._poll_until_cancelled, "enrich": self._enricher.run, "requests": self._requests.run}
        loops |= {"backfill": backfills.run, "names": partial(self._writer.name_datasets, self._store)}
        async with asyncio.TaskGroup() as group:
            for what, loop in loops.items():
                name = f"{what}:{self._name}"
                group.create_task(outlasting(loop, name, self._clock, self._store), name=name)

    async def _close_platform(self) -> None:
        try:
            async with asyncio.timeout(CLOSED_WITHIN):
                await self._platform.close()
        except Exception as error:
            cause = str(error) or f"not closed within {CLOSED_WITHIN:.0f} s"
            log.exception("source.unclosed", extra=fields(source=self._name, cause=redacted(cause)))

    async def _remember(self) -> None:
        if isinstance(self._platform, Remembering):
            self._platform.remember(await self._store.read(memory.read, self._source_id))

    async def _poll_until_cancelled(self) -> None:
        await until_set(self._wake, self._clock, self._random() * min(1.0, self._rhythm.interval.total_seconds()))
        while True:
            self._wake.clear()
            self._expect(self._rhythm.deadline.total_seconds())
            began, began_ms = self._clock.monotonic(), to_ms(self._clock.now())
            asked = await self._cycle()
            if self._unwritten and await self._ledger_recovered():
                continue
            if self._held.is_surplus and not self._enricher.busy and not self._requests.busy:
                raise LeaseGivenBack(f"the lease of source {self._name} goes to another replica")
            wait = next_wait(self._rhythm, self.status.failures, asked, self._random())
            wait = await self._until_due(wait, began_ms)
            self._expect(wait)
            apart = min(wait, max(asked or 0.0, began + ASKED_APART - self._clock.monotonic()))
            await self._clock.sleep(apart)
            await until_set(self._wake, self._clock, wait - apart)

    async def _ledger_recovered(self) -> bool:
        """Wait until the ledger takes writes; False when it takes them already, so that there was nothing to wait for."""
        waited = await waited_for_writes(self._held.renew, self._clock, lambda: self._expect(LOOK))
        self._unwritten = False
        if waited:
            log.info("poll.ledger_recovered", extra=fields(source=self._name, former=self.status.wrong))
            self.status = replace(self.status, wrong=None)
        return waited

    async def _until_due(self, wait: float, began_ms: int) -> float:
        """Sooner than the interval when a run that was read asked to be read sooner, and the source is well."""
        if self.status.wrong is not None:
            return wait
        due = await self._store.read(runs.next_due, self._source_id, began_ms)
        return wait if due is None else min(wait, max(SOONEST, (due - to_ms(self._clock.now())) / 1000))

    def _expect(self, seconds: float) -> None:
        self.expected_by = self._clock.monotonic() + seconds + STUCK_AFTER

    async def _cycle(self) -> float | None:
        """One poll; seconds that the platform asked us to wait, if it did. Any failure ends only this cycle."""
        started = self._clock.monotonic()
        asked, result, cause = None, PollResult.OK, None
        self._unwritten = False
        try:
            self._pause_if(self._room.full)
            await self._held.guard(self._poll_while_pages_come())
        except _Paused as paused:
            result, cause = PollResult.PAUSED, str(paused)
        except (LeaseLost, LedgerCorrupt):
            raise
        except (SourceError, TimeoutError, LedgerError) as error:
            result = result_of(error)
            cause = str(error) or f"no page came within {self._rhythm.deadline} (poll_within)"
            asked = error.after if isinstance(error, Throttled) else None
            self._unwritten = isinstance(error, LedgerError)
        except (Exception, asyncio.CancelledError) as error:
            # the boundary of this task: a bug in one adapter must not stop the others, nor pass unseen
            if is_stopping():
                raise
            log.exception("poll.broken", extra=fields(source=self._name))
            result, cause = PollResult.ERROR, f"{type(error).__name__}: {redacted(str(error))}"
        self._report(result, cause, self._clock.monotonic() - started)
        return asked

    async def _poll_while_pages_come(self) -> None:
        """Raises `TimeoutError` once none came, nor any part of one was committed, for the length of the deadline."""
        self._progress = Progress(self._clock.monotonic())
        self._goes_on()
        ended, result = await before(lambda: self._ends_at, self._clock, self._poll())
        if not ended:
            raise TimeoutError
        result()

    def _goes_on(self) -> None:
        """Something of the poll came or was committed: from now on its deadline counts anew."""
        patience, now = self._rhythm.deadline.total_seconds(), self._clock.monotonic()
        self._ends_at = now + patience
        self._expect(patience)
        if self._progress.is_to_log(now, patience):
            details = fields(source=self._name, pages=self._progress.pages, seconds=round(now - self._progress.began))
            log.info("poll.prolonged", extra=details)

    def _pause_if(self, full: str | None) -> None:
        if full is not None:
            raise _Paused(full)

    async def _poll(self) -> None:
        """Each page is committed when the next one is there or the walk ends, the last with the cursor moved. A ledger that
        is full by then ends the walk between two commits: what was not taken is read again, as the cursor stays.
        """
        await self._planner.report()
        now_ms = to_ms(self._clock.now())
        tracked = await self._store.read(stored.tracked, self._source_id, now_ms, TRACKED_AT_ONCE)
        state = await self._store.read(runs.source_state, self._source_id)
        if tracked.unreadable:
            await self._take(Poll(missing=tracked.unreadable), polled=False)
        held: Poll | None = None
        try:
            async for page in self._platform.poll([as_on_platform(run) for run in tracked.runs], state.cursor):
                passing(Point.AFTER_FETCH)
                self._progress.pages += 1
                self._goes_on()
                if held is not None:
                    await self._take_polled(held, polled=False)
                held = page
        except _Paused:
            raise
        except BaseException:
            if held is not None:
                await self._take_polled(replace(held, cursor=None), polled=False)
            raise
        await self._take_polled(held or Poll(), polled=True)
        await self._planner.report()

    async def _watch(self, seen: Observation) -> None:
        skips = await self._take(Poll((seen,)), polled=False)
        if twice := [skip.cause for skip in skips if skip.kind is SkipKind.DUPLICATE]:
            raise NotFound(f"run {seen.key} is not watched here: {twice[0]}")
        self.wake()

    async def _make_due(self, keys: Sequence[str]) -> None:
        now_ms = to_ms(self._clock.now())
        await self._store.write(runs.make_due, self._held.lease, self._source_id, keys, now_ms)
        self.wake()

    async def _take(self, page: Poll, *, polled: bool) -> tuple[Skip, ...]:
        """Commit it; what was left out of it."""
        return tuple([skip async for done in self._committed(page, polled=polled) for skip in done.skips])

    async def _take_past(self, page: Poll, alone: Alone | None) -> None:
        async for _ in self._committed(page, polled=False, alone=alone):
            pass

    async def _take_polled(self, page: Poll, *, polled: bool) -> None:
        """Commit it, as long as the ledger has room."""
        async for _ in self._committed(page, polled=polled):
            self._goes_on()
            self._pause_if(await self._room.measure())

    async def _committed(self, page: Poll, *, polled: bool, alone: Alone | None = None) -> AsyncIterator[Committed]:
        """Commit it part by part."""
        async for done in self._writer.page(self._store, page, self._clock.now(), polled=polled, alone=alone):
            self._log_commit(done)
            passing(Point.AFTER_COMMIT)
            yield done

    def _log_commit(self, done: Committed) -> None:
        for report in done.events:
            self._observer.committed(report)
            details = fields(source=self._name, job=report.job, run_id=report.run_id, type=report.kind.value)
            log.info("run.changed", extra=details)
        for skip in done.skips:
            self._observer.skipped(SkipReport(self._name, skip.kind))
            details = fields(source=self._name, kind=skip.kind.value, subject=skip.subject, cause=skip.cause)
            log.warning("run.skipped", extra=details)
        self._enricher.wake()

    def _report(self, result: PollResult, cause: str | None, seconds: float) -> None:
        now, before = self._clock.now(), self.status
        good = result is PollResult.OK
        failed = not good and result is not PollResult.PAUSED
        self.status = replace(
            before,
            result=result,
            polled_at=now,
            succeeded_at=now if good else before.succeeded_at,
            failures=self._failures_after(result),
            wrong=cause,
            last_error=cause if failed else before.last_error,
            failed_at=now if failed else before.failed_at,
        )
        self._observer.polled(
            PollReport(self._name, result, seconds, now, self._rhythm.interval.total_seconds(), cause)
        )
        if not good:
            log.warning("poll.failed", extra=fields(source=self._name, result=result.value, cause=cause))
        elif before.wrong is not None:
            log.info("poll.recovered", extra=fields(source=self._name, after_failures=before.failures))

    def _failures_after(self, result: PollResult) -> int:
        if result in {PollResult.OK, PollResult.PAUSED}:
            return 0
        return self.status.failures if self._unwritten else self.status.failures + 1
