"""`make bench`: every benchmark in one run, the entrants of delivery interleaved, medians of the rounds, ratios to peers and to what we reach for.

The tables go into docs/performance.md, each between its marks, with the machine and the versions. A benchmark that fails leaves its
table as it was, the table of all figures says so, and the exit code is 1. `--long` measures what takes longer, into tables beside these.
"""

import argparse
import json
import os
import platform
import resource
import signal
import subprocess
import sys
import tempfile
import time
import traceback
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
PATIENCE = 1200.0
"""Seconds for one process of a benchmark, after which it has failed."""


class Failed(Exception):
    """A benchmark ended with an error, or not at all: what it printed."""


@dataclass(frozen=True, slots=True)
class Options:
    rounds: int
    events: int
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
    parser.add_argument("--long", action="store_true", help=f"what takes longer: {', '.join(_names(LONG))}")
    parser.add_argument(
        "--only",
        nargs="+",
        choices=_names((*PIECES, *LONG)),
        help="these alone, and the page stays as it is: all its figures are of one machine and one hour",
    )
    parser.add_argument("--kafka", help="HOST:PORT of a Kafka; without it one is started where Java and Maven are")
    given = parser.parse_args()
    pieces: Sequence[Piece] = LONG if given.long else PIECES
    if given.only:
        pieces = [piece for piece in (*PIECES, *LONG) if piece.name in given.only]
    begun = usage()
    found, failed = measured(pieces, Options(given.rounds, given.events, given.kafka))
    found["machine"] = machine_line(given.rounds, begun, usage())
    if given.long:  # its machine and figures have places of their own
        found |= {f"{mark}-long": found.pop(mark) for mark in ("machine", "figures")}
    for text in found.values():
        print(f"\n{text}")
    if not given.only:
        PAGE.write_text(written(PAGE.read_text(encoding="utf-8"), found), encoding="utf-8")
    if failed:
        sys.exit(f"failed: {', '.join(failed)}")


def _names(pieces: Iterable[Piece]) -> list[str]:
    return [piece.name for piece in pieces]


def measured(pieces: Sequence[Piece], options: Options) -> tuple[dict[str, str], list[str]]:
    """The tables by mark, that of all figures among them, and the names of those that failed."""
    found: dict[str, str] = {}
    figures: list[Figure] = []
    failed: list[str] = []
    for piece in pieces:
        began = time.monotonic()
        try:
            result = piece.measure(options)
            made = {mark: table(result) for mark, table in piece.tables.items()}
            reached = [*piece.figures(result)]
        except Exception as error:  # noqa: BLE001 - the boundary of one benchmark: the others are still measured
            cause = str(error) if isinstance(error, Failed) else traceback.format_exc()
            print(f"{piece.name} failed, its table stays as it was:\n{cause}", file=sys.stderr)
            failed.append(piece.name)
        else:
            found |= made
            figures += reached
        print(f"{piece.name}: {time.monotonic() - began:.0f} s", file=sys.stderr)
    found["figures"] = figures_table(figures, failed)
    return found, failed


def delivery(options: Options) -> Results:
    peers, http, batch, to_kafka = options.events // 5, options.events, options.events * 4, options.events * 2
    results: Results = {}
    with responder() as url, kafka(options.kafka) as bootstrap, tempfile.TemporaryDirectory() as backlogs:
        for count in {http, batch, *([to_kafka] if bootstrap else [])}:
            run("filled", count, backlogs)
        for number in range(options.rounds):
            print(f"round {number + 1} of {options.rounds}", file=sys.stderr)
            for name in ("peer_http", "peer_async_http"):
                add(results, name, peers, url)
            add(results, "ours_http", http, backlogs, url)
            add(results, "ours_batch", batch, backlogs, url)
            add(results, "live_http", 300, url)
            if bootstrap:
                topic = f"bench-{time.time_ns()}"
                make_topic(bootstrap, topic)
                add(results, "peer_kafka", peers, bootstrap, topic)
                add(results, "raw_aiokafka", batch, bootstrap, topic)
                add(results, "ours_kafka", to_kafka, backlogs, bootstrap, topic)
    return results


def end_to_end(jobs: int) -> Any:
    """Without what a start alone takes."""
    start, result = module("end_to_end", 1), module("end_to_end", jobs)
    return {**result, "jobs": jobs, "cpu_ms": (result["cpu"] - start["cpu"]) / result["events"] * 1000}


