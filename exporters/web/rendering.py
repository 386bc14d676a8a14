"""HTML of the pages, made of the templates beside this module."""

import re
from functools import cache
from pathlib import Path
from typing import Any

from aiohttp import web
from jinja2 import Environment, FileSystemLoader, StrictUndefined

from collector.clock import duration

HERE = Path(__file__).parent
STYLE = HERE / "static" / "pages.css"
PAGES = (
    ("/", "Overview"),
    ("/runs", "Runs"),
    ("/metrics", "Metrics"),
    ("/status.json", "Status"),
    ("/healthz", "Health"),
    ("/readyz", "Readiness"),
    ("https://github.com/lineage-collector/lineage-collector/tree/main/docs", "Documentation"),
)


@cache
def _environment() -> Environment:
    made = Environment(
        loader=FileSystemLoader(HERE / "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    made.filters |= {"clock": _clock, "duration": _duration, "cell": _cell}
    made.globals["pages"] = PAGES
    return made


def page(name: str, here: str, status: int = 200, **values: Any) -> web.Response:
    """The template with these values; `here` is the path of the page in the navigation."""
    text = _environment().get_template(f"{name}.html").render(here=here, **values)
    return web.Response(text=text, status=status, content_type="text/html")


def _clock(moment: str) -> str:
    """`2026-11-29 04:05:06 UTC`, of ISO 8601 in UTC."""
    return f"{moment[:10]} {moment[11:19]} UTC"


def _cell(value: object) -> str:
    if value is None:
        return ""
    return _clock(value) if isinstance(value, str) and _MOMENT.fullmatch(value) else str(value)


_MOMENT = re.compile(r"\d{4}-\d\d-\d\dT[\d:.]+\+00:00")


def _duration(seconds: float | None) -> str:
    return "" if seconds is None else duration(seconds)
