"""The Marquez sink: runs are created over the namespaces API, their events posted to the lineage API.

It depends on facts of Marquez 0.51: the last request decides a run's state, only a 201 proves that an event was
applied, a request that timed out may be applied later, and a database fault and a bad event are both an HTML 500.
"""

import asyncio
import re
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, TypeVar
from urllib.parse import quote
from weakref import WeakValueDictionary

import orjson
from cachetools import LRUCache

from collector.clock import Clock
from collector.http import HttpClient
from collector.model import EventKind, Outgoing
from config.sinks import MarquezSink as Settings
from exporters.sinks.base import Context, Delivered, Finding, Outcome, Park, Retry
from exporters.sinks.http import Answer, ask, each, remedy, trouble
from exporters.sinks.marquez.event import Event, read
from exporters.sinks.marquez.stored import STATES, StoredRun, UnreadRun, parse

T = TypeVar("T")

PARKED_AFTER_500S = 5
PARKED_AFTER = timedelta(seconds=60)
"""An event is parked after this many answers 500 over at least this time while Marquez is healthy. For 20 s after its
database is back, Marquez may answer 500 to some requests and not to others.
"""
LOOK_AGAIN = timedelta(seconds=5)
KNOWN_RUNS = 10_000
"""Created runs that are remembered, to save a call; for a forgotten one Marquez answers 400 "already exists"."""

_CALLS = {
    EventKind.START: "start",
    EventKind.COMPLETE: "complete",
    EventKind.FAIL: "fail",
    EventKind.ABORT: "abort",
}


def verdict(answer: Answer, proof: int = 201) -> Outcome | None:
    """What an answer means; `proof` is the status of success. None for a 500 without a cause: probe Marquez first."""
    if answer.status == proof:
        return Delivered()
    if (known := trouble(answer)) is not None:
        return known
    assert answer.status is not None
    if 200 <= answer.status < 300:
        return Retry(f"{answer.cause}; Marquez would answer {proof}, so this may not be a Marquez", slow=True)
    if answer.status == 500 and _code(answer) != 400:
        return None
    return Retry(answer.cause) if answer.status > 500 else Park(answer.cause)


def verdict_on_500(answer: Answer, errors: "EventErrors", *, healthy: bool) -> Outcome:
    """What a 500 without a cause means, once Marquez was probed. `errors` are those of this event so far."""
    if not healthy:
        return Retry(f"{answer.cause}; Marquez is not healthy")
    if errors.count >= PARKED_AFTER_500S and errors.seconds >= PARKED_AFTER.total_seconds():
        return Park(f"{answer.cause}; {errors.count} times in {errors.seconds:.0f} s, while Marquez is healthy")
    return Retry(answer.cause, sink_wide=False)


@dataclass(frozen=True, slots=True)
class EventErrors:
    """How often an event was answered 500 while Marquez was healthy, and the seconds from the first to the last time."""

    count: int
    seconds: float


