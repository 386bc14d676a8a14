"""Reads the runs that are due, a few side by side, and distinguishes a run that is gone from a service that is."""

import asyncio
import logging
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from datetime import datetime

from collector.clock import Clock
from collector.errors import AuthFailed, NotFound, SourceError, Throttled
from collector.logs import fields
from collector.model import Observation, Poll, Run, Skip, SkipKind
from collector.platforms.answers import Forbidden
from collector.platforms.rate_limit import OwnLimitReached
from collector.platforms.wetransform.api import Api
from collector.platforms.wetransform.definitions import Definitions
from collector.platforms.wetransform.envelope import Rejected
from collector.platforms.wetransform.runs import RunOrigin, Runs
from collector.platforms.wetransform.schedule import retry_after_failures
from config.sources import WetransformIntervals

log = logging.getLogger("lineage.wetransform")

_MOST_HELD = 10_000
_REFUSED = (Forbidden, Rejected, NotFound)


@dataclass(frozen=True, slots=True)
class Look:
    """One run as just read, or why it could not be."""

    run: Run
    seen: Observation | None = None
    error: SourceError | None = None

    @property
    def customer(self) -> str | None:
        return RunOrigin.of(self.run.handle).customer


@dataclass(frozen=True, slots=True)
class _Verdict:
    """What failed looks mean: `wrong` with the whole source, or that the service refuses to act for `refused`."""

    wrong: SourceError | None = None
    refused: frozenset[str | None] = frozenset()


@dataclass(frozen=True, slots=True)
class _Held:
    failures: int
    until: datetime
    error: SourceError


class Tracker:
    """`customer` is the source's own: only what happens to it says something about the source as a whole."""

    def __init__(
        self,
        source: str,
        api: Api,
        definitions: Definitions,
        runs: Runs,
        clock: Clock,
        intervals: WetransformIntervals,
        *,
        customer: str | None,
        longest_pass: float,
        side_by_side: int,
    ) -> None:
        self._source, self._api, self._definitions, self._runs = source, api, definitions, runs
        self._clock, self._intervals, self._customer, self._longest_pass = clock, intervals, customer, longest_pass
        self._side_by_side = side_by_side
        self._held: dict[str, _Held] = {}

    async def pages(self, tracked: Sequence[Run]) -> AsyncIterator[Poll]:
        """Oldest due first, until all are read or the pass has lasted long enough; what is left stays due. Raises the
        error that says that the source cannot be read, after the page of what could be.
        """
        now, end = self._clock.now(), self._clock.monotonic() + self._longest_pass
        due = [run for run in tracked if not self._is_held(run.key, now)]
        for start in range(0, len(due), self._side_by_side):
            looks = await self._read(due[start : start + self._side_by_side])
            verdict = await self._verdict(looks)
            yield self._runs.unread_times.added(self._page(looks, verdict))
            rest = due[start + self._side_by_side :]
            if isinstance(verdict.wrong, OwnLimitReached) or (rest and self._clock.monotonic() >= end):
                details = fields(source=self._source, due=len(due), left=len(rest), seconds=self._longest_pass)
                log.warning("poll.overloaded", extra=details)
                yield Poll(unread=tuple(run.key for run in rest))
                return
            if verdict.wrong is not None:
                raise verdict.wrong
        if (refused := self._refused(tracked)) is not None:
            raise refused

    def _refused(self, tracked: Sequence[Run]) -> SourceError | None:
        """The refusal, where the token may see none of the tracked runs: then it lacks a right that the source needs."""
        held = [self._held.get(run.key) for run in tracked]
        errors = [it.error for it in held if it is not None and isinstance(it.error, Forbidden)]
        is_own = any(RunOrigin.of(run.handle).customer == self._customer for run in tracked)
        return errors[0] if tracked and is_own and len(errors) == len(tracked) else None

    async def _read(self, runs: Sequence[Run]) -> list[Look]:
        wanted = {whose for run in runs if (whose := RunOrigin.of(run.handle)).transformation is not None}
        await asyncio.gather(*(self._definitions.prepare(str(w.transformation), w.customer) for w in wanted))
        return list(await asyncio.gather(*(self._look(run) for run in runs)))

    async def _look(self, run: Run) -> Look:
        try:
            return Look(run, seen=await self._runs.look(run))
        except SourceError as error:
            return Look(run, error=error)

    async def _verdict(self, looks: Sequence[Look]) -> _Verdict:
        """A failed look says something about its run only where the same customer can read something else just now."""
        if (wrong := _wrong_with_source(looks)) is not None:
            return _Verdict(wrong)
        proven = {look.customer for look in looks if look.seen is not None}
        refused = set()
        for customer in {look.customer for look in looks} - proven:
            error = await self._probe(customer)
            if error is not None and (customer == self._customer or not isinstance(error, _REFUSED)):
                return _Verdict(error)
            if error is not None:
                refused.add(customer)
        return _Verdict(refused=frozenset(refused))

    async def _probe(self, customer: str | None) -> SourceError | None:
        try:
            await self._api.get("/transformations", customer=customer, params={"per_page": 1})
        except SourceError as error:
            return error
        return None

    def _page(self, looks: Sequence[Look], verdict: _Verdict) -> Poll:
        now = self._clock.now()
        seen = tuple(look.seen for look in looks if look.seen is not None)
        failed = [look for look in looks if look.error is not None]
        if verdict.wrong is not None:
            return Poll(seen, unread=_keys(failed))
        for look in looks:
            self._note(look, now)
        gone, odd = _parted(failed, verdict)
        skips = tuple(Skip(SkipKind.ROW, look.run.key, self._why(look)) for look in odd)
        return Poll(seen, missing=_keys(gone), unread=_keys(odd), skips=skips)

    def _note(self, look: Look, now: datetime) -> None:
        """A run that could not be read is left alone for a while, so that the others get their turn."""
        held = self._held.pop(look.run.key, None)
        if look.error is None:
            return
        failures = 1 + (held.failures if held else 0)
        if len(self._held) >= _MOST_HELD:
            self._held = {key: it for key, it in self._held.items() if it.until > now}
        until = now + retry_after_failures(self._intervals, failures)
        self._held[look.run.key] = _Held(failures, until, look.error)

    def _is_held(self, key: str, now: datetime) -> bool:
        held = self._held.get(key)
        return held is not None and held.until > now

    def _why(self, look: Look) -> str:
        held = self._held.get(look.run.key)
        when = f"; tried again from {held.until.isoformat(timespec='seconds')} on" if held else ""
        return f"{look.error}{when}"


def _wrong_with_source(looks: Sequence[Look]) -> SourceError | None:
    """The first error that concerns every run of the source, whichever run met it."""
    for look in looks:
        if isinstance(look.error, Throttled) or type(look.error) is AuthFailed:
            return look.error
    return None


def _keys(looks: Sequence[Look]) -> tuple[str, ...]:
    return tuple(look.run.key for look in looks)


def _parted(failed: Sequence[Look], verdict: _Verdict) -> tuple[list[Look], list[Look]]:
    """The looks whose run is gone, and those that say nothing of it."""
    gone = [look for look in failed if _is_gone(look, verdict)]
    return gone, [look for look in failed if not _is_gone(look, verdict)]


def _is_gone(look: Look, verdict: _Verdict) -> bool:
    """404 and 410 say that there is no such run; 403 says only that we may not see it."""
    return isinstance(look.error, NotFound) and look.customer not in verdict.refused
