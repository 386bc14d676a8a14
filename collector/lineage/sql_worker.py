"""Reads queries in a thread beside the event loop, each text once, so that no query holds up polling."""

import asyncio
import logging
from collections.abc import Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from hashlib import blake2b

from cachetools import LRUCache

from collector.lineage.sql import LIMITS, Catalog, Limits, SqlLineage, read
from collector.logs import fields

log = logging.getLogger("lineage.sql")

WAIT = 5.0
"""Seconds that a page of runs waits for its queries. A usual query takes some milliseconds."""
MOST_WAITING = 1000
"""Length of the queue; queries beyond are read when their runs are seen again."""
MOST_CHARACTERS = 32 * 1024 * 1024
"""Characters of all queries in the queue together."""
KEPT = 100_000
"""Sources, columns and edges in the cache: some 13 MB of usual queries, about 4,000."""


class SqlWorker:
    """One thread and one cache for one source. `wait` in seconds."""

    def __init__(self, source: str, catalog: Catalog, *, wait: float = WAIT, limits: Limits = LIMITS) -> None:
        self._source, self._catalog, self._wait, self._limits = source, catalog, wait, limits
        self._thread: ThreadPoolExecutor | None = None
        self._cache: LRUCache[bytes, SqlLineage] = LRUCache(KEPT, getsizeof=lambda lineage: min(lineage.size, KEPT))
        self._characters = 0
        self._running: dict[bytes, asyncio.Future[SqlLineage]] = {}
        self._stopped = False

    async def lineage(self, texts: Iterable[str | None]) -> dict[str, SqlLineage]:
        """The lineage of these queries, by their text; what could not be read in time is missing and read on for the next time."""
        keys = {text: _key(text) for text in texts if text}
        found = self._kept(keys)
        begun = {text: one for text, key in keys.items() if text not in found and (one := self._begin(key, text))}
        if begun:
            await asyncio.wait(begun.values(), timeout=self._wait)
        return found | {text: one.result() for text, one in begun.items() if _is_read(one)}

    def _kept(self, keys: Mapping[str, bytes]) -> dict[str, SqlLineage]:
        return {text: known for text, key in keys.items() if (known := self._cache.get(key)) is not None}

    def close(self) -> None:
        """Stop soon, also in the middle of a query."""
        self._stopped = True
        for one in self._running.values():
            one.cancel()
        if self._thread is not None:
            self._thread.shutdown(wait=False, cancel_futures=True)

    def _begin(self, key: bytes, text: str) -> asyncio.Future[SqlLineage] | None:
        if key in self._running:
            return self._running[key]
        if len(self._running) >= MOST_WAITING or self._characters >= MOST_CHARACTERS or self._stopped:
            return None
        if self._thread is None:
            self._thread = ThreadPoolExecutor(1, thread_name_prefix=f"sql:{self._source}")
        begun = asyncio.wrap_future(self._thread.submit(self._read, text))
        self._running[key] = begun
        size = len(text)
        self._characters += size
        begun.add_done_callback(lambda done: self._keep(key, done, size))
        return begun

    def _read(self, text: str) -> SqlLineage:
        try:
            return read(text, self._catalog, self._limits, lambda: self._stopped)
        except Exception:
            # the boundary of this thread: a bug in one query must not stop the others, and must be logged
            log.exception("sql.broken", extra=fields(source=self._source))
            return SqlLineage(
                None, problems=("the query could not be read because of a fault in this program; see its log",)
            )

    def _keep(self, key: bytes, done: asyncio.Future[SqlLineage], size: int) -> None:
        del self._running[key]
        self._characters -= size
        if not done.cancelled():
            self._cache[key] = done.result()


def _is_read(query: asyncio.Future[SqlLineage]) -> bool:
    return query.done() and not query.cancelled()


def _key(text: str) -> bytes:
    return blake2b(text.encode("utf-8", "surrogatepass"), digest_size=16).digest()
