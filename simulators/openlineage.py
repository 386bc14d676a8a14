"""A backend with the endpoint of OpenLineage for single events and the one for batches, each event with its outcome."""

import gzip
import json
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import Any, Literal

from aiohttp import web

from collector.testing.faults import Faults

_WORDS = {"START": "running", "RUNNING": "running", "COMPLETE": "succeeded", "FAIL": "failed", "ABORT": "canceled"}
_PATH = "/api/v1/lineage"


class OpenLineageSimulator:
    """Keeps the bytes of each event it takes in `accepted`, in order.

    `form`: of the batches it takes, None for a backend without that endpoint. `refused`: by run id, why its events are
    refused; `later`: the run ids among them that it says may be sent again. `reports`: False for a backend that answers 400
    to a whole batch with a refused event. `largest`: bytes of a body beyond which it answers 413. Change them at any time.
    """

    def __init__(
        self,
        *,
        form: Literal["array", "events"] | None = "array",
        refused: Mapping[str, str] | None = None,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self.form, self.now = form, now
        self.refused = dict(refused or {})
        self.later: set[str] = set()
        self.reports = True
        self.largest: int | None = None
        self.accepted: list[bytes] = []
        self.batches: list[int] = []
        """How many events each request for a batch had."""
        self.singles = 0
        self.faults = Faults()

    def routes(self) -> list[web.RouteDef]:
        return [web.post(_PATH, self._single), web.post(f"{_PATH}/batch", self._batch)]

    def control_routes(self) -> list[web.RouteDef]:
        return []

    def error_body(self, status: int) -> Any:
        return {"code": status, "message": f"HTTP {status}"}

    def expected_runs(self) -> list[dict[str, Any]]:
        """The runs of the events it took, each with the state of its last one."""
        events = [json.loads(body) for body in self.accepted]
        return list({event["run"]["runId"]: _run(event) for event in events}.values())

    async def _single(self, request: web.Request) -> web.Response:
        self.singles += 1
        body = await _inflated(request)
        if (refusal := self._size_refused(body)) is not None:
            return refusal
        events = _events(body)
        if len(events) != 1:
            return web.json_response({"message": "not an event"}, status=400)
        if (reason := self._reason(events[0])) is not None:
            return web.json_response({"message": reason}, status=422)
        self.accepted.append(events[0])
        return web.Response(status=201)

    async def _batch(self, request: web.Request) -> web.Response:
        if self.form is None:
            return web.json_response({"message": "no such path"}, status=404)
        body = await _inflated(request)
        if (refusal := self._size_refused(body)) is not None:
            return refusal
        bodies = _batch(body, self.form)
        if bodies is None:
            return web.json_response({"message": "not a batch"}, status=400)
        self.batches.append(len(bodies))
        reasons = [self._reason(event) for event in bodies]
        if any(reasons) and not self.reports:
            return web.json_response({"message": "an event of the batch is not valid"}, status=400)
        self.accepted += [event for event, reason in zip(bodies, reasons, strict=True) if reason is None]
        if not any(reasons) and self.form == "array":
            return web.Response(status=204)
        return web.json_response(self._report(bodies, reasons))

    def _report(self, bodies: list[bytes], reasons: list[str | None]) -> dict[str, Any]:
        failed = [
            {"index": index, "reason": reason, "retriable": _run_id(bodies[index]) in self.later}
            for index, reason in enumerate(reasons)
            if reason is not None
        ]
        taken = len(bodies) - len(failed)
        status = "success" if not failed else "partial_success" if taken else "failure"
        summary: dict[str, int] = {"received": len(bodies), "successful": taken, "failed": len(failed)}
        if self.form == "events":
            return {"status": status, "summary": {**summary, "partial": 0, "skipped": 0}, "failedEvents": failed}
        again = sum(entry["retriable"] is True for entry in failed)
        summary |= {"retriable": again, "non_retriable": len(failed) - again}
        return {"status": status, "summary": summary, "failed_events": failed}

    def _size_refused(self, body: bytes) -> web.Response | None:
        if self.largest is None or len(body) <= self.largest:
            return None
        return web.json_response({"message": "body too large"}, status=413)

    def _reason(self, event: bytes) -> str | None:
        return self.refused.get(_run_id(event))


async def _inflated(request: web.Request) -> bytes:
    """The body; the server may have inflated it already."""
    body = await request.read()
    return gzip.decompress(body) if body.startswith(b"\x1f\x8b") else body


def _events(text: bytes) -> list[bytes]:
    """The objects that stand one after the other, separated by commas, as the bytes that they are; none where it is not that."""
    decoder, rest = json.JSONDecoder(), text.decode()
    found: list[bytes] = []
    while rest:
        try:
            event, end = decoder.raw_decode(rest)
        except json.JSONDecodeError:
            return []
        if not isinstance(event, dict) or "run" not in event:
            return []
        found.append(rest[:end].encode())
        rest = rest[end:].removeprefix(",")
    return found


def _batch(body: bytes, form: str) -> list[bytes] | None:
    """The events of a batch, None for a body that is not one in this form."""
    start, end = (b"[", b"]") if form == "array" else (b'{"events":[', b"]}")
    if not body.startswith(start) or not body.endswith(end):
        return None
    inner = body[len(start) : -len(end)]
    events = _events(inner)
    return events if events or not inner else None


def _run_id(event: bytes) -> str:
    return str(json.loads(event)["run"]["runId"])


def _run(event: Mapping[str, Any]) -> dict[str, Any]:
    kind = event.get("eventType", "OTHER")
    times = {"created_at": None, "started_at": None, "ended_at": None}
    state = _WORDS.get(kind, "queued")
    return {"key": event["run"]["runId"], "job": event["job"]["name"], "state": state, "raw_state": kind, **times}
