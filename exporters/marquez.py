"""The Marquez sink: runs are created over the namespaces API, their events posted to the lineage API.

Facts of Marquez 0.51 that shape it: whoever speaks last decides a run's state, only a 201 proves that an event was
applied, a request that timed out may be applied later, and a database fault and a bad event are both an HTML 500.
"""

import asyncio
import re
from collections import OrderedDict
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from urllib.parse import quote

import orjson

from collector.http import HttpClient
from collector.model import EventKind, Outgoing
from config.sinks import MarquezSink as Settings
from exporters.posting import Answer, ask, each, trouble
from exporters.sink import Context, Delivered, Finding, Outcome, Park, Retry

TRIES_OF_A_500 = 5
"""An event that is answered 500 so often while Marquez is well is parked."""
LOOK_AGAIN = timedelta(seconds=5)
KNOWN_RUNS = 10_000
"""Created runs remembered, to save a call; what is forgotten is answered 400 "already exists"."""

_STATES = {EventKind.COMPLETE: "COMPLETED", EventKind.FAIL: "FAILED", EventKind.ABORT: "ABORTED"}
_CALLS = {
    EventKind.START: "start",
    EventKind.COMPLETE: "complete",
    EventKind.FAIL: "fail",
    EventKind.ABORT: "abort",
}
_NAMESPACE = re.compile(r"[A-Za-z0-9:/_\-.@+]+")
_LONGEST_NAMESPACE = 1024
_LONGEST_NAME = 1024


@dataclass(frozen=True, slots=True)
class Event:
    """What this sink needs to know of an event's body."""

    run_id: str
    namespace: str
    job: str
    at: str
    child: bool
    nominal: tuple[str | None, str | None]
    args: Mapping[str, str]

    @classmethod
    def read(cls, body: bytes) -> "Event":
        event = orjson.loads(body)
        facets = event["run"].get("facets", {})
        nominal = facets.get("nominalTime", {})
        parameters = facets.get("executionParameters", {}).get("parameters", [])
        return cls(
            run_id=event["run"]["runId"],
            namespace=event["job"]["namespace"],
            job=event["job"]["name"],
            at=event["eventTime"],
            child="parent" in facets,
            nominal=(nominal.get("nominalStartTime"), nominal.get("nominalEndTime")),
            args={each["key"]: str(each.get("value", "")) for each in parameters},
        )


def poison(body: bytes) -> str | None:
    """Why Marquez would rewrite this event, answer 500 for ever, or break for everybody; None where it would not.

    0.51 takes an empty job namespace with a 201 and answers 500 to every list from then on.
    """
    event = orjson.loads(body)
    job = event["job"]
    places = [("job", job)]
    places += [("dataset", each) for side in ("inputs", "outputs") for each in event.get(side) or []]
    parent = event["run"].get("facets", {}).get("parent")
    if parent is not None:
        places.append(("parent job", parent["job"]))
    for what, place in places:
        if (fault := _fault(place["namespace"], place["name"])) is not None:
            return f"the {what} {place['namespace']!r} {place['name'][:80]!r} {fault}"
    return "it holds a NUL character, which Marquez cannot store" if b"\\u0000" in body else None


def _fault(namespace: str, name: str) -> str | None:
    if not namespace or len(namespace) > _LONGEST_NAMESPACE:
        return "has a namespace that is empty or too long, which would break Marquez for everybody"
    if _NAMESPACE.fullmatch(namespace) is None:
        return "has a namespace that Marquez would rewrite or refuse"
    if not name.strip() or len(name) > _LONGEST_NAME:
        return "has a name that is empty or too long for Marquez's index"
    return None


def verdict(answer: Answer, attempts: int, *, well: bool | None) -> Outcome | None:
    """What the answer to a posted event means; None where Marquez must be probed first (an HTML 500, or one with code
    500). `well` is what the probe said.
    """
    if answer.status == 201:
        return Delivered()
    if (known := trouble(answer)) is not None:
        return known
    if answer.status is not None and answer.status < 500:
        return Park(answer.cause)
    if answer.status == 500 and _code(answer) == 400:
        return Park(answer.cause)
    if well is None:
        return None
    if not well:
        return Retry(f"{answer.cause}; Marquez is not well")
    if attempts + 1 >= TRIES_OF_A_500:
        return Park(f"{answer.cause}; {attempts + 1} times, while Marquez is well")
    return Retry(answer.cause, sink_wide=False)


