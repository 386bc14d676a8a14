"""`backfill`: a sink is sent again what the ledger holds, or past runs of a source are read from its platform."""

import asyncio
import json
import sys
from collections import Counter
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from collector.app import configuration, factory, ledgers, requests
from collector.app.progress import Progress
from collector.app.run_listing import time_given
from collector.app.status import source_id
from collector.app.tables import printable
from collector.clock import SystemClock, from_ms, moment
from collector.errors import ConfigurationError, LineageError
from collector.ledger import acknowledged, memory, resend, runs, schema
from collector.ledger.port import Ledger
from collector.ledger.requests import Request, RequestState
from collector.ledger.resend import Resent, Window
from collector.logs import set_up
from collector.platforms.base import Remembering
from collector.polling.backfill import past
from config.settings import Settings

Counts = Mapping[str, Any]


def backfill(config: Path, name: str, *, since: str | None, until: str | None, dry_run: bool, as_json: bool) -> int:
    """`name` is that of a sink or a source. 0 done (or, with `dry_run`, shown), 1 when it could not be done to its end."""
    settings = configuration.load(config)
    window, target = _window(since, until), _target(settings, name)
    if target.startswith("source:"):
        _require_history(settings, target.partition(":")[2], window)
    work = _previewed(settings, target, window) if dry_run else _done(settings, target, window)
    counts, of = asyncio.run(work)
    if of != window:
        print(f"followed a backfill of {target} that was under way: {_said_limits(of)}", file=sys.stderr)
    kind, _, name = target.partition(":")
    shown = {"request": "dry run" if dry_run else "done", kind: name, **_limits(of), **counts}
    print(json.dumps(shown, indent=2, ensure_ascii=False) if as_json else printable(_said(shown)))
    return 0


def stop(config: Path, name: str, *, as_json: bool) -> int:
    """End the backfill of this sink or source that is under way. 0 done, 1 where there is none."""
    settings = configuration.load(config)
    target = _target(settings, name)
    result = asyncio.run(requests.stop_backfill(settings, target))
    if result.state is not RequestState.DONE:
        raise LineageError(str(result.answer.get("error") or result.state.value))
    kind, _, name = target.partition(":")
    shown = {"request": "stopped", kind: name, **result.answer}
    words = f"the backfill of {kind} {name} was stopped after {result.answer.get('seen', 0):,} runs; what was done until then stays"
    print(json.dumps(shown, indent=2, ensure_ascii=False) if as_json else printable(words))
    return 0


def _target(settings: Settings, name: str) -> str:
    """`source:NAME` or `sink:NAME`. Raises `ConfigurationError`."""
    known = [f"source:{each.name}" for each in settings.sources] + [f"sink:{each.name}" for each in settings.sinks]
    found = [each for each in known if name in {each, each.partition(":")[2]}]
    if not found:
        raise ConfigurationError([f"there is no source and no sink named {name!r}; configured are {', '.join(known)}"])
    if len(found) > 1:
        raise ConfigurationError([f"a source and a sink have the name {name}: use source:{name} or sink:{name}"])
    return found[0]


def _window(since: str | None, until: str | None) -> Window:
    window = Window(time_given("--since", since), time_given("--until", until))
    if window.since_ms is not None and window.until_ms is not None and window.since_ms >= window.until_ms:
        raise ConfigurationError(["--since must be before --until"])
    return window


def _require_history(settings: Settings, name: str, window: Window) -> None:
    source = settings.source(name)
    assert source is not None  # it was found
    if not source.lists_past_runs:
        raise ConfigurationError([f"{source.platform} lists no past runs: `watch` takes one up by its id"])
    if window.since_ms is None:
        raise ConfigurationError(["a backfill of a source needs --since: how far back its platform is read"])


def _said_limits(window: Window) -> str:
    return " ".join(f"{word} {at}" for word, at in _limits(window).items() if at is not None) or "all that is kept"


