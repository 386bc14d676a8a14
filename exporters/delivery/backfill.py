"""Backfills of a sink: it is sent again what the ledger holds of a window of time, a little at a time.

How far one is stands in the answer of its request, written in the commit that puts the events into the lanes. So another holder of
the lease goes on where this one ended, and nothing is put there twice.
"""

import json
import logging
from dataclasses import asdict, dataclass, replace
from typing import Self

from sqlalchemy import Connection

from collector.clock import Clock, to_ms
from collector.ledger import requests, resend
from collector.ledger.leases import Lease
from collector.ledger.port import Ledger
from collector.ledger.requests import Request, RequestClosed, RequestState
from collector.ledger.resend import MOST_LANES, Resent, Result, Strands, Window
from collector.logs import fields
from exporters.delivery.delivery import Delivery

_log = logging.getLogger("lineage.request")


@dataclass(frozen=True, slots=True)
class Progress:
    """How far a backfill is: `seen` of `total` runs were looked at, up to `after`; what became of the strands, and the events
    that were put into lanes.
    """

    total: int = 0
    after: int = 0
    seen: int = 0
    strands: int = 0
    events: int = 0
    waiting: int = 0
    incomplete: int = 0
    restricted: int = 0

    @classmethod
    def read(cls, answer: str | None) -> Self | None:
        return None if answer is None else cls(**json.loads(answer))

    def with_look(self, found: Strands) -> Self:
        return replace(self, after=found.after or self.after, seen=self.seen + found.seen)

    def with_result(self, result: Result) -> Self:
        return replace(
            self,
            strands=self.strands + result.became[Resent.QUEUED],
            events=self.events + result.events,
            waiting=self.waiting + result.became[Resent.WAITING],
            incomplete=self.incomplete + result.became[Resent.INCOMPLETE],
            restricted=self.restricted + result.became[Resent.RESTRICTED],
        )


class Backfills:
    """Those of one sink that were begun under the present lease, one after another."""

    def __init__(self, sink_id: int, delivery: Delivery, store: Ledger, clock: Clock) -> None:
        self._sink_id, self._delivery, self._store, self._clock = sink_id, delivery, store, clock
        self._requests: list[tuple[Request, Window, Progress]] = []

    @property
    def present(self) -> bool:
        """Whether one is not done."""
        return bool(self._requests)

    def forget(self) -> None:
        """Another lease: what is not done is given out again."""
        self._requests.clear()

    async def begin(self, request: Request, window: Window) -> None:
        """Also one that a former holder began."""
        progress = Progress.read(request.answer) or Progress(
            await self._store.read_shown(resend.count_runs, self._delivery.shard)
        )
        self._requests.append((request, window, progress))
        _log.info("backfill.begun", extra=fields(target=request.target, **asdict(progress)))

    async def step(self, lease: Lease) -> bool:
        """Put some more into the lanes; True if the next step may follow at once."""
        if not self._requests or await self._is_full():
            return False
        try:
            await self._step(lease, *self._requests[0])
        except RequestClosed:
            request, _, progress = self._requests.pop(0)
            _log.info("backfill.stopped", extra=fields(target=request.target, **asdict(progress)))
        return True

    async def _step(self, lease: Lease, request: Request, window: Window, progress: Progress) -> None:
        found = await self._store.read_shown(resend.next_strands, window, progress.after, self._delivery.shard)
        async with self._delivery.reserved(found.numbers) as free:
            at_the_sink = len(found.numbers) - len(free)
            looked = replace(progress.with_look(found), waiting=progress.waiting + at_the_sink)
            progress = await self._store.write(self._put, lease, request, free, looked)
        if found.after is None:
            await self._end(lease, request, window, progress)
        else:
            self._requests[0] = request, window, progress

    async def _is_full(self) -> bool:
        return await self._store.read_shown(resend.count_lanes, self._sink_id, MOST_LANES) >= MOST_LANES

    def _put(self, conn: Connection, lease: Lease, request: Request, strands: list[int], looked: Progress) -> Progress:
        result = resend.strands(conn, lease, self._sink_id, strands, to_ms(self._clock.now()))
        progress = looked.with_result(result)
        requests.note(conn, lease, request.id, _written(progress))
        return progress

    async def _end(self, lease: Lease, request: Request, window: Window, progress: Progress) -> None:
        def ended(conn: Connection) -> None:
            now_ms = to_ms(self._clock.now())
            is_done = requests.finish(conn, lease, request.id, RequestState.DONE, _written(progress), now_ms)
            if is_done and window.is_whole:
                resend.cover_all(conn, lease, self._sink_id)

        await self._store.write(ended)
        self._requests.pop(0)
        _log.info("backfill.ended", extra=fields(target=request.target, **asdict(progress)))


def _written(progress: Progress) -> str:
    found = asdict(progress)
    if not progress.restricted:
        del found["restricted"]  # a program of an older version does not know it, and may go on here
    return json.dumps(found)
