"""The contract of sinks, tried on ours."""

from collections.abc import AsyncIterator

import pytest

from collector.testing.sinks import SinkContract
from tests.contract.sink_targets import TARGETS, MakeTarget, OpenedTarget


@pytest.fixture(params=TARGETS)
def made_target(request: pytest.FixtureRequest) -> OpenedTarget:
    make_target: MakeTarget = request.param
    return make_target(request)


@pytest.fixture
async def target(made_target: OpenedTarget) -> AsyncIterator[OpenedTarget]:
    await made_target.open()
    yield made_target
    await made_target.close()


class TestSinks(SinkContract):
    pass
