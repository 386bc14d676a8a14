"""`backfill`: a sink is sent again what the ledger holds, or past runs of a source are read from its platform, for every sink or for
one alone.
"""

import asyncio
import json
import sys
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from collector.app import configuration, factory, ledgers, requests
from collector.app.progress import Progress
from collector.app.run_listing import time_given
from collector.app.status import source_id
from collector.app.tables import Column, Kind, printable, show, show_json
from collector.clock import SystemClock, from_ms, moment, to_ms
from collector.errors import ConfigurationError, LineageError
from collector.ledger import acknowledged, memory, past_runs, resend, runs, schema
from collector.ledger.acknowledged import SinkDetail
from collector.ledger.past_runs import Course, Scope
from collector.ledger.port import Ledger
from collector.ledger.requests import Request, RequestState
from collector.ledger.resend import Resent, Window
from collector.logs import set_up
from collector.model import Observation
from collector.numerals import counted
from collector.platforms.base import Remembering
from collector.polling.backfill import past
from collector.polling.past_runs import ended_at, family_ends
from config.mistakes import did_you_mean
from config.settings import Settings

Counts = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Options:
    """Those of the command line. `sink` alone gets the past runs of a source."""

    since: str | None = None
    until: str | None = None
    sink: str | None = None
    dry_run: bool = False
    as_json: bool = False


def backfill(config: Path, name: str, options: Options) -> int:
    """`name` is that of a sink or a source. 0 done (or, with `dry_run`, shown), 1 when it could not be done to its end."""
    settings = configuration.load(config)
    window, target = _window(options.since, options.until), _target(settings, name)
    scope = Scope(window, _only_sink(settings, target, options.sink))
    if target.startswith("source:"):
        _require_history(settings, target.partition(":")[2], window)
    work = _previewed(settings, target, scope) if options.dry_run else _done(settings, target, scope)
    counts, of = asyncio.run(work)
    if of != scope:
        print(f"followed a backfill of {target} that was under way: {_said_scope(of)}", file=sys.stderr)
    is_another = of.sink != scope.sink
    if is_another:
        print("it has other sinks than yours, which was not begun: repeat the command", file=sys.stderr)
    kind, _, name = target.partition(":")
    only = {} if of.sink is None else {"only_sink": of.sink}
    request = "dry run" if options.dry_run else "done"
    shown = {"request": request, kind: name, **only, **_limits(of.window), **counts}
    if options.as_json:
        show_json(shown)
        return int(is_another)
    if shown.get("runs"):
        show(shown["runs"], _RUNS, as_json=False, nothing="")
    print(printable(_said(shown)))
    return int(is_another)


_RUNS = (Column("would"), Column("ended", Kind.MOMENT), Column("run", Kind.NAME), Column("job", Kind.NAME))


def _only_sink(settings: Settings, target: str, sink: str | None) -> str | None:
    """Raises `ConfigurationError`."""
    if sink is None:
        return None
    if not target.startswith("source:"):
        raise ConfigurationError(
            [f"--sink goes with a source; {target.replace(':', ' ', 1)} is filled from the ledger without it"]
        )
    configuration.refuse_unknown("sink", sink, [each.name for each in settings.sinks])
    return sink


def stop(config: Path, name: str, *, as_json: bool) -> int:
    """End the backfill of this sink or source that is under way. 0 done, 1 where there is none."""
    settings = configuration.load(config)
    target = _target(settings, name)
    result = asyncio.run(requests.stop_backfill(settings, target))
    if result.state is not RequestState.DONE:
        raise LineageError(str(result.answer.get("error") or result.state.value))
    kind, _, name = target.partition(":")
    shown = {"request": "stopped", kind: name, **result.answer}
    words = f"the backfill of {kind} {name} was stopped after {counted(result.answer.get('seen', 0), 'run')}; what was done until then stays"
    show_json(shown) if as_json else print(printable(words))
    return 0


def _target(settings: Settings, name: str) -> str:
    """`source:NAME` or `sink:NAME`. Raises `ConfigurationError`."""
    known = [f"source:{each.name}" for each in settings.sources] + [f"sink:{each.name}" for each in settings.sinks]
    found = [each for each in known if name in {each, each.partition(":")[2]}]
    if not found:
        hint = did_you_mean(name, [*known, *(each.partition(":")[2] for each in known)])
        raise ConfigurationError(
            [f"there is no source and no sink named {name!r}; configured are {', '.join(known)}{hint}"]
        )
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


def _said_scope(scope: Scope) -> str:
    limits = " ".join(f"{word} {at}" for word, at in _limits(scope.window).items() if at is not None)
    only = "" if scope.sink is None else f", for sink {scope.sink} alone"
    return (limits or "all that is kept") + only


def _limits(window: Window) -> dict[str, str | None]:
    return {"since": moment(window.since_ms), "until": moment(window.until_ms)}


async def _previewed(settings: Settings, target: str, scope: Scope) -> tuple[Counts, Scope]:
    set_up("error", "auto")
    kind, _, name = target.partition(":")
    async with ledgers.reading(settings.ledger) as store:
        if kind == "sink":
            return await _of_sink(store, name, scope.window), scope
        return await _of_source(settings, store, name, scope), scope


async def _known_sink(store: Ledger, name: str) -> SinkDetail:
    sink = await store.read(acknowledged.sink, name)
    if sink is None:
        raise LineageError(f"the ledger does not know sink {name} yet: start the service with it first")
    return sink


