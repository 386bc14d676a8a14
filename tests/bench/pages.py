"""The pages on a large ledger: `python -m tests.bench.pages RUNS ROUNDS`, one JSON object with milliseconds for each page at the server,
by the clock and of this process' CPU time, which others on the machine do not lengthen.

So many runs of 10,000 jobs, which read and write 20,000 datasets in chains; the last 10,000 runs are waited for by a
sink, the 10,000 before them are parked, a thousand things were skipped, and source and sink did something in each minute of the last day.
"""

import asyncio
import json
import logging
import statistics
import sys
import tempfile
import time
from pathlib import Path
from typing import Any
from urllib.parse import quote
from uuid import UUID

import aiohttp
import orjson
from sqlalchemy import Connection, insert

from collector.app.status import status
from collector.clock import SystemClock, to_ms
from collector.ledger import activity, configured_sinks, configured_sources, detail, graph, jobs, schema, skips
from collector.ledger.activity import MINUTE_MS, Activity
from collector.ledger.configured_sources import Configured
from collector.ledger.sqlite.store import Store
from collector.model import Dataset, Definition, EventKind, Job, Run, RunState, Skip, SkipKind
from exporters.web.pages import Pages, serve

JOBS, WAITING, AT_ONCE = 10_000, 10_000, 20_000
SPACE = "cdf://westeurope-1.cognitedata.com/plant-a"
CLOCK = SystemClock()
BODY = orjson.dumps(
    {
        "job": {"facets": {"sql": {"query": "SELECT " + ", ".join(f"c{number}" for number in range(50)) + " FROM t"}}},
        "inputs": [
            {
                "namespace": SPACE,
                "name": "raw/sap/table_00001",
                "facets": {"schema": {"fields": [{"name": f"c{number}", "type": "string"} for number in range(50)]}},
            }
        ],
    }
)
"""An event as large as many are."""


def job(number: int) -> str:
    return f"transformation/load-{number:05}"


def table(number: int) -> Dataset:
    return Dataset(SPACE, f"raw/sap/table_{number:05}")


def defined(number: int) -> Definition:
    """Chains of ten jobs, each reading what the one before wrote and a table of its own."""
    before = (table(number),) if number % 10 else ()
    return Definition((*before, table(JOBS + number)), (table(number + 1),))


def filled(conn: Connection, runs: int, count: int = JOBS, waiting: int = WAITING) -> None:
    """So many runs of so many jobs, the last of them waited for by the sink, and as many before them parked for some causes."""
    now = CLOCK.now()
    source = configured_sources.sync_sources(conn, [Configured("plant-a")], 1)["plant-a"]
    sink = configured_sinks.sync_sinks(conn, {"marquez": frozenset(EventKind)}, 1)["marquez"]
    of_jobs = [Job(str(number), SPACE, job(number), "QUERY", "CDF") for number in range(count)]
    for first in range(0, runs, AT_ONCE):
        numbers = range(first, min(first + AT_ONCE, runs))
        conn.execute(insert(schema.run), [_run(source, number, of_jobs[number % count], now) for number in numbers])
    last = range(runs - count, runs)
    jobs.note(conn, source, [(_known(number, of_jobs[number % count], now), EventKind.COMPLETE) for number in last], 1)
    for first in range(0, count, 1000):
        jobs.define(conn, source, {job(number): defined(number) for number in range(first, min(first + 1000, count))})
    owed, refused = range(runs - waiting + 1, runs + 1), range(max(1, runs - 2 * waiting + 1), runs - waiting + 1)
    event = {"seq": 1, "kind": "START", "created_at": 1, "happened_at": 1, "body": BODY}
    conn.execute(
        insert(schema.event), [{**event, "run_id": number, "strand_id": number} for number in (*refused, *owed)]
    )
    parked = {"sink_id": sink, "source_id": source, "seq": 1, "attempts": 1}
    causes = [{"cause": f"422: {number % 40}", "parked_at": number} for number in refused]
    rows = [{**parked, **cause, "run_id": n, "strand_id": n} for n, cause in zip(refused, causes, strict=True)]
    conn.execute(insert(schema.parked), rows)
    skips.note(conn, source, [Skip(SkipKind.SQL, f"table {number}", "line 3") for number in range(skips.KEPT)], 1)
    lane = {"sink_id": sink, "source_id": source, "next_seq": 1, "last_seq": 1, "due_at": 1, "since": 1}
    conn.execute(insert(schema.lane), [{**lane, "strand_id": number} for number in owed])
    tally = {"source_id": source, "sink_id": sink, "pending": waiting, "parked": len(refused)}
    conn.execute(insert(schema.tally), tally)
    minute = to_ms(now) // MINUTE_MS * MINUTE_MS
    did = Activity(ok=2, failed=1, took_ms=900, longest_ms=500, events=40, requests=60, remaining=9, needed=60)
    minutes = (minute - MINUTE_MS * number for number in range(25 * 60))
    activity.note(conn, {(name, since): did for since in minutes for name in ("source:plant-a", "sink:marquez")})


