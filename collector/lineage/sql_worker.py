"""Reads queries in a thread beside the event loop, each text once, so that no query holds up polling."""

import asyncio
import logging
from collections.abc import Collection, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial
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
AT_ONCE = 20
"""Queries that are handed to the thread together: each answer that comes by itself wakes the event loop."""
KEPT = 100_000
"""Sources, columns and edges in the cache: some 13 MB of usual queries, about 4,000."""


@dataclass(frozen=True, slots=True, eq=False)
class _Batch:
    """Queries that are read one after the other, by their keys; `read` has those that are."""

    texts: Mapping[bytes, str]
    read: dict[bytes, SqlLineage] = field(default_factory=dict)


class SqlWorker:
    """One thread and one cache for one source. `wait` in seconds."""

    def __init__(self, source: str, catalog: Catalog, *, wait: float = WAIT, limits: Limits = LIMITS) -> None:
        self._source, self._catalog, self._wait, self._limits = source, catalog, wait, limits
        self._thread: ThreadPoolExecutor | None = None
        self._cache: LRUCache[bytes, SqlLineage] = LRUCache(KEPT, getsizeof=lambda lineage: min(lineage.size, KEPT))
        self._characters = 0
        self._waiting: dict[bytes, _Batch] = {}
        self._running: dict[_Batch, asyncio.Future[None]] = {}
        self._stopped = False

    async def lineage(self, texts: Iterable[str | None]) -> dict[str, SqlLineage]:
        """The lineage of these queries, by their text; what could not be read in time is missing and read on for the next time."""
        keys = {_key(text): text for text in texts if text}
        found = self._known(keys)
        begun = self._begun({key: text for key, text in keys.items() if key not in found})
        if begun:
            await asyncio.wait({self._running[batch] for batch in begun.values()}, timeout=self._wait)
        found |= _read_by_now(begun)
        return {keys[key]: lineage for key, lineage in found.items()}

    def _known(self, keys: Collection[bytes]) -> dict[bytes, SqlLineage]:
        waiting = {key: batch for key in keys if (batch := self._waiting.get(key)) is not None}
        cached = {key: known for key in keys if (known := self._cache.get(key)) is not None}
        return cached | _read_by_now(waiting)

    def close(self) -> None:
        """Stop soon, also in the middle of a query."""
        self._stopped = True
        for one in self._running.values():
            one.cancel()
        if self._thread is not None:
            self._thread.shutdown(wait=False, cancel_futures=True)

    def _begun(self, texts: Mapping[bytes, str]) -> dict[bytes, _Batch]:
        """Those that are being read, or wait for it, now; without those for which there is no room."""
        new = self._admitted({key: text for key, text in texts.items() if key not in self._waiting})
        for first in range(0, len(new), AT_ONCE):
            self._submit(_Batch(dict(new[first : first + AT_ONCE])))
        return {key: batch for key in texts if (batch := self._waiting.get(key)) is not None}

    def _submit(self, batch: _Batch) -> None:
        if self._thread is None:
            self._thread = ThreadPoolExecutor(1, thread_name_prefix=f"sql:{self._source}")
        self._waiting |= dict.fromkeys(batch.texts, batch)
        self._running[batch] = begun = asyncio.wrap_future(self._thread.submit(self._read_all, batch))
        begun.add_done_callback(partial(self._keep, batch))

    def _admitted(self, texts: Mapping[bytes, str]) -> list[tuple[bytes, str]]:
        some: list[tuple[bytes, str]] = []
        for key, text in texts.items():
            if len(self._waiting) + len(some) >= MOST_WAITING or self._characters >= MOST_CHARACTERS or self._stopped:
                break
            self._characters += len(text)
            some.append((key, text))
        return some

    def _read_all(self, batch: _Batch) -> None:
        for key, text in batch.texts.items():
            batch.read[key] = self._read(text)

    def _read(self, text: str) -> SqlLineage:
        try:
            return read(text, self._catalog, self._limits, lambda: self._stopped)
        except Exception:
            # the boundary of this thread: a bug in one query must not stop the others, and must be logged
            log.exception("sql.broken", extra=fields(source=self._source))
            return SqlLineage(
                None, problems=("the query could not be read because of a fault in this program; see its log",)
            )

    def _keep(self, batch: _Batch, done: asyncio.Future[None]) -> None:
        del self._running[batch]
        for key, text in batch.texts.items():
            del self._waiting[key]
            self._characters -= len(text)
        if not done.cancelled():
            self._cache.update(batch.read)


def _read_by_now(batches: Mapping[bytes, _Batch]) -> dict[bytes, SqlLineage]:
    return {key: batch.read[key] for key, batch in batches.items() if key in batch.read}


def _key(text: str) -> bytes:
    return blake2b(text.encode("utf-8", "surrogatepass"), digest_size=16).digest()
