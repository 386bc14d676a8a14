from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.unit.polling.scripted_source import ScriptedSource, scripted_source


@pytest.fixture
async def scripted(tmp_path: Path) -> AsyncIterator[ScriptedSource]:
    async with scripted_source(tmp_path) as made:
        yield made