def _known(number: int, of: Job, now: Any) -> Run:
    state = RunState.FAILED if number % 97 == 0 else RunState.SUCCEEDED
    return Run(str(number), UUID(int=number, version=4), of, state, state.value, now, now, started_at=now, ended_at=now)


def _run(source: int, number: int, of: Job, now: Any) -> dict[str, Any]:
    row = detail.columns(_known(number, of, now))
    return {**row, "source_id": source, "updated_at": 1, "strand_id": number + 1, "depth": 0, "last_seq": 1}


async def main(runs: int, rounds: int) -> dict[str, Any]:
    logging.disable()
    with tempfile.TemporaryDirectory() as folder:
        store = Store.open(Path(folder) / "lineage.db", holder="bench", clock=CLOCK)
        began = time.perf_counter()
        await store.write(filled, runs)
        print(f"filled in {time.perf_counter() - began:.0f} s", file=sys.stderr)
        pages = await measured(store, runs, rounds)
        await store.close()
    return {"runs": runs, "pages": pages}


async def measured(store: Store, runs: int, rounds: int) -> dict[str, dict[str, float]]:
    """The median and the longest of the rounds, and the median of CPU time, by path."""

    async def state() -> dict[str, Any]:
        ledger = {"path": "lineage.db", "bytes": 1, "limit_bytes": 2, "wrong": None}
        return await store.read_shown(status, CLOCK, ["plant-a"], {}, {}, ledger)

    async def nothing() -> Any:
        raise NotImplementedError

    found, worked = dict[str, list[float]](), dict[str, list[float]]()
    listener = await serve(Pages(nothing, list, list, state, store), "127.0.0.1", 0)
    async with aiohttp.ClientSession(f"http://127.0.0.1:{listener.port}") as client:
        for path in [*paths(runs)] * rounds:
            began, before = time.perf_counter(), time.process_time()
            async with client.get(path) as answer:
                assert answer.status == 200, await answer.text()
                await answer.read()
            found.setdefault(path, []).append(1000 * (time.perf_counter() - began))
            worked.setdefault(path, []).append(1000 * (time.process_time() - before))
    await listener.close()
    return {
        path: {
            "p50": round(statistics.median(times), 1),
            "max": round(max(times), 1),
            "cpu": round(statistics.median(worked[path]), 1),
        }
        for path, times in found.items()
    }


def paths(runs: int) -> tuple[str, ...]:
    one_job, one_table = quote(job(1234), safe=""), f"{quote(SPACE, safe='')}/{quote(table(1234).name, safe='')}"
    return (
        "/",
        "/runs",
        "/runs?state=failed",
        f"/runs?job={one_job}",
        f"/runs?run={runs // 2}",
        "/runs?text=load-01234",
        "/runs?text=nothing",
        "/runs?since=1h",
        "/runs?since=1h&state=failed&text=load-0",
        f"/runs/{UUID(int=runs - 1, version=4)}",
        "/jobs",
        "/jobs?text=load-09999",
        "/jobs?text=nothing",
        "/jobs?state=failed",
        f"/jobs/plant-a/{one_job}?depth={graph.DEEPEST}",
        "/datasets",
        "/datasets?text=table_19999",
        "/datasets?text=nothing",
        f"/datasets/{one_table}?depth={graph.DEEPEST}",
        "/parked",
        "/parked?sink=marquez&cause=422: 7",
        "/skipped",
        "/skipped?kind=sql",
        "/sources",
        "/sinks",
        "/sources/plant-a",
        "/sinks/marquez",
        "/replicas",
        "/api/v1/sources",
        "/api/v1/sinks",
    )


if __name__ == "__main__":
    print(json.dumps(asyncio.run(main(*map(int, sys.argv[1:])))))
