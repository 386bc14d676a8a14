"""The running program: everything built from the configuration, each loop a named task, stopped well."""

import asyncio
import errno
import logging
import random
import secrets
from collections.abc import Coroutine, Iterable, Mapping, Sequence
from datetime import timedelta
from functools import partial
from typing import Any, Self

from sqlalchemy.exc import SQLAlchemyError

from collector import __version__
from collector.app import configuration, factory, ledger_access, ledgers
from collector.app.activity import ActivityRecord
from collector.app.control import ANSWERS_WITHIN, Control, RequestResult, answered, refuse_occupied
from collector.app.heartbeat import Heartbeat, replica
from collector.app.hints import HintedSource, Hints
from collector.app.housekeeping import Housekeeper, Share
from collector.app.ledger_file import free_bytes, guard
from collector.app.observers import Observers, ServiceObserver
from collector.app.removal import Removal
from collector.app.scrape import snapshot
from collector.app.status import status, status_of_loops
from collector.clock import Clock, SystemClock, to_ms
from collector.errors import ConfigurationError, LedgerError, LedgerLost, LedgerTooNew
from collector.ledger import configured_sinks, queries, replicas, runs
from collector.ledger.held_lease import HeldLease, Leases
from collector.ledger.leases import HOUSEKEEPING, METRICS
from collector.ledger.port import OwnedLedger
from collector.ledger.requests import RequestKind, RequestState
from collector.lifecycle import VanishedPolicy
from collector.lineage.events import EventMaker
from collector.logs import fields
from collector.model import EventKind
from collector.platforms.base import Platform
from collector.polling.decision import Policy
from collector.polling.schedule import Rhythm
from collector.polling.source import SourcePoller
from collector.secret_registry import secret_registry
from config.settings import Settings
from config.sources import Source
from config.web import Access
from exporters.delivery.delivery import Delivery
from exporters.delivery.requests import SinkRequests
from exporters.metrics.families import Metrics
from exporters.metrics.snapshot import Snapshot
from exporters.sinks.base import BrokenSink, Sink
from exporters.web.listener import Listener
from exporters.web.pages import Pages, serve

log = logging.getLogger("lineage.service")

LEDGER_WITHIN = 5.0
"""Seconds that the ledger may take to read the status."""


def _why_not(error: OSError) -> str:
    """Why nothing can listen there, and what to do."""
    match error.errno:
        case errno.EADDRINUSE:
            return "another process listens there; stop it, or give another port"
        case errno.EADDRNOTAVAIL:
            return "this machine does not have that address; give one that it has, or 0.0.0.0 for all"
        case errno.EACCES:
            return "this user may not; give a port above 1023"
    return f"{error.strerror}; give an address of this machine, or 0.0.0.0 for all"


