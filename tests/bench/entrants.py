"""One entrant a process, so that CPU and memory are its own: `python -m tests.bench.entrants NAME ARGUMENTS`.

Prints one JSON object: events, seconds, cpu (user + system), rss (MiB, peak) and what else the entrant measures.
"""

import asyncio
import json
import logging
import random
import resource
import shutil
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from collector.ledger import configured_sources
from collector.ledger.configured_sources import Configured
from collector.ledger.held_lease import Leases
from tests.bench import payload

if TYPE_CHECKING:
    from collector.ledger.sqlite.store import Store


def measured(count: int, work: Callable[[], dict[str, Any] | None]) -> dict[str, Any]:
    before, start = resource.getrusage(resource.RUSAGE_SELF), time.perf_counter()
    more = work() or {}
    seconds, after = time.perf_counter() - start, resource.getrusage(resource.RUSAGE_SELF)
    cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return {"events": count, "seconds": seconds, "cpu": cpu, "rss": after.ru_maxrss / 1024, **more}


def library_events(count: int) -> list[Any]:
    """The same runs as openlineage-python's own objects, which its transports serialise themselves."""
    from openlineage.client.event_v2 import InputDataset, Job, OutputDataset, Run, RunEvent, RunState
    from openlineage.client.facet_v2 import datasource_dataset, job_type_job, schema_dataset, sql_job

    def facets() -> dict[str, Any]:
        columns = [schema_dataset.SchemaDatasetFacetFields(name=f.name, type=f.type) for f in payload.COLUMNS]
        source = datasource_dataset.DatasourceDatasetFacet(name=payload.HERE, uri=payload.HERE)
        return {"schema": schema_dataset.SchemaDatasetFacet(columns), "dataSource": source}

    def event(number: int) -> RunEvent:
        run = payload.run(number)
        job_facets = {
            "jobType": job_type_job.JobTypeJobFacet("BATCH", "CDF", "QUERY"),
            "sql": sql_job.SQLJobFacet(run.job.sql or "", dialect="spark"),
        }
        return RunEvent(
            eventTime=payload.AT.isoformat(),
            producer="https://example.com",
            run=Run(runId=str(run.run_id)),
            job=Job(namespace=run.job.namespace, name=run.job.name, facets=job_facets),
            eventType=RunState.COMPLETE,
            inputs=[InputDataset(payload.HERE, "raw/sap/pumps", facets=facets())],
            outputs=[OutputDataset(payload.HERE, "assets", facets=facets())],
        )

    return [event(number) for number in range(count)]


def peer_http(count: int, url: str) -> dict[str, Any]:
    from openlineage.client.transport.http import HttpConfig, HttpTransport

    transport = HttpTransport(HttpConfig(url=url))
    events = library_events(count)

    def work() -> None:
        for event in events:
            transport.emit(event)

    return measured(count, work)


def peer_async_http(count: int, url: str) -> dict[str, Any]:
    from openlineage.client.transport.async_http import AsyncHttpConfig, AsyncHttpTransport

    transport = AsyncHttpTransport(AsyncHttpConfig(url=url))
    events = library_events(count)

    def work() -> None:
        for event in events:
            transport.emit(event)
        transport.wait_for_completion(timeout=300)

    return measured(count, work)


def peer_kafka(count: int, bootstrap: str, topic: str) -> dict[str, Any]:
    from openlineage.client.transport.kafka import KafkaConfig, KafkaTransport

    config = {"bootstrap.servers": bootstrap, "acks": "all", "enable.idempotence": "true"}
    transport = KafkaTransport(KafkaConfig(config=config, topic=topic))
    events = library_events(count)

    def work() -> None:
        for event in events:
            transport.emit(event)

    return measured(count, work)


def raw_aiokafka(count: int, bootstrap: str, topic: str) -> dict[str, Any]:
    from aiokafka import AIOKafkaProducer

    bodies = payload.bodies(count)

    async def send() -> None:
        async with AIOKafkaProducer(
            bootstrap_servers=bootstrap, enable_idempotence=True, acks="all", max_batch_size=131_072
        ) as producer:
            for start in range(0, count, 500):
                chunk = enumerate(bodies[start : start + 500], start)
                futures = [await producer.send(topic, body, key=str(n % 50).encode()) for n, body in chunk]
                await asyncio.gather(*futures)

    return measured(count, lambda: asyncio.run(send()))


class Deaf:
    """Hears latencies and nothing else."""

    def __init__(self) -> None:
        self.latency: list[float] = []

    def sent(self, report: Any) -> None:
        if report.latency is not None:
            self.latency.append(report.latency)

    def __getattr__(self, name: str) -> Callable[[Any], None]:
        return lambda _: None


def filled(count: int, folder: str) -> dict[str, Any]:
    """A ledger with a backlog of so many events, for entrants that deliver as many."""

    async def fill() -> None:
        store, source, _ = await _opened(_backlog(folder, count))
        commit = await _commits(store, source, payload.bodies(count))
        for first in range(0, count, 500):
            await commit(first, min(count, first + 500))
        await store.close()

    return measured(count, lambda: asyncio.run(fill()))


def _backlog(folder: str, count: int) -> Path:
    return Path(folder) / f"{count}.db"


