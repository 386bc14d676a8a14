"""`check`: the configuration, then each source and sink once; a table of what works and what to do."""

import asyncio
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

from collector.app import building, loading
from collector.app.showing import show
from collector.clock import SystemClock
from collector.errors import ConfigurationError
from collector.logs import set_up
from config.settings import Settings

PATIENCE = 90.0
COLUMNS = ("part", "subject", "ok", "detail", "remedy")


def run(config: Path, *, offline: bool, as_json: bool) -> int:
    """0: all works, 1: something does not, 2: the configuration is wrong (raised)."""
    settings = loading.load(config)
    set_up("critical", "auto")
    if offline:
        rows = [{"part": "configuration", "subject": str(config), "ok": True, "detail": _counted(settings)}]
    else:
        rows = asyncio.run(_all(settings))
    show(rows, COLUMNS, as_json=as_json, nothing="nothing to check")
    bad = sum(not row["ok"] for row in rows)
    if bad and not as_json:
        print(f"{bad} of {len(rows)} checks failed", file=sys.stderr)
    return 1 if bad else 0


def _counted(settings: Settings) -> str:
    return f"valid: {len(settings.sources)} sources, {len(settings.sinks)} sinks"


async def _all(settings: Settings) -> list[dict[str, Any]]:
    clock = SystemClock()
    parts: list[Awaitable[list[dict[str, Any]]]] = []
    for source in settings.sources:
        platform = building.platform(source, clock, lambda _: None)
        parts.append(_one(f"source {source.name}", platform.check, platform.close))
    for each in settings.sinks:
        sink = building.sink(each, clock)
        parts.append(_one(f"sink {each.name}", sink.check, lambda sink=sink: sink.close(5.0)))  # type: ignore[misc]
    return [row for rows in await asyncio.gather(*parts) for row in rows]


async def _one(
    part: str, check: Callable[[], Awaitable[list[Any]]], close: Callable[[], Awaitable[None]]
) -> list[dict[str, Any]]:
    try:
        async with asyncio.timeout(PATIENCE):
            findings = await check()
    except TimeoutError:
        detail = f"no verdict within {PATIENCE:.0f} s"
        return [{"part": part, "subject": "check", "ok": False, "detail": detail, "remedy": "look at the network"}]
    except ConfigurationError as error:
        return [{"part": part, "subject": "configuration", "ok": False, "detail": str(error), "remedy": None}]
    finally:
        await close()
    return [
        {"part": part, "subject": each.subject, "ok": each.ok, "detail": each.detail, "remedy": each.remedy}
        for each in findings
    ]
