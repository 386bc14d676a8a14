"""`demo`: three simulated platforms, a collector, a file and a Marquez; what arrives is compared with what the platforms know."""

import asyncio
import logging
import signal
import sys
import tempfile
from collections import Counter
from collections.abc import Iterable, Mapping
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any
from urllib.parse import quote

import orjson
from pydantic import TypeAdapter, ValidationError

from collector.app import factory
from collector.app.observers import Observers
from collector.app.service import Service
from collector.clock import SystemClock
from collector.errors import ConfigurationError, LineageError
from collector.http import HttpClient, HttpOptions
from collector.ledger.requests import RequestKind
from collector.logs import set_up
from config.settings import Settings
from config.sinks import AnySink, Sink
from exporters.delivery.reports import SendReport, SendResult
from simulators import configuration
from simulators.demo import expected
from simulators.demo.chain import FIRST, LAST, path, shown
from simulators.demo.scenario import ALIASES, Cast, play
from simulators.demo.view import View
from simulators.marquez import MarquezSimulator
from simulators.server import Served

RUNS = 42
PATIENCE = 45.0
"""Seconds after which the demo gives up on runs that should have ended."""


class EventCounts(Observers):
    """What the demo counts for its summary."""

    def __init__(self) -> None:
        super().__init__()
        self.freshness: list[float] = []
        self.events: Counter[str] = Counter()

    def sent(self, report: SendReport) -> None:
        if report.result is SendResult.OK:
            self.events[report.sink] += 1
        if report.freshness is not None:
            self.freshness.append(report.freshness)

    def quantile(self, share: float) -> float | None:
        ordered = sorted(self.freshness)
        return round(ordered[min(len(ordered) - 1, int(share * len(ordered)))], 3) if ordered else None


def run(*, marquez: str | None, kafka: str | None, events: Path | None, forever: bool, as_json: bool) -> int:
    """0 when every run that ended has its events in the file, in order, and its state in Marquez; else 1."""
    set_up("error", "auto")
    logging.getLogger("lineage").setLevel(logging.CRITICAL)
    asyncio.run(reach(marquez, kafka))
    folder = Path(tempfile.mkdtemp(prefix="lineage-demo-"))
    file = (events or folder / "events.ndjson").absolute()
    try:
        file.write_bytes(b"")
    except OSError as error:
        raise ConfigurationError([f"--events {file} cannot be written: {error.strerror}; give another file"]) from error
    summary = asyncio.run(_demo(folder, file, marquez, kafka, forever=forever, quiet=as_json))
    if as_json:
        print(orjson.dumps(summary, option=orjson.OPT_INDENT_2).decode())
    else:
        _print_summary(summary)
    return 0 if summary["ok"] else 1


async def _demo(
    folder: Path, file: Path, marquez: str | None, kafka: str | None, *, forever: bool, quiet: bool
) -> dict[str, Any]:
    cast, counts = Cast.made(), EventCounts()
    async with AsyncExitStack() as stack:
        served = {
            name: await stack.enter_async_context(Served(simulator))
            for name, simulator in (("plant-a", cast.cdf), ("customers", cast.wetransform), ("prep", cast.dataprep))
        }
        if marquez is None:
            marquez = (await stack.enter_async_context(Served(MarquezSimulator(now=SystemClock().now, seed=7)))).url
        settings = _settings(folder, file, {name: each.url for name, each in served.items()}, marquez, kafka)
        service = await stack.enter_async_context(Service(settings, observers=(counts,)))
        async with View(service, file, marquez=marquez, runs=None if forever else RUNS, quiet=quiet):
            await _perform(cast, service, forever=forever)
            wrong = await _compared(cast, service, file, marquez)
            chain = await _chain(marquez, settings.sources[0].job_namespace)
        known, page = cast.expected_runs(), f"http://127.0.0.1:{service.port}"
    if not chain:
        wrong.append("Marquez draws no way from the supplier's file to the data model")
    return {**_summary(file, known, counts, chain, wrong), "page": page}