class ErrorCounts:
    """The errors of the events under way. A forgotten one is counted from zero again."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._since: LRUCache[tuple[int, int], tuple[int, float]] = LRUCache(KNOWN_RUNS)

    def add(self, item: Outgoing) -> EventErrors:
        key, now = (item.strand_id, item.seq), self._clock.monotonic()
        count, first = self._since.pop(key, (0, now))
        self._since[key] = (count + 1, first)
        return EventErrors(count + 1, now - first)

    def forget(self, item: Outgoing) -> None:
        self._since.pop((item.strand_id, item.seq), None)


def _code(answer: Answer) -> int | None:
    content = answer.json
    return content.get("code") if isinstance(content, dict) else None


def _message(answer: Answer) -> str:
    content = answer.json
    return str(content.get("message")) if isinstance(content, dict) else ""


def exists_already(answer: Answer) -> bool:
    """For a run that exists Marquez answers 400, never 409."""
    return answer.status == 400 and "already exists" in _message(answer)


def _is_absent(answer: Answer) -> bool:
    """Whether Marquez itself says that it does not have it: a wrong address answers 404, too, in other words."""
    return answer.status == 404 and re.fullmatch(r"(Namespace|Job|Run) '.*' not found\.", _message(answer)) is not None


def _stored(answer: Answer, read_content: Callable[[Any], T]) -> T:
    if answer.status != 200:
        known = trouble(answer)
        raise UnreadRun(answer.cause, answer.after, lasting=known is not None and known.slow)
    try:
        return read_content(answer.json)
    except (KeyError, TypeError, ValueError) as error:
        raise UnreadRun(f"{answer.what} answered 200 without what Marquez has: {error}", lasting=True) from error


def _path(*parts: str) -> str:
    """A path with all special characters of its parts escaped; also `.` and `..`, which clients would resolve."""
    return "/".join(
        quote(part, safe="").replace(".", "%2E") if part in {".", ".."} else quote(part, safe="") for part in parts
    )


class MarquezSink:
    """One Marquez. `capacity` is the number of concurrent requests: 2 load a Marquez on 2 cores fully."""

    parallel = True
    rechecks = True

    def __init__(
        self,
        url: str,
        http: HttpClient,
        clock: Clock,
        *,
        runs_api: bool,
        lineage_api: bool,
        concurrency: int,
        timeout: timedelta,
        key: Callable[[], str] | None = None,
    ) -> None:
        self._api, self._http, self._key = f"{url}/api/v1", http, key
        self._runs_api, self._lineage_api = runs_api, lineage_api
        self._created: LRUCache[str, None] = LRUCache(KNOWN_RUNS)
        self._errors = ErrorCounts(clock)
        self._job_locks: WeakValueDictionary[tuple[str, str], asyncio.Lock] = WeakValueDictionary()
        self.capacity = concurrency
        self.sends_datasets = lineage_api
        self.longest_attempt = 2 * timeout
        ends = {EventKind.START, EventKind.COMPLETE, EventKind.FAIL, EventKind.ABORT}
        self.wants = frozenset(ends | {EventKind.OTHER} if runs_api else ends)

    def send(self, batch: Sequence[Outgoing]) -> AsyncIterator[tuple[Outgoing, Outcome]]:
        return each(batch, self._one)

    async def _one(self, item: Outgoing) -> Outcome:
        return await self._in_time(item, self._delivered)

    async def _in_time(self, item: Outgoing, work: Callable[[Outgoing, Event], Awaitable[Outcome]]) -> Outcome:
        """All requests of one event within `longest_attempt`: no attempt may outlive the sink's lease."""
        event = read(item.body)
        if isinstance(event, str):
            return Park(f"not sent to Marquez: {event}")
        try:
            async with asyncio.timeout(self.longest_attempt.total_seconds()):
                outcome = await work(item, event)
        except TimeoutError:
            return Retry(f"{self._api} took longer than {self.longest_attempt} for one event", unanswered=True)
        if not isinstance(outcome, Retry):
            self._errors.forget(item)
        return outcome

    async def _delivered(self, item: Outgoing, event: Event) -> Outcome:
        problem = await self._created_before(item, event)
        if problem is not None:
            return problem
        if item.kind is EventKind.OTHER:
            return Delivered()  # posting it would start the run
        if not self._lineage_api:
            return await self._state_call(item, event) if item.kind in _CALLS else Delivered()
        outcome = await self._judged(await self._ask("POST", "lineage", item.body), item)
        if item.kind is EventKind.START and isinstance(outcome, Delivered):
            self._created.pop(event.run_id, None)  # if it comes again, Marquez has lost the run
        return outcome

    async def _created_before(self, item: Outgoing, event: Event) -> Retry | Park | None:
        """Create the run where this event is its first one; why the event cannot be sent then."""
        begins = item.kind in {EventKind.OTHER, EventKind.START}
        problem = await self._create(item, event) if begins and self._runs_api and not event.child else None
        # when the run cannot be created, its START creates it, without args and nominal times
        is_optional = item.kind is EventKind.START and self._lineage_api
        return None if is_optional and isinstance(problem, Park) else problem

    async def _judged(self, answer: Answer, item: Outgoing, proof: int = 201) -> Outcome:
        outcome = verdict(answer, proof)
        if outcome is not None:
            return outcome
        healthy = (await self._ask("GET", "namespaces/default", timeout=10.0)).status == 200
        if not healthy:
            self._errors.forget(item)
        return verdict_on_500(answer, self._errors.add(item) if healthy else EventErrors(0, 0.0), healthy=healthy)

    async def _create(self, item: Outgoing, event: Event) -> Retry | Park | None:
        """Create the run before its first event: only this sets args and nominal times. None when the run exists."""
        if event.run_id in self._created:
            return None
        answer = await self._post_run(event)
        if answer.status == 404:
            answer = await self._post_run_with_job(event)
        if not exists_already(answer):
            outcome = await self._judged(answer, item)
            if not isinstance(outcome, Delivered):
                return outcome
        self._created[event.run_id] = None
        return None

    async def _post_run(self, event: Event) -> Answer:
        start, end = event.nominal
        body = {"id": event.run_id, "nominalStartTime": start, "nominalEndTime": end, "args": dict(event.args)}
        content = orjson.dumps({key: value for key, value in body.items() if value})
        return await self._ask("POST", f"{_path('namespaces', event.namespace, 'jobs', event.job)}/runs", content)

    async def _post_run_with_job(self, event: Event) -> Answer:
        """Create a missing namespace or job, one strand at a time: a PUT of an existing job removes its current run,
        location and inputs, a PUT of an existing namespace changes its owner.
        """
        async with self._job_locks.setdefault((event.namespace, event.job), asyncio.Lock()):
            answer = await self._post_run(event)
            if answer.status == 404 and "Namespace" in _message(answer):
                answer = await self._put_namespace(event)
                answer = await self._post_run(event) if answer.status == 200 else answer
            if answer.status == 404:
                answer = await self._put_job(event)
                answer = await self._post_run(event) if answer.status == 200 else answer
            return answer

    async def _put_namespace(self, event: Event) -> Answer:
        body = {"ownerName": "lineage-collector"}
        return await self._ask("PUT", _path("namespaces", event.namespace), orjson.dumps(body))

    async def _put_job(self, event: Event) -> Answer:
        body: dict[str, object] = {"type": "BATCH", "inputs": [], "outputs": [], "description": event.description}
        return await self._ask("PUT", _path("namespaces", event.namespace, "jobs", event.job), orjson.dumps(body))

    async def _state_call(self, item: Outgoing, event: Event) -> Outcome:
        where = f"{_path('jobs', 'runs', event.run_id)}/{_CALLS[item.kind]}?at={quote(event.at, safe='')}"
        answer = await self._ask("POST", where)
        if answer.status == 404:
            self._created.pop(event.run_id, None)
            if (problem := await self._create(item, event)) is not None:
                return problem
            answer = await self._ask("POST", where)
        return await self._judged(answer, item, proof=200)

    async def recheck(self, terminal: Outgoing) -> Outcome:
        """The doubt is settled when the run has this event's state; otherwise send the event again and recheck later."""
        return await self._in_time(terminal, self._checked_again)

    async def _checked_again(self, terminal: Outgoing, event: Event) -> Outcome:
        answer = await self._ask("GET", _path("jobs", "runs", event.run_id))
        content = answer.json
        if answer.status == 200 and isinstance(content, dict):
            if content.get("state") == STATES[terminal.kind]:
                return Delivered()
        elif answer.status != 404:
            return trouble(answer) or Retry(answer.cause)
        outcome = await self._delivered(terminal, event)
        if isinstance(outcome, Delivered):
            return Retry("the run had another state; its end was sent again", after=LOOK_AGAIN, sink_wide=False)
        return outcome

    async def stored_run(self, run_id: str) -> StoredRun | None:
        """The run as Marquez has it, None where it has none. Raises `UnreadRun`."""
        answer = await self._ask("GET", _path("jobs", "runs", run_id))
        return None if _is_absent(answer) else _stored(answer, parse)

    async def stored_runs(self, namespace: str, job: str, offset: int, limit: int) -> list[StoredRun] | None:
        """Some runs of a job, the one that began last first, those without a start at the end; None where Marquez does not have the
        job. Raises `UnreadRun`.
        """
        where = f"{_path('namespaces', namespace, 'jobs', job)}/runs?limit={limit}&offset={offset}"
        answer = await self._ask("GET", where)
        return None if _is_absent(answer) else _stored(answer, lambda content: [parse(run) for run in content["runs"]])

    async def check(self) -> list[Finding]:
        answer = await self._ask("GET", "namespaces/default", timeout=15.0)
        content = answer.json
        if answer.status == 200 and isinstance(content, dict) and content.get("name") == "default":
            return [Finding("Marquez", ok=True, detail=f"{self._api} answers")]
        to_do = remedy(answer) or "check the url of this sink (without /api/v1): this is not an answer of Marquez"
        if answer.status == 500:
            to_do = "look at Marquez's log and database: /healthcheck on its admin port says more"
        return [Finding("Marquez", ok=False, detail=answer.cause, remedy=to_do)]

    async def close(self, deadline: float) -> None:
        await self._http.close()

    async def _ask(self, method: str, where: str, body: bytes | None = None, *, timeout: float | None = None) -> Answer:
        headers = {"Authorization": f"Bearer {self._key()}"} if self._key is not None else {}
        return await ask(self._http, method, f"{self._api}/{where}", headers=headers, content=body, timeout=timeout)


def create(settings: Settings, context: Context) -> MarquezSink:
    return MarquezSink(
        settings.url,
        context.http,
        context.clock,
        runs_api=settings.runs_api,
        lineage_api=settings.lineage_api,
        concurrency=settings.concurrency,
        timeout=settings.timeout,
        key=settings.credential.get if settings.credential is not None else None,
    )