def backlogs(*sizes: int) -> list[dict[str, Any]]:
    return [module("ledger", store, size) for store in tables.STORES for size in sizes]


def replicas(options: Options) -> Any:
    with responder() as url, kafka(options.kafka) as bootstrap:
        if bootstrap is None:
            return module("replicas", url)
        make_topic(bootstrap, topic := f"bench-{time.time_ns()}")
        return module("replicas", url, bootstrap, topic)


PIECES = (
    Piece(
        "delivery",
        delivery,
        {"delivery": tables.delivery_table, "latency": tables.latency_line},
        tables.delivery_figures,
    ),
    Piece(
        "end_to_end",
        lambda _: end_to_end(1_000),
        {"end-to-end": tables.end_to_end_table},
        tables.end_to_end_figures,
    ),
    Piece("polling", lambda _: module("polling", 1000, 15), {"polling": tables.polling_line}, tables.polling_figures),
    Piece("hints", lambda _: module("hints", 20), {"hints": tables.hints_table}, tables.hints_figures),
    Piece("scrape", lambda _: module("scrape", 35_000), {"scrape": tables.scrape_line}, tables.scrape_figures),
    Piece(
        "ledger",
        lambda _: backlogs(1_000, 100_000),
        {"ledger": tables.ledger_table, "shards": tables.shards_table},
        tables.ledger_figures,
    ),
    Piece("replicas", replicas, {"replicas": tables.replicas_table}, tables.replicas_figures),
    Piece("mixed_load", lambda _: module("mixed_load"), {"beside": tables.beside_table}, tables.beside_figures),
    Piece("pages", lambda _: module("pages", 100_000, 3), {"pages": tables.pages_table}, tables.pages_figures),
    Piece("start", lambda _: module("start", 3), {"start": tables.start_table}, tables.start_figures),
    Piece("idle", lambda _: module("idle"), {"idle": tables.idle_line}, tables.idle_figures),
)
"""In the order in which they run."""

LONG = (
    Piece(
        "long_ledger",
        lambda _: backlogs(1_000, 1_000_000),
        {"ledger-long": tables.ledger_table},
        tables.ledger_figures,
    ),
    Piece(
        "long_pages",
        lambda _: module("pages", 1_000_000, 3),
        {"pages-long": tables.pages_table},
        tables.pages_figures,
    ),
    Piece(
        "long_end_to_end",
        lambda _: end_to_end(10_000),
        {"end-to-end-long": tables.end_to_end_table},
        tables.end_to_end_figures,
    ),
    Piece("hour", lambda _: module("hour", 10_000, 60, 6), {"hour": tables.hour_line}, tables.hour_figures),
)
"""What `--long` measures in place of these."""


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


def machine_line(rounds: int, begun: Usage, ended: Usage) -> str:
    versions = ", ".join(f"{name} {version(name)}" for name in ("openlineage-python", "confluent-kafka", "aiokafka"))
    load = ", ".join(f"{each:.1f}" for each in os.getloadavg())
    line = (
        f"Measured on {time.strftime('%-d %B %Y')}: {os.cpu_count()} cores, Python {platform.python_version()}, {versions};"
        f" rounds of delivery: {rounds}; it took {(ended.at - begun.at) / 60:.1f} minutes; load at the end (1, 5, 15 minutes): {load}."
    )
    if (of_others := others(begun, ended)) < QUIET:
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


def run(name: str, *arguments: object) -> Any:
    """What one entrant printed."""
    return module("entrants", name, *arguments)


def module(name: str, *arguments: object) -> Any:
    """The JSON at the end of what a benchmark with a process of its own printed. Raises `Failed`."""
    command = [sys.executable, "-m", f"tests.bench.{name}", *map(str, arguments)]
    shown = " ".join(command[1:])
    with subprocess.Popen(
        command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True
    ) as process:
        try:
            out, err = process.communicate(timeout=PATIENCE)
        except subprocess.TimeoutExpired:
            raise Failed(f"{shown} did not end within {PATIENCE:.0f} s") from None
        finally:
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGTERM)  # its servers, too
    if process.returncode:
        raise Failed(f"{shown} ended with {process.returncode}:\n{err[-2000:]}")
    return json.loads(out[out.rfind("\n{") + 1 :])


if __name__ == "__main__":
    main()
