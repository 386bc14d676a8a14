"""What users can do from the pages: send parked events again or drop them, start a run, begin or stop a backfill. By POST only,
each with a token and a line in the log, and done as the commands do it, by whoever holds the lease.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import asdict, dataclass, replace
from datetime import datetime
from typing import Any, Protocol
from urllib.parse import parse_qsl, quote

from aiohttp import web

from collector import views
from collector.clock import Clock, moment, to_ms
from collector.errors import LedgerError
from collector.ledger import parked
from collector.ledger.parked import Choice
from collector.ledger.past_runs import Scope
from collector.ledger.port import Ledger
from collector.ledger.requests import RequestKind, RequestState
from collector.ledger.resend import Window
from collector.logs import fields
from config.quantities import parse_moment
from exporters.web.identity import USER, Forms, Refused
from exporters.web.responses import page, readable

log = logging.getLogger("lineage.action")

ANSWERED_WITHIN = 20.0
"""Seconds that a page waits; what takes longer is done all the same."""
LISTED = 20
"""Events that are named before they are dropped."""
COUNTED = 10_000
LONGEST = 500
"""Letters of a name in a form."""
LONGEST_CAUSE = 4_000
"""Letters of the cause for which events are parked."""
_LATER = "not done yet: it stays in the ledger and is done as soon as that is possible"


class Answer(Protocol):
    @property
    def state(self) -> RequestState: ...

    @property
    def answer(self) -> Mapping[str, Any]: ...


_LONGEST = {"cause": LONGEST_CAUSE}
Submit = Callable[[str, RequestKind, Mapping[str, Any]], Awaitable[Answer]]
"""Has the request to this target done and returns its result."""
Form = Mapping[str, str]


@dataclass(frozen=True, slots=True)
class _Outcome:
    """`state` is None where the result is not known yet."""

    state: RequestState | None
    answer: Mapping[str, Any]

    @property
    def words(self) -> str:
        if self.state is None or "error" in self.answer:
            return str(self.answer["error"])
        if self.state is RequestState.NEW:
            return "under way"
        return ", ".join(f"{value} {name.replace('_', ' ')}" for name, value in self.answer.items())

    @property
    def status(self) -> int:
        return 202 if self.state is None else 200 if self.state is RequestState.DONE else 409


class Actions:
    """The routes answer 403, and pages have no buttons, where nobody is authenticated."""

    def __init__(self, ledger: Ledger, submit: Submit, forms: Forms, clock: Clock) -> None:
        self._ledger, self._submit, self._forms, self._clock = ledger, submit, forms, clock

    def routes(self) -> list[web.RouteDef]:
        handlers = {
            "/parked/retry": self._retry,
            "/parked/drop": self._drop,
            "/trigger": self._trigger,
            "/backfill": self._backfill,
            "/backfill/stop": self._stop_backfill,
        }
        return [web.post(path, readable(self._checked(handler))) for path, handler in handlers.items()]

    def _checked(
        self, handler: Callable[[str, str, Form], Awaitable[web.Response]]
    ) -> Callable[[web.Request], Awaitable[web.StreamResponse]]:
        async def answer(request: web.Request) -> web.StreamResponse:
            form = await _form(request)
            try:
                user = self._forms.checked(request, form.get("token", ""))
            except Refused as error:
                details = fields(user=request.get(USER), client=request.remote, path=request.path, cause=str(error))
                log.warning("action.refused", extra=details)
                return page("missing", "/", 403, title="Not done", words=str(error))
            if long := [name for name, value in form.items() if len(value) > _LONGEST.get(name, LONGEST)]:
                words = f"{', '.join(long)}: longer than {_LONGEST.get(long[0], LONGEST)} letters"
                return page("missing", "/", 400, title="Not done", words=words)
            return await handler(user, form["token"], form)

        return answer

    async def _retry(self, user: str, token: str, form: Form) -> web.Response:
        return await self._with_parked(user, token, form, RequestKind.RETRY, is_sure=bool(form.get("event")))

    async def _drop(self, user: str, token: str, form: Form) -> web.Response:
        return await self._with_parked(user, token, form, RequestKind.DROP, is_sure=False)

    async def _with_parked(
        self, user: str, token: str, form: Form, kind: RequestKind, *, is_sure: bool
    ) -> web.Response:
        """After a question with the number of events, whose answer is about no more than these, unless it `is_sure`."""
        sink, choice = form.get("sink", ""), _choice(form)
        if is_sure or (form.get("confirmed") == "yes" and choice.until_ms is not None):
            title = "Sent again" if kind is RequestKind.RETRY else "Dropped"
            return _shown(await self._done(user, f"sink:{sink}", kind, asdict(choice)), "/parked", title)
        found = await self._ledger.read_shown(parked.chosen, sink, choice, COUNTED)
        if not found:
            return page("missing", "/parked", 409, title="Not done", words=f"nothing is parked there{choice}")
        until = max(event.parked_at for event in found)
        rows = [{**views.parked_event(event), "job": event.job} for event in found[:LISTED]]
        about: dict[str, Any] = {"sink": sink, "choice": replace(choice, until_ms=until), "token": token}
        about["is_drop"] = kind is RequestKind.DROP
        return page("parked_choice", "/parked", rows=rows, number=len(found), most=COUNTED, **about)

    async def _trigger(self, user: str, token: str, form: Form) -> web.Response:
        source, job = form.get("source", ""), form.get("job", "")
        try:
            options = _options(form.get("options", ""))
        except ValueError as error:
            return page("missing", "/jobs", 400, title="Not done", words=str(error))
        if form.get("confirmed") != "yes":
            return page("trigger", "/jobs", source=source, job=job, token=token)
        body = {"job": job, "options": options}
        found = await self._done(user, f"source:{source}", RequestKind.TRIGGER, body)
        run_id = found.answer.get("run_id")
        if found.state is RequestState.DONE and run_id:
            # so that a page that is loaded again starts no second run
            raise web.HTTPSeeOther(f"/runs/{quote(str(run_id), safe='')}")
        return _shown(found, "/jobs", "Started")

    async def _backfill(self, user: str, token: str, form: Form) -> web.Response:
        kind, name = _side(form)
        here = f"/{kind}s/{quote(name, safe='')}"
        only_sink = form.get("only_sink") or None if kind == "source" else None
        try:
            window = _window(form, self._clock.now(), needs_since=kind == "source")
        except ValueError as error:
            return page("missing", here, 400, title="Not done", words=str(error))
        if form.get("confirmed") != "yes":
            about: dict[str, Any] = {"since": moment(window.since_ms), "until": moment(window.until_ms), "token": token}
            return page("backfill", here, kind=kind, whose=name, only_sink=only_sink, back=here, **about)
        found = await self._done(user, f"{kind}:{name}", RequestKind.BACKFILL, Scope(window, only_sink).body())
        if found.state is RequestState.NEW:
            raise web.HTTPSeeOther(here)  # where its progress is
        return _shown(found, here, "Begun")

    async def _stop_backfill(self, user: str, _: str, form: Form) -> web.Response:
        """Without a question: what was done until then stays, and the same backfill does the rest."""
        kind, name = _side(form)
        here = f"/{kind}s/{quote(name, safe='')}"
        found = await self._done(user, f"{kind}:{name}", RequestKind.STOP, {})
        if found.state is RequestState.DONE:
            raise web.HTTPSeeOther(here)
        return _shown(found, here, "Stopped")

    async def _done(self, user: str, target: str, kind: RequestKind, body: Mapping[str, Any]) -> _Outcome:
        """The result, which is logged with who asked for it."""
        try:
            async with asyncio.timeout(ANSWERED_WITHIN):
                answer = await self._submit(target, kind, body)
            found = _Outcome(answer.state, answer.answer)
        except TimeoutError:
            found = _Outcome(None, {"error": _LATER})
        except LedgerError as error:
            found = _Outcome(RequestState.FAILED, {"error": str(error)})
        outcome = found.state.value if found.state is not None else "later"
        # the values of parameters may be secrets
        asked = {name: [*value] if isinstance(value, Mapping) else value for name, value in body.items() if value}
        details = fields(user=user, action=kind.value, target=target, asked=asked, outcome=outcome, answer=found.words)
        log.warning("action.taken", extra=details)
        return found


async def _form(request: web.Request) -> dict[str, str]:
    """Empty for what is no form of these pages. Not by `request.post`, which fails over unknown charsets and odd parts."""
    if request.content_type != "application/x-www-form-urlencoded":
        return {}
    return dict(parse_qsl((await request.read()).decode(errors="replace"), keep_blank_values=True))


def _shown(found: _Outcome, here: str, title: str) -> web.Response:
    done = found.state is RequestState.DONE
    return page("done", here, found.status, title=title if done else "Not done", words=found.words, back=here)


def _side(form: Form) -> tuple[str, str]:
    """`source` or `sink`, and its name."""
    return ("sink", form["sink"]) if form.get("sink") else ("source", form.get("source", ""))


def _window(form: Form, now: datetime, *, needs_since: bool) -> Window:
    """Raises `ValueError`."""
    given = {name: form.get(name, "").strip() for name in ("since", "until")}
    if needs_since and not given["since"]:
        raise ValueError("say since when: how far back the platform is read, for example 30d or 2026-01-31")
    since, until = (to_ms(parse_moment(words, now)) if words else None for words in given.values())
    if since is not None and until is not None and since >= until:
        raise ValueError("the beginning must be before the end")
    return Window(since, until)


def _choice(form: Form) -> Choice:
    until = form.get("until", "")
    is_number = until.isascii() and until.isdigit() and len(until) < 16
    run_id, event, cause = (form.get(name) or None for name in ("run_id", "event", "cause"))
    lines = cause.replace("\r\n", "\n") if cause is not None else None  # browsers end lines so
    return Choice(run_id, event, int(until) if is_number else None, lines)


def _options(text: str) -> dict[str, str]:
    """Raises `ValueError`."""
    found = {}
    for line in filter(None, map(str.strip, text.splitlines())):
        key, separator, value = line.partition("=")
        if not separator or not key.strip():
            raise ValueError(f"the parameter {line!r} is not of the form key=value")
        found[key.strip()] = value.strip()
    return found
