"""`make bench`: every benchmark in one run, the entrants of delivery interleaved, medians of the rounds, ratios to peers and to what we reach for.

With `--write` the tables go into docs/performance.md, each between its marks, with the machine and the versions. A benchmark that fails
leaves its table as it was, and the exit code is 1.
"""

import argparse
import json
import os
import platform
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pytest

from tests.bench import tables
from tests.bench.tables import Figure, Results, figures_table, written
from tests.servers.kafka import broker

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs" / "performance.md"
QUIET = 0.1
"""Share of the machine that others may use before the page says that they did."""


class Failed(Exception):
    """A benchmark ended with an error: what it printed."""


@dataclass(frozen=True, slots=True)
class Options:
    rounds: int
    events: int
    is_long: bool
    kafka: str | None


@dataclass(frozen=True, slots=True)
class Piece:
    """One benchmark. `tables` makes what stands between each of its marks from what `measure` returns."""

    name: str
    measure: Callable[[Options], Any]
    tables: Mapping[str, Callable[[Any], str]]
    figures: Callable[[Any], Iterable[Figure]] = lambda _: ()


def main() -> None:
    parser = argparse.ArgumentParser(prog="make bench", description=__doc__)
    parser.add_argument("--rounds", type=int, default=3, help="of delivery")
    parser.add_argument("--events", type=int, default=5000, help="of each entrant of delivery, some more, some less")
    parser.add_argument(
        "--long", action="store_true", help="10,000 jobs, 1,000,000 runs behind the pages, a backlog of 1,000,000"
    )
    parser.add_argument(
        "--only", nargs="+", choices=[piece.name for piece in PIECES], help="these alone, without --write"
    )
    parser.add_argument("--write", action="store_true", help="bring docs/performance.md up to date")
    parser.add_argument("--kafka", help="HOST:PORT of a Kafka; without it one is started where Java and Maven are")
    given = parser.parse_args()
    if given.only and given.write:
        parser.error("--write is for a whole run: all figures of the page are of one machine and one hour")
    pieces = [piece for piece in PIECES if not given.only or piece.name in given.only]
    begun = usage()
    found, failed = measured(pieces, Options(given.rounds, given.events, given.long, given.kafka))
    found["machine"] = machine_line(given.rounds, others(begun, usage()))
    for text in found.values():
        print(f"\n{text}")
    if given.write:
        PAGE.write_text(written(PAGE.read_text(encoding="utf-8"), found), encoding="utf-8")
    if failed:
        sys.exit(f"failed: {', '.join(failed)}")


def measured(pieces: Sequence[Piece], options: Options) -> tuple[dict[str, str], list[str]]:
    """The tables by mark, and the names of those that failed."""
    found: dict[str, str] = {}
    figures: list[Figure] = []
    failed: list[str] = []
    for piece in pieces:
        began = time.monotonic()
        try:
            result = piece.measure(options)
            found |= {mark: made(result) for mark, made in piece.tables.items()}
            figures += piece.figures(result)
        except Failed as error:
            print(f"{piece.name} failed, its table stays as it was:\n{error}", file=sys.stderr)
            failed.append(piece.name)
        print(f"{piece.name}: {time.monotonic() - began:.0f} s", file=sys.stderr)
    if not failed:
        found["figures"] = figures_table(figures)
    return found, failed


