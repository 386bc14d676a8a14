"""What a person does on the pages in a real Chromium: look while something happens, read without script, act."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from playwright.async_api import Browser
from sqlalchemy import Connection, update

from collector.ledger import requests, schema
from collector.ledger.requests import RequestKind, RequestState
from collector.ledger.sqlite.store import Store
from config.web import Access
from tests.browser.served import ODD, base, odd_run, served
from tests.browser.watched import watched
from tests.unit.exporters.test_access import USERS
from tests.unit.exporters.test_actions import Desk, Given
from tests.unit.ledger.ledgers import ALL, COMPLETE, NOW, START, Ledger

pytestmark = pytest.mark.asyncio(loop_scope="package")

ALICE: dict[str, Any] = {"http_credentials": {"username": "alice", "password": "wonderland"}}
WITHOUT_SCRIPT: dict[str, Any] = {"java_script_enabled": False}


def begun(conn: Connection) -> None:
    ledger = Ledger(conn)
    ledger.configure(marquez=ALL, kafka=ALL)
    ledger.happen("live", START)


def ended(conn: Connection) -> None:
    ledger = Ledger(conn)
    ledger.configure(marquez=ALL, kafka=ALL)
    ledger.happen("live", COMPLETE)


async def test_an_open_page_shows_what_happens(browser: Browser, tmp_path: Path) -> None:
    async with served(tmp_path, odd_run) as (store, listener), watched(browser, base(listener)) as at:
        await at.goto("/runs")
        await store.write(begun)
        row = at.page.get_by_role("row").filter(has=at.page.get_by_role("link", name="live", exact=True))
        await row.get_by_text("running").wait_for()
        await store.write(ended)
        await row.get_by_text("succeeded").wait_for()


async def test_without_script_all_can_be_read(browser: Browser, tmp_path: Path) -> None:
    async with (
        served(tmp_path, odd_run) as (_, listener),
        watched(browser, base(listener), **WITHOUT_SCRIPT) as at,
    ):
        await at.goto("/runs")
        await at.page.get_by_label("State").select_option("failed")
        await at.page.get_by_role("button", name="Show").click()
        await at.page.get_by_role("link", name="a run", exact=True).click()
        details = at.page.locator("details").filter(has_text="JSON").first
        await details.locator("summary").click()
        await details.locator("pre").wait_for()
        await at.page.get_by_role("link", name="Jobs").click()
        await at.page.get_by_role("heading", name="Jobs").wait_for()


async def test_the_json_of_an_event_is_copied_by_its_button(browser: Browser, tmp_path: Path) -> None:
    async with (
        served(tmp_path, odd_run) as (_, listener),
        watched(browser, base(listener), permissions=["clipboard-read", "clipboard-write"]) as at,
    ):
        await at.goto("/runs")
        await at.page.get_by_role("link", name="a run", exact=True).click()
        details = at.page.locator("details").filter(has_text="JSON").first
        await details.locator("summary").click()
        await details.get_by_role("button", name="Copy").click()
        await details.get_by_role("button", name="Copied").wait_for()
        copied = await at.page.evaluate("navigator.clipboard.readText()")
        assert copied == await details.locator("pre").text_content() != ""


async def test_parked_events_are_sent_again_by_their_button(browser: Browser, tmp_path: Path) -> None:
    desk, access = Desk(), Access(users=USERS)
    async with (
        served(tmp_path, odd_run, desk.submit, access=lambda: access) as (_, listener),
        watched(browser, base(listener), **ALICE, **WITHOUT_SCRIPT) as at,
    ):
        await at.goto("/parked")
        await at.page.get_by_role("button", name="Send again", exact=True).first.click()
        await at.page.get_by_role("heading", name="Sent again").wait_for()
        await at.page.get_by_role("link", name="Back").click()
        causes = at.page.get_by_role("group", name="Causes")
        await causes.get_by_role("button", name="Send again").click()
        await at.page.get_by_role("heading", name="Send again 1 parked event").wait_for()
        await at.page.get_by_role("button", name="Send them again").click()
        await at.page.get_by_role("heading", name="Sent again").wait_for()
        await at.page.get_by_role("link", name="Back").click()
        await at.page.get_by_role("button", name="Drop").first.click()
        await at.page.get_by_role("button", name="Drop for good").click()
        await at.page.get_by_role("heading", name="Dropped").wait_for()
    assert [(target, kind) for target, kind, _ in desk.asked] == [
        ("sink:marquez", RequestKind.RETRY),
        ("sink:marquez", RequestKind.RETRY),
        ("sink:marquez", RequestKind.DROP),
    ]
    assert desk.asked[1][2]["cause"] == ODD


@dataclass
class Service:
    """Takes backfills as the service does: as rows of the ledger that its pages show."""

    store: Store | None = None

    async def submit(self, target: str, kind: RequestKind, body: Mapping[str, Any]) -> Given:
        assert self.store is not None
        if kind is RequestKind.STOP:
            stopped = await self.store.write(requests.stop_backfill, target, NOW)
            return Given(RequestState.DONE, stopped or {})
        await self.store.write(requests.add_backfill, target, json.dumps(body), NOW)
        return Given(RequestState.NEW, {})


def halfway(conn: Connection) -> None:
    conn.execute(update(schema.request).values(answer=json.dumps({"seen": 3, "total": 6, "events": 4})))


@pytest.mark.parametrize(("kind", "name"), [("sink", "marquez"), ("source", "source")])
async def test_a_backfill_is_begun_followed_and_stopped(
    browser: Browser, tmp_path: Path, caplog: pytest.LogCaptureFixture, kind: str, name: str
) -> None:
    service, access = Service(), Access(users=USERS)
    async with (
        served(tmp_path, odd_run, service.submit, access=lambda: access) as (store, listener),
        watched(browser, base(listener), **ALICE) as at,
    ):
        service.store = store
        await at.goto(f"/{kind}s/{name}")
        await at.page.get_by_label("Since").fill("30d")
        await at.page.get_by_role("button", name="Backfill …").click()
        await at.page.get_by_role("heading", name=f"Backfill {kind} {name}?").wait_for()
        await at.page.get_by_text("cannot be undone").wait_for()
        assert await store.read(requests.backfills) == [], "not before it was confirmed"
        await at.page.get_by_role("button", name="Begin it").click()
        await at.page.get_by_text("Under way since").wait_for()
        await store.write(halfway)
        await at.page.get_by_text("3 of 6 runs were looked at, 4").wait_for()
        await at.page.get_by_role("button", name="Stop it").click()
        await at.page.get_by_text("did not come to its end").wait_for()
        await at.page.get_by_text(requests.STOPPED).wait_for()
    taken = [vars(record)["fields"] for record in caplog.records if record.getMessage() == "action.taken"]
    assert [(each["user"], each["action"], each["target"]) for each in taken] == [
        ("alice", "backfill", f"{kind}:{name}"),
        ("alice", "stop", f"{kind}:{name}"),
    ]


@pytest.mark.parametrize(("path", "action"), [("/parked", "/parked/retry"), ("/sinks/marquez", "/backfill")])
async def test_a_form_without_its_token_does_nothing(browser: Browser, tmp_path: Path, path: str, action: str) -> None:
    """Forged and sent in one step, as the script of the page may put a good form in its place between two."""
    desk, access = Desk(), Access(users=USERS)
    async with (
        served(tmp_path, odd_run, desk.submit, access=lambda: access) as (_, listener),
        watched(browser, base(listener), **ALICE) as at,
    ):
        for forged in ("token.remove()", "token.value = '0'.repeat(64)"):
            await at.goto(path)
            at.status = 403
            token = at.page.locator(f"form[action='{action}'] input[name=token]").first
            await token.evaluate(f"(token) => {{ const form = token.form; {forged}; form.requestSubmit() }}")
            await at.page.get_by_role("heading", name="Not done").wait_for()
    assert desk.asked == []
