"""The program as a separate process."""

import asyncio
import os
import sys
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path


@asynccontextmanager
async def program(
    *words: str, folder: Path | None = None, settings: Mapping[str, str] | None = None
) -> AsyncIterator[asyncio.subprocess.Process]:
    """Started with these words in that folder, with these keys of its configuration from the environment; ended at the end."""
    environment = {**os.environ, **{f"LINEAGE_COLLECTOR__{key}": value for key, value in (settings or {}).items()}}
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "collector", *words, cwd=folder, env=environment, stdout=asyncio.subprocess.PIPE
    )
    try:
        yield process
    finally:
        if process.returncode is None:
            process.terminate()
        await asyncio.wait_for(process.wait(), 90)
