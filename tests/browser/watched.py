"""A page of the browser under watch: what it complains of, what it asks of others, what does not fit, what shuts people out."""

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

from axe_playwright_python.base import AXE_SCRIPT
from playwright.async_api import Browser, ConsoleMessage, Page, Request

WIDTHS = (1440, 360)
HEIGHT = 800
PATIENCE = 120_000
"""Milliseconds that the browser may take for a step on a busy machine."""
_TOO_WIDE = """() => {
    const room = document.documentElement.clientWidth;
    if (document.documentElement.scrollWidth <= room) return [];
    const wide = [...document.querySelectorAll("body *")].filter((one) => one.getBoundingClientRect().right > room + 1);
    const outside = wide.filter((one) => !one.closest(".wide"));
    return (outside.length ? outside : wide).slice(0, 3).map((one) => one.outerHTML.slice(0, 150));
}"""
_TURNED = r"""() => {
    const at = (text, place) => { const range = document.createRange(); range.setStart(text, place); range.setEnd(text, place + 1); return range.getBoundingClientRect(); };
    const isTurned = ({firstChild: text}) => { const [one, other] = [at(text, 0), at(text, 1)]; return one.top === other.top && one.left > other.left; };
    const words = [...document.querySelectorAll("body *")].filter((one) => /^[!-~]{3,}$/.test(one.firstChild?.data ?? ""));
    return words.filter(isTurned).map((one) => one.outerHTML.slice(0, 150));
}"""
_AXE = """(rules) => axe.run({preload: false, resultTypes: ["violations"], ...(rules && {runOnly: {type: "rule", values: rules}})}).then((found) => found.violations.map(
    (one) => `${one.id}: ${one.help}: ${one.nodes.slice(0, 3).map((node) => node.html.slice(0, 150) + " " + node.failureSummary.slice(0, 200)).join(" | ")}`))"""


@dataclass
class Watched:
    page: Page
    base: str
    complaints: list[str] = field(default_factory=list)
    status: int = 200
    """That is expected of the page."""

    def hear(self, message: ConsoleMessage) -> None:
        """Also what the Content-Security-Policy refused."""
        is_expected = f"responded with a status of {self.status} " in message.text
        if message.type in {"error", "warning"} and not is_expected:
            self.complaints.append(f"{self.page.url}: {message.text}")

    def follow(self, request: Request) -> None:
        if not request.url.startswith((self.base, "data:")):
            self.complaints.append(f"{self.page.url} asks for {request.url}")

    async def goto(self, path: str, status: int = 200) -> bool:
        """Whether it is a page for people, not text or JSON for programs."""
        self.status = status
        answer = await self.page.goto(self.base + path)
        assert answer is not None
        if answer.status != status:
            self.complaints.append(f"{path}: {answer.status}")
        return "text/html" in (answer.headers.get("content-type") or "")

    async def fits(self) -> None:
        """No width makes people scroll sideways."""
        for width in WIDTHS:
            await self.page.set_viewport_size({"width": width, "height": HEIGHT})
            found = await self.page.evaluate(_TOO_WIDE)
            self.complaints += [f"{self.page.url} at {width} px is too wide by {each}" for each in found]

    async def reads_forward(self) -> None:
        """No name that is written from right to left, or says that it is, turns what stands beside it."""
        found = await self.page.evaluate(_TURNED)
        self.complaints += [f"{self.page.url} is turned at {each}" for each in found]

    async def is_accessible(self) -> None:
        """By the rules of axe-core, the contrast also in the dark."""
        await self.page.evaluate(AXE_SCRIPT)
        for scheme, rules in _SCHEMES.items():
            await self.page.emulate_media(color_scheme=scheme)
            found = await self.page.evaluate(_AXE, rules)
            self.complaints += [f"{self.page.url} {scheme}: {each}" for each in found]


_SCHEMES: Mapping[Any, list[str] | None] = {"dark": ["color-contrast"], "light": None}


@asynccontextmanager
async def watched(browser: Browser, base: str, **more: Any) -> AsyncIterator[Watched]:
    """A window of its own, without anything that another left behind. Nobody may have complained at its end."""
    context = await browser.new_context(**more)
    context.set_default_timeout(PATIENCE)
    try:
        made = Watched(await context.new_page(), base)
        made.page.on("console", made.hear)
        made.page.on("pageerror", lambda error: made.complaints.append(f"{made.page.url}: {error}"))
        made.page.on("request", made.follow)
        yield made
    finally:
        await context.close()
    assert not made.complaints, "\n".join(made.complaints)
