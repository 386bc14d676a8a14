"""What `reconcile` finds in a Marquez: the simulator's, or that of the real server at `MARQUEZ_URL`."""

import asyncio
import json
from collections.abc import AsyncIterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import UUID

import httpx
import pytest
from sqlalchemy import Connection

from collector.app import requests
from collector.app.control import RequestResult
from collector.app.reconcile import Counts, Finding, reconciliation
from collector.app.reconcile import reconcile as command
from collector.clock import SystemClock, to_ms
from collector.ledger import acknowledged, claims, resend
from collector.ledger.acknowledged import Uncompared
from collector.ledger.claims import Settlement
from collector.ledger.port import Ledger as Store
from collector.ledger.requests import RequestKind, RequestState
from collector.ledger.resend import ResendFrom
from collector.ledger.runs import NewEvent, RunChange
from collector.ledger.sqlite.store import Store as FileStore
from collector.model import EventKind, RunState
from collector.testing.sinks import send
from exporters.sinks.base import Delivered
from exporters.sinks.marquez.comparison import Aspect
from exporters.sinks.marquez.lookup import Lookup
from exporters.sinks.marquez.sink import MarquezSink, create
from tests.contract.marquez_client import END, LATE, START, Marquez, dataset, marquez_url, new_run
from tests.contract.sink_targets import make
from tests.unit.ledger.ledgers import ENDS, Ledger, a_job, a_run

JOB = "transformation/1"
_STATES = {"START": RunState.RUNNING, "COMPLETE": RunState.SUCCEEDED, "FAIL": RunState.FAILED}


@dataclass
class Plant:
    """A ledger whose sink `a` is a Marquez."""

    store: Store
    marquez: Marquez
    sink: MarquezSink
    requests: int = 0

    async def happen(self, run: str, *kinds: str, job: str = JOB, **given: Any) -> None:
        """A run did these things, all in one poll; START takes place at START, all else at END."""
        at = {kind: START if kind == "START" else given.pop("at", END) for kind in kinds}
        bodies = {kind: json.dumps(self.marquez.event(kind, run, job, at[kind], **given)).encode() for kind in kinds}
        events = [NewEvent(EventKind(kind), bodies[kind], _ms(at[kind])) for kind in kinds]
        ended = datetime.fromisoformat(END) if kinds[-1] != "START" else None
        state, began = _STATES[kinds[-1]], datetime.fromisoformat(START)
        life = a_run(run, state, run_id=UUID(run), job=a_job(job), started_at=began, ended_at=ended)

        def commit(conn: Connection) -> None:
            ledger = Ledger(conn)
            ledger.configure(a=ENDS)
            ledger.commit(RunChange(life, tuple(events)))

        await self.store.write(commit)

    async def deliver(self) -> None:
        def claim(conn: Connection) -> Any:
            ledger = Ledger(conn)
            ledger.configure(a=ENDS)
            return ledger.sinks["a"], ledger.held["a"], ledger.claim()

        while (found := await self.store.write(claim))[2]:
            sink_id, lease, items = found
            outcomes = await send(self.sink, items)
            assert set(outcomes.values()) == {Delivered()}
            await self.store.write(claims.settle, lease, sink_id, Settlement(delivered=tuple(items)), 0, None)

    async def lived(self, run: str, *kinds: str, **given: Any) -> None:
        await self.happen(run, *kinds, **given)
        await self.deliver()

    async def compared(self, since_ms: int | None = None) -> tuple[Counts, dict[str, Finding]]:
        detail = await self.store.read(acknowledged.sink, "a")
        assert detail is not None
        lookup, counts = Lookup(self.sink, SystemClock(), lambda: 0.0), Counts()
        pages = reconciliation(self.store, detail, lookup, counts, since_ms, sends_datasets=True)
        found = [finding async for page in pages for finding in page]
        self.requests = lookup.requests
        return counts, {finding.run.run_id: finding for finding in found}

    async def found(self, run: str) -> tuple[list[Aspect], ResendFrom | None]:
        """In what the run differs, and what would be sent again."""
        finding = (await self.compared())[1][run]
        return [each.aspect for each in finding.differences], finding.decision.mend

    async def mend(self, run: str) -> None:
        """Send again what is safe to send."""
        decision = (await self.compared())[1][run].decision
        assert decision.mend is not None
        begin = decision.mend

        def again(conn: Connection) -> None:
            ledger = Ledger(conn)
            ledger.configure(a=ENDS)
            resend.runs(conn, ledger.held["a"], ledger.sinks["a"], {run: begin}, ledger.now)

        await self.store.write(again)
        await self.deliver()

    def outputs(self, *names: str) -> list[Any]:
        return [dataset(self.marquez.namespace, name, "a") for name in names]


