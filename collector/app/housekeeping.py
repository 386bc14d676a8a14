"""Keeps the ledger inside its limits: reports when it is full, removes what is old, notices when it does not answer."""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from datetime import timedelta
from typing import TypeVar

from sqlalchemy import Connection
from sqlalchemy.exc import SQLAlchemyError

from collector.app.removal import Removal
from collector.clock import Clock, from_ms, to_ms, until_tick
from collector.errors import LeaseLost, LedgerCorrupt, LedgerError, LedgerUnreachable
from collector.ledger import activity, due_times, queries, replicas, retirement
from collector.ledger import retention as ledger_retention
from collector.ledger.port import OwnedLedger
from collector.ledger.replicas import Replica
from collector.ledger.retention import Size, Swept
from collector.logs import fields
from collector.numerals import counted
from config.settings import Ledger

log = logging.getLogger("lineage.ledger")
U = TypeVar("U")

LOOK = 10.0
SWEEP_EVERY = 3600.0
"""At the most: a retention of less than ten hours is looked after more often, so that little is kept much longer."""
SOONEST_SWEEP = 60.0
EARLY_SWEEP_EVERY = 60.0
"""While the ledger is full and sinks catch up: a sweep of a full gigabyte takes some seconds of writes."""
ROOM = 0.95
"""Share of the limit below which a full ledger has room again, so that polling does not stop and go."""
STUCK_AFTER = 60.0
REQUEST_WITHIN = timedelta(days=1)
"""A request that nobody took up by then is answered as failed: what was asked for yesterday may be wrong today."""
FURTHEST_POLL = timedelta(hours=2)
FURTHEST_SEND = timedelta(minutes=16)
"""No schedule and no back-off of ours reaches further; what is due later comes from a clock that ran ahead."""
SKEW = timedelta(seconds=2)
"""By so much the clocks of replicas may differ; what is dated further ahead comes from a clock that was set back since."""


@dataclass(frozen=True, slots=True)
class Share:
    """The `limit` bytes of events that a sink may be owed; beyond it its oldest events are parked, or polling pauses."""

    limit: int
    parks: bool


Park = Callable[[str, int, str], Awaitable[None]]
"""Park so many bytes of the events that a sink is owed, the oldest first, with a cause. Raises `LedgerError`."""


@dataclass(frozen=True, slots=True)
class _Chores:
    """Whether there are due times to pull in, and sources or sinks to retire."""

    pull_in: bool = False
    retire: bool = False


