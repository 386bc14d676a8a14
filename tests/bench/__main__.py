"""`make bench`: all entrants in turn, interleaved, medians of the rounds, a table of ratios."""

import argparse
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pytest

from tests.servers.kafka import broker

ROOT = Path(__file__).parents[2]
Results = dict[str, list[dict[str, Any]]]


def main() -> None:
    parser = argparse.ArgumentParser(prog="make bench", description=__doc__)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--events", type=int, default=5000)
    parser.add_argument("--backlogs", type=int, nargs="*", default=[1_000, 100_000])
    parser.add_argument("--kafka", help="HOST:PORT of a Kafka; without it one is started where Java and Maven are")
    options = parser.parse_args()
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
    show_delivery(results)
    show_ledger([run("claim_and_settle", backlog) for backlog in options.backlogs])
    show_beside(beside())
    show_idle(idle())
    print(
        f"\nPython {platform.python_version()}, {os.cpu_count()} cores, openlineage-python"
        f" {version('openlineage-python')}, {options.rounds} rounds, {time.strftime('%Y-%m-%d')}"
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


def show_delivery(results: Results) -> None:
    print("\n| entrant | events/s | ratio | CPU s per 1,000 | peak MiB |")
    print("|---|---|---|---|---|")
    for names in (
        ("peer_http", "peer_async_http", "ours_http", "ours_batch"),
        ("peer_kafka", "raw_aiokafka", "ours_kafka"),
    ):
        there = [name for name in names if name in results]
        peers = [rate(results[name]) for name in there if name.startswith("peer")]
        for name in there:
            speed, cpu = rate(results[name]), middle(results[name], "cpu") / results[name][0]["events"] * 1000
            print(
                f"| {name} | {speed:,.0f} | {speed / max(peers):.2f} | {cpu:.3f} | {middle(results[name], 'rss'):.0f} |"
            )
    live = results["live_http"]
    print(
        f"\ncommit to acknowledged, 100 events/s: p50 {middle(live, 'p50') * 1000:.1f} ms, p99 {middle(live, 'p99') * 1000:.1f} ms"
    )


def show_ledger(rows: list[dict[str, Any]]) -> None:
    print("\n| backlog | claim 500, ms | settle 500, ms | commit 1, ms |")
    print("|---|---|---|---|")
    for row in rows:
        print(f"| {row['events']:,} | {row['claim_ms']:.1f} | {row['settle_ms']:.1f} | {row['commit_ms']:.1f} |")


def beside() -> dict[str, Any]:
    """Claims and settles while long pages are committed and 10,000 open runs are polled."""
    done = subprocess.run(
        [sys.executable, "-m", "tests.bench.mixed_load"], cwd=ROOT, capture_output=True, text=True, check=True
    )
    result: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return result


def show_beside(result: dict[str, Any]) -> None:
    print("\n| beside | claim p50, ms | claim p99, ms | settle p50, ms | settle p99, ms |")
    print("|---|---|---|---|---|")
    for what, name in (("page", "pages of 1,000 runs, 40 columns"), ("again", "polls of 10,000 open runs")):
        row = result[what]
        times = (row[f"{part}_{quantile}_ms"] for part in ("claim", "settle") for quantile in ("p50", "p99"))
        print(f"| {name} | " + " | ".join(f"{each:.1f}" for each in times) + " |")
    print(f"\na poll of 500 unchanged open runs writes {result['wal_bytes_500'] / 1000:,.0f} kB of log")


def idle(seconds: float = 60.0) -> dict[str, float]:
    """CPU share and memory of the program with three sources at 30 s and a file sink, where nothing happens."""
    command = [sys.executable, "-m", "tests.bench.idle", str(seconds)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    result: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return result


def show_idle(result: dict[str, float]) -> None:
    print(f"\nidle: {result['cpu_percent']:.2f} % of a core, {result['rss']:.0f} MiB without Kafka")


if __name__ == "__main__":
    main()