def _ms(words: str) -> int:
    return to_ms(datetime.fromisoformat(words))


@pytest.fixture
async def plant(tmp_path: Path) -> AsyncIterator[Plant]:
    async with marquez_url() as url, httpx.AsyncClient(timeout=60, verify=False) as http:
        store = FileStore.open(tmp_path / "ledger.db", holder="test", clock=SystemClock())
        sink = make(create, type="marquez", url=url)
        assert isinstance(sink, MarquezSink)
        yield Plant(store, Marquez(url, http), sink)
        await sink.close(5)
        await store.close()


async def test_what_was_delivered_is_equal(plant: Plant) -> None:
    for kind in ("COMPLETE", "FAIL"):
        await plant.lived(
            new_run(),
            "START",
            kind,
            inputs=plant.outputs("in"),
            outputs=plant.outputs("out"),
            job=f"transformation/{kind}",
        )
    await plant.lived(new_run(), "START")
    counts, found = await plant.compared()
    assert (counts.compared, counts.equal, found) == (3, 3, {})


async def test_a_list_of_runs_takes_one_request(plant: Plant) -> None:
    for _ in range(15):
        await plant.happen(new_run(), "START", "COMPLETE")
    await plant.deliver()
    counts, found = await plant.compared()
    assert (counts.equal, found, plant.requests) == (15, {}, 1)


async def test_a_run_that_is_not_there_is_missing_and_sent_as_a_whole(plant: Plant) -> None:
    run, there = new_run(), new_run()
    await plant.lived(there, "START", "COMPLETE")
    await plant.lived(run, "START", "COMPLETE")
    await plant.happen(lost := new_run(), "START", "COMPLETE")
    await _acknowledge_unsent(plant)
    assert await plant.found(lost) == ([Aspect.MISSING], ResendFrom.START)
    counts, found = await plant.compared()
    assert (counts.equal, list(found)) == (2, [lost])
    await plant.mend(lost)
    assert (await plant.compared())[0].equal == 3


async def test_an_end_that_did_not_arrive_is_sent_again(plant: Plant) -> None:
    await plant.lived(run := new_run(), "START")
    await plant.happen(run, "COMPLETE", outputs=plant.outputs("out"))
    await _acknowledge_unsent(plant)
    assert await plant.found(run) == ([Aspect.STATE, Aspect.END, Aspect.OUTPUTS], ResendFrom.END)
    await plant.mend(run)
    assert (await plant.compared())[0].equal == 1


async def test_a_start_that_came_late_has_opened_the_run_again(plant: Plant) -> None:
    await plant.lived(run := new_run(), "START", "COMPLETE")
    await plant.marquez.posted(plant.marquez.event("START", run, JOB, LATE))
    assert await plant.found(run) == ([Aspect.STATE, Aspect.START], ResendFrom.START)
    await plant.mend(run)
    assert (await plant.compared())[0].equal == 1


async def test_a_state_that_is_newer_than_the_ledgers_is_listed_only(plant: Plant) -> None:
    await plant.lived(run := new_run(), "START")
    await plant.marquez.posted(plant.marquez.event("FAIL", run, JOB, LATE))
    assert await plant.found(run) == ([Aspect.STATE, Aspect.END], None)


