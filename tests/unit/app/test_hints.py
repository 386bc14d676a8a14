"""Messages from outside, over loopback: who may send them, what they do, and what they cannot do."""

import asyncio
import hmac
import logging
from collections import Counter
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from hashlib import sha256
from pathlib import Path
from typing import Any

import aiohttp
import orjson
import pytest
from prometheus_client.parser import text_string_to_metric_families
from sqlalchemy import Connection, func, select

from collector.app import hints
from collector.app.hints import MOST_MEANT, HintedSource, Hints
from collector.app.observers import Observers
from collector.app.service import Service
from collector.clock import to_ms
from collector.errors import AuthFailed, BadAnswer, LedgerError, NotFound
from collector.hint import LARGEST
from collector.ledger import configured_sources, leases, queries, requests, runs, schema, stored
from collector.ledger.configured_sources import Configured
from collector.ledger.leases import Lease
from collector.ledger.requests import RequestKind, RequestState
from collector.ledger.runs import PollCommit, RunChange
from collector.model import Job, Run, RunState
from collector.reports import HintReport, HintResult, PollReport
from collector.testing.clock import SimulatedClock
from config.settings import Settings
from exporters.web.listener import LARGEST_BODY
from exporters.web.pages import serve
from simulators.server import Served
from simulators.wetransform import Plan, Scenario, Webhook, WetransformSimulator, sign
from simulators.wetransform.state import Run as SimulatedRun
from tests.deployment import now
from tests.unit.exporters.delivery_simulation import WatchedStore, open_store
from tests.unit.exporters.test_web import GOOD
from tests.unit.ledger.ledgers import a_run


class Believing:
    """A platform that takes any message whose header `Word` is "please"; the body names the runs."""

    def hint(self, headers: Mapping[str, str], body: bytes) -> Callable[[Run], bool] | None:
        word = headers.get("Word")
        if word != "please":
            raise NotFound("nobody listens") if word is None else AuthFailed("wrong word")
        try:
            keys = orjson.loads(body)
        except ValueError as error:
            raise BadAnswer("no JSON") from error
        return None if keys is None else lambda run: run.key in keys


@dataclass
class Door:
    """`post` sends to a server with one source, `files`; `asked` is what the source is asked for since the last look."""

    client: aiohttp.ClientSession
    store: WatchedStore
    clock: SimulatedClock
    lease: Lease
    source_id: int
    hints: Hints = field(init=False)
    reports: list[HintReport] = field(default_factory=list)

    async def post(self, body: bytes, path: str = "/hints/simple/files", word: str | None = "please") -> int:
        headers = {} if word is None else {"Word": word}
        async with self.client.post(path, data=body, headers=headers) as answer:
            assert "Traceback" not in await answer.text()
            return answer.status

    async def asked(self) -> list[list[str]]:
        claimed = await self.store.write(requests.claim, self.lease, 10)
        assert all(request.kind is RequestKind.POLL for request in claimed)
        return [orjson.loads(request.body)["keys"] for request in claimed]

    async def runs(self, *found: Run) -> None:
        commit = PollCommit(self.lease, self.source_id, tuple(map(RunChange, found)))
        await self.store.write(runs.commit_poll, commit, to_ms(self.clock.now()))

    def results(self) -> list[HintResult]:
        return [report.result for report in self.reports]

    def hinted(self, report: HintReport) -> None:
        self.reports.append(report)


@pytest.fixture
async def door(tmp_path: Path) -> AsyncIterator[Door]:
    clock, store = SimulatedClock(), WatchedStore(open_store(tmp_path))
    ids = await store.write(configured_sources.sync_sources, [Configured("files")], to_ms(clock.now()))
    lease = await store.write(leases.take, "source:files", "test", 60_000)
    made = Door(None, store, clock, lease, ids["files"])  # type: ignore[arg-type]
    files = HintedSource("simple", ids["files"], Believing(), lambda: SECRET)  # type: ignore[arg-type] # a double
    taken = {"files": files, "closed": replace(files, secret=None)}
    made.hints = Hints(taken, store, clock, made)  # type: ignore[arg-type] # doubles of both
    routes = made.hints.routes()
    listener = await serve(GOOD, "127.0.0.1", 0, routes)
    async with aiohttp.ClientSession(f"http://127.0.0.1:{listener.port}") as made.client:
        yield made
    await listener.close()
    await store.close()


def later(key: str, clock: SimulatedClock, **more: Any) -> Run:
    return a_run(key, seen_at=clock.now(), due_at=clock.now() + timedelta(minutes=10), **more)


