"""`/live`: what an open page gets to know, what it costs, and that it ends."""

import asyncio
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from sqlalchemy import Connection

from collector.ledger.sqlite.store import Store
from collector.testing.clock import SimulatedClock
from exporters.web import live
from exporters.web.listener import Listener
from exporters.web.pages import serve
from tests.unit.exporters.test_web import GOOD

Served = tuple[Store, Listener, aiohttp.ClientSession]


@asynccontextmanager
async def served(path: Path) -> AsyncIterator[Served]:
    store = Store.open(path / "lineage.db", holder="test", clock=SimulatedClock())
    listener = await serve(replace(GOOD, ledger=store), "127.0.0.1", 0)
    try:
        async with aiohttp.ClientSession(f"http://127.0.0.1:{listener.port}") as client:
            yield store, listener, client
    finally:
        await listener.close()
        await store.close()


def nothing(_: Connection) -> None:
    """A commit."""


async def event(answer: aiohttp.ClientResponse) -> dict[str, str]:
    """The fields of the next event."""
    found: dict[str, str] = {}
    while line := (await asyncio.wait_for(answer.content.readline(), 60)).decode().strip():
        name, _, found[name] = line.partition(": ")
    return found


async def test_commits_are_said_once_and_a_reader_that_comes_back_hears_of_those_it_missed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(live, "EVERY", 0.01)
    async with served(tmp_path) as (store, _, client):
        async with client.get("/live") as answer:
            assert answer.content_type == "text/event-stream"
            assert await event(answer) == {"retry": "1000"}
            assert (await event(answer))["data"] == "changed", "it may have, since the page was read"
            await store.write(nothing)
            first = await event(answer)
            assert first["data"] == "changed"
        await store.write(nothing)
        async with client.get("/live", headers={"Last-Event-ID": first["id"]}) as answer:
            await event(answer)
            assert int((await event(answer))["id"]) == int(first["id"]) + 1


async def test_a_page_that_is_open_for_an_hour_without_commits_costs_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    streams = round(3600 / live.LIFE)
    monkeypatch.setattr(live, "LIFE", 0.001)
    reads: list[Any] = []
    async with served(tmp_path) as (store, _, client):
        for name in ("read", "read_claim", "read_shown", "write", "write_first"):
            monkeypatch.setattr(store, name, lambda *given: reads.append(given))
        for _ in range(streams):
            async with client.get("/live", headers={"Last-Event-ID": "0"}) as answer:
                assert await asyncio.wait_for(answer.text(), 60) == "retry: 1000\n\n"
    assert reads == []


async def test_more_streams_than_allowed_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("exporters.web.live.STREAMS", 1)
    async with served(tmp_path) as (_, _, client):
        async with client.get("/live") as answer:
            await event(answer)
            async with client.get("/live") as refused:
                assert refused.status == 503
        async with client.head("/live") as answer:
            assert answer.status == 405


async def test_the_stop_of_the_server_ends_streams_at_once(tmp_path: Path) -> None:
    async with served(tmp_path) as (_, listener, client), client.get("/live") as answer:
        for _said in ("when to come again", "that something may have changed"):
            await event(answer)
        closing = asyncio.create_task(listener.close())
        assert await asyncio.wait_for(answer.content.read(), 60) == b"", "ended, not broken off"
        await closing


async def test_a_browser_that_leaves_is_not_an_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("exporters.web.live.STREAMS", 1)
    async with served(tmp_path) as (store, _, client):
        async with client.get("/live") as answer:
            await event(answer)
        async with asyncio.timeout(60):
            while True:
                await store.write(nothing)
                async with client.get("/live") as answer:
                    if answer.status == 200:
                        break
    assert [record.getMessage() for record in caplog.records if record.levelno >= logging.WARNING] == []
