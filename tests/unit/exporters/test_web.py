"""The pages as a client gets them: content negotiation, compression, verdicts, and what people read."""

import asyncio
import gzip
import threading
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from typing import Any

import aiohttp
import pytest
from prometheus_client import CollectorRegistry, Counter
from prometheus_client.core import Metric
from prometheus_client.openmetrics.parser import text_string_to_metric_families as parsed_openmetrics
from prometheus_client.parser import text_string_to_metric_families as parsed_text
from prometheus_client.registry import Collector

from exporters.web.pages import Encode, Pages, serve

LEDGER = {"path": "lineage.db", "bytes": 10, "limit_bytes": 20, "wrong": None}
STATUS: dict[str, Any] = {"running": True, "sources": [], "sinks": [], "ledger": LEDGER}
PROMETHEUS = (  # what version 2.42 sends
    "application/openmetrics-text;version=1.0.0,application/openmetrics-text;version=0.0.1;q=0.75,"
    "text/plain;version=0.0.4;q=0.5,*/*;q=0.1"
)


@dataclass(frozen=True)
class MetricsPage:
    shown: Collector

    def encoded(self, encode: Encode) -> bytes:
        return encode(self.shown)


async def one_counter() -> MetricsPage:
    registry = CollectorRegistry()
    Counter("lineage_events", "Events committed.", ["source"], registry=registry).labels("plant-a").inc(3)
    return MetricsPage(registry)


async def status() -> dict[str, Any]:
    return STATUS


GOOD = Pages(metrics=one_counter, faults=list, unready=list, status=status)


@asynccontextmanager
async def served(pages: Pages = GOOD) -> AsyncIterator[aiohttp.ClientSession]:
    listener = await serve(pages, "127.0.0.1", 0)
    try:
        url, quiet = f"http://127.0.0.1:{listener.port}", ["Accept-Encoding"]
        async with aiohttp.ClientSession(url, auto_decompress=False, skip_auto_headers=quiet) as client:
            yield client
    finally:
        await listener.close()


@pytest.mark.parametrize(
    ("accept", "content_type"),
    [
        ("", "text/plain; version=0.0.4; charset=utf-8"),
        ("*/*", "text/plain; version=0.0.4; charset=utf-8"),
        ("text/html", "text/plain; version=0.0.4; charset=utf-8"),
        (PROMETHEUS, "application/openmetrics-text; version=1.0.0; charset=utf-8; escaping=underscores"),
        ("application/openmetrics-text; version=new", "text/plain; version=0.0.4; charset=utf-8"),
        ("application/openmetrics-text; version=2.é", "text/plain; version=0.0.4; charset=utf-8"),
    ],
)
async def test_metrics_come_in_the_form_that_was_asked_for(accept: str, content_type: str) -> None:
    async with served() as client, client.get("/metrics", headers={"Accept": accept}) as answer:
        page = await answer.text()
    assert answer.status == 200
    assert answer.headers["Content-Type"] == content_type
    assert "lineage_events_total" in page
    is_openmetrics = "openmetrics" in content_type
    assert page.endswith("# EOF\n") is is_openmetrics
    parse: Any = parsed_openmetrics if is_openmetrics else parsed_text
    assert list(parse(page))


@pytest.mark.parametrize(("accepted", "compressed"), [("gzip, deflate", True), ("", False), ("br", False)])
async def test_metrics_are_compressed_for_whom_it_helps(accepted: str, compressed: bool) -> None:
    async with served() as client, client.get("/metrics", headers={"Accept-Encoding": accepted}) as answer:
        body = await answer.read()
    assert answer.headers.get("Content-Encoding") == ("gzip" if compressed else None)
    assert int(answer.headers["Content-Length"]) == len(body)
    assert b"lineage_events_total" in (gzip.decompress(body) if compressed else body)


async def test_a_page_of_many_megabytes_is_compressed_without_a_warning() -> None:
    async def many() -> MetricsPage:
        registry = CollectorRegistry()
        events = Counter("lineage_events", "Events committed.", ["source"], registry=registry)
        for number in range(20_000):
            events.labels(f"a source with quite a long name {number}")
        return MetricsPage(registry)

    headers = {"Accept-Encoding": "gzip"}
    async with served(replace(GOOD, metrics=many)) as client, client.get("/metrics", headers=headers) as answer:
        assert len(gzip.decompress(await answer.read())) > 1_000_000


