"""Does what people and hints ask of a source: start a run, watch one, poll now."""

import asyncio
import json
import logging
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from uuid import NAMESPACE_URL, uuid5

from collector.clock import Clock, to_ms
from collector.errors import LeaseLost, LedgerCorrupt, SourceError, TriggerError
from collector.ledger import jobs, requests, runs
from collector.ledger.held_lease import HeldLease
from collector.ledger.port import Change, Ledger
from collector.ledger.requests import Request, RequestKind, RequestState
from collector.logs import fields
from collector.model import Observation
from collector.platforms.base import Platform, Repeatable
from collector.polling.boundary import is_stopping
from collector.polling.outages import outlasting
from collector.redaction import redacted

log = logging.getLogger("lineage.request")

PATIENCE = 90.0
"""Seconds for one request to the platform, the waiting of its rate limit included."""
AT_ONCE = 4


@dataclass(frozen=True, slots=True)
class Answer:
    """How a request ended; `body` is shown to the person who sent it."""

    state: RequestState
    body: dict[str, str | None]


class SourceRequests:
    """Serves the requests to one source while its lease is held."""

    def __init__(
        self,
        platform: Platform,
        store: Ledger,
        source_id: int,
        clock: Clock,
        held: HeldLease,
        take: Callable[[Observation], Awaitable[None]],
        make_due: Callable[[Sequence[str]], Awaitable[None]],
        backfill: Callable[[Request], None],
    ) -> None:
        """`make_due` polls now, with these runs being due; `backfill` takes a request that is answered elsewhere."""
        self._platform, self._store, self._source_id, self._clock = platform, store, source_id, clock
        self._held, self._take, self._make_due, self._backfill = held, take, make_due, backfill
        self.busy = False
        """Whether a request is being taken up or done: what is cut off then may be in doubt."""

    async def run(self) -> None:
        """Until cancelled. A trigger that an earlier process had begun is called doubtful and never repeated."""
        rung = asyncio.Event()
        forget = self._store.on_commit(rung.set, Change.REQUESTS)
        try:
            now_ms = to_ms(self._clock.now())
            for left in await self._store.write(requests.take_over, self._held.lease, now_ms, self._interrupted):
                cause = json.loads(left.answer or "{}").get("error")
                details = fields(request=left.id, kind=left.kind.value, body=redacted(left.body), cause=cause)
                log.error("request.doubted", extra=details)
            while True:
                rung.clear()
                self.busy = True
                claimed = await self._store.write(requests.claim, self._held.lease, AT_ONCE)
                async with asyncio.TaskGroup() as group:
                    for request in claimed:
                        if request.kind is RequestKind.BACKFILL:
                            self._backfill(request)
                            continue
                        group.create_task(self._serve(request), name=f"request:{request.id}")
                self.busy = bool(claimed)
                if not claimed:
                    await rung.wait()
        finally:
            forget()

    async def _serve(self, request: Request) -> None:
        """Whatever comes of it is written, when the ledger takes it: what was done must not be called doubtful."""
        answer = await self._answer(request)
        details = fields(request=request.id, kind=request.kind.value, target=request.target, state=answer.state.value)
        log.info("request.done", extra=details)
        await self._outlasting(partial(self._finish, request, answer))

    async def _finish(self, request: Request, answer: Answer) -> None:
        """Nothing when that was done already: an earlier try may have been committed though its answer was lost."""
        stored = await self._store.read(requests.get, request.id)
        if stored is None or stored.done_at is not None:
            return
        body = json.dumps(answer.body, ensure_ascii=False)
        await self._store.write(
            requests.finish, self._held.lease, request.id, answer.state, body, to_ms(self._clock.now())
        )

    async def _answer(self, request: Request) -> Answer:
        unknown = RequestState.DOUBTFUL if request.kind is RequestKind.TRIGGER else RequestState.FAILED
        try:
            return await self._done(request, json.loads(request.body))
        except TriggerError as error:
            state = RequestState.DOUBTFUL if error.doubtful else RequestState.FAILED
            return Answer(state, {"error": str(error), **self._to_repeat(request)})
        except TimeoutError:
            return Answer(unknown, self._doubt(request, f"no answer from the platform within {PATIENCE:.0f} s"))
        except SourceError as error:
            return Answer(RequestState.FAILED, {"error": str(error)})
        except (LeaseLost, LedgerCorrupt):
            raise
        except (Exception, asyncio.CancelledError) as error:
            # the boundary of this request: the person gets the error, and the next request is served
            if is_stopping():
                raise
            log.exception("request.broken", extra=fields(request=request.id, kind=request.kind.value))
            return Answer(unknown, {"error": f"{type(error).__name__}: {redacted(str(error))}"})

    def _interrupted(self, request: Request) -> str:
        """The answer to a trigger that was begun by a former holder, as JSON."""
        return json.dumps(self._doubt(request, requests.INTERRUPTED))

    def _doubt(self, request: Request, cause: str) -> dict[str, str | None]:
        again = self._to_repeat(request)
        hint = "".join(f"; to ask again without a second run: --execution-id {each}" for each in again.values())
        return {"error": f"{cause}{hint}", **again}

    def _to_repeat(self, request: Request) -> dict[str, str | None]:
        """The id under which a trigger can be made again, where the platform keeps it."""
        if request.kind is not RequestKind.TRIGGER or not isinstance(self._platform, Repeatable):
            return {}
        return {"execution_id": _execution(request, json.loads(request.body))}

    async def _done(self, request: Request, body: dict[str, object]) -> Answer:
        if request.kind is RequestKind.POLL:
            keys = body.get("keys") or []
            assert isinstance(keys, list)  # hints make nothing else
            await self._outlasting(partial(self._make_due, keys))
            return Answer(RequestState.DONE, {})
        await self._held.until_covers(PATIENCE)
        async with asyncio.timeout(PATIENCE):
            seen = await self._seen(request, body)
        await self._outlasting(partial(self._take, seen))
        run = (await self._store.read(runs.by_keys, self._source_id, [seen.key])).get(seen.key, seen)
        return Answer(
            RequestState.DONE,
            {"key": run.key, "run_id": str(run.run_id), "job": run.job.name, "state": run.state.value},
        )

    async def _outlasting(self, work: Callable[[], Awaitable[None]]) -> None:
        await outlasting(work, "requests", self._clock, self._store)

    async def _seen(self, request: Request, body: dict[str, object]) -> Observation:
        options = body.get("options") or {}
        assert isinstance(options, dict)  # the command line and the control socket make nothing else
        if request.kind is RequestKind.WATCH:
            return await self._platform.watch(str(body["key"]), options)
        if "execution" in body and not isinstance(self._platform, Repeatable):
            raise TriggerError("this platform keeps no execution ids, so none can be given; nothing was started")
        job = await self._platform_id(str(body["job"]))
        return await self._platform.trigger(job, options, _execution(request, body))

    async def _platform_id(self, job: str) -> str:
        """The job that `runs` shows so; the text itself where no run has it. Raises `TriggerError` where several jobs have it."""
        if "/" not in job:  # each name begins with its kind
            return job
        found = await self._store.read(jobs.platform_ids, self._source_id, job)
        if len(found) > 1:
            raise TriggerError(
                f"{job} is the name of several jobs, so nothing was started: give one id of {', '.join(found)}"
            )
        return found[0] if found else job


def _execution(request: Request, body: Mapping[str, object]) -> str:
    """The id that was given, of a request that is made again, else one of this very request."""
    given = body.get("execution")
    return str(given or uuid5(NAMESPACE_URL, f"{request.target}/{request.id}/{request.created_at}"))
