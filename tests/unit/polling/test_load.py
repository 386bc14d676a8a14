"""When the load of a source is reported, and to which observers."""

import logging
from collections.abc import AsyncIterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from collector.ledger import configured_sources, queries
from collector.ledger.configured_sources import Configured
from collector.ledger.sqlite.store import Store
from collector.model import RunState
from collector.platforms.base import Load
from collector.polling.load import EVERY, Planner
from collector.reports import LoadReport
from collector.testing.clock import SimulatedClock
from tests.unit.exporters.delivery_simulation import open_store
from tests.unit.ledger.ledgers import NOW


class LoadReports:
    """An observer of loads."""

    def __init__(self) -> None:
        self.loads: list[LoadReport] = []

    def planned(self, report: LoadReport) -> None:
        self.loads.append(report)


class Counting:
    """A platform with a load that is reported; `cost` None: not known yet."""

    def __init__(self) -> None:
        self.cost: float | None = 4.0
        self.watched: list[Mapping[RunState, int]] = []

    def load(self, watched: Mapping[RunState, int]) -> Load | None:
        self.watched.append(watched)
        return None if self.cost is None else Load(9, self.cost, 0, 60, 10)


@pytest.fixture
async def store(tmp_path: Path) -> AsyncIterator[Store]:
    made = open_store(tmp_path)
    await made.write(configured_sources.sync_sources, [Configured("plant")], NOW)
    yield made
    await made.close()


def planner(platform: Any, store: Store, clock: SimulatedClock, reports: LoadReports) -> Planner:
    return Planner("plant", 1, platform, store, clock, reports)  # type: ignore[arg-type] # it gets no other reports


async def test_once_a_minute(store: Store) -> None:
    clock, reports = SimulatedClock(), LoadReports()
    made = planner(Counting(), store, clock, reports)
    for _ in range(4):
        await made.report()
        await made.report()
        clock.advance(EVERY / 2)
    assert reports.loads == [LoadReport("plant", 9, 4.0, 10, 60)] * 2


async def test_what_is_not_known_at_the_start_is_asked_for_again(store: Store) -> None:
    clock, reports, platform = SimulatedClock(), LoadReports(), Counting()
    made = planner(platform, store, clock, reports)
    platform.cost = None
    await made.report()
    platform.cost = 30.0
    await made.report()
    assert reports.loads == [LoadReport("plant", 9, 30.0, 10, 180)]
    assert platform.watched == [await store.read(queries.watched, 1)] * 2


async def test_the_log_hears_of_the_start_and_of_changes(store: Store, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "lineage.poll")
    clock, platform = SimulatedClock(), Counting()
    made = planner(platform, store, clock, LoadReports())
    for cost in (4.0, 5.0, 11.0, 12.0, 3.0):
        platform.cost = cost
        await made.report()
        clock.advance(EVERY)
    expected = [("poll.load_measured", "INFO"), ("poll.interval_exceeded", "WARNING"), ("poll.load_measured", "INFO")]
    assert [(record.message, record.levelname) for record in caplog.records] == expected
    bad = vars(caplog.records[1])["fields"]
    assert (bad["source"], bad["needed_per_minute"], bad["allowed_per_minute"]) == ("plant", 11.0, 10)
    assert (bad["interval_s"], bad["reachable_s"]) == (60, 66)


async def test_a_platform_without_a_plan_has_none(store: Store) -> None:
    reports = LoadReports()
    await planner(object(), store, SimulatedClock(), reports).report()
    assert reports.loads == []
