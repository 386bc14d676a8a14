"""The contract of platform adapters, against a server that behaves as its vendor's and under simulated time.

The tests of a platform subclass `PlatformContract`, and the other classes as far as it does what they are about, and give them a
fixture `rig`: one server on loopback and one adapter.
"""

import asyncio
from collections.abc import Mapping
from dataclasses import replace
from random import Random
from typing import Any, Protocol

import orjson
import pytest

from collector.errors import NotFound, SourceError, TriggerError
from collector.lifecycle import VanishedPolicy
from collector.model import EventKind, Observation, RunState
from collector.names import namespace_fault
from collector.platforms.base import Platform
from collector.testing.clock import SimulatedClock
from collector.testing.faults import Fault, FaultKind, Faults
from collector.testing.poller import SimulatedPoller

TERMINAL = {"succeeded": EventKind.COMPLETE, "failed": EventKind.FAIL, "canceled": EventKind.ABORT}
_ENDS = frozenset(kind.value for kind in TERMINAL.values())
ONCE = "3f0c9f3e-0a44-4c2e-9a5e-0d2a66a0f001"


class Rig(Protocol):
    """One server of the platform and one adapter, both under `clock`. The members that tests only read may be properties."""

    @property
    def endings(self) -> tuple[str, ...]:
        """The ends that the platform knows, of succeeded, failed and canceled."""
        ...

    @property
    def lists(self) -> bool:
        """Whether the adapter finds runs by itself, without `watch`."""
        ...

    @property
    def clock(self) -> SimulatedClock: ...

    @property
    def poller(self) -> SimulatedPoller: ...

    @property
    def faults(self) -> Faults:
        """The faults of the server, which apply to each of its requests."""
        ...

    def start(self, ending: str, seconds: float) -> str:
        """A new run that begins at once and ends so after about so many seconds ("never": it goes on). Its key."""
        ...

    def forget(self, key: str) -> None:
        """The platform loses this run."""
        ...

    def refuse(self) -> None:
        """The server refuses the adapter's credentials from now on."""
        ...

    def accept(self) -> None:
        """The server accepts the credentials again."""
        ...

    async def new_process(self) -> Platform:
        """The adapter as after a restart, in place of the one before in `poller`."""
        ...

    async def stop_server(self) -> None:
        """The server no longer listens."""
        ...

    def expected(self) -> Mapping[str, Mapping[str, Any]]:
        """All runs by key as the server knows them, each with at least `state` (a value of `RunState`)."""
        ...


class TriggerRig(Rig, Protocol):
    @property
    def job(self) -> str:
        """A job that can be triggered any number of times."""
        ...

    @property
    def trigger_path(self) -> str:
        """A regular expression for the request that starts a run, as in `Fault.path`."""
        ...