async def _of_sink(store: Ledger, name: str, window: Window) -> Counts:
    sink = await _known_sink(store, name)
    became, events, after, seen = Counter[Resent](), 0, 0, 0
    with Progress("runs", await store.read(resend.count_runs), SystemClock()) as progress:
        while True:
            found = await store.read(resend.next_strands, window, after)
            result = await store.read(resend.preview, sink.number, found.numbers)
            became, events, seen = became + result.became, events + result.events, seen + found.seen
            progress.reach(seen, counted(events, "event"))
            if found.after is None:
                break
            after = found.after
    others = {each.value: became[each] for each in (Resent.WAITING, Resent.INCOMPLETE, Resent.RESTRICTED)}
    return {"strands": became[Resent.QUEUED], "events": events, **others}


async def _of_source(settings: Settings, store: Ledger, name: str, scope: Scope) -> Counts:
    """The counts, and of each run what would be done with it."""
    source = settings.source(name)
    assert source is not None  # it was found
    number = await store.read(source_id, name)
    sink = await _known_sink(store, scope.sink) if scope.sink is not None else None
    platform = factory.history(source, SystemClock(), lambda _: None, from_ms(scope.window.since_ms or 0))
    found: list[dict[str, Any]] = []
    try:
        if isinstance(platform, Remembering):
            platform.remember(await store.read(memory.read, number))
        with Progress("runs", 0, SystemClock()) as progress:
            async for page in platform.poll((), None):
                ended = {schema.storable(each.key): each for each in past(page, scope.window)}
                found += _rows(ended, await _courses(store, number, sink, ended))
                progress.reach(len(found), f"{sum(row['would'] == _MAKE for row in found):,} new")
    finally:
        await platform.close()
    return {**_counted([row["would"] for row in found], for_one=sink is not None), "runs": found}


def _counted(courses: Sequence[str], *, for_one: bool) -> Counts:
    """As the answer of one that is done counts them."""
    did = Counter(courses)
    made = did[Course.MAKE] + did[Course.ANEW]
    if not for_one:
        return {"seen": len(courses), "known": len(courses) - made, "made": made}
    not_sent = {"waiting": Course.WAITING, "recent": Course.RECENT, "incomplete": Course.INCOMPLETE}
    others = {name: did[course] for name, course in not_sent.items()}
    return {"seen": len(courses), "made": made, "sent": did[Course.SEND], **others}


async def _courses(
    store: Ledger, number: int, sink: SinkDetail | None, ended: Mapping[str, Observation]
) -> dict[str, str]:
    """What would be done with each run, by key."""
    if sink is not None:
        found = await store.read(past_runs.courses, number, sink, family_ends([*ended.values()]), None)
        return {key: past.course.value for key, past in found.items()}
    known = await store.read(runs.by_keys, number, ended)
    return {key: _KNOWN if key in known else _MAKE for key in ended}


_MAKE, _KNOWN = Course.MAKE.value, "known"


def _rows(ended: Mapping[str, Observation], courses: Mapping[str, str]) -> list[dict[str, Any]]:
    return [
        {"run": key, "job": seen.job.name, "ended": moment(to_ms(ended_at(seen))), "would": courses[key]}
        for key, seen in ended.items()
    ]


async def _done(settings: Settings, target: str, scope: Scope) -> tuple[Counts, Scope]:
    """The counts, and the scope of the backfill that was done: of one that was under way already, its own."""
    followed = [scope]

    def look(request: Request) -> None:
        followed[:] = [Scope.read(request.body)]
        answer = json.loads(request.answer or "{}")
        if "events" in answer:
            progress.reach(answer["seen"], counted(answer["events"], "event"), total=answer["total"])
        elif "seen" in answer:
            again = f", {answer['sent']:,} sent again" if "sent" in answer else ""
            progress.reach(answer["seen"], f"{answer['made']:,} new{again}")

    with Progress("runs", 0, SystemClock()) as progress:
        result = await requests.backfill(settings, target, scope.body(), look)
    if result.state is not RequestState.DONE:
        raise LineageError(str(result.answer.get("error") or result.state.value))
    counts = next(keys for keys in _COUNTS if keys[-1] in result.answer)
    more = {"restricted": result.answer.get("restricted", 0)} if "events" in result.answer else {}
    return {key: result.answer[key] for key in counts} | more, followed[0]


_COUNTS = (
    ("strands", "waiting", "incomplete", "events"),
    ("seen", "made", "waiting", "recent", "incomplete", "sent"),
    ("seen", "known", "made"),
)
"""Of a sink, of a source for one sink alone, and of a source for all: what the last word of each stands in no other."""


def _said(shown: Counts) -> str:
    is_dry = shown["request"] == "dry run"
    others = [f"{shown[key]:,} {words}" for key, words in _OTHERS.items() if shown.get(key)]
    left = f"; not sent: {', '.join(others)}" if others else ""
    if "only_sink" in shown:
        made, sent = ("would be made", "would be sent") if is_dry else ("were made", "were sent")
        of = f"{shown['made']:,} of {shown['seen']:,} past runs of source {shown['source']} {made} for sink {shown['only_sink']} alone"
        return f"{of}, {shown['sent']:,} {sent} to it again from the ledger{left}"
    if "source" in shown:
        verb = "would be made" if is_dry else "were made"
        return f"{shown['made']:,} of {shown['seen']:,} past runs of source {shown['source']} {verb}; {shown['known']:,} were known"
    runs, events = counted(shown["strands"], "run"), counted(shown["events"], "event")
    return f"{'would send' if is_dry else 'put on the way'} {runs} with {events} to sink {shown['sink']}{left}"


_OTHERS = {
    "waiting": "that it is owed already",
    "recent": "that ended lately, which polls make for every sink",
    "incomplete": "of which retention removed a part",
    "restricted": "made for other sinks alone",
}
