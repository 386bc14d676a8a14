"""wetransform's public API as its documentation shows it, over real HTTP, with runs that live by a given clock."""

import json
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from typing import Any, TypeVar
from uuid import UUID

from aiohttp import web

from collector.testing.faults import Faults
from simulators.wetransform.answers import (
    RUN_PRODUCT,
    SAMPLE_PRODUCT,
    Answers,
    dump,
    envelope,
    file_signature,
    is_file_alive,
    template,
)
from simulators.wetransform.control import Control
from simulators.wetransform.scenarios import Plan, Scenario
from simulators.wetransform.state import Account, Run, State, Transformation
from simulators.wetransform.webhooks import Webhook, message, send

T = TypeVar("T")


class Refused(Exception):
    def __init__(
        self, status: int, *, product: dict[str, Any] | None = None, about: Transformation | None = None
    ) -> None:
        super().__init__(status)
        self.status = status
        self.product = product
        self.about = about


@dataclass(frozen=True, slots=True)
class Call:
    """One request that was let in: whose token it bore, for which customer it acts, and the answers in its language."""

    request: web.Request
    account: Account
    customer: str | None
    answers: Answers


Handler = Callable[[Call], Awaitable[web.Response]]


class WetransformSimulator:
    """`now` is the clock that every run lives by; the same `seed` and calls give the same ids and walks.

    One company stands ready: its token is `token`, its customers are `CUSTOMERS`, and it has `transformations`
    separate transformations. More is made by `state` (in one process) or by the control routes.
    """

    CUSTOMERS = {"cust-1": "ann@acme.example", "cust-2": "bob@blue.example"}  # noqa: RUF012 - never changed

    def __init__(
        self,
        *,
        seed: int = 0,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
        token: str = "wetransform-token",  # noqa: S107 - the simulator's own
        transformations: int = 3,
    ) -> None:
        self.faults = Faults()
        self.state = State(seed=seed, now=now)
        self.account = Account("company", {token}, dict(self.CUSTOMERS))
        self.state.accounts.append(self.account)
        self.webhooks: list[Webhook] = []
        self.file_host = ""
        self._told: set[str] = set()
        self._messages = 0
        self._allowed: dict[str, tuple[float, datetime]] = {}
        for number in range(transformations):
            handle, name = _TEMPLATES[number % len(_TEMPLATES)]
            self.state.add_transformation(
                self.account, name=f"{name} upload", template_handle=handle, template_name=name
            )

    def now(self) -> datetime:
        return self.state.now()

    # What a test in the same process steers by.

    @property
    def transformations(self) -> list[Transformation]:
        return list(self.state.transformations.values())

    def start(self, transformation: Transformation, plan: Plan | None = None, *, started_by: str = "api") -> Run:
        """A run that nobody asked for over HTTP; `started_by` is `api`, `schedule` or `manual`."""
        return self.state.start(transformation, plan or Plan(), started_by=started_by)

    def next_starts(self, plans: Sequence[Plan]) -> None:
        """What the next starts over the vendor's endpoint become."""
        self.state.next_plans.extend(plans)

    def set_step(self, run: Run, step: str | None, *, details: str | None = None) -> None:
        """The run shows `step` from now on, and stays there."""
        run.put(step, self.state.now(), [])
        run.details = details

    def expected_runs(self) -> list[dict[str, Any]]:
        return self.state.expected_runs()

    async def deliver_webhooks(self) -> list[int]:
        """Tell every webhook of the runs that were processed since the last call; the statuses that came back."""
        now, statuses = self.state.now(), []
        for webhook in self.webhooks:
            for run in self._unsent(webhook, now):
                self._told.add(run.key + webhook.url)
                self._messages += 1
                if not (webhook.lose_every and self._messages % webhook.lose_every == 0):
                    statuses += await send(webhook, message(run, Answers(self.state, self.file_host)))
        return statuses

    def _unsent(self, webhook: Webhook, now: datetime) -> list[Run]:
        delay = timedelta(seconds=webhook.delay_seconds)
        done = [(run, run.first(frozenset({"processed"}), now)) for run in self.state.runs.values()]
        return [
            run for run, at in done if at is not None and at + delay <= now and run.key + webhook.url not in self._told
        ]

    # The Simulator protocol.

    def routes(self) -> list[web.RouteDef]:
        handlers: list[tuple[str, str, Handler]] = [
            ("POST", "/transformation/automation/{transformation}", self._start),
            ("GET", "/transformation/automation/{automation}", self._status),
            ("GET", "/transformations", self._list),
            ("GET", "/transformations/trash", self._trash),
            ("GET", "/transformation/{transformation}", self._transformation),
            ("GET", "/transformation/{transformation}/data", self._data),
            ("GET", "/templates", self._templates),
        ]
        routes = [web.get("/files/{automation}/{name}", self._file)]
        for prefix in ("", "/{language:[a-z][a-z]}"):
            routes.append(web.get(f"{prefix}/hello", self._hello))
            routes += [web.route(method, prefix + path, self._let_in(handler)) for method, path, handler in handlers]
        return routes

    def control_routes(self) -> list[web.RouteDef]:
        return Control(self).routes()

    def error_body(self, status: int) -> Any:
        return envelope([], success=False, product=RUN_PRODUCT if status == 403 else None)

    # Letting in.

    def _let_in(self, handler: Handler) -> Callable[[web.Request], Awaitable[web.Response]]:
        async def guarded(request: web.Request) -> web.Response:
            try:
                return await handler(self._call(request))
            except Refused as refused:
                return self._refuse(request, refused)

        return guarded

    def _call(self, request: web.Request) -> Call:
        self.file_host = self.file_host or f"{request.scheme}://{request.host}"
        account = self._account(request)
        self._limit_rate(account)
        customer = None
        if header := request.headers.get("X-Customer"):
            customer = account.customer(header)
            if customer is None:
                raise Refused(self.state.behaviour.wrong_customer_status)
        language = request.match_info.get("language", "en")
        return Call(request, account, customer, Answers(self.state, self.file_host, language))

    def _account(self, request: web.Request) -> Account:
        scheme, _, token = request.headers.get("Authorization", "").partition(" ")
        account = self.state.account_of(token) if scheme.lower() == "bearer" else None
        if account is None:
            raise Refused(401)
        return account

    def _limit_rate(self, account: Account) -> None:
        rate, now = self.state.behaviour.requests_per_second, self.state.now()
        if rate is None:
            return
        left, since = self._allowed.get(account.name, (rate, now))
        left = min(max(rate, 1.0), left + (now - since).total_seconds() * rate)
        self._allowed[account.name] = (left - 1.0 if left >= 1.0 else left, now)
        if left < 1.0:
            raise Refused(429)

    def _refuse(self, request: web.Request, refused: Refused) -> web.Response:
        headers = self._retry_after() if refused.status == 429 else {}
        is_for_machines = "application/json" in request.headers.get("Accept", "")
        if self.state.behaviour.html_without_accept and not is_for_machines:
            page = f"<!doctype html><title>{refused.status}</title><h1>An error occurred</h1>"
            return web.Response(text=page, status=refused.status, content_type="text/html", headers=headers)
        about = refused.about
        body = envelope(
            [],
            success=False,
            product=refused.product,
            template_handle=about.template_handle if about else None,
            source_id=about.source_id if about else None,
        )
        return _json(body, status=refused.status, headers=headers)

    def _retry_after(self) -> dict[str, str]:
        match self.state.behaviour.retry_after:
            case "seconds":
                return {"Retry-After": "2"}
            case "date":
                return {"Retry-After": format_datetime(self.state.now() + timedelta(seconds=2), usegmt=True)}
            case _:
                return {}

    # The vendor's endpoints.

    async def _hello(self, request: web.Request) -> web.Response:
        try:
            if self.state.behaviour.hello_needs_token:
                self._account(request)
        except Refused as refused:
            return self._refuse(request, refused)
        return _json(envelope({"message": "Hello!"}))

    async def _start(self, call: Call) -> web.Response:
        await _refuse_bad_json(call.request)
        it = self._owned_transformation(call)
        self._check_preconditions(it)
        plan = self.state.take_plan()
        status = self.state.behaviour.start_status
        if plan.scenario is Scenario.UNTRACKED:
            return self._ok(call.answers.untracked(), it, status=status)
        under_way = self.state.running(it) if self.state.behaviour.parallel_starts == "same" else None
        run = under_way or self.state.start(it, plan)
        return self._ok(call.answers.automation(run), it, status=status)

    def _check_preconditions(self, it: Transformation) -> None:
        behaviour = self.state.behaviour
        if not behaviour.may_run:
            raise Refused(403, product=RUN_PRODUCT, about=it)
        is_source_ready = it.is_dynamic or behaviour.manual_sources_may_run
        is_free = behaviour.parallel_starts != "refuse" or self.state.running(it) is None
        if not (is_source_ready and it.template_handle and is_free):
            raise Refused(behaviour.refusal_status, about=it)

    async def _status(self, call: Call) -> web.Response:
        run = self.state.runs.get(self._uuid(call, "automation"))
        if run is None:
            raise Refused(self.state.behaviour.missing_status)
        self._check_owner(call, run.transformation)
        if not self.state.is_readable(run):
            raise Refused(self.state.behaviour.missing_status)
        return self._ok(call.answers.automation(run), run.transformation)

    async def _list(self, call: Call) -> web.Response:
        page, _ = _paging(call.request)
        if page > 1 and self.state.behaviour.insertions_during_walk > 0:
            self.state.behaviour.insertions_during_walk -= 1
            self.state.add_transformation(call.account, customer=call.customer)
        return self._page_of(call, [it for it in self._visible(call) if it.deleted_at is None])

    async def _trash(self, call: Call) -> web.Response:
        return self._page_of(call, [it for it in self._visible(call) if it.deleted_at is not None])

    def _page_of(self, call: Call, chosen: list[Transformation]) -> web.Response:
        if handles := call.request.query.getall("template_handles[]", []):
            chosen = [it for it in chosen if it.template_handle in handles]
        if self.state.behaviour.newest_first:
            chosen = chosen[::-1]
        return self._paged(call, "entries", chosen, call.answers.list_entry)

    async def _transformation(self, call: Call) -> web.Response:
        it = self._owned_transformation(call)
        return self._ok(call.answers.transformation(it), it)

    async def _data(self, call: Call) -> web.Response:
        it = self._owned_transformation(call)
        if self.state.is_submitted(it):
            raise Refused(self.state.behaviour.missing_status, about=it)
        return self._paged(
            call, "rows", range(1, it.row_count + 1), lambda n: {"row": n, "data": {c: f"{c} {n}" for c in it.columns}}
        )

    async def _templates(self, call: Call) -> web.Response:
        by_handle = {it.template_handle: it for it in self._visible(call) if it.template_handle}
        return self._paged(call, "entries", list(by_handle.values()), template)

    async def _file(self, request: web.Request) -> web.Response:
        run = self.state.runs.get(request.match_info["automation"])
        if run is None or not is_file_alive(self.state, run):
            return web.Response(status=self.state.behaviour.dead_file_status)
        if self.state.behaviour.signed_files and request.query.get("signature") != file_signature(request.path):
            return web.Response(status=403)
        return web.Response(text=",".join(run.transformation.columns) + "\n", content_type="text/csv")

    # Who sees what.

    def _visible(self, call: Call) -> list[Transformation]:
        return [it for it in self.state.transformations.values() if self._may_see(call, it)]

    def _may_see(self, call: Call, it: Transformation) -> bool:
        if it.account is not call.account:
            return False
        sees_all = call.customer is None and not self.state.behaviour.customer_header_needed
        return sees_all or it.customer == call.customer

    def _check_owner(self, call: Call, it: Transformation) -> None:
        if not self._may_see(call, it):
            raise Refused(self.state.behaviour.foreign_status)

    def _owned_transformation(self, call: Call) -> Transformation:
        it = self.state.transformations.get(self._uuid(call, "transformation"))
        if it is None:
            raise Refused(self.state.behaviour.missing_status)
        self._check_owner(call, it)
        if it.deleted_at is not None and call.request.method == "POST":
            raise Refused(self.state.behaviour.missing_status)
        return it

    def _uuid(self, call: Call, name: str) -> str:
        try:
            return str(UUID(call.request.match_info[name]))
        except ValueError:
            raise Refused(self.state.behaviour.malformed_id_status) from None

    # Shapes.

    def _ok(self, payload: dict[str, Any], about: Transformation | None, *, status: int = 200) -> web.Response:
        body = envelope(
            payload,
            product=SAMPLE_PRODUCT if self.state.behaviour.product_on_success else None,
            template_handle=about.template_handle if about else None,
            source_id=about.source_id if about else None,
        )
        return _json(body, status=status)

    def _paged(self, call: Call, name: str, items: Sequence[T], show: Callable[[T], Any]) -> web.Response:
        page, per_page = _paging(call.request)
        pages = max(1, -(-len(items) // per_page))
        shown = items[(page - 1) * per_page : page * per_page]
        payload = {
            "total_pages": pages,
            "current_page": page,
            "total_items": len(items),
            "items_per_page": per_page,
            name: [show(item) for item in shown],
        }
        return self._ok(payload, None)


_TEMPLATES = (("new-hires", "New hires"), ("price-list", "Price list"), ("stock-levels", "Stock levels"))


def _json(body: Any, *, status: int = 200, headers: dict[str, str] | None = None) -> web.Response:
    return web.Response(text=dump(body), status=status, content_type="application/json", headers=headers)


def _paging(request: web.Request) -> tuple[int, int]:
    try:
        page, per_page = int(request.query.get("page", "1")), int(request.query.get("per_page", "25"))
    except ValueError:
        raise Refused(400) from None
    if page < 1 or not 1 <= per_page <= 200:
        raise Refused(400)
    return page, per_page


async def _refuse_bad_json(request: web.Request) -> None:
    body = await request.read()
    try:
        if body:
            json.loads(body)
    except ValueError:
        raise Refused(400) from None