class PlatformContract:
    """For every platform. The class has, or its module has, a fixture `rig`."""

    async def test_a_run_gets_one_start_and_one_end(self, rig: Rig) -> None:
        for ending in rig.endings:
            key = await begun(rig, ending)
            await rig.poller.follow(180)
            _assert_ended_once(rig, key, ending)

    async def test_a_run_that_ended_between_two_polls_gets_both(self, rig: Rig) -> None:
        await rig.poller.cycle()
        key = rig.start("succeeded", 5)
        rig.clock.advance(120)
        await watch_if_unlisted(rig, key)
        await rig.poller.follow(60)
        assert ends(rig, key) == [EventKind.START, EventKind.COMPLETE]

    async def test_a_run_without_an_end_stays_open(self, rig: Rig) -> None:
        key = await begun(rig, "never")
        await rig.poller.follow(7200, every=600)
        assert rig.poller.runs[key].open
        assert not [kind for kind in ends(rig, key) if kind.terminal]

    @pytest.mark.parametrize("policy", list(VanishedPolicy))
    async def test_a_run_that_is_gone_becomes_unknown_not_failed(self, rig: Rig, policy: VanishedPolicy) -> None:
        rig.poller.policy = replace(rig.poller.policy, on_vanished=policy)
        key, other = await begun(rig, "never"), await begun(rig, "never")
        rig.forget(key)
        await rig.poller.follow(600, every=60)
        gone = rig.poller.runs[key]
        assert (gone.state, gone.open) == (RunState.UNKNOWN, False)
        assert rig.poller.runs[other].open
        terminal = [kind for kind in ends(rig, key) if kind.terminal]
        assert terminal == ([EventKind.ABORT] if policy is VanishedPolicy.ABORT else [])

    async def test_a_new_process_repeats_nothing_and_loses_nothing(self, rig: Rig) -> None:
        key = await begun(rig, "succeeded", 60)
        run_id = rig.poller.runs[key].run_id
        for _ in range(4):
            await rig.new_process()
            await rig.poller.follow(20)
        await rig.poller.follow(120)
        assert ends(rig, key) == [EventKind.START, EventKind.COMPLETE]
        assert rig.poller.runs[key].run_id == run_id

    async def test_names_suit_every_backend(self, rig: Rig) -> None:
        key = await begun(rig, "succeeded", 5)
        await rig.poller.follow(120)
        run = rig.poller.runs[key]
        assert namespace_fault(run.job.namespace) is None
        assert run.job.name[0].isalpha()
        for dataset in [*(run.facts.inputs or ()), *(run.facts.outputs or ())]:
            assert dataset.name[0].isalpha()
            assert namespace_fault(dataset.namespace) is None

    async def test_a_poll_without_news_yields_a_page(self, rig: Rig) -> None:
        await rig.poller.cycle()
        assert [page async for page in rig.poller.platform.poll([], rig.poller.cursor)]

    @pytest.mark.parametrize(
        "fault",
        [
            Fault(FaultKind.STATUS, status=401),
            Fault(FaultKind.STATUS, status=403),
            Fault(FaultKind.STATUS, status=429, headers={"Retry-After": "5"}),
            Fault(FaultKind.STATUS, status=500),
            Fault(FaultKind.STATUS, status=503),
            Fault(FaultKind.STATUS, status=200, body=["not", "what", "you", "expect"]),
            Fault(FaultKind.HTML),
            Fault(FaultKind.HTML, status=200),
            Fault(FaultKind.LOST),
            Fault(FaultKind.RESET),
            Fault(FaultKind.TRUNCATED),
        ],
        ids=lambda fault: f"{fault.kind} {fault.status}",
    )
    async def test_an_outage_costs_no_run(self, rig: Rig, fault: Fault) -> None:
        key = await begun(rig, "succeeded", 60)
        rig.faults.plan(replace(fault, times=-1))
        for _ in range(5):
            await broken_cycle(rig)
            rig.clock.advance(60)
        assert not rig.poller.runs[key].state.terminal
        assert rig.poller.runs[key].misses == 0
        rig.faults.clear()
        rig.clock.advance(600)
        await rig.poller.follow(120)
        assert ends(rig, key) == [EventKind.START, EventKind.COMPLETE]

    async def test_refused_credentials_are_reported_and_overcome(self, rig: Rig) -> None:
        key = await begun(rig, "succeeded", 60)
        rig.refuse()
        rig.clock.advance(120)
        await broken_cycle(rig)
        bad = [finding for finding in await rig.poller.platform.check() if not finding.ok]
        assert bad
        assert all(finding.detail and finding.remedy for finding in bad)
        rig.accept()
        rig.clock.advance(600)
        await rig.poller.follow(120)
        assert ends(rig, key) == [EventKind.START, EventKind.COMPLETE]

    async def test_a_cancelled_poll_leaves_no_harm(self, rig: Rig) -> None:
        key = await begun(rig, "succeeded", 60)
        rig.clock.advance(10)
        rig.faults.plan(Fault(FaultKind.SLOW, delay=30.0, times=-1))
        polling = asyncio.create_task(rig.poller.cycle())
        await asyncio.sleep(0.2)
        polling.cancel()
        with pytest.raises(asyncio.CancelledError):
            await polling
        rig.faults.clear()
        rig.clock.advance(600)
        await rig.poller.follow(120)
        assert ends(rig, key) == [EventKind.START, EventKind.COMPLETE]

    async def test_check_finds_all_well(self, rig: Rig) -> None:
        found = await rig.poller.platform.check()
        assert found
        assert all(finding.ok for finding in found)

    async def test_check_of_a_dead_server(self, rig: Rig) -> None:
        await rig.stop_server()
        bad = [finding for finding in await rig.poller.platform.check() if not finding.ok]
        assert bad
        assert all(finding.remedy for finding in bad)

    async def test_closing_twice_is_allowed(self, rig: Rig) -> None:
        await rig.poller.cycle()
        await rig.poller.platform.close()
        await rig.poller.platform.close()

    async def test_many_runs_of_all_kinds_end_as_the_platform_says(self, rig: Rig) -> None:
        rng = Random(3)
        keys = []
        for _ in range(30):
            key = rig.start(rng.choice(rig.endings), rng.uniform(0, 60))
            await watch_if_unlisted(rig, key)
            keys.append(key)
            rig.clock.advance(rng.uniform(0, 10))
            if rng.random() < 0.3:
                await rig.poller.cycle()
        await rig.poller.follow(300)
        expected = rig.expected()
        assert [ends(rig, key) for key in keys] == [[EventKind.START, TERMINAL[expected[key]["state"]]] for key in keys]


