"""Requests of people to a sink: send parked events, runs or all of a window again, or drop parked events."""

import asyncio
import json
import logging
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from collector.clock import Clock, to_ms, until_set
from collector.errors import LedgerError
from collector.ledger import parked, requests, resend
from collector.ledger.leases import Lease
from collector.ledger.parked import Choice, Named
from collector.ledger.port import Change, Ledger
from collector.ledger.requests import Request, RequestKind, RequestState
from collector.ledger.resend import ResendFrom, Resent, Window
from collector.logs import fields
from collector.redaction import redacted
from exporters.delivery.backfill import Backfills
from exporters.delivery.delivery import Delivery

log = logging.getLogger("lineage.request")

AT_ONCE = 4
PARKED_AT_ONCE = 100_000
LOOK = 1.0

_Done = tuple[RequestState, dict[str, str | int]]


class SinkRequests:
    """Serves the requests to one sink, or the parts of one of its shards, while its delivery holds the lease."""

    def __init__(self, sink_id: int, delivery: Delivery, store: Ledger, clock: Clock) -> None:
        self._sink_id, self._delivery, self._store, self._clock = sink_id, delivery, store, clock
        self._backfills = Backfills(sink_id, delivery, store, clock)
        self._changed, self._stopping = asyncio.Event(), False
        self.ended = asyncio.Event()
        self._taken_over: Lease | None = None
        self._failure: str | None = None

    async def run(self) -> None:
        """Until cancelled, or until what is begun at a `stop` is answered."""
        self._delivery.lease_changed = self._changed.set
        unsubscribe = self._store.on_commit(self._changed.set, Change.REQUESTS)
        try:
            while not self._stopping:
                self._changed.clear()
                if not await self._serve_new() and not self._stopping:
                    await until_set(self._changed, self._clock, LOOK if self._backfills.present else None)
        finally:
            unsubscribe()
            self.ended.set()

    def stop(self) -> None:
        """Begin nothing more; `ended` is set at the end."""
        self._stopping = True
        self._changed.set()

    async def _serve_new(self) -> bool:
        """Serve what is new; True when there may be more."""
        lease = self._delivery.lease
        if lease is None:
            return False
        try:
            if lease != self._taken_over:
                # what a former holder began is served again: retrying and dropping twice does no harm
                await self._store.write(requests.take_over, lease, to_ms(self._clock.now()))
                self._backfills.forget()
                self._taken_over = lease
            claimed = await self._store.write(requests.claim, lease, AT_ONCE)
            for request in claimed:
                if (done := await self._served(lease, request)) is not None:
                    state, answer = done
                    body, now_ms = json.dumps(answer), to_ms(self._clock.now())
                    await self._store.write(requests.finish, lease, request.id, state, body, now_ms)
                    log.info("request.done", extra=fields(kind=request.kind.value, target=request.target, **answer))
            more = await self._backfills.step(lease)
        except Exception as error:  # the boundary of this task: one sink must not end the others
            # what was claimed is taken over again, here or by the next holder of the lease
            self._taken_over = None
            if (cause := redacted(str(error))) != self._failure:
                details = fields(sink=self._delivery.status().sink, cause=cause, then="tries again")
                log.warning("request.failed", exc_info=not isinstance(error, LedgerError), extra=details)
            self._failure = cause
            await self._clock.sleep(LOOK)
            return True
        self._failure = None
        return bool(claimed) or more

    async def _served(self, lease: Lease, request: Request) -> _Done | None:
        """The answer; None for a backfill, which goes on. Raises `LedgerError`."""
        try:
            body = json.loads(request.body)
            match request.kind:
                case RequestKind.BACKFILL:
                    await self._backfills.begin(request, Window(**body))
                    return None
                case RequestKind.RESEND:
                    return _answered(await self._resent(lease, body["runs"]))
                case RequestKind.RETRY | RequestKind.DROP:
                    return await self._with_parked(request.kind, body)
                case kind:
                    return RequestState.FAILED, {"error": f"{kind} is a request to sources, so nothing was done"}
        except LedgerError:
            raise
        except Exception as error:  # the boundary of this request, which would end each process that takes it over
            log.exception("request.broken", extra=fields(request=request.id, kind=request.kind.value))
            return RequestState.FAILED, {"error": f"{type(error).__name__}: {redacted(str(error))}"}

    async def _with_parked(self, kind: RequestKind, body: Mapping[str, Any]) -> _Done:
        wanted = Choice(*(body.get(name) for name in ("run_id", "event", "until_ms", "cause")))
        listed = await self._store.read_shown(parked.listing, PARKED_AT_ONCE, sink_id=self._sink_id)
        mine = [event for event in reversed(listed) if self._delivery.shard.has(event.strand_id)]
        chosen = [(event.strand_id, event.seq) for event in mine if wanted.takes(event)]
        if not chosen:
            return RequestState.FAILED, {"error": f"{requests.NOTHING_PARKED}{wanted}"}
        return _answered(await (self._retried(chosen) if kind is RequestKind.RETRY else self._dropped(chosen)))

    async def _resent(self, lease: Lease, runs: Mapping[str, str]) -> Counter[str]:
        """These runs, by run id, each from the event that its word names."""
        chosen = {run_id: ResendFrom(word) for run_id, word in runs.items()}
        known, shard = await self._store.read_shown(resend.strands_of, chosen), self._delivery.shard
        became = Counter({Resent.UNKNOWN: len(chosen) - len(known) if shard.number == 0 else 0})
        strands = {run_id: strand for run_id, strand in known.items() if shard.has(strand)}
        async with self._delivery.reserved(set(strands.values())) as free:
            of_these = {run_id: chosen[run_id] for run_id, strand in strands.items() if strand in set(free)}
            became[Resent.WAITING] += len(strands) - len(of_these)
            now_ms = to_ms(self._clock.now())
            became += (await self._store.write(resend.runs, lease, self._sink_id, of_these, now_ms)).became
        return Counter({what.value: count for what, count in became.items() if count})

    async def _retried(self, events: Sequence[Named]) -> Counter[str]:
        answers = await self._delivery.retry_parked(events)
        return Counter(answer.value.replace(" ", "_") for answer in answers.values())

    async def _dropped(self, events: Sequence[Named]) -> Counter[str]:
        dropped = await self._delivery.drop_parked(events)
        return Counter("dropped" if event in dropped else "not_parked" for event in events)


def _answered(became: Counter[str]) -> _Done:
    """The number of events by result."""
    return RequestState.DONE, dict(sorted(became.items()))
