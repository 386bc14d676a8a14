"""`backfill`: a sink is sent again what the ledger holds, for a backend that is new or was restored."""

import asyncio
import json
from collections import Counter
from collections.abc import Mapping
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

from collector.app import configuration, ledgers, requests
from collector.app.progress import Progress
from collector.app.run_listing import time_given
from collector.app.tables import printable
from collector.clock import Clock, SystemClock, moment
from collector.errors import ConfigurationError, LineageError
from collector.ledger import acknowledged, resend
from collector.ledger.requests import Request, RequestState
from collector.ledger.resend import Resent, Window
from config.settings import Settings


def backfill(config: Path, name: str, *, since: str | None, until: str | None, dry_run: bool, as_json: bool) -> int:
    """0 done (or, with `dry_run`, shown), 1 when it could not be done to its end."""
    settings = configuration.load(config)
    window = _window(since, until)
    if settings.sink(name) is None:
        known = ", ".join(each.name for each in settings.sinks) or "none"
        raise ConfigurationError([f"there is no sink named {name!r} in the configuration; configured are {known}"])
    if dry_run:
        shown = asyncio.run(_previewed(settings, name, window, SystemClock()))
    else:
        shown = asyncio.run(_done(settings, name, window, SystemClock()))
    if as_json:
        print(json.dumps(shown, indent=2, ensure_ascii=False))
    else:
        print(printable(_said(shown)))
    return 0


def _window(since: str | None, until: str | None) -> Window:
    window = Window(time_given("--since", since), time_given("--until", until))
    if window.since_ms is not None and window.until_ms is not None and window.since_ms >= window.until_ms:
        raise ConfigurationError(["--since must be before --until"])
    return window


async def _previewed(settings: Settings, name: str, window: Window, clock: Clock) -> dict[str, Any]:
    store = await asyncio.to_thread(ledgers.opened_readonly, settings.ledger)
    try:
        sink = await store.read(acknowledged.sink, name)
        if sink is None:
            raise LineageError(f"the ledger does not know sink {name} yet: start the service with it first")
        became, events, after, seen = Counter[Resent](), 0, 0, 0
        with Progress("runs", await store.read(resend.count_runs), clock) as progress:
            while True:
                found = await store.read(resend.next_strands, window, after)
                result = await store.read(resend.preview, sink.number, found.numbers)
                became, events, seen = became + result.became, events + result.events, seen + found.seen
                progress.reach(seen, f"{events:,} events")
                if found.after is None:
                    break
                after = found.after
    finally:
        await store.close()
    shown = {
        "strands": became[Resent.QUEUED],
        "events": events,
        "waiting": became[Resent.WAITING],
        "incomplete": became[Resent.INCOMPLETE],
    }
    return _shown(name, window, "dry run", shown)


async def _done(settings: Settings, name: str, window: Window, clock: Clock) -> dict[str, Any]:
    with Progress("runs", 0, clock) as progress:
        result = await requests.backfill(settings, f"sink:{name}", asdict(window), partial(_look, progress))
    if result.state is not RequestState.DONE:
        raise LineageError(str(result.answer.get("error") or result.state.value))
    return _shown(name, window, result.state.value, result.answer)


def _look(progress: Progress, request: Request) -> None:
    answer = json.loads(request.answer or "{}")
    if "seen" in answer:
        progress.reach(int(answer["seen"]), f"{answer['events']:,} events", total=int(answer["total"]))


def _shown(name: str, window: Window, state: str, counts: Mapping[str, Any]) -> dict[str, Any]:
    chosen = {key: counts[key] for key in ("strands", "events", "waiting", "incomplete")}
    limits = {"since": moment(window.since_ms), "until": moment(window.until_ms)}
    return {"request": state, "sink": name, **limits, **chosen}


def _said(shown: Mapping[str, Any]) -> str:
    verb = "would be sent" if shown["request"] == "dry run" else "were put on their way"
    others = [f"{shown[key]:,} {words}" for key, words in _OTHERS.items() if shown[key]]
    line = f"{shown['strands']:,} runs with {shown['events']:,} events {verb} to sink {shown['sink']}"
    return f"{line}; not sent: {', '.join(others)}" if others else line


_OTHERS = {"waiting": "that it is owed already", "incomplete": "of which retention removed the beginning"}
