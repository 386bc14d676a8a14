"""Writes the heartbeat of this replica and reads those of the others."""

import logging
from collections.abc import Callable, Sequence
from hashlib import sha256

import orjson

from collector import __version__
from collector.clock import Clock, until_tick
from collector.errors import LedgerCorrupt, LedgerError
from collector.ledger import replicas
from collector.ledger.port import Ledger
from collector.ledger.replicas import BEAT_EVERY, Replica
from collector.logs import fields
from config.settings import Settings

log = logging.getLogger("lineage.service")

_OF_ONE_PROCESS = {"http", "log", "control_socket", "stop_within"}


def replica(settings: Settings, name: str) -> Replica:
    """What the others see of this process. The fingerprint leaves out settings of one process, and secrets, as they rotate."""
    shared = {name: value for name, value in settings.public().items() if name not in _OF_ONE_PROCESS}
    written = orjson.dumps(shared, option=orjson.OPT_SORT_KEYS)
    leases = {f"source:{source.name}" for source in settings.sources} | {f"sink:{sink.name}" for sink in settings.sinks}
    divided = {sink.name: sink.shards for sink in settings.sinks if sink.shards > 1}
    return Replica(name, __version__, sha256(written).hexdigest()[:12], frozenset(leases), shards=divided)


class Heartbeat:
    """`live` are all live replicas as of the last beat, this one among them; empty before the first."""

    def __init__(self, me: Replica, store: Ledger, clock: Clock, on_beat: Callable[[Sequence[Replica]], None]) -> None:
        """`on_beat` is called with the live replicas at each beat."""
        self.me, self._store, self._clock, self._on_beat = me, store, clock, on_beat
        self.live: Sequence[Replica] = ()
        self._kinds = 1

    async def run(self) -> None:
        """Until cancelled. A ledger that does not answer is reported elsewhere."""
        while True:
            try:
                await self.beat()
            except LedgerCorrupt:
                raise
            except LedgerError as error:
                log.debug("replica.heartbeat_failed", extra=fields(replica=self.me.id, cause=str(error)))
            await self._clock.sleep(until_tick(self._clock, BEAT_EVERY))

    async def beat(self) -> None:
        before = {each.id for each in self.live}
        self.live = await self._store.write(replicas.beat, self.me)
        if self.live and before:
            self._report_changes(before)
        self._report_kinds()
        self._on_beat(self.live)

    async def leave(self) -> None:
        await self._store.write(replicas.leave, self.me)

    def _report_changes(self, before: set[str]) -> None:
        now = {each.id for each in self.live}
        for name in sorted(now - before):
            log.info("replica.joined", extra=fields(replica=name, replicas=len(now)))
        for name in sorted(before - now):
            log.info("replica.left", extra=fields(replica=name, replicas=len(now)))

    def _report_kinds(self) -> None:
        kinds = len({(each.version, each.fingerprint) for each in self.live})
        if kinds > 1 and kinds != self._kinds:
            cause = "they have different versions or configurations: an upgrade under way, or a mistake"
            log.warning("replica.mismatched", extra=fields(replicas=len(self.live), kinds=kinds, cause=cause))
        elif kinds <= 1 < self._kinds:
            log.info("replica.matched", extra=fields(replicas=len(self.live)))
        self._kinds = kinds
