"""Times that cannot be read: the run is reported without them, and each is counted once."""

import re
from collections.abc import Mapping
from typing import Any

import httpx
import pytest

from collector.http import HttpClient
from collector.model import EventKind, Poll, Skip, SkipKind
from collector.platforms.unread_times import MOST_KNOWN, UnreadTimes, unread_times
from collector.testing.clock import SimulatedClock
from collector.testing.poller import SimulatedPoller
from simulators.cdf import Modes
from simulators.cdf import Scenario as CdfScenario
from simulators.dataprep import Level
from tests.cdf_rig import cdf_rig
from tests.dataprep_rig import dataprep_rig
from tests.wetransform_rig import watched, wetransform_rig


@pytest.mark.parametrize("value", ["soon", "2026-13-01", [1], {"at": 1}, 17, True])
def test_what_holds_something_but_no_time_is_unread(value: object) -> None:
    assert [name for name, _ in unread_times({"at": value}, "at")] == ["at"]


@pytest.mark.parametrize("row", [{}, {"at": None}, {"at": ""}, {"at": 0}, {"at": "2026-01-01"}, {"at": 1795300000000}])
def test_what_is_a_time_or_says_nothing_is_read(row: Mapping[str, Any]) -> None:
    assert unread_times(row, "at") == ()


def test_each_field_of_a_row_is_counted_once_with_its_value() -> None:
    times = UnreadTimes()
    for _ in range(2):
        times.note("job 1", (("created", "'soon'"),))
    times.note("job 1", (("created", "'later'"), ("ended", "'never'")))
    first, second = times.added(Poll()).skips
    assert first == Skip(SkipKind.ROW, "job 1", "not a valid time: created 'soon'; it is reported without")
    assert second.cause == "not a valid time: ended 'never'; it is reported without"
    assert times.added(Poll()) == Poll()


def test_what_is_known_is_bounded_and_the_oldest_goes() -> None:
    times = UnreadTimes()
    for number in range(MOST_KNOWN + 1):
        times.note(f"job {number}", (("created", "'soon'"),))
    times.added(Poll())
    times.note(f"job {MOST_KNOWN}", (("created", "'soon'"),))
    times.note("job 0", (("created", "'soon'"),))
    assert [skip.subject for skip in times.added(Poll()).skips] == ["job 0"]


def test_a_secret_in_such_a_field_is_taken_out() -> None:
    [(_, shown)] = unread_times({"at": "https://me:hunter2@host/ " + "x" * 500}, "at")
    assert "hunter2" not in shown
    assert len(shown) < 60


@pytest.fixture
def spoil(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Names of fields whose values every answer spoils."""
    fields: list[str] = []
    original = HttpClient.request

    async def request(self: HttpClient, *args: Any, **given: Any) -> httpx.Response:
        answer = await original(self, *args, **given)
        content = answer.content
        for name in fields:
            content = re.sub(rf'("{name}"\s*:\s*)("[^"]*"|\d+)'.encode(), rb'\1"soon"', content)
        headers = {name: value for name, value in answer.headers.items() if name.lower() != "content-encoding"}
        return httpx.Response(answer.status_code, headers=headers, content=content, request=answer.request)

    monkeypatch.setattr(HttpClient, "request", request)
    return fields


def counted(poller: SimulatedPoller) -> list[tuple[str, str]]:
    return [(skip.subject, skip.cause) for skip in poller.skips if skip.kind is SkipKind.ROW]


async def test_a_cdf_job_with_unread_times_is_reported_and_counted_once(spoil: list[str]) -> None:
    async with cdf_rig(Modes(concurrency_limit=None)) as rig:
        rig.simulator.add_transformation("pumps")
        await rig.poller.cycle()
        spoil += ["startedTime", "finishedTime"]
        job = str(rig.simulator.start_run("pumps", CdfScenario(1, 40)).id)
        await rig.poller.follow(120)
        assert rig.poller.kinds(job)[-2:] == [EventKind.START, EventKind.COMPLETE]
        subjects, causes = zip(*counted(rig.poller), strict=True)
        assert set(subjects) == {f"job {job}"}
        assert [sum(name in cause for cause in causes) for name in spoil] == [1, 1]


@pytest.mark.parametrize("level", Level)
async def test_a_dataprep_group_with_unread_times_is_reported_and_counted_once(spoil: list[str], level: Level) -> None:
    async with dataprep_rig(level) as rig:
        await rig.poller.cycle()
        spoil += ["createdAt", "runParameterReferenceDate"]
        run = rig.simulator.start_run("quick")
        if level is Level.L0:
            await rig.watch(run)
        await rig.poller.follow(180)
        assert rig.poller.kinds(str(run.id))[-1] is EventKind.COMPLETE
        found = counted(rig.poller)
        assert {subject for subject, _ in found} == {f"job group {run.id}"}
        fields = [field for _, cause in found for field in cause.split(": ", 1)[1].split("; ")[0].split(", ")]
        assert len(fields) == len(set(fields))
        assert any(field.startswith("createdAt of stage") for field in fields)


async def test_wetransform_runs_and_entries_with_unread_times_are_reported_and_counted_once(spoil: list[str]) -> None:
    clock = SimulatedClock()
    async with wetransform_rig(clock) as rig:
        poller = rig.poller(discover=True)
        spoil += ["created_at", "imported_at"]
        run = rig.start()
        await watched(poller, run)
        await poller.follow(300)
        assert poller.kinds(run.key)[-1] is EventKind.COMPLETE
        subjects = [subject for subject, _ in counted(poller)]
        assert subjects.count(run.key) == 1
        assert len(subjects) == len(set(subjects)) > 1
