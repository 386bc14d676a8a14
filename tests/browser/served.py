"""The pages in this process, on a ledger that holds what browsers and people may stumble over."""

from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from sqlalchemy import Connection

from collector.app.status import status
from collector.ledger import jobs, replicas
from collector.ledger.sqlite.store import Store
from collector.model import Dataset, Definition, Facts, Interval, Skip, SkipKind
from collector.testing.clock import SimulatedClock
from exporters.web.actions import Submit
from exporters.web.listener import Listener
from exporters.web.pages import serve
from tests.unit.exporters.test_web import GOOD, LEDGER
from tests.unit.ledger.ledgers import ALL, FAIL, SECOND, START, Ledger, a_job, at, child_of

ODD = f"<script>window.taken=1</script> \u0645\u0631\u062d\u0628\u0627 \u202ereversed {'x' * 300}"
"""Markup, right-to-left text, and no place to break a line."""
Fill = Callable[[Connection], None]


def odd_run(conn: Connection) -> None:
    ledger = Ledger(conn)
    ledger.configure(marquez=ALL, kafka=ALL)
    odd = a_job(f"recipe/{ODD}")
    table = Dataset(f"gs://{ODD}", ODD)
    ledger.happen("a run", START, job=odd)
    ledger.now += 61 * SECOND
    bounds = Interval(at(ledger.now - 30 * SECOND), at(ledger.now))
    facts = Facts(inputs=(table,), outputs=(table,), error=ODD, link=f"https://platform.example/{'x' * 300}")
    ledger.happen("a run", FAIL, job=odd, ended_within=bounds, facts=facts)
    ledger.park(ledger.claim("marquez")[0], sink="marquez", cause=ODD)
    ledger.postpone(sink="marquez")
    ledger.happen(ODD, START, parent=child_of("a run"))
    ledger.poll(skips=(Skip(SkipKind.ROW, ODD, ODD),))
    jobs.define(conn, ledger.source, {odd.name: Definition((table,), (Dataset("gs://out", "b.csv"),))})
    beat = partial(replicas.beat, conn)
    beat(replicas.Replica("test", "1.0", "abc", frozenset({"source:source"})))
    beat(replicas.Replica(f"r{'x' * 100}", "1.0", "abd", frozenset({"source:other"})))


@asynccontextmanager
async def served(
    folder: Path, fill: Fill, submit: Submit | None = None, **more: Any
) -> AsyncIterator[tuple[Store, Listener]]:
    store = Store.open(folder / "lineage.db", holder="test", clock=(clock := SimulatedClock()))
    await store.write(fill)

    async def state() -> Mapping[str, Any]:
        ledger = {**LEDGER, "wrong": ODD if fill is odd_run else None}
        return await store.read_shown(status, clock, ["source"], {}, {}, ledger)

    pages = replace(GOOD, ledger=store, status=state, submit=submit)
    listener = await serve(pages, "127.0.0.1", 0, **more)
    try:
        yield store, listener
    finally:
        await listener.close()
        await store.close()


def base(listener: Listener) -> str:
    return f"http://127.0.0.1:{listener.port}"
