"""Acting from the pages: who may, with which form, what is asked for, and the line in the log."""

import html
import json
import logging
import re
import ssl
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import aiohttp
import pytest
import yaml
from sqlalchemy import Connection, update

from collector.app.status import status
from collector.errors import LedgerError
from collector.ledger import requests, schema
from collector.ledger.requests import RequestKind, RequestState
from collector.ledger.sqlite.store import Store
from collector.testing.clock import SimulatedClock
from config.web import Access
from exporters.web import actions
from exporters.web.connections import LIMITS
from exporters.web.listener import Listener
from exporters.web.pages import serve
from tests.servers.certificates import make_certificates
from tests.unit.exporters.test_access import USERS, basic, hashed, trusting
from tests.unit.exporters.test_run_pages import EVIL, OPENAPI, happened
from tests.unit.exporters.test_web import GOOD, LEDGER

ALICE, BJORN = basic("alice", "wonderland"), basic("björn", "smörgås")
OURS = Access(users=USERS)
ROUTES = ["/parked/retry", "/parked/drop", "/trigger", "/backfill", "/backfill/stop"]
RUN = "11111111-1111-4111-8111-111111111111"


@dataclass(frozen=True)
class Given:
    state: RequestState
    answer: Mapping[str, Any]


@dataclass
class Desk:
    """Takes the requests, as the service does, and answers what it was given."""

    answer: Given = Given(RequestState.DONE, {"queued": 1})
    failure: Exception | None = None
    asked: list[tuple[str, RequestKind, Mapping[str, Any]]] = field(default_factory=list)

    async def submit(self, target: str, kind: RequestKind, body: Mapping[str, Any]) -> Given:
        self.asked.append((target, kind, body))
        if self.failure is not None:
            raise self.failure
        return self.answer


@asynccontextmanager
async def listening(
    path: Path, desk: Desk | None, access: Access, fill: Callable[[Connection], object] = happened, **more: Any
) -> AsyncIterator[Listener]:
    store = Store.open(path / "lineage.db", holder="test", clock=(clock := SimulatedClock()))
    await store.write(fill)

    async def state() -> Mapping[str, Any]:
        return await store.read_shown(status, clock, ["source"], {}, {}, LEDGER)

    pages = replace(GOOD, ledger=store, status=state, submit=desk.submit if desk is not None else None, **more)
    listener = await serve(pages, "127.0.0.1", 0, access=lambda: access)
    try:
        yield listener
    finally:
        await listener.close()
        await store.close()


@asynccontextmanager
async def acting(
    path: Path, desk: Desk, access: Access = OURS, headers: Mapping[str, str] = ALICE, **more: Any
) -> AsyncIterator[aiohttp.ClientSession]:
    """A browser of Alice's, on these pages."""
    jar = aiohttp.CookieJar(unsafe=True)
    async with (
        listening(path, desk, access, **more) as listener,
        aiohttp.ClientSession(f"http://127.0.0.1:{listener.port}", headers=headers, cookie_jar=jar) as client,
    ):
        yield client


async def text(client: aiohttp.ClientSession, path: str, **more: Any) -> str:
    async with client.get(path, **more) as answer:
        return await answer.text()


async def token(client: aiohttp.ClientSession, path: str = "/parked", **more: Any) -> str:
    found = re.search(r'name="token" value="([0-9a-f]{64})"', await text(client, path, **more))
    assert found is not None
    return found[1]


async def posted(client: aiohttp.ClientSession, path: str, form: Mapping[str, str], **more: Any) -> tuple[int, str]:
    async with client.post(path, data=dict(form), allow_redirects=False, **more) as answer:
        return answer.status, answer.headers.get("Location") or await answer.text()


def logged(caplog: pytest.LogCaptureFixture, event: str) -> list[dict[str, Any]]:
    found = [vars(record) for record in caplog.records if record.getMessage() == event]
    return [{**each["fields"], "levelno": each["levelno"]} for each in found]


