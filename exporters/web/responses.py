"""What the pages answer: HTML of the templates beside this module, and JSON."""

import hashlib
import logging
import re
from collections.abc import Callable, Mapping
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

import orjson
from aiohttp import web
from markupsafe import Markup, escape

from collector.clock import duration
from collector.errors import LedgerError
from collector.logs import fields
from collector.numerals import counted, size
from exporters.web.access import Handler

if TYPE_CHECKING:
    from jinja2 import Environment

log = logging.getLogger("lineage.http")

HERE = Path(__file__).parent
STATIC = {HERE / "static" / "pages.css": "text/css", HERE / "static" / "live.js": "text/javascript"}
_DOCS = "https://github.com/lineage-collector/lineage-collector/tree/main/docs"
PAGES = (
    ("/", "Overview"),
    ("/sources", "Sources"),
    ("/sinks", "Sinks"),
    ("/runs", "Runs"),
    ("/jobs", "Jobs"),
    ("/datasets", "Datasets"),
    ("/parked", "Parked"),
    ("/skipped", "Skipped"),
    ("/replicas", "Replicas"),
)
"""Address and title of those for people."""
OTHERS = (
    ("/metrics", "Metrics"),
    ("/status.json", "Status"),
    ("/healthz", "Health"),
    ("/readyz", "Readiness"),
    (_DOCS, "Documentation"),
)
"""Of those for programs, and elsewhere."""
RUNBOOKS = f"{_DOCS}/runbooks"


@cache
def _environment() -> "Environment":
    from jinja2 import Environment, FileSystemLoader, StrictUndefined  # noqa: PLC0415 - 3 MiB that only a visitor needs

    made = Environment(
        loader=FileSystemLoader(HERE / "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    made.filters |= {
        "clock": _clock,
        "timed": _timed,
        "duration": _duration,
        "counted": counted,
        "size": size,
        "part": _part,
        "short": short_count,
    }
    made.globals |= {"pages": PAGES, "others": OTHERS, "edition": _edition()}
    return made


def _edition() -> str:
    """Changes with the style and the script, so that a browser takes no former one from its cache after an upgrade."""
    return hashlib.sha256(b"".join(file.read_bytes() for file in STATIC)).hexdigest()[:8]


BackendLink = Callable[[str, str, str], str]
"""Makes the address of a `job` or `dataset`, by namespace and name, on the web pages of a backend."""


def backend_links(links: Mapping[str, BackendLink], kind: str, namespace: str, name: str) -> list[dict[str, str]]:
    """The addresses, with the names of the sinks."""
    return [{"sink": sink, "address": link(kind, namespace, name)} for sink, link in sorted(links.items())]


def page(name: str, here: str, status: int = 200, **values: Any) -> web.Response:
    """The template with these values; `here` is the path of the page in the navigation."""
    text = _environment().get_template(f"{name}.html").render(here=here, **values)
    return web.Response(text=text, status=status, content_type="text/html")


def data(value: Any, status: int = 200) -> web.Response:
    """The value as JSON."""
    body = orjson.dumps(value, option=orjson.OPT_INDENT_2)
    return web.Response(body=body, status=status, content_type="application/json")


def wants_json(request: web.Request) -> bool:
    return request.path.startswith("/api/")


def missing(request: web.Request, here: str, words: str, status: int = 404, title: str = "Not found") -> web.Response:
    """Why there is nothing to show, as a page or as JSON."""
    if wants_json(request):
        return data({"error": words}, status)
    return page("missing", here, status, title=title, words=words)


def both(path: str, handler: Handler) -> list[web.RouteDef]:
    """The page at `path`, and the same as JSON under `/api/v1`, both of this handler."""
    return [web.get(each, readable(handler)) for each in (path, f"/api/v1{path}")]


def readable(handler: Handler) -> Handler:
    """Answers 503 with the cause while the ledger cannot be read."""

    async def answer(request: web.Request) -> web.StreamResponse:
        try:
            return await handler(request)
        except LedgerError as error:
            log.warning("page.failed", extra=fields(path=request.path, cause=str(error)))
            return missing(request, request.path, str(error), 503, "Not now")

    return answer


def _clock(moment: str, exact: bool = False) -> str:
    """`2026-11-29 04:05:06 UTC`, of ISO 8601 in UTC; `exact` gives milliseconds too, where there are any."""
    fraction = moment[19:23] if exact and moment[19:20] == "." else ""
    return f"{moment[:10]} {moment[11:19]}{fraction} UTC"


_MOMENT = re.compile(r"(\d{4}-\d\d-\d\d) (\d\d:\d\d:\d\d)(\.\d{3})? UTC")


def _timed(words: str) -> Markup:
    """The words, with the times in them as elements that the script of the pages shows in the reader's zone."""
    return Markup(_MOMENT.sub(_time, str(escape(words))))  # noqa: S704 - escaped before


def _time(found: re.Match[str]) -> str:
    exact = " data-exact" if found[3] else ""
    return f'<time datetime="{found[1]}T{found[2]}{found[3] or ""}Z" title="{found[0]}"{exact}>{found[0]}</time>'


def _part(words: str) -> str:
    """As one part of a path or of a query."""
    return quote(words, safe="")


def _duration(seconds: float | None) -> str:
    return "" if seconds is None else duration(seconds)


def short_count(count: int) -> str:
    """Such as `1.2 M`, where room is scarce."""
    amount = float(count)
    for unit in ("", " k", " M"):
        if amount < 1000:
            return f"{amount:.0f}{unit}" if not unit or amount >= 99.5 else f"{amount:.1f}{unit}"
        amount /= 1000
    return f"{amount:,.0f} G"