class Housekeeper:
    """`full` is why polling pauses, None while there is room; `trouble` is the error of the ledger, None while it works,
    and `is_away` is True while its database does not answer. Each replica measures; one of them, the holder of the lease
    `housekeeping`, cleans up for all. `expected_by` is when, by the monotonic clock, the ledger should have answered again: liveness looks at it.
    """

    def __init__(
        self,
        settings: Ledger,
        store: OwnedLedger,
        clock: Clock,
        me: Replica,
        is_keeper: Callable[[], bool],
        lookbacks: Callable[[], Mapping[int, timedelta]],
        shares: Mapping[str, Share],
        park: Park,
    ) -> None:
        self._settings, self._store, self._clock, self._lookbacks, self._me = settings, store, clock, lookbacks, me
        self._is_keeper, self._shares, self._park = is_keeper, shares, park
        self._removal = Removal(store, clock, self._came_round)
        self._owed_bytes: Mapping[str, int] = {}
        self._parked = 0
        self._chores = _Chores()
        self._looking = asyncio.Lock()
        self._is_full, self._beyond = False, frozenset[str]()
        self.full: str | None = None
        self.trouble: str | None = None
        self.is_away = False
        self.size = Size(0, 0)
        self.limit = int(settings.max_size)
        self.expected_by = clock.monotonic() + STUCK_AFTER
        self._swept = self._swept_early = float("-inf")
        self._owed = 0

    async def run(self) -> None:
        """Until cancelled; tries again what the ledger failed. Raises `LedgerCorrupt`: only a new start sets the file aside."""
        while True:
            try:
                await self._round()
            except LedgerCorrupt:
                raise
            except (LedgerError, SQLAlchemyError) as error:
                self._failed(error)
            await self._clock.sleep(until_tick(self._clock, LOOK))

    async def measure(self) -> str | None:
        """`full`, after a quick look at the size: for after each commit of a poll, as these could bring any amount."""
        if self.full is None:
            self.size = await self._store.read_shown(ledger_retention.size)
            if self._over:
                await self.look()
        return self.full

    async def look(self) -> None:
        """Measure; at the limit remove early what every sink has."""
        async with self._looking:
            await self._look()

    async def _look(self) -> None:
        await self._measure()
        if self._over and self._is_keeper() and await self._is_worth_a_sweep():
            await self.sweep(timedelta())
            await self._measure()
        self._is_full = self._over
        await self._park_beyond_shares()
        self._beyond = beyond(self._owed_bytes, self._pausing, self._beyond)
        self._say(self._reason())

    async def sweep(self, retention: timedelta) -> None:
        """Remove what is older than `retention`, in short steps so that polls and settles come between."""
        now = self._clock.now()
        kept_since = to_ms(now - self._settings.parked_retention)
        events = await self._expired(ledger_retention.expire_events, to_ms(now - retention))
        runs = await self._sweep_runs(retention)
        parked = await self._sweep_parked(kept_since)
        await self._store.write(ledger_retention.prune, kept_since)
        await self._store.write(activity.expire, to_ms(now) - activity.KEPT_MS)
        await self._store.compact(256)
        counts = fields(events=events, runs=runs, parked=parked or None)
        (log.warning if parked else log.info)("ledger.swept", extra=counts)

    async def _round(self) -> None:
        await self.look()
        if self._is_keeper():
            await self._keep()
        if self.trouble is not None:
            log.info("ledger.recovered", extra=fields(former=self.trouble))
            self.trouble, self.is_away = None, False

    async def _keep(self) -> None:
        """What one replica does for all."""
        if self._chores.pull_in:
            await self._pull_in()
        if self._chores.retire:
            await self._store.write(replicas.retire, self._me, to_ms(self._clock.now()))
        if self._clock.monotonic() - self._swept >= sweep_every(self._settings.retention):
            await self._sweep_departed()
            await self.sweep(self._settings.retention)
            self._swept = self._clock.monotonic()

    async def _pull_in(self) -> None:
        """By what the ledger holds, not by a watch on the clock: it may have run ahead in another process, or between two rounds."""
        moved = await self._store.write(due_times.pull_in, self._due_limits())
        cause = "due times were further ahead than possible, so the clock had jumped"
        log.warning("ledger.times_moved", extra=fields(moved=moved, cause=cause))

    def _due_limits(self) -> due_times.Limits:
        now = self._clock.now()
        return due_times.Limits(
            to_ms(now), to_ms(now + FURTHEST_POLL), to_ms(now + FURTHEST_SEND), int(SKEW.total_seconds() * 1000)
        )

    def _failed(self, error: Exception) -> None:
        self.trouble = str(error)
        self.is_away = isinstance(error, LedgerUnreachable)
        if self.is_away:  # a restart would not help
            self._came_round()
        log.error("ledger.interrupted", extra=fields(cause=self.trouble, then=f"tried again in {LOOK:.0f} s"))

    def _came_round(self) -> None:
        self.expected_by = self._clock.monotonic() + LOOK + STUCK_AFTER

    async def _measure(self) -> None:
        """An empty write goes along: it needs the writer's thread and the file's lock, and no sync of the disk. What of the
        write-ahead log can be cut off does not count for a pause.
        """
        self.size, backlogs, self._chores = await self._store.read_shown(
            _measured, self._me, self._due_limits() if self._is_keeper() else None
        )
        if self._over and self.size.log:
            await self._store.truncate_log()
            self.size = await self._store.read_shown(ledger_retention.size)
        self._owed_bytes = {each.sink: each.owed_bytes for each in backlogs if not each.is_retired}
        self._parked = sum(each.parked for each in backlogs)
        await self._store.write(_nothing)
        self._came_round()

    @property
    def _over(self) -> bool:
        return self.size.used + self.size.coming >= (self.limit * ROOM if self._is_full else self.limit)

    @property
    def _pausing(self) -> dict[str, int]:
        return {name: share.limit for name, share in self._shares.items() if not share.parks}

    async def _park_beyond_shares(self) -> None:
        for name, share in self._shares.items():
            owed = self._owed_bytes.get(name, 0)
            if share.parks and owed >= share.limit:
                cause = (
                    f"the sink was owed {owed:,} bytes of events, more than its share of the ledger ({share.limit:,})"
                )
                try:
                    await self._park(name, owed - int(share.limit * ROOM), f"{cause}: parked without being sent")
                except LeaseLost:
                    continue  # done by the process that feeds the sink now

    async def _is_worth_a_sweep(self) -> bool:
        """Not while nothing was delivered since the last one, or every ten seconds of a catching up."""
        owed = await self._store.read_shown(_owed)
        early = self._clock.monotonic() - self._swept_early < EARLY_SWEEP_EVERY
        if self._is_full and (early or owed >= self._owed):
            return False
        self._swept_early, self._owed = self._clock.monotonic(), owed
        return True

    def _reason(self) -> str | None:
        """Why polling pauses, with the sink that is the cause; None while it does not."""
        if self._is_full:
            coming = f", {self.size.coming:,} are kept for runs that just ended" if self.size.coming else ""
            full = f"the ledger is full ({self.size.used:,} of {self.limit:,} bytes are in use{coming}); polling pauses"
            most = max(self._owed_bytes, key=self._owed_bytes.__getitem__, default=None)
            owed = self._owed_bytes[most] if most is not None else 0
            owes = f"; sink {most} is owed most, {owed:,} bytes of events" if owed else ""
            kept = f"; room is taken by {counted(self._parked, 'parked event')}, to be sent again or dropped"
            return f"{full}{owes}{kept if self._parked else ''}"
        for name in sorted(self._beyond):
            owed, limit = self._owed_bytes.get(name, 0), self._shares[name].limit
            return (
                f"sink {name} is owed {owed:,} bytes of events, and {limit:,} is its share of the ledger (ledger_share); "
                "polling pauses until it has caught up"
            )
        return None

    def _say(self, full: str | None) -> None:
        if full and not self.full:
            log.error("ledger.filled", extra=fields(cause=full))
        elif self.full and not full:
            log.info("ledger.freed", extra=fields(used=self.size.used, limit=self.limit))
        self.full = full

    async def _expired(self, expire: Callable[[Connection, int, U], Swept], before: U) -> int:
        """How many were removed, step by step."""
        removed, after = 0, 0
        while True:
            swept = await self._store.write(expire, after, before)
            self._came_round()
            removed += swept.removed
            if swept.after is None:
                return removed
            after = swept.after

    async def _sweep_runs(self, retention: timedelta) -> int:
        """A run makes a repeated observation silent, so it is kept twice as long as its source may read it again: counted back from
        the newest run, as a source in which nothing runs for months still reads its last runs again.
        """
        now, kept = self._clock.now(), self._settings.retention
        departed = await self._store.read_shown(retirement.retired_sources, to_ms(now - kept))
        lookbacks = self._lookbacks()
        newest = await self._store.read_shown(ledger_retention.newest_runs, lookbacks)
        before = {source.id: to_ms(now - kept) for source in departed}
        for source, lookback in lookbacks.items():
            if source in newest:
                behind_newest = min(now, from_ms(newest[source])) - 2 * lookback
                before[source] = to_ms(min(now - max(retention, kept), behind_newest))
        return await self._expired(ledger_retention.expire_runs, before)

    async def _sweep_departed(self) -> None:
        """Sinks and sources that left before `retention` or that `forget` removes, and requests that were never claimed."""
        now = self._clock.now()
        before = to_ms(now - self._settings.retention)
        for sink in await self._store.read_shown(retirement.retired_sinks, before):
            await self._removal.remove_sink(sink)
        for source in await self._store.read_shown(retirement.retired_sources, before):
            await self._removal.remove_source(source)
        unanswered = to_ms(now - REQUEST_WITHIN)
        if expired := await self._store.write(retirement.expire_requests, unanswered, to_ms(now)):
            log.warning("request.expired", extra=fields(requests=expired, cause="no replica claimed them in time"))

    async def _sweep_parked(self, before: int) -> int:
        removed = 0
        while gone := sum((await self._store.write(ledger_retention.expire_parked, before)).values()):
            self._came_round()
            removed += gone
        return removed