async def test_the_runs_that_are_meant_are_looked_at_now(door: Door) -> None:
    await door.runs(later("a", door.clock), later("b", door.clock), later("c", door.clock))
    assert await door.post(b'["a", "c", "z"]') == 202
    assert await door.asked() == [["a", "c"]]
    assert door.results() == [HintResult.TAKEN]
    [row] = await door.store.read(queries.sources)
    assert row.hinted_at == to_ms(door.clock.now())


@pytest.mark.parametrize("body", [b"null", b"[]", b'["due"]', b'["ended"]', b'["every cycle"]'])
async def test_a_message_about_no_run_asks_for_nothing(door: Door, body: bytes) -> None:
    start = door.clock.now()
    await door.runs(
        later("later", door.clock),
        a_run("due", seen_at=start, due_at=start),
        later("ended", door.clock, ended_at=start),
        a_run("every cycle", seen_at=start),
    )
    assert await door.post(body) == 202
    assert await door.asked() == []
    assert door.results() == [HintResult.NOTHING]


@pytest.mark.parametrize(
    ("word", "body", "status", "results"),
    [
        ("wrong", b'["a"]', 401, [HintResult.REFUSED]),
        ("\udcff", b'["a"]', 401, [HintResult.REFUSED]),
        (None, b'["a"]', 404, []),
        ("please", b"{", 400, [HintResult.UNREADABLE]),
        ("please", b"", 400, [HintResult.UNREADABLE]),
    ],
)
async def test_what_is_not_taken(
    door: Door, word: str | None, body: bytes, status: int, results: list[HintResult]
) -> None:
    await door.runs(later("a", door.clock))
    if word == "\udcff":
        assert await raw(door, b"POST /hints/simple/files HTTP/1.1\r\nWord: \xff\r\nContent-Length: 2\r\n\r\n[]") == 401
    else:
        assert await door.post(body, word=word) == status
    assert await door.asked() == []
    assert door.results() == results


# Messages of our own form


def signed(message: object, secret: str | None = None, header: str = "X-Signature") -> tuple[bytes, dict[str, str]]:
    """A message and its headers."""
    body = orjson.dumps(message)
    return body, {header: hmac.new((secret or SECRET).encode(), body, sha256).hexdigest()}


async def send(door: Door, message: object, *, prefix: str = "", **more: Any) -> int:
    body, headers = signed(message, **more)
    headers = {name: f"{prefix}{value}" for name, value in headers.items()}
    async with door.client.post("/hints/files", data=body, headers=headers) as answer:
        return answer.status


def job(key: str, name: str) -> Job:
    return Job(key, "simple://here/files", name, "JOB", "SIMPLE")


@pytest.mark.parametrize(
    ("message", "keys"),
    [
        ({}, ["a1", "a2", "b"]),
        ({"unknown": 1}, ["a1", "a2", "b"]),
        ({"run": "a1"}, ["a1"]),
        ({"run": "new"}, []),
        ({"job": 7}, ["a1", "a2"]),
        ({"job": "flow/seven"}, ["a1", "a2"]),
        ({"job": "seven"}, ["a1", "a2"]),
        ({"job": "new"}, []),
        ({"job": "b", "run": "b"}, ["b"]),
    ],
)
async def test_a_signed_message_has_the_source_polled_with_the_runs_it_may_mean(
    door: Door, message: object, keys: list[str]
) -> None:
    seven = job("7", "flow/seven")
    await door.runs(
        later("a1", door.clock, job=seven),
        later("a2", door.clock, job=seven),
        later("b", door.clock, job=job("b", "flow/b")),
    )
    assert await send(door, message) == 202
    assert await door.asked() == [keys]
    assert door.results() == [HintResult.TAKEN]


@pytest.mark.parametrize("header", ["X-Signature", "X-Hub-Signature-256"])
@pytest.mark.parametrize("prefix", ["", "sha256=", " SHA256="])
async def test_a_signature_may_come_in_the_forms_of_the_field(door: Door, header: str, prefix: str) -> None:
    assert await send(door, {}, header=header, prefix=prefix) == 202


@pytest.mark.parametrize("more", [{"secret": "another"}, {"header": "X-Other"}, {"prefix": "sha1="}])
async def test_a_message_with_another_signature_is_refused(door: Door, more: dict[str, str]) -> None:
    assert await send(door, {}, **more) == 401
    assert (await door.asked(), door.results()) == ([], [HintResult.REFUSED])