def delivery(options: Options) -> Results:
    results: Results = {}
    with responder() as url, kafka(options.kafka) as bootstrap:
        for number in range(options.rounds):
            print(f"round {number + 1} of {options.rounds}", file=sys.stderr)
            for name, count in (("peer_http", options.events // 5), ("peer_async_http", options.events // 5)):
                add(results, name, count, url)
            add(results, "ours_http", options.events, url)
            add(results, "ours_batch", options.events * 4, url)
            add(results, "live_http", 500, url)
            if bootstrap:
                topic = f"bench-{time.time_ns()}"
                make_topic(bootstrap, topic)
                add(results, "peer_kafka", options.events // 5, bootstrap, topic)
                add(results, "raw_aiokafka", options.events * 4, bootstrap, topic)
                add(results, "ours_kafka", options.events * 2, bootstrap, topic)
    return results


def end_to_end(options: Options) -> dict[str, Any]:
    """Without what a start alone takes."""
    jobs = 10_000 if options.is_long else 1_000
    start, result = module("end_to_end", 1), module("end_to_end", jobs)
    return {**result, "jobs": jobs, "cpu_ms": (result["cpu"] - start["cpu"]) / result["events"] * 1000}


def backlogs(options: Options) -> list[dict[str, Any]]:
    sizes = (1_000, 100_000, *([1_000_000] if options.is_long else []))
    return [module("ledger", store, size) for store in tables.STORES for size in sizes]


def replicas(options: Options) -> dict[str, Any]:
    with responder() as url, kafka(options.kafka) as bootstrap:
        if bootstrap is None:
            return module("replicas", url)
        make_topic(bootstrap, topic := f"bench-{time.time_ns()}")
        return module("replicas", url, bootstrap, topic)


def pages(options: Options) -> dict[str, Any]:
    return module("pages", "--rounds", 3, *(["--long"] if options.is_long else []))


PIECES = (
    Piece(
        "delivery",
        delivery,
        {"delivery": tables.delivery_table, "latency": tables.latency_line},
        tables.delivery_figures,
    ),
    Piece("end_to_end", end_to_end, {"end-to-end": tables.end_to_end_table}, tables.end_to_end_figures),
    Piece("polling", lambda _: module("polling", 1000, 15), {"polling": tables.polling_line}, tables.polling_figures),
    Piece("hints", lambda _: module("hints", 20), {"hints": tables.hints_table}),
    Piece("scrape", lambda _: module("scrape", 35_000), {"scrape": tables.scrape_line}, tables.scrape_figures),
    Piece("ledger", backlogs, {"ledger": tables.ledger_table}, tables.ledger_figures),
    Piece("replicas", replicas, {"replicas": tables.replicas_table}, tables.replicas_figures),
    Piece("mixed_load", lambda _: module("mixed_load"), {"beside": tables.beside_table}, tables.beside_figures),
    Piece("pages", pages, {"pages": tables.pages_table}, tables.pages_figures),
    Piece("start", lambda _: module("start", 5), {"start": tables.start_table}, tables.start_figures),
    Piece("idle", lambda _: module("idle", 60), {"idle": tables.idle_line}, tables.idle_figures),
)
"""In the order in which they run."""


@dataclass(frozen=True, slots=True)
class Usage:
    """Seconds of CPU so far: of the whole machine, and of this process with those that it waited for; and of the clock."""

    all: float
    own: float
    at: float


def usage() -> Usage:
    ticks = [int(word) for word in Path("/proc/stat").read_text(encoding="ascii").split("\n", 1)[0].split()[1:9]]
    busy = sum(ticks) - ticks[3] - ticks[4]  # without idle and iowait
    used = (resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    own = sum(each.ru_utime + each.ru_stime for each in used)
    return Usage(busy / os.sysconf("SC_CLK_TCK"), own, time.monotonic())


def others(before: Usage, after: Usage) -> float:
    """The share of all cores that other processes had between the two."""
    used = (after.all - before.all) - (after.own - before.own)
    return max(0.0, used) / ((after.at - before.at) * (os.cpu_count() or 1))


def machine_line(rounds: int, of_others: float) -> str:
    versions = ", ".join(f"{name} {version(name)}" for name in ("openlineage-python", "confluent-kafka", "aiokafka"))
    load = ", ".join(f"{each:.1f}" for each in os.getloadavg())
    line = (
        f"Measured on {time.strftime('%-d %B %Y')}: {os.cpu_count()} cores, Python {platform.python_version()}, {versions};"
        f" rounds of delivery: {rounds}; load at the end (1, 5, 15 minutes): {load}."
    )
    if of_others < QUIET:
        return line
    return f"{line} **Other processes used {100 * of_others:.0f} % of the machine meanwhile: trust the ratios and the CPU, not the times.**"


@contextmanager
def responder() -> Iterator[str]:
    process = subprocess.Popen([sys.executable, "-m", "tests.bench.responder"], cwd=ROOT, stdout=subprocess.PIPE)
    assert process.stdout is not None
    try:
        yield f"http://127.0.0.1:{int(process.stdout.readline())}"
    finally:
        process.terminate()
        process.wait()


@contextmanager
def kafka(existing: str | None) -> Iterator[str | None]:
    """The bootstrap servers of a Kafka, None where none can be started."""
    if existing is not None:
        yield existing
        return
    with tempfile.TemporaryDirectory() as folder, ExitStack() as stack:
        try:
            bootstrap = stack.enter_context(broker(Path(folder))).bootstrap
        except pytest.skip.Exception as reason:
            print(f"without Kafka: {reason}", file=sys.stderr)
            yield None
            return
        yield bootstrap


def make_topic(bootstrap: str, topic: str) -> None:
    from confluent_kafka.admin import AdminClient
    from confluent_kafka.cimpl import NewTopic

    admin = AdminClient({"bootstrap.servers": bootstrap})
    for made in admin.create_topics([NewTopic(topic, 6, 1)]).values():
        made.result(30)


def add(results: Results, name: str, *arguments: object) -> None:
    results.setdefault(name, []).append(run(name, *arguments))


def run(name: str, *arguments: object) -> dict[str, Any]:
    """What one entrant printed."""
    return module("entrants", name, *arguments)


def module(name: str, *arguments: object) -> dict[str, Any]:
    """The JSON object at the end of what a benchmark with a process of its own printed. Raises `Failed`."""
    command = [sys.executable, "-m", f"tests.bench.{name}", *map(str, arguments)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    if done.returncode:
        raise Failed(f"{' '.join(command[1:])} ended with {done.returncode}:\n{done.stderr[-2000:]}")
    result: dict[str, Any] = json.loads(done.stdout[done.stdout.rfind("\n{") + 1 :])
    return result


if __name__ == "__main__":
    main()