def sweep_every(retention: timedelta) -> float:
    """Seconds between two looks at what is older than `retention`."""
    return min(SWEEP_EVERY, max(SOONEST_SWEEP, retention.total_seconds() / 10))


def beyond(owed: Mapping[str, int], limits: Mapping[str, int], before: frozenset[str]) -> frozenset[str]:
    """The sinks that are owed more than their limit; those that were before stay until there is some room again."""
    return frozenset(
        name for name, limit in limits.items() if owed.get(name, 0) >= (limit * ROOM if name in before else limit)
    )


def _measured(
    conn: Connection, me: Replica, limits: due_times.Limits | None
) -> tuple[Size, list[ledger_retention.Backlog], _Chores]:
    """In one read, as it is done every few seconds; `limits` are given where the chores are done here."""
    chores = _Chores() if limits is None else _chores(conn, me, limits)
    return ledger_retention.size(conn), ledger_retention.backlogs(conn), chores


def _chores(conn: Connection, me: Replica, limits: due_times.Limits) -> _Chores:
    misdated = due_times.has_impossible(conn, limits)
    return _Chores(pull_in=misdated, retire=bool(replicas.unconfigured(conn, me)))


def _nothing(_: Connection) -> None:
    """A write that proves that the ledger can be written."""


def _owed(conn: Connection) -> int:
    """Bytes of events that cannot be removed, as sinks have not got them."""
    return sum(row.pending + row.parked for row in queries.sinks(conn))
