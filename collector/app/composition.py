"""Builds the parts of the service from the configuration and the ledger; starts none of them."""

import logging
import random
import secrets
from collections.abc import Sequence
from datetime import timedelta
from functools import partial

from collector.app import factory, ledgers
from collector.app.activity import ActivityRecord
from collector.app.heartbeat import Heartbeat, replica
from collector.app.hints import HintedSource, Hints
from collector.app.housekeeping import Housekeeper, Share
from collector.app.ledger_file import free_bytes
from collector.app.observers import Observers, ServiceObserver
from collector.app.scrape import snapshot
from collector.clock import Clock, to_ms
from collector.ledger import configured_sinks, replicas
from collector.ledger.held_lease import Leases
from collector.ledger.leases import HOUSEKEEPING, METRICS
from collector.ledger.port import OwnedLedger
from collector.ledger.replicas import Numbers, Replica
from collector.lifecycle import VanishedPolicy
from collector.lineage.events import EventMaker
from collector.logs import fields
from collector.model import EventKind
from collector.platforms.base import READS_AGAIN, Rereading
from collector.polling.decision import Policy
from collector.polling.schedule import Rhythm
from collector.polling.source import SourcePoller
from config.settings import Settings
from config.sinks import Sink as SinkSettings
from config.sources import Source
from exporters.delivery.sink_delivery import SinkDelivery
from exporters.metrics.families import Metrics
from exporters.metrics.snapshot import Snapshot
from exporters.sinks.base import BrokenSink, Sink

log = logging.getLogger("lineage.service")


async def composed(
    settings: Settings, store: OwnedLedger, clock: Clock, beside: Sequence[ServiceObserver], *, command: bool
) -> "Parts":
    """With sources, sinks and this replica registered in the ledger. `beside` get all reports, `command` says that the service
    soon ends by itself.
    """
    sinks = {sink.name: (sink, factory.sink(sink, clock)) for sink in settings.sinks}
    before = await store.read(configured_sinks.wanted)
    wanted = {name: _wanted(sink.events, made, before.get(name)) for name, (sink, made) in sinks.items()}
    # no other process has this name or had it, not even the one before in the same container
    name = f"{replicas.COMMAND if command else ''}{ledgers.holder()}:{secrets.token_hex(4)}"
    me, now_ms = replica(settings, name), to_ms(clock.now())
    numbers = await store.write(replicas.register, me, factory.configured(settings, clock), wanted, now_ms)
    return Parts(settings, store, clock, beside, me, numbers, {name: made for name, (_, made) in sinks.items()})


class Parts:
    """All that works for one service."""

    def __init__(
        self,
        settings: Settings,
        store: OwnedLedger,
        clock: Clock,
        beside: Sequence[ServiceObserver],
        me: Replica,
        numbers: Numbers,
        sinks: dict[str, Sink],
    ) -> None:
        self._settings, self._store, self._clock = settings, store, clock
        self.source_ids, self.sink_ids, self.sinks = dict(numbers.sources), dict(numbers.sinks), sinks
        self.housekeeper = Housekeeper(
            settings.ledger,
            store,
            clock,
            me,
            lambda: self.leases.holds(HOUSEKEEPING),
            self._lookbacks,
            self._shares(),
            self._park_oldest,
        )
        self.metrics = Metrics(
            self.source_ids, self.sink_ids, self._snapshot, partial(free_bytes, settings.ledger.file)
        )
        store.on_failure(self.metrics.ledger_unwritten)
        self.metrics.configured(clock.now())
        self.activity = ActivityRecord(store, clock)
        self._observers = Observers([self.metrics, self.activity, *beside])
        self.leases = Leases(store, clock, me.id, self._observers.lease)
        self.heartbeat = Heartbeat(me, store, clock, self.leases.share.set_live_replicas)
        if store.set_aside is not None:
            self.metrics.ledger_reset()
            log.critical("ledger.set_aside", extra=fields(file=str(store.set_aside)))
        if store.rescued:
            self.metrics.ledger_rescued()
        self.platforms = {
            source.name: factory.platform(source, clock, self._observers.requested) for source in settings.sources
        }
        self.pollers = {source.name: self._poller(source) for source in settings.sources}
        self.deliveries = {sink.name: self._delivery(sink) for sink in settings.sinks}

    def hints(self) -> Hints:
        hinted = {
            source.name: HintedSource(
                source.platform,
                self.source_ids[source.name],
                self.platforms[source.name],
                source.hint_credential.get if source.hint_credential is not None else None,
            )
            for source in self._settings.sources
        }
        return Hints(hinted, self._store, self._clock, self._observers)

    def _poller(self, source: Source) -> SourcePoller:
        return SourcePoller(
            name=source.name,
            kind=source.platform,
            source_id=self.source_ids[source.name],
            platform=self.platforms[source.name],
            leases=self.leases,
            maker=EventMaker(
                source.name,
                error_limit=self._settings.lineage.longest_error,
                aliases=factory.aliases(self._settings.datasets),
                validates=self._settings.lineage.validate_events,
            ),
            policy=Policy(source.enrich_within, VanishedPolicy(source.on_vanished)),
            rhythm=Rhythm(source.poll_interval, source.poll_within),
            clock=self._clock,
            random=random.random,
            observer=self._observers,
            room=self.housekeeper,
            history=partial(factory.history, source, self._clock, self._observers.requested),
            job_aliases=factory.job_aliases(self._settings.jobs),
        )

    def _delivery(self, sink: SinkSettings) -> SinkDelivery:
        return SinkDelivery(
            sink.name,
            self.sink_ids[sink.name],
            self.sinks[sink.name],
            partial(factory.sink, sink, self._clock),
            leases=self.leases,
            clock=self._clock,
            random=random.random,
            observer=self._observers,
            on_shards=partial(self.metrics.divided, sink.name),
        )

    async def _snapshot(self) -> Snapshot | None:
        """One replica shows the metrics of the ledger, so that no series exists twice."""
        if not self.leases.holds(METRICS):
            return None
        size, limit = self.housekeeper.size.used, self.housekeeper.limit
        stale_after = {source.name: source.stale_after for source in self._settings.sources}
        shares = {name: share.limit for name, share in self._shares().items()}
        return await self._store.read_shown(snapshot, self._clock, stale_after, size, limit, shares)

    def _shares(self) -> dict[str, Share]:
        whole = int(self._settings.ledger.max_size)
        return {
            sink.name: Share(int(whole * sink.ledger_share), sink.on_full == "park") for sink in self._settings.sinks
        }

    async def _park_oldest(self, sink: str, room: int, cause: str) -> None:
        await self.deliveries[sink].park_oldest(room, cause)

    def _lookbacks(self) -> dict[int, timedelta]:
        """How far behind its newest run each source may read again: at a first look, after a restart, or by its platform's ways."""
        now = self._clock.now()
        return {
            self.source_ids[source.name]: max(now - source.first_look(now), self._reads_again(source.name))
            for source in self._settings.sources
        }

    def _reads_again(self, source: str) -> timedelta:
        platform = self.platforms[source]
        return platform.reads_again if isinstance(platform, Rereading) else READS_AGAIN


def _wanted(events: Sequence[str] | None, sink: Sink, before: frozenset[EventKind] | None) -> frozenset[EventKind]:
    """The event types of a broken sink are unknown, so it is owed the same as `before`."""
    if events is not None:
        return frozenset(EventKind(word) for word in events)
    return before if isinstance(sink, BrokenSink) and before else sink.wants