class Slow(Collector):
    """Takes its time in whatever thread renders it."""

    def __init__(self) -> None:
        self.may_end = threading.Event()
        self.threads: set[int] = set()
        self.now = self.most = 0

    def collect(self) -> Iterable[Metric]:
        self.threads.add(threading.get_ident())
        self.now += 1
        self.most = max(self.most, self.now)
        assert self.may_end.wait(10)
        self.now -= 1
        return []


async def test_a_scrape_is_rendered_off_the_event_loop_one_at_a_time() -> None:
    slow = Slow()

    async def metrics() -> MetricsPage:
        return MetricsPage(slow)

    async with served(replace(GOOD, metrics=metrics)) as client:
        scrapes = [asyncio.create_task(fetched(client, "/metrics")) for _ in range(8)]
        while not slow.threads:
            await asyncio.sleep(0.01)
        assert await fetched(client, "/healthz") == (200, "ok\n"), "the loop is free meanwhile"
        slow.may_end.set()
        assert {code for code, _ in await asyncio.gather(*scrapes)} == {200}
    assert threading.get_ident() not in slow.threads
    assert slow.most == 1


async def fetched(client: aiohttp.ClientSession, path: str) -> tuple[int, str]:
    async with client.get(path) as answer:
        return answer.status, await answer.text()


@pytest.mark.parametrize("path", ["/healthz", "/-/healthy"])
async def test_liveness_says_what_is_dead(path: str) -> None:
    faults: list[str] = []
    async with served(replace(GOOD, faults=lambda: faults)) as client:
        assert await fetched(client, path) == (200, "ok\n")
        faults += ["task source:plant-a has ended", "sink marquez is stuck"]
        assert await fetched(client, path) == (503, "task source:plant-a has ended\nsink marquez is stuck\n")
        assert (await fetched(client, "/readyz"))[0] == 200, "its facts are others"


@pytest.mark.parametrize("path", ["/readyz", "/-/ready"])
async def test_readiness_says_what_is_missing(path: str) -> None:
    missing = ["source plant-a was not tried yet"]
    async with served(replace(GOOD, unready=lambda: missing)) as client:
        assert await fetched(client, path) == (503, "source plant-a was not tried yet\n")
        missing.clear()
        assert await fetched(client, path) == (200, "ok\n")


async def test_status_is_json() -> None:
    async with served() as client, client.get("/status.json") as answer:
        assert answer.content_type == "application/json"
        assert await answer.json() == STATUS


async def test_the_landing_page_has_links_and_status_and_obeys_nobody() -> None:
    shown = {
        **STATUS,
        "sources": [
            {"source": "plant-a", "state": "auth", "wrong": '<script>alert("x")</script> & {0} {tables}'},
            {"source": "prep", "state": None, "wrong": None},
        ],
    }

    async def hostile() -> dict[str, Any]:
        return shown

    async with served(replace(GOOD, status=hostile)) as client, client.get("/") as answer:
        assert answer.content_type == "text/html"
        page = await answer.text()
    assert "<script>" not in page
    assert "&lt;script&gt;alert(&#34;x&#34;)&lt;/script&gt; &amp; {0} {tables}" in page
    for link in ("/metrics", "/status.json", "/healthz", "/readyz"):
        assert f'href="{link}"' in page
    assert 'href="/sources/plant-a"' in page
    assert "One thing is wrong." in page
    assert "LineageSourceAuthFailing.md" in page
    assert "lineage.db" in page


@pytest.mark.parametrize("path", ["/", "/metrics", "/healthz", "/readyz", "/status.json"])
async def test_head_is_answered_and_nothing_else_is_taken(path: str) -> None:
    async with served() as client:
        async with client.head(path) as answer:
            assert answer.status == 200
        async with client.post(path, data=b"x") as answer:
            assert answer.status == 405


async def test_an_unknown_page_is_not_found() -> None:
    async with served() as client:
        assert (await fetched(client, "/config"))[0] == 404


async def test_a_taken_port_is_an_error() -> None:
    listener = await serve(GOOD, "127.0.0.1", 0)
    try:
        with pytest.raises(OSError, match="address already in use"):
            await serve(GOOD, "127.0.0.1", listener.port)
    finally:
        await listener.close()
