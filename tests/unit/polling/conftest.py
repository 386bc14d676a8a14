from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.unit.polling.scripted_source import Plant, planted


@pytest.fixture
async def plant(tmp_path: Path) -> AsyncIterator[Plant]:
    async with planted(tmp_path) as made:
        yield made
