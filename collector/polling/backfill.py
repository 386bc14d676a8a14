"""Backfills of a source: past runs that the platform still lists and that the ledger does not know.

The platform is read by an adapter of its own, as at a first start whose look-back reaches so far. It has no cursor: after a kill
the list is read again, and what was made by then is known.
"""

import asyncio
import json
import logging
from collections.abc import Awaitable, Callable
from dataclasses import asdict, dataclass, replace
from datetime import datetime

from collector.clock import Clock, from_ms, to_ms
from collector.errors import LedgerError, SourceError, Throttled
from collector.ledger import memory, requests, runs, schema
from collector.ledger.held_lease import HeldLease
from collector.ledger.port import Ledger
from collector.ledger.requests import Request, RequestClosed, RequestState
from collector.ledger.resend import Window
from collector.logs import fields
from collector.model import Observation, Poll
from collector.platforms.base import Platform, Remembering
from collector.polling.boundary import is_stopping
from collector.polling.commits import PART, parts
from collector.redaction import redacted

log = logging.getLogger("lineage.request")

LOOK = 0.5
TRIES = 5
AGAIN = 30.0
"""Seconds until the list is read again after an error, twice as many after the next."""


@dataclass(frozen=True, slots=True)
class Progress:
    """Of `seen` past runs in the window, `known` were in the ledger already, `made` are new there."""

    seen: int = 0
    known: int = 0
    made: int = 0


def past(page: Poll, window: Window) -> list[Observation]:
    """The runs of a page that ended in the window, without those whose family is still under way: polls see its end."""
    open_runs = [seen for seen in page.observations if not seen.state.terminal]
    under_way = {seen.key for seen in open_runs} | {_above(seen) for seen in open_runs if _above(seen) is not None}
    return [
        seen
        for seen in page.observations
        if seen.state.terminal and not {seen.key, _above(seen)} & under_way and window.has(to_ms(_ended(seen)))
    ]


def _above(seen: Observation) -> str | None:
    return seen.parent.key if seen.parent is not None else None


def _ended(seen: Observation) -> datetime:
    return seen.ended_at or seen.started_at or seen.queued_at or seen.seen_at


class SourceBackfills:
    """One after another, while the lease is held. `history` makes an adapter that looks back so far, `take` commits a page."""

    def __init__(
        self,
        source_id: int,
        history: Callable[[datetime], Platform],
        store: Ledger,
        clock: Clock,
        held: HeldLease,
        has_room: Callable[[], bool],
        take: Callable[[Poll], Awaitable[object]],
    ) -> None:
        self._source_id, self._history, self._store, self._clock = source_id, history, store, clock
        self._held, self._has_room, self._take = held, has_room, take
        self._requests: list[Request] = []
        self._begun = asyncio.Event()

    def begin(self, request: Request) -> None:
        """Put it behind those that are under way."""
        self._requests.append(request)
        self._begun.set()

    async def run(self) -> None:
        """Until cancelled."""
        while True:
            await self._begun.wait()
            request = self._requests[0]
            try:
                await self._answer(request)
            except RequestClosed:
                log.info("backfill.stopped", extra=fields(target=request.target))
            self._requests.pop(0)
            if not self._requests:
                self._begun.clear()

    async def _answer(self, request: Request) -> None:
        """Raises `RequestClosed` where it was stopped meanwhile."""
        state, answer = await self._done(request)
        body, now_ms = json.dumps(answer), to_ms(self._clock.now())
        await self._store.write(requests.finish, self._held.lease, request.id, state, body, now_ms)
        log.info("request.done", extra=fields(kind=request.kind.value, target=request.target, state=state.value))

    async def _done(self, request: Request) -> tuple[RequestState, dict[str, object]]:
        window = Window(**json.loads(request.body))
        tried = 0
        while True:
            try:
                return RequestState.DONE, asdict(await self._read(request, window))
            except SourceError as error:
                tried += 1
                if tried >= TRIES:
                    said = f"{error}; what was read until then is in the ledger, the same command reads the rest"
                    return RequestState.FAILED, {"error": said}
                asked = error.after if isinstance(error, Throttled) else None
                await self._clock.sleep(max(asked or 0.0, AGAIN * 2 ** (tried - 1)))
            except LedgerError:
                raise
            except Exception as error:
                # the boundary of this request: the person gets the error, and polling goes on
                if is_stopping():
                    raise
                log.exception("request.broken", extra=fields(request=request.id, kind=request.kind.value))
                return RequestState.FAILED, {"error": f"{type(error).__name__}: {redacted(str(error))}"}

    async def _read(self, request: Request, window: Window) -> Progress:
        progress, platform = Progress(), self._history(from_ms(window.since_ms or 0))
        try:
            if isinstance(platform, Remembering):
                platform.remember(await self._store.read(memory.read, self._source_id))
            async for page in platform.poll((), None):
                progress = await self._take_in(request, page, window, progress)
                await self._note(request, progress)
        finally:
            await platform.close()
        return progress

    async def _note(self, request: Request, progress: Progress) -> None:
        await self._store.write(requests.note, self._held.lease, request.id, json.dumps(asdict(progress)))

    async def _take_in(self, request: Request, page: Poll, window: Window, progress: Progress) -> Progress:
        ended = past(page, window)
        keys = {schema.storable(seen.key) for seen in ended}
        known = await self._store.read(runs.by_keys, self._source_id, keys)
        new = tuple(seen for seen in ended if schema.storable(seen.key) not in known)
        for part in parts(Poll(new), PART):
            if part.observations:
                await self._until_calm()
                await self._note(request, progress)  # or it was stopped
                await self._take(self._seen_now(part))
        return replace(
            progress,
            seen=progress.seen + len(ended),
            known=progress.known + len(ended) - len(new),
            made=progress.made + len(new),
        )

    def _seen_now(self, part: Poll) -> Poll:
        """The deadline for the details counts from when a run was seen, and the page may have been read long ago."""
        now = self._clock.now()
        return replace(part, observations=tuple(replace(seen, seen_at=now) for seen in part.observations))

    async def _until_calm(self) -> None:
        """The details of runs that ended are read before a deadline, so few of them may wait; and the ledger needs room."""
        while not self._has_room() or await self._any_ended():
            await self._clock.sleep(LOOK)

    async def _any_ended(self) -> bool:
        return bool(await self._store.read(runs.ended, self._source_id, 1))