async def _compared(cast: Cast, service: Service, file: Path, marquez: str) -> list[str]:
    """What is still wrong once everything that ended had the time to arrive."""
    end = asyncio.get_running_loop().time() + PATIENCE
    while cast.unfinished() or await service.owed() or _faults(cast, file):
        if asyncio.get_running_loop().time() > end:
            break
        await asyncio.sleep(0.2)
    events = expected.events_by_run(expected.read_lines(file))
    states = await _marquez_states(marquez, {scenario.run_id for scenario in events.values()})
    wanted = expected.flows(expected.read_lines(file))
    drawn = await _marquez_flows(marquez, wanted)
    return [*expected.faults(events, cast.expected_runs(), states), *expected.flow_faults(wanted, drawn)]


def _faults(cast: Cast, file: Path) -> list[str]:
    return expected.faults(expected.events_by_run(expected.read_lines(file)), cast.expected_runs())


async def _perform(cast: Cast, service: Service, *, forever: bool) -> None:
    """Start the runs until all are started, or somebody interrupts."""
    stop = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)

    async def watch(key: str) -> None:
        await service.submit("source:customers", RequestKind.WATCH, {"key": key, "options": {}})

    async def trigger(recipe: str) -> None:
        await service.submit("source:prep", RequestKind.TRIGGER, {"job": recipe, "options": {}})

    runs = None if forever else RUNS
    playing = asyncio.create_task(play(cast, watch, trigger, runs=runs), name="demo:play")
    stopping = asyncio.create_task(stop.wait(), name="demo:stop")
    await asyncio.wait({playing, stopping}, return_when=asyncio.FIRST_COMPLETED)
    if playing.done():
        await playing
    playing.cancel()
    stopping.cancel()


def _settings(folder: Path, file: Path, urls: Mapping[str, str], marquez: str, kafka: str | None) -> Settings:
    usual = {"poll_interval": "1s", "initial_lookback": "1h"}
    quick = {"active": "500ms", "active_most": "1s", "waiting": "1s", "waiting_most": "1s"}
    fast = {"requests_per_minute": 6000}
    more: dict[str, dict[str, Any]] = {"cdf": {}, "wetransform": {**fast, "intervals": quick}, "dataprep": fast}
    sources = [
        {**usual, **configuration.source(platform, urls[configuration.NAMES[platform]]), **given}
        for platform, given in more.items()
    ]
    file_sink = {"name": "file", "type": "file", "path": str(file)}
    ledger = {"path": str(folder / "lineage.db")}
    return Settings.model_validate(
        {
            "ledger": ledger,
            "http": {"listen": "127.0.0.1:0"},
            "stop_within": "5s",
            "datasets": ALIASES,
            "sources": sources,
            "sinks": [file_sink, *_given_sinks(marquez, kafka)],
        }
    )


def _given_sinks(marquez: str | None, kafka: str | None) -> list[dict[str, Any]]:
    sinks: list[dict[str, Any]] = []
    if marquez is not None:
        sinks.append({"name": "marquez", "type": "marquez", "url": marquez})
    if kafka is not None:
        sinks.append({"name": "kafka", "type": "kafka", "bootstrap_servers": [kafka]})
    return sinks


async def reach(marquez: str | None, kafka: str | None) -> None:
    """Try what was given on the command line, before anything starts. Raises `ConfigurationError` for what is not an
    address, and `LineageError` where nothing of that kind answers.
    """
    wrong = [words for sink in _given_sinks(marquez, kafka) if (words := await _unreachable(sink)) is not None]
    if wrong:
        raise LineageError("; ".join(wrong))


async def _unreachable(given: dict[str, Any]) -> str | None:
    option, address = f"--{given['name']}", given.get("url") or given["bootstrap_servers"][0]
    try:
        settings: Sink = TypeAdapter(AnySink).validate_python(given)
    except ValidationError as error:
        wrong = [each["ctx"]["error"] for each in error.errors() if each["type"] == "value_error"]
        raise ConfigurationError([f"{option} {address}: {words}" for words in wrong]) from error
    sink = factory.sink(settings, SystemClock())
    try:
        found = [each for each in await sink.check() if not each.ok]
    finally:
        await sink.close(5.0)
    return (
        "; ".join(f"{option} {address}: {each.detail}; {each.remedy}, or leave out {option}" for each in found) or None
    )


