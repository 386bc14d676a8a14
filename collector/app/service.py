"""The running program: each loop a named task, stopped well."""

import asyncio
import errno
import logging
from collections.abc import Coroutine, Iterable, Mapping, Sequence
from functools import partial
from typing import Any, Self

from sqlalchemy.exc import SQLAlchemyError

from collector import __version__
from collector.app import configuration, factory, ledgers
from collector.app.composition import Parts, composed
from collector.app.control import ANSWERS_WITHIN, Control, RequestResult, answered, refuse_occupied
from collector.app.ledger_file import guard
from collector.app.observers import ServiceObserver
from collector.app.removal import Removal
from collector.app.status import status, status_of_loops
from collector.clock import Clock, SystemClock
from collector.errors import ConfigurationError, LedgerError, LedgerLost, LedgerTooNew
from collector.ledger import queries, runs
from collector.ledger.held_lease import HeldLease
from collector.ledger.leases import HOUSEKEEPING, METRICS
from collector.ledger.port import OwnedLedger
from collector.ledger.requests import RequestKind, RequestState
from collector.logs import fields
from collector.secret_registry import secret_registry
from config.settings import Settings
from config.web import Access
from exporters.sinks.base import Sink
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
        self._asking = 0
        self._stopping = False
        self._stands_down = False
        self._logged: set[str] = set()
        """Tasks whose death was logged."""
        self._parts: Parts
        self.port = 0
        """The address of the pages, once started."""

    async def __aenter__(self) -> Self:
        self.store = self._given_store or await self._opened()
        try:
            self._access = configuration.access(self.settings)
            refuse_occupied(self.settings.control_path)
            self._parts = await composed(self.settings, self.store, self._clock, self._beside, command=self._command)
        except BaseException:
            await self._close_ledger()
            raise
        try:
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
        sources, sinks = self._parts.source_ids, self._parts.sink_ids
        return {f"source:{name}" for name in sources} | {f"sink:{name}" for name in sinks}

    def _targets_elsewhere(self) -> set[str]:
        """Of the other replicas."""
        return {name for each in self._parts.heartbeat.live for name in each.leases}

    async def owed(self) -> int:
        """Events that have yet to reach a configured sink, and runs whose end waits for its details."""
        rows = await self.store.read_shown(queries.sinks)
        waiting = [await self.store.read_shown(runs.ended, number, 100) for number in self._parts.source_ids.values()]
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
        loops = {f"source {name}": poller.expected_by for name, poller in self._parts.pollers.items()}
        loops |= {f"sink {name}": delivery.expected_by for name, delivery in self._parts.deliveries.items()}
        loops["the ledger"] = self._parts.housekeeper.expected_by
        lost = [f"the ledger is lost: {self.store.lost}"] if self.store.lost is not None else []
        return lost + dead + [f"{name} is stuck" for name, expected_by in loops.items() if now > expected_by]

    def unready(self) -> list[str]:
        if self._stands_down:
            return [f"it has stopped working: {self.store.lost}"]
        statuses = {name: poller.status for name, poller in self._parts.pollers.items()}
        untried = [name for name, status in statuses.items() if status.result is None and not status.standby]
        keeper = self._parts.housekeeper
        away = [keeper.trouble] if keeper.is_away and keeper.trouble else []
        return [f"source {name} was not polled yet" for name in untried] + away + self.faults()

    async def status(self) -> Mapping[str, Any]:
        polled = {name: poller.status for name, poller in self._parts.pollers.items()}
        delivered = {name: delivery.status() for name, delivery in self._parts.deliveries.items()}
        size = self._parts.housekeeper.size
        ledger = {
            "path": self.settings.ledger.place,
            "bytes": size.used,
            "limit_bytes": self._parts.housekeeper.limit,
            "wrong": self.store.lost or self._parts.housekeeper.trouble or self._parts.housekeeper.full,
        }
        try:
            async with asyncio.timeout(LEDGER_WITHIN):
                found = await self.store.read_shown(
                    status, self._clock, self._parts.source_ids, polled, delivered, ledger
                )
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

    async def _start(self) -> None:
        await self._hold_shared_leases()
        await self._parts.housekeeper.look()
        pages = Pages(
            self._parts.metrics.scrape,
            self.faults,
            self.unready,
            self.status,
            self.store,
            self.submit,
            self._clock,
            [source.name for source in self.settings.sources if not source.lists_past_runs],
            factory.backend_links(self.settings.sinks),
        )
        http, hints = self.settings.http, self._parts.hints()
        try:
            get = self._access.get if self._access is not None else Access
            self._listener = await serve(pages, http.host, http.port, hints.routes(), get, names=http.names)
        except OSError as error:
            raise ConfigurationError([f"http.listen: cannot listen on {http.listen}: {_why_not(error)}"]) from error
        self.port = self._listener.port
        self._control = Control(self.settings.control_path, self.submit, self.status)
        await self._control.start()
        self._spawn("heartbeat", self._parts.heartbeat.run())
        self._spawn("activity", self._parts.activity.run())
        self._spawn("housekeeping", self._parts.housekeeper.run())
        self._spawn("ledger file", guard(self.store, self._clock, self._parts.metrics.ledger_lost))
        for name, poller in self._parts.pollers.items():
            self._spawn(f"source:{name}", poller.run())
        for name, delivery in self._parts.deliveries.items():
            self._spawn(f"sink:{name}", delivery.run())
        if self.settings.hints is not None:
            reachable = partial(self._parts.metrics.hint_topic, self.settings.hints.topic)
            self._spawn("hints", factory.hint_subscriber(self.settings.hints, hints.take, self._clock, reachable).run())
        ledger = self.settings.ledger.place
        started = fields(
            sources=len(self._parts.pollers), sinks=len(self._parts.deliveries), ledger=ledger, port=self.port
        )
        log.info("service.started", extra=started)

    async def _hold_shared_leases(self) -> None:
        """Run the work of one replica for all; returns once it is known whether this replica does it, or cannot."""
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
            work = self._parts.leases.work(name, LEDGER_WITHIN, holds, came_round=partial(came_round, name))
            self._spawn(f"lease:{name}", work).add_done_callback(lambda _: known.set())
        await known.wait()

    def _spawn(self, name: str, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        self._tasks[name] = task = asyncio.create_task(work, name=name)
        return task

    async def _stand_down(self) -> None:
        """End all work but the pages, which say why."""
        self._stands_down = True
        await self._end_work()

    async def _stop(self) -> None:
        if not self._stands_down:
            await self._end_work()
        if self._listener is not None:
            await self._quietly([self._listener.close()])
        await self._close_ledger()

    async def _close_ledger(self) -> None:
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
        await self._quietly(delivery.stop(left) for delivery in self._parts.deliveries.values())
        left = max(1.0, deadline - self._clock.monotonic())
        await self._quietly(_within(left + 1, sink.close(left)) for sink in self._all_sinks())
        await self._cancel(list(self._tasks))
        if "activity" in self._tasks and not self._stands_down:
            await self._quietly([_within(LEDGER_WITHIN, self._parts.activity.write())])

    def _all_sinks(self) -> list[Sink]:
        others = [sink for delivery in self._parts.deliveries.values() for sink in delivery.others]
        return [*self._parts.sinks.values(), *others]

    async def _leave_replicas(self) -> None:
        """Other replicas may have its share from now on."""
        if "heartbeat" in self._tasks:
            await self._cancel(["heartbeat"])
            await self._quietly([_within(LEDGER_WITHIN, self._parts.heartbeat.leave())])

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


async def _within(seconds: float, ending: Coroutine[Any, Any, None]) -> None:
    async with asyncio.timeout(seconds):
        await ending


def _log_bad_end(error: BaseException, **what: str) -> None:
    cause = str(error) or type(error).__name__
    log.error("service.stop_failed", extra=fields(**what, cause=cause), exc_info=error)