def _code(answer: Answer) -> int | None:
    told = answer.json
    return told.get("code") if isinstance(told, dict) else None


def exists_already(answer: Answer) -> bool:
    """Marquez answers 400, never 409, to a run that is there."""
    told = answer.json
    return answer.status == 400 and isinstance(told, dict) and "already exists" in str(told.get("message"))


def path(*parts: str) -> str:
    """Path parts with nothing left safe; dots too, for `..` would be folded away."""
    return "/".join(
        quote(part, safe="").replace(".", "%2E") if part in {".", ".."} else quote(part, safe="") for part in parts
    )


class MarquezSink:
    """One Marquez. `capacity` requests at a time: 2 fill a Marquez on 2 cores, more only lengthen its queue."""

    rechecks = True

    def __init__(
        self,
        url: str,
        http: HttpClient,
        *,
        runs_api: bool,
        lineage_api: bool,
        concurrency: int,
        timeout: timedelta,
        key: Callable[[], str] | None = None,
    ) -> None:
        self._api, self._http, self._key = f"{url}/api/v1", http, key
        self._runs_api, self._lineage_api = runs_api, lineage_api
        self._created: OrderedDict[str, None] = OrderedDict()
        self.capacity = concurrency
        self.longest_attempt = 2 * timeout
        ends = {EventKind.START, EventKind.COMPLETE, EventKind.FAIL, EventKind.ABORT}
        self.wants = frozenset(ends | {EventKind.OTHER} if runs_api else ends)

    def send(self, batch: Sequence[Outgoing]) -> AsyncIterator[tuple[Outgoing, Outcome]]:
        return each(batch, self._one)

    async def _one(self, item: Outgoing) -> Outcome:
        """All requests of one event within `longest_attempt`: no attempt may outlive the sink's lease."""
        if (fault := poison(item.body)) is not None:
            return Park(f"not sent to Marquez: {fault}")
        try:
            async with asyncio.timeout(self.longest_attempt.total_seconds()):
                return await self._delivered(item, Event.read(item.body))
        except TimeoutError:
            return Retry(f"{self._api} took longer than {self.longest_attempt} for one event", unanswered=True)

    async def _delivered(self, item: Outgoing, event: Event) -> Outcome:
        begins = item.kind in {EventKind.OTHER, EventKind.START}
        problem = await self._create(event) if begins and self._runs_api and not event.child else None
        # a run that cannot be created is still made by its START, only without args and nominal times
        optional = item.kind is EventKind.START and self._lineage_api
        if isinstance(problem, Retry) or (problem is not None and not optional):
            return problem
        if item.kind is EventKind.OTHER and self._runs_api:
            return Delivered()
        if not self._lineage_api and item.kind in _CALLS:
            return await self._state_call(item, event)
        return await self._judged(await self._ask("POST", "lineage", item.body), item.attempts)

    async def _judged(self, answer: Answer, attempts: int) -> Outcome:
        outcome = verdict(answer, attempts, well=None)
        if outcome is None:
            probe = await self._ask("GET", "namespaces/default", timeout=10.0)
            outcome = verdict(answer, attempts, well=probe.status == 200)
        return outcome or Retry(answer.cause)

    async def _create(self, event: Event) -> Retry | Park | None:
        """Create the run before its first event, which alone sets args and nominal times; None when it is there."""
        if event.run_id in self._created:
            return None
        answer = await self._post_run(event)
        if answer.status == 404:
            if (missing := await self._make_job(event)) is not None:
                return missing
            answer = await self._post_run(event)
        if answer.status == 201 or exists_already(answer):
            self._created[event.run_id] = None
            while len(self._created) > KNOWN_RUNS:
                self._created.popitem(last=False)
            return None
        return _refusal(await self._judged(answer, 0))

    async def _post_run(self, event: Event) -> Answer:
        start, end = event.nominal
        body = {"id": event.run_id, "nominalStartTime": start, "nominalEndTime": end, "args": dict(event.args)}
        told = orjson.dumps({key: value for key, value in body.items() if value})
        return await self._ask("POST", f"{path('namespaces', event.namespace, 'jobs', event.job)}/runs", told)

    async def _make_job(self, event: Event) -> Retry | Park | None:
        """Only for a job that is not there: a PUT of one that is would take its current run and location away."""
        namespace = path("namespaces", event.namespace)
        answer = await self._ask("PUT", namespace, orjson.dumps({"ownerName": "lineage-collector"}))
        if answer.status == 200:
            body = orjson.dumps({"type": "BATCH", "inputs": [], "outputs": []})
            answer = await self._ask("PUT", f"{namespace}/{path('jobs', event.job)}", body)
        return None if answer.status == 200 else _refusal(await self._judged(answer, 0))

    async def _state_call(self, item: Outgoing, event: Event) -> Outcome:
        run = path("jobs", "runs", event.run_id)
        answer = await self._ask("POST", f"{run}/{_CALLS[item.kind]}?at={quote(event.at, safe='')}", b"")
        if answer.status == 404 and (problem := await self._recreated(event)) is not None:
            return problem
        if answer.status == 404:
            answer = await self._ask("POST", f"{run}/{_CALLS[item.kind]}?at={quote(event.at, safe='')}", b"")
        if answer.status == 200:
            return Delivered()
        return await self._judged(answer, item.attempts)

    async def _recreated(self, event: Event) -> Retry | Park | None:
        self._created.pop(event.run_id, None)
        return await self._create(event)

    async def recheck(self, terminal: Outgoing) -> Outcome:
        """Believe the run's state only when it is this event's; otherwise send the event again and look once more."""
        event = Event.read(terminal.body)
        answer = await self._ask("GET", path("jobs", "runs", event.run_id))
        told = answer.json
        if answer.status == 200 and isinstance(told, dict):
            if told.get("state") == _STATES[terminal.kind]:
                return Delivered()
        elif answer.status != 404:
            return trouble(answer) or Retry(answer.cause)
        outcome = await self._one(terminal)
        if isinstance(outcome, Delivered):
            return Retry("the run's state was not its own; its end was sent again", after=LOOK_AGAIN, sink_wide=False)
        return outcome

    async def check(self) -> list[Finding]:
        answer = await self._ask("GET", "namespaces/default", timeout=15.0)
        told = answer.json
        if answer.status == 200 and isinstance(told, dict) and told.get("name") == "default":
            return [Finding("Marquez", ok=True, detail=f"{self._api} answers")]
        remedy = "check that Marquez runs, and the url of this sink (without /api/v1)"
        if answer.status in {401, 403}:
            remedy = "check the API key of this sink"
        if answer.status == 500:
            remedy = "look at Marquez's database: /healthcheck on its admin port says more"
        return [Finding("Marquez", ok=False, detail=answer.cause, remedy=remedy)]

    async def close(self, deadline: float) -> None:
        await self._http.close()

    async def _ask(self, method: str, where: str, body: bytes | None = None, *, timeout: float | None = None) -> Answer:
        headers = {"Authorization": f"Bearer {self._key()}"} if self._key is not None else {}
        return await ask(
            self._http, method, f"{self._api}/{where}", headers=headers, content=body or None, timeout=timeout
        )


def _refusal(outcome: Outcome) -> Retry | Park:
    """For answers that are no 201 but may be judged as one: a creation is only ever good or not."""
    return Retry("Marquez answered a creation as an event") if isinstance(outcome, Delivered) else outcome


def create(settings: Settings, context: Context) -> MarquezSink:
    return MarquezSink(
        settings.url,
        context.http,
        runs_api=settings.runs_api,
        lineage_api=settings.lineage_api,
        concurrency=settings.concurrency,
        timeout=settings.timeout,
        key=settings.credential.get if settings.credential is not None else None,
    )
