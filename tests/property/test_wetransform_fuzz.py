"""The adapter against answers mutated at random: no crash, no wrong end, nothing passed over in silence."""

from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any
from uuid import UUID

import pytest
from aiohttp import web

from collector.errors import SourceError, TriggerError
from collector.http import LONGEST_PATIENCE, HttpClient, HttpOptions
from collector.model import Observation, RunState
from collector.platforms.base import Context
from collector.platforms.wetransform import Wetransform, create
from collector.testing.clock import SimulatedClock
from collector.testing.poller import SimulatedPoller
from config.sources import WetransformSource
from simulators.wetransform.answers import envelope
from tests.mutations import Mutant, mutants

RUN, TRANSFORMATION, SOURCE = (str(UUID(int=n)) for n in (1, 2, 3))
COUNT = 450
"""Examples of each of the five kinds."""


def automation(step: str | None) -> dict[str, Any]:
    payload = {
        "automation_id": RUN,
        "type": "schedule",
        "step": step,
        "step_for_humans": {"code": f"source.event.{step}", "message": "Step."},
        "details": None,
        "original_file": "https://files.example.test/o.csv?signature=planted-secret",
        "transformed_file": None,
        "error_report_file": None,
        "created_at": "2026-11-21T09:15:00+00:00",
    }
    return envelope(payload, template_handle="new-hires", source_id=SOURCE)


def transformation() -> dict[str, Any]:
    return {
        "transformation_id": TRANSFORMATION,
        "source_id": SOURCE,
        "source_name": "Upload",
        "source_file_url": None,
        "imported_at": "2026-11-21T09:15:00+00:00",
        "template_name": "New hires",
        "template_handle": "new-hires",
        "has_schedule": False,
        "column_names": ["a", "b"],
        "custom_field_names": [],
        "deleted_at": None,
        "download_url": "https://files.example.test/t.csv?signature=planted-secret",
    }


def listed() -> dict[str, Any]:
    page = {"total_pages": 1, "current_page": 1, "total_items": 1, "items_per_page": 200, "entries": [transformation()]}
    return envelope(page)


class Server:
    """Answers a path with what is put for it."""

    def __init__(self) -> None:
        self.automation: Mutant | dict[str, Any] = automation("matching")
        self.transformation: Mutant | dict[str, Any] = envelope(transformation())
        self.list: Mutant | dict[str, Any] = listed()

    async def answer(self, request: web.Request) -> web.Response:
        chosen = self.list
        if request.path.startswith("/transformation/automation/"):
            chosen = self.automation
        elif request.path.startswith("/transformation/"):
            chosen = self.transformation
        return chosen.response() if isinstance(chosen, Mutant) else web.json_response(chosen)


@asynccontextmanager
async def serving() -> AsyncIterator[tuple[Server, Wetransform, SimulatedClock]]:
    server, clock = Server(), SimulatedClock()
    app = web.Application()
    app.router.add_route("*", "/{path:.*}", server.answer)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    http = HttpClient(HttpOptions())
    config = WetransformSource.model_validate(
        {
            "platform": "wetransform",
            "name": "wt",
            "tenant": "acme",
            "token": "the-token",
            "discover": True,
            "requests_per_minute": None,
            "base_url": f"http://127.0.0.1:{runner.addresses[0][1]}",
        }
    )
    try:
        yield server, create(config, Context("wt", "wetransform://h/acme", http, clock, lambda: 0.5)), clock
    finally:
        await http.close()
        await runner.cleanup()


async def watched(platform: Wetransform, clock: SimulatedClock) -> SimulatedPoller:
    """When no patience is asked for any more."""
    clock.advance(LONGEST_PATIENCE)
    poller = SimulatedPoller(platform, clock)
    poller.adopt(await platform.watch(RUN, {"transformation": TRANSFORMATION}))
    return poller


@pytest.mark.parametrize(
    ("step", "ends"), [("matching", None), ("processed", RunState.SUCCEEDED), ("failed", RunState.FAILED)]
)
async def test_answers_about_a_run(step: str, ends: RunState | None) -> None:
    outcomes: Counter[str] = Counter()
    async with serving() as (server, platform, clock):
        for mutant in mutants(automation(step), seed=len(step), count=COUNT):
            server.automation = automation("matching")
            poller = await watched(platform, clock)
            clock.advance(700)
            server.automation = mutant
            before = len(poller.skips)
            error = await cycle(poller)
            outcome = type(error).__name__ if error else "skipped" if len(poller.skips) > before else "read"
            outcomes[outcome] += 1
            run = poller.runs[RUN]
            assert not run.state.terminal or run.state is ends, mutant
            assert "planted-secret" not in repr((run.facts, poller.skips, str(error))), mutant
            if outcome == "read":
                assert run.misses or run.raw_state == step, mutant
    assert set(outcomes) >= {"skipped", "read"}


async def test_answers_about_a_transformation_and_the_list() -> None:
    async with serving() as (server, platform, clock):
        pairs = zip(
            mutants(envelope(transformation()), seed=4, count=COUNT),
            mutants(listed(), seed=5, count=COUNT),
            strict=True,
        )
        for server.transformation, server.list in pairs:
            poller = await watched_or_not(platform, clock)
            clock.advance(7200)
            server.automation = automation("processed")
            error = await cycle(poller)
            server.automation = automation("matching")
            assert "planted-secret" not in repr((poller.runs, poller.skips, poller.cursor, str(error)))
            for run in poller.runs.values():
                assert run.state in {RunState.SUCCEEDED, RunState.RUNNING}


async def cycle(poller: SimulatedPoller) -> SourceError | None:
    try:
        await poller.cycle()
    except SourceError as error:
        return error
    return None


async def start(platform: Wetransform) -> Observation | TriggerError:
    try:
        return await platform.trigger(TRANSFORMATION, {}, "t")
    except TriggerError as error:
        return error


async def watched_or_not(platform: Wetransform, clock: SimulatedClock) -> SimulatedPoller:
    try:
        return await watched(platform, clock)
    except SourceError:
        return SimulatedPoller(platform, clock)


async def test_answers_to_a_start() -> None:
    async with serving() as (server, platform, clock):
        for mutant in mutants(automation("pending"), seed=6, count=COUNT):
            clock.advance(LONGEST_PATIENCE)
            server.automation = mutant
            outcome = await start(platform)
            if isinstance(outcome, Observation):
                assert outcome.key == RUN
                assert not outcome.state.terminal
            else:
                assert mutant.status >= 300 or outcome.doubtful or "success is false" in str(outcome), mutant
                assert "planted-secret" not in str(outcome)


async def test_answers_to_a_check() -> None:
    async with serving() as (server, platform, _):
        for server.list in mutants(listed(), seed=7, count=100):
            for finding in await platform.check():
                assert finding.ok or finding.remedy