@pytest.mark.parametrize("message", [[], "text", None, 7, {"job": ""}, {"run": {}}, {"job": "x" * 1001}])
async def test_a_signed_message_that_cannot_be_read_is_refused(door: Door, message: object) -> None:
    assert await send(door, message) == 400
    assert (await door.asked(), door.results()) == ([], [HintResult.UNREADABLE])


async def test_many_messages_are_one_request_until_it_is_begun(door: Door) -> None:
    await door.runs(*(later(key, door.clock) for key in "abc"))
    assert [await send(door, {"run": key}) for key in ("a", "b", "a")] == [202] * 3
    assert await door.asked() == [["a", "b"]]
    assert await send(door, {"run": "c"}) == 202
    assert await door.asked() == [["c"]]


async def test_messages_of_a_topic_for_one_source_are_one_request(door: Door, caplog: pytest.LogCaptureFixture) -> None:
    await door.runs(*(later(key, door.clock) for key in "abc"))
    bodies = [b'{"source": "files", "run": "%c"}' % key for key in b"ab"]
    await door.hints.take([b"", *bodies, b"\xff", b"[]", b'{"source": "filse"}', b"{}", b" " * (LARGEST + 1)])
    assert await door.asked() == [["a", "b"]]
    assert Counter((report.source, report.result) for report in door.reports) == {
        ("files", HintResult.TAKEN): 2,
        ("", HintResult.UNREADABLE): 6,
    }
    causes = [record.fields["cause"] for record in caplog.records if record.message == "hint.ignored"]  # type: ignore[attr-defined]
    assert "no source has the name filse; known are files, closed" in causes


async def test_messages_of_a_topic_that_the_ledger_does_not_take_are_logged(
    door: Door, caplog: pytest.LogCaptureFixture
) -> None:
    door.store.error = "disk full"
    await door.hints.take([b'{"source": "files"}'] * 3)
    [lost] = [record for record in caplog.records if record.message == "hint.lost"]
    assert lost.fields["messages"] == 3  # type: ignore[attr-defined]


async def raw(door: Door, request: bytes, *, patience: float = 5.0) -> int:
    """The status of what comes back to these bytes."""
    url = door.client._base_url
    assert url is not None
    reader, writer = await asyncio.open_connection("127.0.0.1", url.port)
    writer.write(request.replace(b"HTTP/1.1\r\n", b"HTTP/1.1\r\nHost: x\r\n"))
    line = await asyncio.wait_for(reader.readline(), patience)
    writer.close()
    await writer.wait_closed()
    return int(line.split()[1])


@pytest.mark.parametrize("path", ["/hints/simple/other", "/hints/cdf/files", "/hints/other", "/hints/closed", "/hints"])
async def test_there_is_no_other_door(door: Door, path: str) -> None:
    assert await door.post(b"[]", path) == 404
    async with door.client.get("/hints/simple/files") as answer:
        assert answer.status == 405
    assert door.reports == []