def ours_http(count: int, folder: str, url: str) -> dict[str, Any]:
    return _ours(count, _backlog(folder, count), {"type": "openlineage", "url": url})


def ours_batch(count: int, folder: str, url: str) -> dict[str, Any]:
    """To the endpoint for batches."""
    return _ours(count, _backlog(folder, count), {"type": "openlineage", "url": url, "batch": True})


def ours_kafka(count: int, folder: str, bootstrap: str, topic: str) -> dict[str, Any]:
    return _ours(count, _backlog(folder, count), {"type": "kafka", "bootstrap_servers": bootstrap, "topic": topic})


def live_http(count: int, url: str) -> dict[str, Any]:
    """Commit to acknowledgement while events come one poll after the other."""
    return _ours(count, None, {"type": "openlineage", "url": url})


def _ours(count: int, backlog: Path | None, sink: dict[str, Any]) -> dict[str, Any]:
    """Of a copy of the backlog (on disk, FULL), or without one while events are committed; each delivery is settled there."""
    return asyncio.run(_delivered(count, backlog, sink))


async def _opened(path: Path) -> "tuple[Store, int, int]":
    """The ledger, with the numbers of its source and its sink."""
    from collector.clock import SystemClock
    from collector.ledger import configured_sinks
    from collector.ledger.sqlite.store import Store
    from collector.model import EventKind

    store = Store.open(path, holder="bench", clock=SystemClock())
    [source] = (await store.write(configured_sources.sync_sources, [Configured("plant-a")], 0)).values()
    [sink] = (await store.write(configured_sinks.sync_sinks, {"bench": frozenset(EventKind)}, 0)).values()
    return store, source, sink


async def _commits(store: "Store", source: int, bodies: list[bytes]) -> Callable[[int, int], Awaitable[None]]:
    """Commits the runs of such numbers, with an event each, as a poll does."""
    from collector.ledger import leases
    from collector.ledger.runs import NewEvent, PollCommit, RunChange, commit_poll
    from collector.model import EventKind

    lease = await store.write(leases.take, "source:plant-a", "bench", 10**9)
    assert lease is not None
    happened = int(payload.AT.timestamp() * 1000)

    async def commit(first: int, last: int) -> None:
        changes = tuple(
            RunChange(
                replace(payload.run(n), seen_at=datetime.now(UTC)),
                (NewEvent(EventKind.COMPLETE, bodies[n], happened),),
            )
            for n in range(first, last)
        )
        await store.write(commit_poll, PollCommit(lease, source, changes), int(time.time() * 1000))

    return commit


async def _delivered(count: int, backlog: Path | None, sink: dict[str, Any]) -> dict[str, Any]:
    from pydantic import TypeAdapter

    from collector.app import factory
    from collector.app.process import tune_interpreter
    from collector.clock import SystemClock
    from collector.ledger import queries
    from config.sinks import AnySink
    from exporters.delivery.delivery import Delivery

    clock = SystemClock()
    settings: Any = TypeAdapter(AnySink).validate_python({"name": "bench", **sink})
    made = factory.sink(settings, clock)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "ledger.db"
        if backlog is not None:
            shutil.copyfile(backlog, path)
        store, source, number = await _opened(path)
        commit = await _commits(store, source, payload.bodies(count)) if backlog is None else None
        unannounced = Deaf()
        delivery = Delivery(
            "bench",
            number,
            made,
            leases=Leases(store, clock, "bench", lambda _: None),
            clock=clock,
            random=random.random,
            observer=unannounced,
        )

        async def drained() -> None:
            while len(unannounced.latency) < count:  # to ask the ledger all the time would be work of its own
                await asyncio.sleep(0.005)
            while any(row.pending for row in await store.read(queries.sinks)):
                await asyncio.sleep(0.005)

        await made.check()  # loads what the sink loads when it connects, as the peers have by now
        tune_interpreter()  # as the service does
        before, start = resource.getrusage(resource.RUSAGE_SELF), time.perf_counter()
        task = asyncio.create_task(delivery.run())
        if commit is not None:
            for first in range(0, count, 5):
                await commit(first, min(count, first + 5))
                await asyncio.sleep(0.05)
        await drained()
        seconds, after = time.perf_counter() - start, resource.getrusage(resource.RUSAGE_SELF)
        await delivery.stop(5)
        await task
        await made.close(5)
        await store.close()
    cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    ordered = sorted(unannounced.latency)
    quantiles = {"p50": ordered[len(ordered) // 2], "p99": ordered[int(len(ordered) * 0.99)]} if ordered else {}
    return {"events": count, "seconds": seconds, "cpu": cpu, "rss": after.ru_maxrss / 1024, **quantiles}


ENTRANTS: dict[str, Callable[..., dict[str, Any]]] = {
    entrant.__name__: entrant
    for entrant in (
        peer_http,
        peer_async_http,
        peer_kafka,
        raw_aiokafka,
        filled,
        ours_http,
        ours_batch,
        ours_kafka,
        live_http,
    )
}

if __name__ == "__main__":
    logging.disable(logging.WARNING)
    name, count, *rest = sys.argv[1:]
    print(json.dumps(ENTRANTS[name](int(count), *rest)))
