"""Backfills of a source: past runs that the platform still lists and that the ledger does not know.

The platform is read by an adapter of its own, as at a first start whose look-back reaches so far. It has no cursor: after a kill
the list is read again, and what was made by then is known.
"""

import asyncio
import json
import logging
from collections.abc import Awaitable, Callable
from dataclasses import asdict
from datetime import datetime

from collector.clock import Clock, from_ms, to_ms
from collector.errors import LedgerError, SourceError, Throttled
from collector.ledger import acknowledged, memory, requests
from collector.ledger.held_lease import HeldLease
from collector.ledger.past_runs import Scope
from collector.ledger.port import Ledger
from collector.ledger.requests import Request, RequestClosed, RequestState
from collector.ledger.resend import Window
from collector.ledger.restriction import Alone
from collector.logs import fields
from collector.model import Observation, Poll
from collector.platforms.base import Platform, Remembering
from collector.polling.boundary import is_stopping
from collector.polling.past_runs import (
    Desk,
    ForEverySink,
    ForOneSink,
    Intake,
    Progress,
    ProgressOfOne,
    SinkFailure,
    ended_at,
)
from collector.redaction import redacted

log = logging.getLogger("lineage.request")

TRIES = 5
AGAIN = 30.0
"""Seconds until the list is read again after an error, twice as many after the next."""


def past(page: Poll, window: Window) -> list[Observation]:
    """The runs of a page that ended in the window, without those whose family is still under way: polls see its end."""
    open_runs = [seen for seen in page.observations if not seen.state.terminal]
    under_way = {seen.key for seen in open_runs} | {_above(seen) for seen in open_runs if _above(seen) is not None}
    return [
        seen
        for seen in page.observations
        if seen.state.terminal and not {seen.key, _above(seen)} & under_way and window.has(to_ms(ended_at(seen)))
    ]


def _above(seen: Observation) -> str | None:
    return seen.parent.key if seen.parent is not None else None


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
        take: Callable[[Poll, Alone | None], Awaitable[object]],
    ) -> None:
        self._source_id, self._history, self._store, self._clock = source_id, history, store, clock
        self._held, self._desk = held, Desk(source_id, store, clock, held, has_room, take)
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
        scope, tried = Scope.read(request.body), 0
        while True:
            try:
                return RequestState.DONE, asdict(await self._read(request, scope))
            except SinkFailure as error:
                return RequestState.FAILED, {"error": str(error)}
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

    async def _read(self, request: Request, scope: Scope) -> Progress | ProgressOfOne:
        intake = await self._intake(request, scope)
        platform = self._history(from_ms(scope.window.since_ms or 0))
        try:
            if isinstance(platform, Remembering):
                platform.remember(await self._store.read(memory.read, self._source_id))
            async for page in platform.poll((), None):
                await intake.take_in(past(page, scope.window))
                await self._desk.note(request, intake.progress)
        finally:
            await platform.close()
        return intake.progress

    async def _intake(self, request: Request, scope: Scope) -> Intake:
        if scope.sink is None:
            return ForEverySink(self._desk, request)
        sink = await self._store.read(acknowledged.sink, scope.sink)
        if sink is None:
            raise SinkFailure(f"the ledger knows no sink {scope.sink}, or it left the configuration")
        return ForOneSink(self._desk, request, sink, scope.sink)