@pytest.mark.parametrize("known_length", [True, False])
async def test_a_large_message_is_not_read_to_its_end(door: Door, known_length: bool) -> None:
    async def parts() -> AsyncIterator[bytes]:
        for _ in range(40):
            yield b" " * (LARGEST_BODY // 10)

    body = b" " * (LARGEST_BODY + 1) if known_length else parts()
    async with door.client.post("/hints/simple/files", data=body, headers={"Word": "please"}) as answer:
        assert answer.status == 413
    assert await door.post(b" " * (LARGEST_BODY - 4) + b"[]") == 202
    assert door.results() == [HintResult.NOTHING]


async def test_a_message_that_never_ends_is_not_waited_for(door: Door, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hints, "BODY_WITHIN", 0.05)
    assert await raw(door, b"POST /hints/simple/files HTTP/1.1\r\nContent-Length: 5\r\n\r\n[") == 408


async def test_a_ledger_that_fails_is_answered_to_the_sender(door: Door, caplog: pytest.LogCaptureFixture) -> None:
    door.store.error = "disk full"
    assert await door.post(b'["a"]') == 503
    assert "hint.lost" in [record.message for record in caplog.records]
    door.store.error = None
    assert await door.post(b'["a"]') == 202


async def test_a_message_that_may_mean_many_makes_only_some_due(door: Door) -> None:
    """First those that do not wait for a person, then those that were seen longest ago."""
    waiting = [later(f"waiting {n}", door.clock, state=RunState.WAITING) for n in range(MOST_MEANT)]
    door.clock.advance(60)
    running = [later(f"running {n}", door.clock) for n in range(5)]
    await door.runs(*waiting, *running)
    keys = [run.key for run in waiting + running]
    assert await door.post(orjson.dumps(keys)) == 202
    [asked] = await door.asked()
    assert len(asked) == MOST_MEANT
    assert set(asked[:5]) == {run.key for run in running}


async def test_hastened_runs_are_due_now_and_stay_so_until_they_are_seen(door: Door) -> None:
    run = later("a", door.clock)
    await door.runs(run, a_run("ended", due_at=run.due_at, ended_at=run.seen_at))
    door.clock.advance(60)
    now_ms = to_ms(door.clock.now())

    def due(conn: Connection) -> list[str]:
        return [found.key for found in stored.tracked(conn, door.source_id, now_ms, 10).runs]

    assert await door.store.read(due) == []
    make_due = runs.make_due, door.lease, door.source_id, ["a", "ended", "unknown"], now_ms
    assert await door.store.write(*make_due) == 1
    assert await door.store.read(due) == ["a"]
    assert await door.store.write(*make_due) == 0
    known = (await door.store.read(runs.by_keys, door.source_id, ["a"]))["a"]
    assert known == replace(run, due_at=door.clock.now())
    stale = replace(door.lease, token=door.lease.token + 1)
    with pytest.raises(LedgerError):
        await door.store.write(runs.make_due, stale, door.source_id, ["a"], now_ms)


# The vendor's webhook and the running service

SECRET = "the webhook's secret"


class Polls(Observers):
    """Hears of each poll that ended."""

    def __init__(self) -> None:
        super().__init__()
        self.ended = asyncio.Event()

    def polled(self, report: PollReport) -> None:
        self.ended.set()


class Ahead:
    """The clock of the simulated platform, which a test sets ahead."""

    def __init__(self) -> None:
        self.by = timedelta()

    def __call__(self) -> datetime:
        return now() + self.by


class Account:
    """A running service that reads its runs once an hour, so that only hints bring news."""

    def __init__(self, service: Service, simulator: WetransformSimulator, polls: Polls) -> None:
        self.service, self.simulator, self.polls = service, simulator, polls
        self.url = f"http://127.0.0.1:{service.port}/hints/wetransform/customers"

    async def started(self) -> SimulatedRun:
        """A run that is watched and that ends at once, which nobody sees."""
        run = self.simulator.start(self.simulator.transformations[0], Plan(Scenario.STUCK, timedelta(seconds=0)))
        body = {"key": run.key, "options": {"transformation": run.transformation.key}}
        answer = await self.service.submit("source:customers", RequestKind.WATCH, body)
        assert answer.state is RequestState.DONE, answer
        self.simulator.set_step(run, "processed")
        return run

    async def state(self, run: SimulatedRun) -> RunState:
        found = await self.service.store.read(runs.by_keys, 1, [run.key])
        return found[run.key].state

    async def seen_to_end(self, run: SimulatedRun) -> None:
        committed = asyncio.Event()
        forget = self.service.store.on_commit(committed.set)
        async with asyncio.timeout(20):
            while await self.state(run) is not RunState.SUCCEEDED:
                await committed.wait()
                committed.clear()
        forget()

    async def asked_to_poll(self) -> int:
        """How often the source was, by what was taken in until now."""

        def read(conn: Connection) -> int:
            asked = select(func.count()).select_from(schema.request).where(schema.request.c.kind == RequestKind.POLL)
            return conn.scalar(asked) or 0

        return await self.service.store.read(read)

    async def hints(self) -> dict[str, float]:
        """The counts of the metrics page."""
        async with (
            aiohttp.ClientSession() as client,
            client.get(f"http://127.0.0.1:{self.service.port}/metrics") as answer,
        ):
            families = text_string_to_metric_families(await answer.text())
            samples = [sample for family in families for sample in family.samples]
        found = [sample for sample in samples if sample.name == "lineage_hints_total" and sample.value]
        return {sample.labels["result"]: sample.value for sample in found}


@asynccontextmanager
async def account(folder: Path, *, clock: Callable[[], datetime] = now, **changed: Any) -> AsyncIterator[Account]:
    simulator, polls = WetransformSimulator(seed=5, now=clock), Polls()
    async with Served(simulator) as served:
        source = {
            "platform": "wetransform",
            "name": "customers",
            "base_url": served.url,
            "tenant": "acme",
            "token": "wetransform-token",
            "webhook_secret": SECRET,
            "poll_interval": "1h",
            "intervals": {"active": "1h", "active_most": "1h", "waiting": "1h", "waiting_most": "1h"},
        }
        settings = Settings.model_validate(
            {
                "ledger": {"path": folder / "lineage.db"},
                "http": {"listen": "127.0.0.1:0"},
                "sources": [source | changed],
                "sinks": [{"name": "file", "type": "file", "path": folder / "events"}],
                "stop_within": "5s",
            }
        )
        async with Service(settings, observers=[polls]) as service:
            yield Account(service, simulator, polls)


async def test_a_right_message_brings_the_end_of_the_run(tmp_path: Path) -> None:
    async with account(tmp_path) as acme:
        run = await acme.started()
        assert await acme.state(run) is RunState.RUNNING
        acme.simulator.webhooks.append(Webhook(acme.url, SECRET))
        assert await acme.simulator.deliver_webhooks() == [202]
        await acme.seen_to_end(run)
        assert await acme.hints() == {"taken": 1}


@pytest.mark.parametrize("signature", ["wrong", "none"])
async def test_a_wrong_signature_does_nothing(tmp_path: Path, signature: str, caplog: pytest.LogCaptureFixture) -> None:
    async with account(tmp_path) as acme:
        run = await acme.started()
        acme.simulator.webhooks.append(Webhook(acme.url, SECRET, signature=signature))
        assert await acme.simulator.deliver_webhooks() == [401]
        assert await acme.asked_to_poll() == 0
        assert await acme.state(run) is RunState.RUNNING
        assert await acme.hints() == {"refused": 1}
    logged = repr([vars(record) for record in caplog.records])
    assert "ann@acme" not in logged
    assert SECRET not in logged


async def test_what_a_message_says_is_never_believed(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """It is signed and names a file, but the run goes on: only the platform knows."""
    caplog.set_level(logging.INFO, "lineage.hint")
    async with account(tmp_path) as acme:
        run = await acme.started()
        acme.simulator.set_step(run, "matching")
        body = orjson.dumps({"event": "file:ready-for-download", "template": run.transformation.template_handle})
        async with (
            aiohttp.ClientSession() as client,
            client.post(acme.url, data=body, headers={"X-Signature": sign(SECRET, body)}) as answer,
        ):
            assert answer.status == 202
        async with asyncio.timeout(20):
            while "GET" not in await requests_for(acme, run):
                await acme.polls.ended.wait()
                acme.polls.ended.clear()
        assert await acme.state(run) is RunState.RUNNING


async def requests_for(acme: Account, run: SimulatedRun) -> str:
    """The requests about this run after the one that began to watch it."""
    [source] = acme.service.settings.sources
    url = getattr(source, "base_url")  # noqa: B009 - of a wetransform source
    async with aiohttp.ClientSession() as client, client.get(f"{url}/_control/requests") as answer:
        counts: dict[str, int] = (await answer.json())["requests"]
    path = f"GET /transformation/automation/{run.key}"
    return path * (counts.get(path, 0) - 1)


async def test_a_duplicate_does_no_harm(tmp_path: Path) -> None:
    async with account(tmp_path) as acme:
        run = await acme.started()
        acme.simulator.webhooks.append(Webhook(acme.url, SECRET, copies=5))
        assert await acme.simulator.deliver_webhooks() == [202] * 5
        await acme.seen_to_end(run)
        assert sum((await acme.hints()).values()) == 5


async def test_a_delayed_one_comes_when_it_comes(tmp_path: Path) -> None:
    clock = Ahead()
    async with account(tmp_path, clock=clock) as acme:
        run = await acme.started()
        acme.simulator.webhooks.append(Webhook(acme.url, SECRET, delay_seconds=60))
        assert await acme.simulator.deliver_webhooks() == []
        assert await acme.state(run) is RunState.RUNNING
        clock.by = timedelta(seconds=60)
        assert await acme.simulator.deliver_webhooks() == [202]
        await acme.seen_to_end(run)


async def test_what_a_lost_one_would_have_brought_the_next_one_brings(tmp_path: Path) -> None:
    async with account(tmp_path) as acme:
        lost, heard = await acme.started(), await acme.started()
        acme.simulator.webhooks.append(Webhook(acme.url, SECRET, lose_every=2))
        assert await acme.simulator.deliver_webhooks() == [202]
        await acme.seen_to_end(heard)
        await acme.seen_to_end(lost)


async def test_without_a_secret_there_is_no_door(tmp_path: Path) -> None:
    async with account(tmp_path, webhook_secret=None) as acme:
        await acme.started()
        acme.simulator.webhooks.append(Webhook(acme.url, SECRET))
        assert await acme.simulator.deliver_webhooks() == [404]