class Service:
    """The program as an async context: built and started on entering, stopped within `stop_within` on leaving.

    `observers` get the reports of polling and delivery beside the metrics. `store` is the ledger where it is open already,
    `command` says that it soon ends by itself.
    """

    def __init__(
        self,
        settings: Settings,
        *,
        clock: Clock | None = None,
        observers: Sequence[ServiceObserver] = (),
        store: OwnedLedger | None = None,
        command: bool = False,
    ) -> None:
        self.settings = settings
        self._given_store, self._command = store, command
        self._clock = clock or SystemClock()
        self._began_at = self._clock.now()
        self._beside = tuple(observers)
        self._tasks: dict[str, asyncio.Task[None]] = {}
        self._listener: Listener | None = None
        self._control: Control | None = None
        self._platforms: dict[str, Platform] = {}
        self._pollers: dict[str, SourcePoller] = {}
        self._deliveries: dict[str, Delivery] = {}
        self._sinks: dict[str, Sink] = {}
        self._source_ids: dict[str, int] = {}
        self._sink_ids: dict[str, int] = {}
        self._heartbeat: Heartbeat | None = None
        self._asking = 0
        self._stopping = False
        self._stands_down = False
        self._logged: set[str] = set()
        """Tasks whose death was logged."""
        self.port = 0
        """The address of the pages, once started."""

    async def __aenter__(self) -> Self:
        self.store = self._given_store or await self._opened()
        try:
            self._access = configuration.access(self.settings)
            await self._build()
            await self._start()
        except BaseException:
            await self._stop()
            raise
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._stop()

    async def _opened(self) -> OwnedLedger:
        return await asyncio.to_thread(ledgers.opened, self.settings.ledger, self._clock, command=self._command)

    async def until(self, stop: asyncio.Event) -> str | None:
        """Wait for `stop`; the name of a task that died before, with its error logged, None for none.

        Once a newer version has migrated the ledger so that this one cannot work on it, all work ends, and the process stays,
        not ready, so that an upgrade that went wrong is seen where it is looked for.
        """
        stopping = asyncio.create_task(stop.wait(), name="stop")
        done, _ = await asyncio.wait({stopping, *self._tasks.values()}, return_when=asyncio.FIRST_COMPLETED)
        stopping.cancel()
        for task in done - {stopping}:
            error = None if task.cancelled() else task.exception()
            self._logged.add(task.get_name())
            if isinstance(error, LedgerTooNew):
                await self._stand_down()
                await stop.wait()
                return None
            if not isinstance(error, LedgerLost):  # which is logged where it is noticed
                log.critical("task.died", extra=fields(task=task.get_name()), exc_info=error)
            return task.get_name()
        return None

    async def submit(self, target: str, kind: RequestKind, body: Mapping[str, Any]) -> RequestResult:
        """Put a request into the ledger and wait for its result."""
        if kind is RequestKind.FORGET and target in self._targets():
            error = f"the running service has {target.replace(':', ' ', 1)} in its configuration; remove it there, restart the service, then run forget again"
            return RequestResult(RequestState.FAILED, {"error": error})
        if kind is not RequestKind.FORGET and target not in self._targets() | self._targets_elsewhere():
            error = f"the running service has no {target.replace(':', ' ', 1)}; restart it with this configuration"
            return RequestResult(RequestState.FAILED, {"error": error})
        if self._stopping:
            error = self.store.lost or "the service is stopping; try again when it runs"
            return RequestResult(RequestState.FAILED, {"error": error})
        self._asking += 1
        try:
            if kind is RequestKind.FORGET:
                removal = Removal(self.store, self._clock)
                return await removal.forget(target, drop_undelivered=bool(body.get("drop_undelivered")))
            late = f"not done within {ANSWERS_WITHIN:.0f} s; the request stays in the ledger and may still be done"
            return await answered(self.store, self._clock, target, kind, body, late, 0.05)
        finally:
            self._asking -= 1

    def _targets(self) -> set[str]:
        return {f"source:{name}" for name in self._source_ids} | {f"sink:{name}" for name in self._sink_ids}

    def _targets_elsewhere(self) -> set[str]:
        """Of the other replicas."""
        live = self._heartbeat.live if self._heartbeat is not None else ()
        return {name for each in live for name in each.leases}

    async def owed(self) -> int:
        """Events that have yet to reach a configured sink, and runs whose end waits for its details."""
        rows = await self.store.read_shown(queries.sinks)
        waiting = [await self.store.read_shown(runs.ended, number, 100) for number in self._source_ids.values()]
        return sum(row.pending for row in rows if row.retired_at is None) + sum(map(len, waiting))

    async def drained(self, patience: float = 30.0) -> bool:
        """Wait until nothing is owed; False when that takes longer than `patience` seconds."""
        end = self._clock.monotonic() + patience
        while await self.owed():
            if self._clock.monotonic() > end:
                return False
            await self._clock.sleep(0.1)
        return True

    def faults(self) -> list[str]:
        """Why this process should be restarted: a task that ended, a loop that is stuck."""
        if self._stands_down:  # a restart would change nothing
            return []
        now = self._clock.monotonic()
        dead = [f"task {name} has ended" for name, task in self._tasks.items() if task.done()]
        loops = {f"source {name}": poller.expected_by for name, poller in self._pollers.items()}
        loops |= {f"sink {name}": delivery.expected_by for name, delivery in self._deliveries.items()}
        loops["the ledger"] = self._housekeeper.expected_by
        lost = [f"the ledger is lost: {self.store.lost}"] if self.store.lost is not None else []
        return lost + dead + [f"{name} is stuck" for name, expected_by in loops.items() if now > expected_by]

    def unready(self) -> list[str]:
        if self._stands_down:
            return [f"it has stopped working: {self.store.lost}"]
        statuses = {name: poller.status for name, poller in self._pollers.items()}
        untried = [name for name, status in statuses.items() if status.result is None and not status.standby]
        away = [self._housekeeper.trouble] if self._housekeeper.is_away and self._housekeeper.trouble else []
        return [f"source {name} was not polled yet" for name in untried] + away + self.faults()

    async def status(self) -> Mapping[str, Any]:
        polled = {name: poller.status for name, poller in self._pollers.items()}
        delivered = {name: delivery.status() for name, delivery in self._deliveries.items()}
        size = self._housekeeper.size
        ledger = {
            "path": self.settings.ledger.place,
            "bytes": size.used,
            "limit_bytes": self._housekeeper.limit,
            "wrong": self.store.lost or self._housekeeper.trouble or self._housekeeper.full,
        }
        try:
            async with asyncio.timeout(LEDGER_WITHIN):
                found = await self.store.read_shown(status, self._clock, self._source_ids, polled, delivered, ledger)
        except (LedgerError, SQLAlchemyError, TimeoutError) as error:
            unread = str(error) or f"it did not answer within {LEDGER_WITHIN:.0f} s"
            found = status_of_loops(polled, delivered, {**ledger, "wrong": unread})
        now = self._clock.now()
        about = {
            "version": __version__,
            "started": self._began_at.isoformat(timespec="milliseconds"),
            "uptime_seconds": round((now - self._began_at).total_seconds(), 1),
        }
        shown: Mapping[str, Any] = secret_registry.hidden_in({**about, **found})
        return shown

    async def _build(self) -> None:
        refuse_occupied(self.settings.control_path)
        now_ms = to_ms(self._clock.now())
        sinks = {sink.name: (sink, factory.sink(sink, self._clock)) for sink in self.settings.sinks}
        before = await self.store.read(configured_sinks.wanted)
        wanted = {name: _wanted(settings.events, sink, before.get(name)) for name, (settings, sink) in sinks.items()}
        # no other process has this name or had it, not even the one before in the same container
        me = replica(
            self.settings, f"{replicas.COMMAND if self._command else ''}{ledger_access.holder()}:{secrets.token_hex(4)}"
        )
        numbers = await self.store.write(
            replicas.register, me, factory.configured(self.settings, self._clock), wanted, now_ms
        )
        self._source_ids, self._sink_ids = dict(numbers.sources), dict(numbers.sinks)
        self._housekeeper = Housekeeper(
            self.settings.ledger,
            self.store,
            self._clock,
            me,
            lambda: self._leases.holds(HOUSEKEEPING),
            self._lookbacks,
            self._shares(),
            self._park_oldest,
        )
        self.metrics = Metrics(
            self._source_ids, self._sink_ids, self._snapshot, partial(free_bytes, self.settings.ledger.file)
        )
        self.store.on_failure(self.metrics.ledger_unwritten)
        self.metrics.configured(self._clock.now())
        self._activity = ActivityRecord(self.store, self._clock)
        self._observers = Observers([self.metrics, self._activity, *self._beside])
        self._leases = Leases(self.store, self._clock, me.id, self._observers.lease)
        self._heartbeat = Heartbeat(me, self.store, self._clock, self._leases.set_live_replicas)
        if self.store.set_aside is not None:
            self.metrics.ledger_reset()
            log.critical("ledger.set_aside", extra=fields(file=str(self.store.set_aside)))
        if self.store.rescued:
            self.metrics.ledger_rescued()
        self._platforms = {
            source.name: factory.platform(source, self._clock, self._observers.requested)
            for source in self.settings.sources
        }
        self._pollers = {source.name: self._poller(source) for source in self.settings.sources}
        self._sinks = {name: sink for name, (_, sink) in sinks.items()}
        self._deliveries = {name: self._delivery(name, sink) for name, sink in self._sinks.items()}

    def _poller(self, source: Source) -> SourcePoller:
        return SourcePoller(
            name=source.name,
            kind=source.platform,
            source_id=self._source_ids[source.name],
            platform=self._platforms[source.name],
            leases=self._leases,
            maker=EventMaker(
                source.name,
                error_limit=self.settings.lineage.longest_error,
                aliases=factory.aliases(self.settings.datasets),
                validates=self.settings.lineage.validate_events,
            ),
            policy=Policy(source.enrich_within, VanishedPolicy(source.on_vanished)),
            rhythm=Rhythm(source.poll_interval, source.poll_within),
            clock=self._clock,
            random=random.random,
            observer=self._observers,
            room=self._housekeeper,
            history=partial(factory.history, source, self._clock, self._observers.requested),
            job_aliases=factory.job_aliases(self.settings.jobs),
        )

    def _hints(self) -> Hints:
        hinted = {
            source.name: HintedSource(
                source.platform,
                self._source_ids[source.name],
                self._platforms[source.name],
                source.hint_credential.get if source.hint_credential is not None else None,
            )
            for source in self.settings.sources
        }
        return Hints(hinted, self.store, self._clock, self._observers)

    def _delivery(self, name: str, sink: Sink) -> Delivery:
        return Delivery(
            name,
            self._sink_ids[name],
            sink,
            leases=self._leases,
            clock=self._clock,
            random=random.random,
            observer=self._observers,
        )

    async def _start(self) -> None:
        await self._hold_shared_leases()
        await self._housekeeper.look()
        pages = Pages(
            self.metrics.scrape,
            self.faults,
            self.unready,
            self.status,
            self.store,
            self.submit,
            self._clock,
            [source.name for source in self.settings.sources if not source.lists_past_runs],
            factory.backend_links(self.settings.sinks),
        )
        http, hints = self.settings.http, self._hints()
        try:
            get = self._access.get if self._access is not None else Access
            self._listener = await serve(pages, http.host, http.port, hints.routes(), get, names=http.names)
        except OSError as error:
            raise ConfigurationError([f"http.listen: cannot listen on {http.listen}: {_why_not(error)}"]) from error
        self.port = self._listener.port
        self._control = Control(self.settings.control_path, self.submit, self.status)
        await self._control.start()
        assert self._heartbeat is not None  # it was built
        self._spawn("heartbeat", self._heartbeat.run())
        self._spawn("activity", self._activity.run())
        self._spawn("housekeeping", self._housekeeper.run())
        self._spawn("ledger file", guard(self.store, self._clock, self.metrics.ledger_lost))
        for name, poller in self._pollers.items():
            self._spawn(f"source:{name}", poller.run())
        for name, delivery in self._deliveries.items():
            self._spawn(f"sink:{name}", delivery.run())
            sink_requests = SinkRequests(self._sink_ids[name], delivery, self.store, self._clock)
            self._spawn(f"requests:{name}", sink_requests.run())
        if self.settings.hints is not None:
            reachable = partial(self.metrics.hint_topic, self.settings.hints.topic)
            self._spawn("hints", factory.hint_subscriber(self.settings.hints, hints.take, self._clock, reachable).run())
        ledger = self.settings.ledger.place
        started = fields(sources=len(self._pollers), sinks=len(self._deliveries), ledger=ledger, port=self.port)
        log.info("service.started", extra=started)

    async def _hold_shared_leases(self) -> None:
        """Run the work of one replica for all; returns once it is known whether this replica does it."""
        known = asyncio.Event()
        names, looked = (HOUSEKEEPING, METRICS), set[str]()

        async def holds(held: HeldLease) -> None:
            looks(held.lease.name)
            await asyncio.Event().wait()

        def looks(name: str) -> None:
            looked.add(name)
            if looked.issuperset(names):
                known.set()

        def came_round(name: str, held: bool) -> None:
            if not held:
                looks(name)

        for name in names:
            work = self._leases.work(name, LEDGER_WITHIN, holds, came_round=partial(came_round, name))
            self._spawn(f"lease:{name}", work)
        await known.wait()

    def _spawn(self, name: str, work: Coroutine[Any, Any, None]) -> None:
        self._tasks[name] = asyncio.create_task(work, name=name)

    async def _stand_down(self) -> None:
        """End all work but the pages, which say why."""
        self._stands_down = True
        await self._end_work()

    async def _stop(self) -> None:
        if not self._stands_down:
            await self._end_work()
        if self._listener is not None:
            await self._quietly([self._listener.close()])
        await self._quietly([self.store.close()])
        log.info("service.stopped")

    async def _end_work(self) -> None:
        """Requests of people first, as a trigger that is cut off stays in doubt; then polling, then delivery with the
        rest of the time, then all else but the pages.
        """
        grace = self.settings.stop_within.total_seconds()
        deadline = self._clock.monotonic() + grace
        self._stopping = True
        while self._asking and self._clock.monotonic() < deadline - grace / 2:
            await self._clock.sleep(0.05)
        if self._control is not None:
            await self._quietly([self._control.stop()])
        await self._leave_replicas()
        await self._cancel([name for name in self._tasks if not name.startswith("sink:")])
        left = max(1.0, deadline - self._clock.monotonic() - 1.0)
        await self._quietly(delivery.stop(left) for delivery in self._deliveries.values())
        left = max(1.0, deadline - self._clock.monotonic())
        await self._quietly(_within(left + 1, sink.close(left)) for sink in self._sinks.values())
        await self._cancel(list(self._tasks))
        if "activity" in self._tasks and not self._stands_down:
            await self._quietly([_within(LEDGER_WITHIN, self._activity.write())])

    async def _leave_replicas(self) -> None:
        """Other replicas may have its share from now on."""
        if "heartbeat" in self._tasks and self._heartbeat is not None:
            await self._cancel(["heartbeat"])
            await self._quietly([_within(LEDGER_WITHIN, self._heartbeat.leave())])

    async def _quietly(self, endings: Iterable[Coroutine[Any, Any, None]]) -> None:
        """An error in one part must not keep the others from a clean stop."""
        for outcome in await asyncio.gather(*endings, return_exceptions=True):
            if outcome is not None:
                _log_bad_end(outcome)

    async def _cancel(self, names: list[str]) -> None:
        tasks = [self._tasks[name] for name in names]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        for task in tasks:
            if not task.cancelled() and (error := task.exception()) is not None and task.get_name() not in self._logged:
                self._logged.add(task.get_name())
                _log_bad_end(error, task=task.get_name())

    async def _snapshot(self) -> Snapshot | None:
        """One replica shows the metrics of the ledger, so that no series exists twice."""
        if not self._leases.holds(METRICS):
            return None
        size, limit = self._housekeeper.size.used, self._housekeeper.limit
        stale_after = {source.name: source.stale_after for source in self.settings.sources}
        shares = {name: share.limit for name, share in self._shares().items()}
        return await self.store.read_shown(snapshot, self._clock, stale_after, size, limit, shares)

    def _shares(self) -> dict[str, Share]:
        whole = int(self.settings.ledger.max_size)
        return {
            sink.name: Share(int(whole * sink.ledger_share), sink.on_full == "park") for sink in self.settings.sinks
        }

    async def _park_oldest(self, sink: str, room: int, cause: str) -> None:
        await self._deliveries[sink].park_oldest(room, cause)

    def _lookbacks(self) -> dict[int, timedelta]:
        now = self._clock.now()
        return {self._source_ids[source.name]: now - source.first_look(now) for source in self.settings.sources}


def _wanted(events: Sequence[str] | None, sink: Sink, before: frozenset[EventKind] | None) -> frozenset[EventKind]:
    """The event types of a broken sink are unknown, so it is owed the same as `before`."""
    if events is not None:
        return frozenset(EventKind(word) for word in events)
    return before if isinstance(sink, BrokenSink) and before else sink.wants


async def _within(seconds: float, ending: Coroutine[Any, Any, None]) -> None:
    async with asyncio.timeout(seconds):
        await ending


def _log_bad_end(error: BaseException, **what: str) -> None:
    cause = str(error) or type(error).__name__
    log.error("service.stop_failed", extra=fields(**what, cause=cause), exc_info=error)