async def test_an_output_that_another_producer_added_is_listed_only(plant: Plant) -> None:
    await plant.lived(run := new_run(), "START", "COMPLETE", outputs=plant.outputs("out"))
    more = plant.outputs("out", "other")
    await plant.marquez.posted(plant.marquez.event("COMPLETE", run, JOB, END, outputs=more))
    assert await plant.found(run) == ([Aspect.OUTPUTS], None)


async def test_a_second_run_with_the_same_times_doubles_it(plant: Plant) -> None:
    await plant.lived(run := new_run(), "START", "COMPLETE")
    for kind, at in (("START", START), ("COMPLETE", END)):
        await plant.marquez.posted(plant.marquez.event(kind, other := "6a2f3a44-7c0a-4a5e-8f5c-0d2b1c9e5f10", JOB, at))
    assert await plant.found(run) == ([Aspect.DOUBLED], None)
    assert (await plant.compared())[1][run].differences[0].found == other


async def test_what_is_on_its_way_is_not_compared(plant: Plant) -> None:
    await plant.happen(new_run(), "START", "COMPLETE")
    counts, found = await plant.compared()
    assert (counts.compared, counts.others, found) == (0, {Uncompared.WAITING: 1}, {})


async def test_runs_before_the_window_are_left_out(plant: Plant) -> None:
    await plant.lived(new_run(), "START", "COMPLETE")
    later = datetime.fromisoformat(END) + timedelta(days=365_0)
    assert (await plant.compared(to_ms(later)))[0].seen == 0


async def test_the_command_reports_what_differs(
    plant: Plant,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    logging_as_it_was: None,
) -> None:
    config = tmp_path / "c.yaml"
    sinks = [{"name": "a", "type": "marquez", "url": plant.marquez.url}]
    sources = [{"platform": "dataprep", "name": "source", "workspace": 12345, "token": "geheim-4711"}]
    given = {"ledger": {"path": str(tmp_path / "ledger.db")}, "sources": sources, "sinks": sinks}
    config.write_text(json.dumps(given))
    await plant.lived(new_run(), "START", "COMPLETE")
    assert await asyncio.to_thread(command, config, "a", since=None, mend=False, as_json=False) == 0
    assert "1 run compared with sink a in 1 request: 1 equal, 0 different\n" in capsys.readouterr().out
    await plant.happen(lost := new_run(), "START", "COMPLETE", job="transformation/lost")
    await _acknowledge_unsent(plant)
    assert await asyncio.to_thread(command, config, "a", since=None, mend=False, as_json=True) == 1
    shown = json.loads(capsys.readouterr().out)
    assert [(each["run_id"], each["mend"]) for each in shown["differences"]] == [(lost, "run")]
    assert (shown["compared"], shown["by_difference"], shown["error"]) == (2, {"missing": 1}, None)
    assert await asyncio.to_thread(command, config, "a", since=None, mend=False, as_json=False) == 1
    missing = f"{lost} transformation/lost (source source): missing, it is COMPLETED in the ledger\n"
    assert missing in capsys.readouterr().out
    sent: list[Any] = []

    async def recorded(_: object, target: str, kind: RequestKind, body: Any) -> RequestResult:
        sent.append((target, kind, body))
        return RequestResult(RequestState.DONE, {"queued": 1})

    monkeypatch.setattr(requests, "submitted", recorded)
    assert await asyncio.to_thread(command, config, "a", since=None, mend=True, as_json=False) == 0
    assert "1 run on the way again\n" in capsys.readouterr().out
    assert sent == [("sink:a", RequestKind.RESEND, {"runs": {lost: "run"}})]


async def _acknowledge_unsent(plant: Plant) -> None:
    """The ledger takes what it owes as acknowledged, and Marquez never got it."""

    def settled(conn: Connection) -> None:
        ledger = Ledger(conn)
        ledger.configure(a=ENDS)
        ledger.drain()

    await plant.store.write(settled)