def _limits(window: Window) -> dict[str, str | None]:
    return {"since": moment(window.since_ms), "until": moment(window.until_ms)}


async def _previewed(settings: Settings, target: str, window: Window) -> tuple[Counts, Window]:
    set_up("error", "auto")
    kind, _, name = target.partition(":")
    async with ledgers.reading(settings.ledger) as store:
        return await (_of_sink if kind == "sink" else _of_source)(settings, store, name, window), window


async def _of_sink(settings: Settings, store: Ledger, name: str, window: Window) -> Counts:
    sink = await store.read(acknowledged.sink, name)
    if sink is None:
        raise LineageError(f"the ledger does not know sink {name} yet: start the service with it first")
    became, events, after, seen = Counter[Resent](), 0, 0, 0
    with Progress("runs", await store.read(resend.count_runs), SystemClock()) as progress:
        while True:
            found = await store.read(resend.next_strands, window, after)
            result = await store.read(resend.preview, sink.number, found.numbers)
            became, events, seen = became + result.became, events + result.events, seen + found.seen
            progress.reach(seen, f"{events:,} events")
            if found.after is None:
                break
            after = found.after
    others = {each.value: became[each] for each in (Resent.WAITING, Resent.INCOMPLETE)}
    return {"strands": became[Resent.QUEUED], "events": events, **others}


async def _of_source(settings: Settings, store: Ledger, name: str, window: Window) -> Counts:
    source = settings.source(name)
    assert source is not None  # it was found
    number = await store.read(source_id, name)
    platform = factory.history(source, SystemClock(), lambda _: None, from_ms(window.since_ms or 0))
    seen = known = 0
    try:
        if isinstance(platform, Remembering):
            platform.remember(await store.read(memory.read, number))
        with Progress("runs", 0, SystemClock()) as progress:
            async for page in platform.poll((), None):
                keys = {schema.storable(each.key) for each in past(page, window)}
                seen, known = seen + len(keys), known + len(await store.read(runs.by_keys, number, keys))
                progress.reach(seen, f"{seen - known:,} new")
    finally:
        await platform.close()
    return {"seen": seen, "known": known, "made": seen - known}


async def _done(settings: Settings, target: str, window: Window) -> tuple[Counts, Window]:
    """The counts, and the window of the backfill that was done: of one that was under way already, its own."""
    followed = [window]

    def look(request: Request) -> None:
        followed[:] = [Window(**json.loads(request.body))]
        answer = json.loads(request.answer or "{}")
        if "events" in answer:
            progress.reach(answer["seen"], f"{answer['events']:,} events", total=answer["total"])
        elif "seen" in answer:
            progress.reach(answer["seen"], f"{answer['made']:,} new")

    with Progress("runs", 0, SystemClock()) as progress:
        result = await requests.backfill(settings, target, asdict(window), look)
    if result.state is not RequestState.DONE:
        raise LineageError(str(result.answer.get("error") or result.state.value))
    counts = ("strands", "events", "waiting", "incomplete") if "events" in result.answer else ("seen", "known", "made")
    return {key: result.answer[key] for key in counts}, followed[0]


def _said(shown: Counts) -> str:
    is_dry = shown["request"] == "dry run"
    if "source" in shown:
        verb = "would be made" if is_dry else "were made"
        return f"{shown['made']:,} of {shown['seen']:,} past runs of source {shown['source']} {verb}; {shown['known']:,} were known"
    verb = "would be sent" if is_dry else "were put on their way"
    others = [f"{shown[key]:,} {words}" for key, words in _OTHERS.items() if shown[key]]
    line = f"{shown['strands']:,} runs with {shown['events']:,} events {verb} to sink {shown['sink']}"
    return f"{line}; not sent: {', '.join(others)}" if others else line


_OTHERS = {"waiting": "that it is owed already", "incomplete": "of which retention removed the beginning"}
