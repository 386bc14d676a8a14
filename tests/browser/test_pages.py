"""All pages in a real Chromium: on small and large screens, light and dark, with nothing, with odd names, with many runs."""

from collections import deque
from collections.abc import Callable, Iterable
from functools import partial
from pathlib import Path
from typing import Any
from urllib.parse import quote, urldefrag

import pytest
from aiohttp.test_utils import make_mocked_request
from playwright.async_api import Browser

from exporters.web.listener import Listener
from tests.bench.pages import filled
from tests.browser.served import ODD, Fill, base, odd_run, served
from tests.browser.watched import Watched, watched

pytestmark = pytest.mark.asyncio(loop_scope="package")


async def route(listener: Listener, path: str) -> str:
    """That answers this path."""
    app = listener.runner.app
    match = await app.router.resolve(make_mocked_request("GET", path, app=app))
    return match.route.resource.canonical if match.route.resource is not None else ""


async def links(at: Watched) -> list[str]:
    """Of this page, within the site, without those that only choose among rows."""
    found: list[str] = await at.page.evaluate(
        "() => [...document.querySelectorAll('a[href]')].map((a) => a.href.baseVal ?? a.href)"
    )
    paths = [urldefrag(link)[0].removeprefix(at.base) for link in found]
    return [path for path in paths if path.startswith("/") and not path.startswith("/api/")]


async def walked(at: Watched, listener: Listener, starts: Iterable[str], look: Callable[[], Any]) -> set[str]:
    """Look at one page of each kind to which a link leads; the routes of all of them."""
    seen, waiting = set[str](), deque(starts)
    while waiting:
        path = waiting.popleft()
        kind = await route(listener, path)
        if kind in seen:
            continue
        seen.add(kind)
        if await at.goto(path):
            await look()
            waiting += await links(at)
    return seen


async def test_all_pages_with_odd_names(browser: Browser, tmp_path: Path) -> None:
    async with served(tmp_path, odd_run) as (_, listener), watched(browser, base(listener)) as at:

        async def look() -> None:
            await at.fits()
            await at.reads_forward()
            await at.is_accessible()
            assert await at.page.evaluate("window.taken") is None

        seen = await walked(at, listener, ["/"], look)
        assert await at.goto(f"/runs/{quote(ODD, safe='')}x", 404)
        await look()
    pages = {
        each.resource.canonical
        for each in listener.runner.app.router.routes()
        if each.method == "GET" and each.resource is not None
    }
    others = {path for path in pages if path.startswith(("/api/", "/static/", "/-/"))} | {"/live"}
    assert seen == pages - others


@pytest.mark.parametrize("fill", [lambda _: None, partial(filled, runs=10_000, count=500, waiting=5_000)])
async def test_all_pages_with_nothing_and_with_many_runs(fill: Fill, browser: Browser, tmp_path: Path) -> None:
    async with served(tmp_path, fill) as (_, listener), watched(browser, base(listener)) as at:
        await walked(at, listener, ["/", "/replicas"], at.fits)
