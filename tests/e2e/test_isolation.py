"""One broken source among three: the others keep their schedule, to the moment."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from collector.errors import AuthFailed, BadAnswer, LedgerError, Throttled, Unavailable
from collector.model import Enrichment, EventKind, Poll, Run, RunState
from collector.reports import PollResult
from collector.testing.faults import Fault, FaultKind
from tests.e2e.pollers import INTERVAL, Pollers, Scripted
from tests.unit.exporters.delivery_simulation import quick_folder

A_WHILE = 300.0
ON_TIME = [(0.5 + INTERVAL * n, PollResult.OK) for n in range(int(A_WHILE / INTERVAL))]


def raising(error: BaseException) -> Callable[[Scripted, int], AsyncIterator[Poll]]:
    async def poll(broken: Scripted, number: int) -> AsyncIterator[Poll]:
        yield Poll()
        raise error

    return poll


async def hanging(broken: Scripted, number: int) -> AsyncIterator[Poll]:
    await asyncio.Event().wait()
    yield Poll()


async def slow(broken: Scripted, number: int) -> AsyncIterator[Poll]:
    await broken.clock.sleep(250)
    yield Poll()


async def endless(broken: Scripted, number: int) -> AsyncIterator[Poll]:
    page = 0
    while True:
        page += 1
        await broken.clock.sleep(1)
        yield Poll((broken.run(f"{number}/{page}", RunState.RUNNING),))


async def unstorable(broken: Scripted, number: int) -> AsyncIterator[Poll]:
    yield Poll((broken.run("a", RunState.RUNNING), None))  # type: ignore[arg-type] # what a bug makes


async def flooding(broken: Scripted, number: int) -> AsyncIterator[Poll]:
    yield Poll(tuple(broken.run(f"{number}/{n}", RunState.RUNNING) for n in range(300)))


BROKEN = {
    "down": raising(Unavailable("no connection")),
    "refused": raising(AuthFailed("401")),
    "throttled": raising(Throttled("429", after=1200)),
    "unreadable": raising(BadAnswer("HTML")),
    "a bug": raising(ZeroDivisionError("division by zero")),
    "a cancellation inside": raising(asyncio.CancelledError()),
    "hanging": hanging,
    "slow": slow,
    "endless": endless,
    "unstorable": unstorable,
    "flooding": flooding,
}


@pytest.fixture
async def pollers(folder: Path) -> AsyncIterator[Pollers]:
    async with Pollers(folder) as made:
        yield made


@pytest.fixture
def folder() -> Iterator[Path]:
    with quick_folder() as name:
        yield Path(name)


@pytest.mark.parametrize("how", BROKEN)
async def test_a_broken_poll_delays_no_other(pollers: Pollers, how: str) -> None:
    for name in ("first", "broken", "last"):
        made = await pollers.scripted(name)
        if name == "broken":
            made.script = lambda number, made=made: BROKEN[how](made, number)
    await pollers.advance(A_WHILE)
    assert pollers.polls("first") == pollers.polls("last") == ON_TIME
    assert len(pollers.polls("broken")) < len(ON_TIME) or how == "flooding"


async def test_a_broken_source_is_tried_again_and_recovers(pollers: Pollers) -> None:
    broken = await pollers.scripted("broken")

    async def until_later(number: int) -> AsyncIterator[Poll]:
        if number < 3:
            raise asyncio.CancelledError
        yield Poll()

    broken.script = until_later
    await pollers.advance(A_WHILE)
    results = [result for _, result in pollers.polls("broken")]
    assert results == [PollResult.ERROR] * 2 + [PollResult.OK] * 4
    assert pollers.pollers["broken"].status.wrong is None


async def never(run: Run) -> Enrichment:
    await asyncio.Event().wait()
    raise AssertionError


async def buggy(run: Run) -> Enrichment:
    raise ZeroDivisionError("division by zero")


async def cancelled(run: Run) -> Enrichment:
    raise asyncio.CancelledError


@pytest.mark.parametrize("enrich", [never, buggy, cancelled])
async def test_a_broken_enrichment_delays_no_other(
    pollers: Pollers, enrich: Callable[[Run], Awaitable[Enrichment]]
) -> None:
    async def ended(broken: Scripted, number: int) -> AsyncIterator[Poll]:
        yield Poll((broken.run(str(number), RunState.SUCCEEDED),))

    made = {name: await pollers.scripted(name) for name in ("first", "broken", "last")}
    for scripted in made.values():
        scripted.script = lambda number, scripted=scripted: ended(scripted, number)
    made["broken"].enriches = enrich
    await pollers.advance(A_WHILE)
    assert pollers.polls("first") == pollers.polls("last") == pollers.polls("broken") == ON_TIME
    ends = [report.source for report in pollers.reports.events if report.kind is EventKind.COMPLETE]
    assert ends.count("first") == ends.count("last") == len(ON_TIME)
    in_time = [at for at, _ in ON_TIME if enrich is not never or at + 60 <= A_WHILE]
    assert ends.count("broken") == len(in_time), "a bug costs the details, not the end"
    assert pollers.store.reads < 5 * A_WHILE, "nothing spins"


async def test_a_ledger_that_takes_no_ends_makes_nothing_spin(
    pollers: Pollers, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def ended(number: int) -> AsyncIterator[Poll]:
        yield Poll((scripted.run(str(number), RunState.SUCCEEDED),))

    attempts: list[float] = []
    refused: list[float] = []

    async def enrich(run: Run) -> Enrichment:
        attempts.append(pollers.clock.monotonic())
        return Enrichment()

    write = pollers.store.write

    async def refusing(fn: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        if getattr(fn, "__name__", "") == "write_ends":
            refused.append(pollers.clock.monotonic())
            raise LedgerError("disk full")
        return await write(fn, *args, **kwargs)

    monkeypatch.setattr(pollers.store, "write", refusing)
    scripted = await pollers.scripted("source")
    scripted.script, scripted.enriches = ended, enrich
    await pollers.advance(60)
    assert attempts == [0.5, 0.5 + INTERVAL], "once each: what was found is kept"
    assert 4 <= len(refused) < 20
    monkeypatch.setattr(pollers.store, "write", write)
    await pollers.advance(60)
    ends = [report for report in pollers.reports.events if report.kind is EventKind.COMPLETE]
    assert len(ends) == 4, "what was refused is written later"


OUTAGES = (
    Fault(FaultKind.STATUS, status=503, times=-1),
    Fault(FaultKind.STATUS, status=401, times=-1),
    Fault(FaultKind.HTML, status=200, times=-1),
    Fault(FaultKind.RESET, times=-1),
    Fault(FaultKind.STATUS, status=429, headers={"Retry-After": "3000"}, times=-1),
)


async def test_an_outage_of_one_platform_delays_no_other(folder: Path) -> None:
    """With the real adapters, against themselves on a day when all goes well."""
    usual = await a_day(folder / "usual", None)
    assert {result for polls in usual.values() for _, result in polls} == {PollResult.OK}
    for name in usual:
        found = await a_day(folder / name, name)
        assert {other: found[other] for other in found if other != name} == {
            other: usual[other] for other in usual if other != name
        }
        assert PollResult.OK not in {result for at, result in found[name] if at > 61}


async def a_day(folder: Path, broken: str | None) -> dict[str, list[tuple[float, PollResult]]]:
    """Some minutes, in which from the first on one platform is broken in all manners."""
    folder.mkdir()
    async with Pollers(folder) as pollers:
        await pollers.platforms()
        await pollers.advance(60)
        for fault in OUTAGES:
            if broken is not None:
                pollers.simulators[broken].faults.clear()
                pollers.simulators[broken].faults.plan(fault)
            await pollers.advance(60)
        return {name: pollers.polls(name) for name in pollers.pollers}
