"""`make bench`: all entrants in turn, interleaved, medians of the rounds, tables of ratios.

With `--write` the tables go into docs/performance.md, each between its marks, with the machine and the versions.
"""

import argparse
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pytest

from tests.servers.kafka import broker

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs" / "performance.md"
Results = dict[str, list[dict[str, Any]]]


def main() -> None:
    parser = argparse.ArgumentParser(prog="make bench", description=__doc__)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--events", type=int, default=5000)
    parser.add_argument("--backlogs", type=int, nargs="*", help="events in the ledger; 1000 and 100000 unless given")
    parser.add_argument("--jobs", type=int, help="of the measurement from poll to acknowledged; 1000 unless given")
    parser.add_argument("--long", action="store_true", help="10000 jobs, and a backlog of 1000000 events too")
    parser.add_argument("--write", action="store_true", help="bring docs/performance.md up to date")
    parser.add_argument("--kafka", help="HOST:PORT of a Kafka; without it one is started where Java and Maven are")
    options = parser.parse_args()
    jobs = options.jobs or (10_000 if options.long else 1_000)
    backlogs = options.backlogs or [1_000, 100_000, *([1_000_000] if options.long else [])]
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
    tables = {
        "delivery": delivery_table(results),
        "latency": latency_line(results["live_http"]),
        "end-to-end": end_to_end_table(jobs),
        "ledger": ledger_table([run("claim_and_settle", backlog) for backlog in backlogs]),
        "beside": beside_table(module("mixed_load")),
        "scrape": scrape_line(module("scrape", 35_000)),
        "idle": idle_line(module("idle", 60)),
        "machine": machine_line(options.rounds),
    }
    for text in tables.values():
        print(f"\n{text}")
    if options.write:
        PAGE.write_text(written(PAGE.read_text(encoding="utf-8"), tables), encoding="utf-8")


def written(page: str, tables: Mapping[str, str]) -> str:
    """The page with these tables, each in place of what is between its marks. KeyError for one that has none."""
    for name, text in tables.items():
        begin, end = f"<!-- bench: {name} -->\n", f"\n<!-- /bench: {name} -->"
        if begin not in page or end not in page:
            raise KeyError(name)
        before, _, rest = page.partition(begin)
        page = f"{before}{begin}{text}{end}{rest.partition(end)[2]}"
    return page


def machine_line(rounds: int) -> str:
    load = ", ".join(f"{each:.1f}" for each in os.getloadavg())
    return (
        f"Measured on {time.strftime('%-d %B %Y')}: {os.cpu_count()} cores, Python {platform.python_version()}, openlineage-python"
        f" {version('openlineage-python')}, aiokafka {version('aiokafka')}; rounds: {rounds}; load at the end (1, 5, 15 minutes): {load}."
    )


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


def run(name: str, *arguments: object) -> dict[str, Any]:
    command = [sys.executable, "-m", "tests.bench.entrants", name, *map(str, arguments)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"{name} failed:\n{done.stderr[-2000:]}")
    result: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return result


def add(results: Results, name: str, *arguments: object) -> None:
    results.setdefault(name, []).append(run(name, *arguments))


def middle(results: list[dict[str, Any]], what: str) -> float:
    return float(statistics.median(each[what] for each in results))


def rate(results: list[dict[str, Any]]) -> float:
    return float(statistics.median(each["events"] / each["seconds"] for each in results))


def delivery_table(results: Results) -> str:
    lines = ["| entrant | events/s | ratio | CPU s per 1,000 | peak MiB |", "|---|---|---|---|---|"]
    for names in (HTTP, KAFKA):
        there = [name for name in names if name in results]
        peers = [rate(results[name]) for name in there if name.startswith("peer")]
        for name in there:
            speed, cpu = rate(results[name]), middle(results[name], "cpu") / results[name][0]["events"] * 1000
            size = middle(results[name], "rss")
            lines.append(f"| {name} | {speed:,.0f} | {speed / max(peers):.2f} | {cpu:.3f} | {size:.0f} |")
    return "\n".join(lines)


HTTP = ("peer_http", "peer_async_http", "ours_http", "ours_batch")
KAFKA = ("peer_kafka", "raw_aiokafka", "ours_kafka")


def latency_line(live: list[dict[str, Any]]) -> str:
    p50, p99 = (middle(live, name) * 1000 for name in ("p50", "p99"))
    return f"From commit to acknowledged, 100 events/s: p50 {p50:.1f} ms, p99 {p99:.1f} ms."


def end_to_end_table(jobs: int) -> str:
    """Without what a start alone takes."""
    start, result = module("end_to_end", 1), module("end_to_end", jobs)
    events = result["events"]
    each = (result["cpu"] - start["cpu"]) / events * 1000
    lines = ["| jobs | events | CPU ms an event | peak MiB |", "|---|---|---|---|"]
    return "\n".join([*lines, f"| {jobs:,} | {events:,} | {each:.1f} | {result['rss']:.0f} |"])


def ledger_table(rows: list[dict[str, Any]]) -> str:
    lines = ["| backlog | claim 500, ms | settle 500, ms | commit 1, ms |", "|---|---|---|---|"]
    times = ("claim_ms", "settle_ms", "commit_ms")
    return "\n".join(
        [*lines, *(f"| {row['events']:,} | " + " | ".join(f"{row[each]:.1f}" for each in times) + " |" for row in rows)]
    )


def beside_table(result: dict[str, Any]) -> str:
    """Claims and settles while long pages are committed and 10,000 open runs are polled."""
    lines = ["| beside | claim p50, ms | claim p99, ms | settle p50, ms | settle p99, ms |", "|---|---|---|---|---|"]
    for what, name in (("page", "pages of 1,000 runs, 40 columns"), ("again", "polls of 10,000 open runs")):
        row = result[what]
        times = (row[f"{part}_{quantile}_ms"] for part in ("claim", "settle") for quantile in ("p50", "p99"))
        lines.append(f"| {name} | " + " | ".join(f"{each:.1f}" for each in times) + " |")
    return "\n".join(lines)


def scrape_line(result: dict[str, Any]) -> str:
    return f"{result['series']:,} series, {result['bytes'] / 2**20:.1f} MiB: {result['cpu']:.2f} s of CPU."


def idle_line(result: dict[str, Any]) -> str:
    """CPU share and memory of the program with three sources at 30 s and a file sink, where nothing happens."""
    return f"Idle: {result['cpu_percent']:.2f} % of a core, {result['rss']:.0f} MiB without Kafka."


def module(name: str, *arguments: object) -> dict[str, Any]:
    """What a benchmark with a process of its own prints at its end."""
    command = [sys.executable, "-m", f"tests.bench.{name}", *map(str, arguments)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    result: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return result


if __name__ == "__main__":
    main()