async def _marquez_states(url: str, run_ids: set[str]) -> dict[str, str | None]:
    http = HttpClient(HttpOptions(timeout=10.0))
    states: dict[str, str | None] = {}
    try:
        for run_id in sorted(run_ids):
            answer = await http.request("GET", f"{url.rstrip('/')}/api/v1/jobs/runs/{quote(run_id, safe='')}")
            states[run_id] = answer.json().get("state") if answer.status_code == 200 else None
    finally:
        await http.close()
    return states


async def _marquez_flows(url: str, jobs: Iterable[expected.JobName]) -> dict[expected.JobName, expected.Flow | None]:
    http = HttpClient(HttpOptions(timeout=60.0))
    found: dict[expected.JobName, expected.Flow | None] = {}
    try:
        for space, job in jobs:
            path = f"namespaces/{quote(space, safe='')}/jobs/{quote(job, safe='')}"
            answer = await http.request("GET", f"{url.rstrip('/')}/api/v1/{path}")
            body = answer.json() if answer.status_code == 200 else None
            found[space, job] = body and expected.Flow(expected.names(body["inputs"]), expected.names(body["outputs"]))
    finally:
        await http.close()
    return found


async def _chain(url: str, project: str) -> list[str]:
    """The way from the supplier's file to the data model, as Marquez draws it: node ids, none where there is no way."""
    end = f"dataset:{project}:{LAST}"
    http = HttpClient(HttpOptions(timeout=60.0))
    try:
        answer = await http.request("GET", f"{url.rstrip('/')}/api/v1/lineage?nodeId={quote(end, safe='')}&depth=20")
        return path(answer.json()["graph"], FIRST, end) if answer.status_code == 200 else []
    finally:
        await http.close()


def _summary(
    file: Path, known: Mapping[str, list[dict[str, Any]]], counts: EventCounts, chain: list[str], wrong: list[str]
) -> dict[str, Any]:
    return {
        "ok": not wrong,
        "runs": {source: dict(sorted(Counter(run["state"] for run in runs).items())) for source, runs in known.items()},
        "events": dict(sorted(counts.events.items())),
        "freshness_seconds": {"p50": counts.quantile(0.5), "p99": counts.quantile(0.99)},
        "chain": chain,
        "events_file": str(file),
        "wrong": wrong,
    }


def _print_summary(summary: Mapping[str, Any]) -> None:
    print("\nruns that ended on each platform:")
    for source, states in summary["runs"].items():
        print(f"  {source:<10} {', '.join(f'{count} {state}' for state, count in states.items())}")
    print("events that each sink acknowledged (two or more a run: START, then COMPLETE, FAIL or ABORT):")
    for sink, count in summary["events"].items():
        print(f"  {sink:<10} {count}")
    fresh = summary["freshness_seconds"]
    print("freshness, from the platform's own time of a change to the acknowledgement of its event:")
    print(f"  half within {fresh['p50']} s, 99 of 100 within {fresh['p99']} s")
    if summary["chain"]:
        print("lineage, from a supplier's file to the data model, as Marquez draws it:")
        print(f"  {shown(summary['chain'])}")
    print(f"events are in {summary['events_file']}")
    for fault in summary["wrong"]:
        print(f"wrong: {fault}", file=sys.stderr)
    print("ok: " + _GOOD if summary["ok"] else f"not ok: {len(summary['wrong'])} faults")
    print(f"its pages were at {summary['page']} until now: `make demo ARGS=--forever` keeps them open")


_GOOD = (
    "every run that ended has its START and its terminal event, in order, and the right state in Marquez,"
    " which draws each job as its runs that succeeded said, and the chain above"
)
