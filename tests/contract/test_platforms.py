"""The contract of platforms, tried on ours: against each one's simulator over real HTTP and in each of its modes."""

from collections.abc import AsyncIterator

import pytest

from collector.testing.platforms import LineageContract, PlatformContract, TriggerContract, TriggerRig, WatchContract
from tests import openlineage
from tests.contract.platform_rigs import RIGS


@pytest.fixture(params=[pytest.param(made, id=name) for name, made in RIGS.items()])
async def rig(request: pytest.FixtureRequest) -> AsyncIterator[TriggerRig]:
    """Whatever a test does, the events that come of it are valid and cover whole runs in order."""
    async with request.param() as made:
        yield made
        assert openlineage.all_faults(made.poller.events, may_be_open=True) == []


class TestPlatforms(PlatformContract, LineageContract, TriggerContract, WatchContract):
    pass
