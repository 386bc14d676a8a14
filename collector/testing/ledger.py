"""A ledger for the length of a test."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

from collector.clock import Clock, SystemClock
from collector.ledger.port import Ledger
from collector.ledger.sqlite.store import Store


@asynccontextmanager
async def temporary_ledger(clock: Clock | None = None) -> AsyncIterator[Ledger]:
    """A new, empty ledger in a temporary file, which is deleted at the end."""
    with TemporaryDirectory(prefix="lineage-ledger-") as folder:
        store = Store.open(Path(folder) / "ledger.db", holder="test", clock=clock or SystemClock())
        try:
            yield store
        finally:
            await store.close()