class LineageContract:
    """For platforms that report the datasets of their jobs."""

    @pytest.mark.parametrize("is_unread", [False, True], ids=["read", "details unread"])
    async def test_a_run_that_did_not_succeed_names_what_its_job_defines(self, rig: Rig, is_unread: bool) -> None:
        """Marquez takes the datasets of any terminal event for those of the job."""
        good = await begun(rig, "succeeded")
        await rig.poller.follow(180)
        defined = datasets_of(end_of(rig, good))
        assert all(defined.values())
        rig.poller.is_unread = is_unread
        for ending in rig.endings:
            key = await begun(rig, ending)
            await rig.poller.follow(180)
            assert datasets_of(end_of(rig, key)) == defined, ending

    async def test_nor_does_one_that_vanished_take_the_datasets_of_its_job_away(self, rig: Rig) -> None:
        rig.poller.policy = replace(rig.poller.policy, on_vanished=VanishedPolicy.ABORT)
        good = await begun(rig, "succeeded")
        await rig.poller.follow(180)
        lost = await begun(rig, "never")
        rig.forget(lost)
        await rig.poller.follow(600, every=60)
        end = end_of(rig, lost)
        assert end["eventType"] == "ABORT"
        assert datasets_of(end) == datasets_of(end_of(rig, good))

    async def test_enriching_twice_says_the_same(self, rig: Rig) -> None:
        key = await begun(rig, "succeeded", 5)
        await rig.poller.follow(120)
        run = rig.poller.runs[key]
        assert await rig.poller.platform.enrich(run) == await rig.poller.platform.enrich(run)


class TriggerContract:
    """For platforms whose `trigger` starts runs; the rig is a `TriggerRig`."""

    async def test_a_trigger_starts_one_run(self, rig: TriggerRig) -> None:
        before = len(rig.expected())
        seen = await rig.poller.platform.trigger(rig.job, {}, ONCE)
        rig.poller.adopt(seen)
        await rig.poller.follow(120)
        assert len(rig.expected()) == before + 1
        assert seen.key in rig.expected()
        assert ends(rig, seen.key)[:1] == [EventKind.START]

    async def test_a_trigger_in_doubt_starts_no_second_run(self, rig: TriggerRig) -> None:
        before = len(rig.expected())
        rig.faults.plan(Fault(FaultKind.LOST, path=rig.trigger_path))
        answer = await trigger(rig, rig.job)
        assert isinstance(answer, Observation) or answer.doubtful
        assert len(rig.expected()) == before + 1

    async def test_a_refused_trigger_is_certain(self, rig: TriggerRig) -> None:
        before = len(rig.expected())
        rig.faults.plan(Fault(FaultKind.STATUS, path=rig.trigger_path, status=403, times=-1))
        answer = await trigger(rig, rig.job)
        assert isinstance(answer, TriggerError)
        assert not answer.doubtful
        assert len(rig.expected()) == before

    async def test_a_job_that_does_not_exist_cannot_be_triggered(self, rig: TriggerRig) -> None:
        answer = await trigger(rig, "99999999")
        assert isinstance(answer, TriggerError)
        assert not answer.doubtful
        assert str(answer)