@pytest.mark.parametrize(
    ("kind", "body"),
    [
        ("application/x-www-form-urlencoded; charset=odd", b"token=x"),
        ("application/x-www-form-urlencoded", b"token=\xff%ff%00&&=&token"),
        ("multipart/form-data", b"x"),
        ("multipart/form-data; boundary=b", b"--b\r\nodd"),
        ("multipart/form-data; boundary=b", b"--b\r\nContent-Disposition: form-data\r\n\r\nx\r\n--b--\r\n"),
        ("application/json", b"{}"),
    ],
)
async def test_what_is_no_form_is_refused(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, kind: str, body: bytes
) -> None:
    headers = {"Content-Type": kind}
    async with acting(tmp_path, Desk()) as client, client.post("/trigger", data=body, headers=headers) as answer:
        assert answer.status == 403
    assert [record.message for record in caplog.records] == ["action.refused"]


async def test_parked_events_are_sent_again(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    desk = Desk(Given(RequestState.DONE, {"queued": 2, "superseded": 1}))
    async with acting(tmp_path, desk) as client:
        shown = await text(client, "/parked")
        event = re.search(r'name="event" value="([0-9.]+)"', shown)
        assert event is not None
        form = {"token": await token(client), "sink": "marquez", "event": event[1]}
        code, words = await posted(client, "/parked/retry", form)
    assert (code, "2 queued, 1 superseded" in words) == (200, True)
    chosen = {"run_id": None, "event": event[1], "until_ms": None, "cause": None}
    assert desk.asked == [("sink:marquez", RequestKind.RETRY, chosen)]
    [line] = logged(caplog, "action.taken")
    assert (line["user"], line["action"], line["target"], line["outcome"]) == ("alice", "retry", "sink:marquez", "done")
    assert line["asked"] == {"event": event[1]}
    assert line["levelno"] == logging.WARNING, "also where less is logged"


async def test_a_drop_is_asked_for_twice_and_drops_what_was_shown(tmp_path: Path) -> None:
    desk = Desk(Given(RequestState.DONE, {"dropped": 1}))
    async with acting(tmp_path, desk) as client:
        form = {"token": await token(client), "sink": "marquez", "event": ""}
        code, shown = await posted(client, "/parked/drop", form)
        assert code == 200
        assert desk.asked == []
        assert "cannot be undone" in shown
        assert "<script>" not in shown
        fields = dict(re.findall(r'name="(\w+)" value="([^"]*)"', shown))
        assert fields["confirmed"] == "yes"
        unbounded = {name: value for name, value in fields.items() if name != "until"}
        assert "cannot be undone" in (await posted(client, "/parked/drop", unbounded))[1]
        assert desk.asked == []
        code, words = await posted(client, "/parked/drop", fields)
        assert (code, "1 dropped" in words) == (200, True)
        assert await posted(client, "/parked/drop", {**form, "sink": "kafka"}) != (200, "")
    [(target, kind, body)] = desk.asked
    assert (target, kind, body["until_ms"]) == ("sink:marquez", RequestKind.DROP, int(fields["until"]))


async def test_all_of_a_cause_are_sent_again_after_a_question(tmp_path: Path) -> None:
    desk = Desk(Given(RequestState.DONE, {"queued": 1}))
    cause = f"422: {EVIL}"
    async with acting(tmp_path, desk) as client:
        own = await token(client)
        form = {"token": own, "sink": "marquez", "cause": cause}
        code, shown = await posted(client, "/parked/retry", form)
        assert (code, "Send again 1 parked event of marquez?" in shown, desk.asked) == (200, True, [])
        fields = {name: html.unescape(value) for name, value in re.findall(r'name="(\w+)" value="([^"]*)"', shown)}
        assert fields["cause"] == cause
        code, _ = await posted(client, "/parked/retry", {**form, "cause": "another"})
        assert (code, desk.asked) == (409, [])
        assert (await posted(client, "/parked/retry", {**fields, "cause": "two\r\nlines"}))[0] == 200
        assert (await posted(client, "/parked/retry", fields))[0] == 200
    assert [body["cause"] for _, _, body in desk.asked] == ["two\nlines", cause]
    assert {body["until_ms"] for _, _, body in desk.asked} == {int(fields["until"])}


async def test_a_run_is_started_after_a_question(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    desk = Desk(Given(RequestState.DONE, {"key": "7", "run_id": RUN, "job": "transformation/1", "state": "queued"}))
    async with acting(tmp_path, desk) as client:
        own = await token(client, "/jobs/source/transformation%2F1")
        form = {"token": own, "source": "source", "job": "transformation/1"}
        code, shown = await posted(client, "/trigger", form)
        assert (code, "cannot be undone" in shown) == (200, True)
        assert desk.asked == []
        confirmed = {**form, "confirmed": "yes", "options": "a=1\r\n b = x=y \n"}
        assert await posted(client, "/trigger", confirmed) == (303, f"/runs/{RUN}")
        assert (await posted(client, "/trigger", {**confirmed, "options": "odd"}))[0] == 400
        assert (await posted(client, "/trigger", {**form, "job": "x" * 501}))[0] == 400
    body = {"job": "transformation/1", "options": {"a": "1", "b": "x=y"}}
    assert desk.asked == [("source:source", RequestKind.TRIGGER, body)]
    [taken] = logged(caplog, "action.taken")
    assert taken["asked"] == {"job": "transformation/1", "options": ["a", "b"]}, "values may be secrets"


def shown_fields(page: str) -> dict[str, str]:
    return dict(re.findall(r'name="(\w+)" value="([^"]*)"', page))


async def test_a_backfill_is_begun_after_a_question(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    desk = Desk(Given(RequestState.NEW, {"request": 7}))
    async with acting(tmp_path, desk) as client:
        form = {"token": await token(client, "/sources/source"), "source": "source", "until": "2026-01-31"}
        for odd in ("", "yesterday", "2026-02-01"):
            code, words = await posted(client, "/backfill", {**form, "since": odd, "confirmed": "yes"})
            assert (code, "Not done" in words) == (400, True), odd
        code, asked = await posted(client, "/backfill", {**form, "since": "2026-01-01"})
        assert (code, "cannot be undone" in asked, desk.asked) == (200, True, [])
        assert await posted(client, "/backfill", shown_fields(asked)) == (303, "/sources/source")
        _, asked = await posted(client, "/backfill", {**form, "since": "2026-01-01", "only_sink": "marquez"})
        assert "sent to sink marquez alone: no other sink ever gets these runs" in asked
        assert await posted(client, "/backfill", shown_fields(asked)) == (303, "/sources/source")
        of_sink = {"token": form["token"], "sink": "marquez", "only_sink": "file"}
        _, asked = await posted(client, "/backfill", of_sink)
        assert await posted(client, "/backfill", shown_fields(asked)) == (303, "/sinks/marquez")
    window = {"since_ms": 1767225600000, "until_ms": 1769817600000}
    assert desk.asked == [
        ("source:source", RequestKind.BACKFILL, window),
        ("source:source", RequestKind.BACKFILL, {**window, "sink": "marquez"}),
        ("sink:marquez", RequestKind.BACKFILL, {"since_ms": None, "until_ms": None}),
    ]
    line = logged(caplog, "action.taken")[0]
    assert (line["user"], line["action"], line["outcome"], line["answer"]) == ("alice", "backfill", "new", "under way")


def backfilled(conn: Connection) -> None:
    """One of the sink is under way, one of the source was stopped."""
    happened(conn)
    for target, answer in {
        "sink:marquez": {"seen": 1200, "total": 5000, "events": 40},
        "source:source": {"seen": 9, "made": 2},
    }.items():
        number = requests.add_backfill(conn, target, json.dumps({"since_ms": 0, "until_ms": None}), 1)
        table = schema.request
        conn.execute(update(table).where(table.c.id == number).values(answer=json.dumps(answer)))
    requests.stop_backfill(conn, "source:source", 2)


async def test_a_page_says_how_far_a_backfill_is_and_how_the_last_one_ended(tmp_path: Path) -> None:
    desk = Desk(Given(RequestState.DONE, {"seen": 1200}))
    async with acting(tmp_path, desk, fill=backfilled) as client:
        of_sink, of_source = await text(client, "/sinks/marquez"), await text(client, "/sources/source")
        assert "1,200 of 5,000 runs were looked at, 40 events were put on their way" in of_sink
        assert '<progress value="1200" max="5000"' in of_sink
        assert ("Stop it" in of_sink, "Backfill …" in of_sink) == (True, False)
        assert "did not come to its end" in of_source
        assert "9 runs were looked at, 2 were new and made" in of_source
        assert ("Stop it" in of_source, "Backfill …" in of_source) == (False, True)
        form = {"token": await token(client, "/sinks/marquez"), "sink": "marquez"}
        assert await posted(client, "/backfill/stop", form) == (303, "/sinks/marquez")
        desk.answer = Given(RequestState.FAILED, {"error": "no backfill of sink marquez is under way"})
        code, words = await posted(client, "/backfill/stop", form)
        assert (code, "is under way" in words) == (409, True)
    assert desk.asked == [("sink:marquez", RequestKind.STOP, {})] * 2


async def test_a_platform_that_lists_no_past_runs_has_no_backfill(tmp_path: Path) -> None:
    async with acting(tmp_path, Desk(), without_history=["source"]) as client:
        assert "<button" not in await text(client, "/sources/source")
        assert "Backfill …" in await text(client, "/sinks/marquez")


@pytest.mark.parametrize("answer", [Given(RequestState.FAILED, {"error": "no such job"}), None])
async def test_what_was_not_done_is_said_and_logged(
    answer: Given | None, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    desk = Desk(answer) if answer else Desk(failure=LedgerError("no such job"))
    async with acting(tmp_path, desk) as client:
        form = {"token": await token(client), "source": "source", "job": "x", "confirmed": "yes"}
        code, words = await posted(client, "/trigger", form)
    assert (code, "no such job" in words) == (409, True)
    [line] = logged(caplog, "action.taken")
    assert (line["outcome"], line["answer"]) == ("failed", "no such job")


async def test_what_takes_long_is_not_waited_for(tmp_path: Path) -> None:
    desk = Desk(failure=TimeoutError())
    async with acting(tmp_path, desk) as client:
        code, words = await posted(
            client, "/parked/retry", {"token": await token(client), "sink": "marquez", "event": "1.1"}
        )
    assert (code, "stays in the ledger" in words) == (202, True)


@pytest.mark.parametrize("route", ROUTES)
async def test_a_forged_or_old_form_does_nothing(route: str, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    desk = Desk()
    form = {"sink": "marquez", "source": "source", "job": "x", "confirmed": "yes", "until": "99"}
    async with acting(tmp_path, desk) as client:
        good = {**form, "token": await token(client)}
        host = f"127.0.0.1:{client._base_url.port}"  # type: ignore[union-attr]
        foreign: list[dict[str, str]] = [
            {"Origin": "https://evil.example"},
            {"Origin": "null"},
            {"Origin": f"http://{host}.evil.example"},
            {"Origin": "http://[broken"},
            {"Sec-Fetch-Site": "cross-site"},
            {"Sec-Fetch-Site": "same-site"},
            BJORN,
        ]
        codes = [(await posted(client, route, good, headers=more))[0] for more in foreign]
        wrong = [{**form, "token": value} for value in ("", "x", "é", "0" * 64)]
        codes += [(await posted(client, route, each))[0] for each in (form, *wrong)]
        async with aiohttp.ClientSession(f"http://{host}", headers=ALICE) as other:
            sessions = ("", "x" * 43, "é")
            cookies = [{"Cookie": f"lineage_collector_session={session}"} for session in sessions]
            codes += [(await posted(other, route, good, headers=more))[0] for more in ({}, *cookies)]
        async with client.get(route) as answer:
            assert answer.status == 405
        async with client.post(route, data=good, headers={"Authorization": ""}) as answer:
            assert answer.status == 401
    assert codes == [403] * len(codes)
    assert desk.asked == []
    assert len(logged(caplog, "action.refused")) == len(codes)


async def test_a_form_of_a_browser_is_taken_until_the_password_changes(tmp_path: Path) -> None:
    desk, users = Desk(), dict(USERS)
    async with acting(tmp_path, desk, Access(users=users)) as client:
        form = {"token": await token(client), "sink": "marquez", "event": "1.1"}
        assert form["token"] == await token(client), "one session"
        own = {"Origin": f"http://127.0.0.1:{client._base_url.port}", "Sec-Fetch-Site": "same-origin"}  # type: ignore[union-attr]
        assert (await posted(client, "/parked/retry", form, headers=own))[0] == 200
        users["alice"] = hashed(b"looking glass")
        changed = basic("alice", "looking glass")
        assert (await posted(client, "/parked/retry", form, headers=changed))[0] == 403
        client.cookie_jar.clear()
        async with client.get("/parked", headers=changed) as answer:
            cookie = answer.headers["Set-Cookie"]
    assert {"HttpOnly", "SameSite=Strict"} <= set(cookie.split("; "))


async def test_without_users_there_are_no_buttons_and_no_actions(tmp_path: Path) -> None:
    desk = Desk()
    async with acting(tmp_path, desk, Access(), {}) as client:
        for path in ("/parked", "/jobs/source/transformation%2F1", "/sources/source", "/sinks/marquez"):
            async with client.get(path) as answer:
                assert "<button" not in await answer.text()
                assert "Set-Cookie" not in answer.headers
        for route in ROUTES:
            code, words = await posted(client, route, {"sink": "marquez", "confirmed": "yes", "token": ""})
            assert (code, "nobody has to log in" in words) == (403, True)
    assert desk.asked == []


async def test_pages_that_can_do_nothing_have_no_buttons(tmp_path: Path) -> None:
    async with (
        listening(tmp_path, None, Access(users=USERS)) as listener,
        aiohttp.ClientSession(f"http://127.0.0.1:{listener.port}", headers=ALICE) as client,
    ):
        assert "<button" not in await text(client, "/parked")


async def test_a_client_certificate_names_the_user(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    made = make_certificates(tmp_path)
    server = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH, cafile=made.ca)
    server.load_cert_chain(made.server)
    server.verify_mode = ssl.CERT_REQUIRED
    desk, jar = Desk(), aiohttp.CookieJar(unsafe=True)
    connector = aiohttp.TCPConnector(ssl=trusting(made, client=True))
    async with (
        listening(tmp_path, desk, Access(tls=server)) as listener,
        aiohttp.ClientSession(f"https://127.0.0.1:{listener.port}", connector=connector, cookie_jar=jar) as client,
    ):
        form = {"token": await token(client), "sink": "marquez", "event": "1.1"}
        assert (await posted(client, "/parked/retry", form))[0] == 200
        [cookie] = jar
    assert cookie["secure"]
    assert [line["user"] for line in logged(caplog, "action.taken")] == ["client"]


def test_the_routes_are_in_the_openapi_file() -> None:
    paths = yaml.safe_load(OPENAPI.read_text())["paths"]
    assert [path for path, methods in paths.items() if "post" in methods] == ROUTES


def test_a_page_waits_less_than_the_server_gives_a_request() -> None:
    assert LIMITS.request - actions.ANSWERED_WITHIN > 5