class WatchContract:
    """For platforms whose `watch` reads a single run."""

    async def test_the_patience_that_a_platform_asks_for_is_had_by_all_tasks(self, rig: Rig) -> None:
        key = await begun(rig, "succeeded", 60)
        rig.clock.advance(10)
        wish = Fault(FaultKind.STATUS, path=r"^(?!.*/oauth2)", status=429, headers={"Retry-After": "25"})
        rig.faults.plan(wish)
        began = rig.clock.monotonic()
        await failure(rig)
        await asyncio.gather(*(rig.poller.platform.watch(key, {}) for _ in range(3)))
        assert rig.clock.monotonic() >= began + 25

    async def test_a_run_that_does_not_exist_cannot_be_watched(self, rig: Rig) -> None:
        for key in ("99999999", "9b0c9f3e-0a44-4c2e-9a5e-0d2a66a0f003", "no such run"):
            with pytest.raises(NotFound):
                await rig.poller.platform.watch(key, {})

    async def test_a_new_process_knows_a_run_by_the_same_id(self, rig: Rig) -> None:
        key = await begun(rig, "succeeded", 60)
        await rig.new_process()
        assert (await rig.poller.platform.watch(key, {})).run_id == rig.poller.runs[key].run_id


async def begun(rig: Rig, ending: str, seconds: float = 10) -> str:
    """A run that the adapter follows."""
    await rig.poller.cycle()
    key = rig.start(ending, seconds)
    await watch_if_unlisted(rig, key)
    await rig.poller.cycle()
    return key


async def watch_if_unlisted(rig: Rig, key: str) -> None:
    if not rig.lists:
        rig.poller.adopt(await rig.poller.platform.watch(key, {}))


def ends(rig: Rig, key: str) -> list[EventKind]:
    """START and terminal events of a run, in order."""
    return [kind for kind in rig.poller.kinds(key) if kind is EventKind.START or kind.terminal]


async def failure(rig: Rig) -> SourceError | None:
    try:
        await rig.poller.cycle()
    except SourceError as error:
        return error
    return None


async def broken_cycle(rig: Rig) -> None:
    """Either the poll raises, or it names the runs that it could not read."""
    pages, due = len(rig.poller.pages), {run.key for run in rig.poller.due()}
    error = await failure(rig)
    unread = {key for page in rig.poller.pages[pages:] for key in page.unread}
    assert str(error) if error is not None else due <= unread


async def trigger(rig: Rig, job: str) -> Observation | TriggerError:
    try:
        return await rig.poller.platform.trigger(job, {}, ONCE)
    except TriggerError as error:
        return error


def _assert_ended_once(rig: Rig, key: str, ending: str) -> None:
    assert ends(rig, key) == [EventKind.START, TERMINAL[ending]]
    assert rig.poller.runs[key].state == rig.expected()[key]["state"] == ending
    times = [transition.at for of, transition in rig.poller.transitions if of == key]
    assert times == sorted(times)


def datasets_of(event: Any) -> dict[str, set[tuple[str, str]]]:
    return {side: {(one["namespace"], one["name"]) for one in event.get(side, [])} for side in ("inputs", "outputs")}


def end_of(rig: Rig, key: str) -> Any:
    run_id = str(rig.poller.runs[key].run_id)
    events = [orjson.loads(event) for event in rig.poller.events]
    [end] = [event for event in events if event["run"]["runId"] == run_id and event["eventType"] in _ENDS]
    return end
