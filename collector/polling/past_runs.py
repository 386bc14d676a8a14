"""What a backfill of a source does with the past runs that its platform lists: for every sink those that the ledger does not know
are made; for one sink alone, these are made for it, and it sends again what the ledger still has.
"""

import json
from collections import Counter
from collections.abc import Awaitable, Callable, Iterable, Sequence
from dataclasses import asdict, dataclass, field, replace
from datetime import datetime
from typing import Protocol

from sqlalchemy import Connection

from collector.clock import Clock, to_ms
from collector.ledger import past_runs, requests, resend, restriction, runs, schema
from collector.ledger.acknowledged import SinkDetail
from collector.ledger.held_lease import HeldLease
from collector.ledger.leases import Lease, fence
from collector.ledger.past_runs import Course, Past
from collector.ledger.port import Ledger
from collector.ledger.requests import Request, RequestClosed, RequestKind, RequestState
from collector.ledger.resend import MOST_LANES, ResendFrom, Resent
from collector.ledger.restriction import Alone
from collector.ledger.statements import chunks
from collector.model import Observation, Poll
from collector.polling.commits import PART, parts

LOOK = 0.5
RESENT_AT_ONCE = 100
"""Runs that the sink is asked to send again at once."""


class SinkFailure(Exception):
    """The sink did not send again what it was asked to; the message is for people."""


@dataclass(frozen=True, slots=True)
class Desk:
    """What taking runs of a source in needs. `take` commits a page, `has_room` says whether the ledger has some."""

    source_id: int
    store: Ledger
    clock: Clock
    held: HeldLease
    has_room: Callable[[], bool]
    take: Callable[[Poll, Alone | None], Awaitable[object]]

    async def note(self, request: Request, progress: "Progress | ProgressOfOne") -> None:
        """How far it is. Raises `RequestClosed` where it was stopped."""
        await self.store.write(requests.note, self.held.lease, request.id, json.dumps(asdict(progress)))

    async def until_calm(self, request: Request, sink: int | None = None) -> None:
        """The details of runs that ended are read before a deadline, so few of them may wait; the ledger needs room, and the sink
        must not be owed much. Raises `RequestClosed` where it was stopped meanwhile.
        """
        while not self.has_room() or await self._any_ended() or await self._is_busy(sink):
            await self.clock.sleep(LOOK)
            await self.refuse_closed(request)

    async def refuse_closed(self, request: Request) -> None:
        stored = await self.store.read(requests.get, request.id)
        if stored is None or stored.done_at is not None:
            raise RequestClosed(f"request {request.id} was stopped")

    async def _any_ended(self) -> bool:
        return bool(await self.store.read(runs.ended, self.source_id, 1))

    async def _is_busy(self, sink: int | None) -> bool:
        return sink is not None and await self.store.read(resend.count_lanes, sink, MOST_LANES) >= MOST_LANES

    def seen_now(self, part: Poll) -> Poll:
        """The deadline for the details counts from when a run was seen, and the page may have been read long ago."""
        now = self.clock.now()
        return replace(part, observations=tuple(replace(seen, seen_at=now) for seen in part.observations))


def ended_at(seen: Observation) -> datetime:
    """Of one that is over; the nearest to it that the platform says."""
    return seen.ended_at or seen.ended_by or seen.started_at or seen.queued_at or seen.seen_at


def family_ends(ended: Sequence[Observation]) -> dict[str, int]:
    """By key as it is stored, when the last of the run's family ended, in epoch milliseconds."""
    found: dict[str, int] = {}
    for family in parts(Poll(tuple(ended)), 1):
        last = max((to_ms(ended_at(seen)) for seen in family.observations), default=0)
        found |= {schema.storable(seen.key): last for seen in family.observations}
    return found


class Intake(Protocol):
    """Takes past runs in, page by page; `progress` says how far it is."""

    @property
    def progress(self) -> "Progress | ProgressOfOne": ...
    async def take_in(self, ended: Sequence[Observation]) -> None: ...


@dataclass(frozen=True, slots=True)
class Progress:
    """Of `seen` past runs in the window, `known` were in the ledger already, `made` are new there."""

    seen: int = 0
    known: int = 0
    made: int = 0


@dataclass(slots=True)
class ForEverySink:
    """Makes the runs that the ledger does not know."""

    desk: Desk
    request: Request
    progress: Progress = field(default_factory=Progress)

    async def take_in(self, ended: Sequence[Observation]) -> None:
        """Raises `RequestClosed` where it was stopped meanwhile."""
        keys = {schema.storable(seen.key) for seen in ended}
        known = await self.desk.store.read(runs.by_keys, self.desk.source_id, keys)
        new = tuple(seen for seen in ended if schema.storable(seen.key) not in known)
        for part in _parts(new):
            await self.desk.until_calm(self.request)
            await self.desk.note(self.request, self.progress)  # or it was stopped
            await self.desk.take(self.desk.seen_now(part), None)
        self.progress = replace(
            self.progress,
            seen=self.progress.seen + len(ended),
            known=self.progress.known + len(ended) - len(new),
            made=self.progress.made + len(new),
        )


@dataclass(frozen=True, slots=True)
class ProgressOfOne:
    """Of `seen` past runs in the window, `made` were unknown, or known without any event; the sink is sent `sent` of them again. It
    was owed `waiting` already or got them since the backfill began; of `incomplete` ones retention removed a part, and `recent` ones are left to the polls.
    """

    seen: int = 0
    made: int = 0
    sent: int = 0
    waiting: int = 0
    recent: int = 0
    incomplete: int = 0

    def with_resent(self, became: Counter[str]) -> "ProgressOfOne":
        """`became` is the answer of the sink."""
        queued, waiting = became[Resent.QUEUED], became[Resent.WAITING]
        lacking = became.total() - queued - waiting
        return replace(
            self,
            sent=self.sent + queued,
            waiting=self.waiting + waiting,
            incomplete=self.incomplete + lacking,
        )


@dataclass(slots=True)
class ForOneSink:
    """Makes for this sink alone what the ledger has no events of, and has the sink send the rest again."""

    desk: Desk
    request: Request
    sink: SinkDetail
    name: str
    progress: ProgressOfOne = field(default_factory=ProgressOfOne)

    async def take_in(self, ended: Sequence[Observation]) -> None:
        """Raises `RequestClosed` where it was stopped meanwhile, and `SinkFailure`."""
        source_id, since_ms = self.desk.source_id, self.request.created_at
        found = await self.desk.store.read(past_runs.courses, source_id, self.sink, family_ends(ended), since_ms)
        of = past_runs.by_course(found)
        await self._make(ended, of[Course.MAKE].keys(), of[Course.ANEW].keys())
        await self.desk.store.write(self._give, self.desk.held.lease, of[Course.WAITING].values())
        for some in chunks(of[Course.SEND].values(), RESENT_AT_ONCE):
            self.progress = self.progress.with_resent(await self._resent(some))
        self.progress = replace(
            self.progress,
            seen=self.progress.seen + len(found),
            waiting=self.progress.waiting + len(of[Course.WAITING]),
            recent=self.progress.recent + len(of[Course.RECENT]),
            incomplete=self.progress.incomplete + len(of[Course.INCOMPLETE]),
        )

    async def _make(self, ended: Sequence[Observation], new: Iterable[str], anew: Iterable[str]) -> None:
        alone, chosen = Alone(self.name, frozenset(anew)), {*new, *anew}
        for part in _parts(seen for seen in ended if schema.storable(seen.key) in chosen):
            await self.desk.until_calm(self.request, self.sink.number)
            await self.desk.note(self.request, self.progress)  # or it was stopped
            await self.desk.take(self.desk.seen_now(part), alone)
            self.progress = replace(self.progress, made=self.progress.made + len(part.observations))

    async def _resent(self, some: Sequence[Past]) -> Counter[str]:
        """What became of each, by the answer of whoever holds the lease of the sink."""
        await self.desk.until_calm(self.request, self.sink.number)
        await self.desk.note(self.request, self.progress)  # or it was stopped
        number = await self.desk.store.write(self._ask, self.desk.held.lease, some)
        while (answer := await self.desk.store.read(requests.get, number)) is not None and answer.done_at is None:
            await self.desk.clock.sleep(LOOK)
            await self.desk.refuse_closed(self.request)
        said = json.loads(answer.answer or "{}") if answer is not None else {"error": "its request is gone"}
        if answer is None or answer.state is not RequestState.DONE:
            raise SinkFailure(f"sink {self.name}: {said.get('error')}; the same command goes on with the rest")
        return Counter(said)

    def _ask(self, conn: Connection, lease: Lease, some: Sequence[Past]) -> int:
        self._give(conn, lease, some)
        body = json.dumps({"runs": dict.fromkeys((past.run_id for past in some), ResendFrom.START)})
        now_ms = to_ms(self.desk.clock.now())
        return requests.add(conn, RequestKind.RESEND, f"sink:{self.name}", body, now_ms)

    def _give(self, conn: Connection, lease: Lease, some: Iterable[Past]) -> None:
        """What was made for other sinks alone is for this one, too, from now on."""
        fence(conn, lease)
        restriction.widen(conn, {past.strand for past in some}, self.name)


def _parts(new: Iterable[Observation]) -> Iterable[Poll]:
    return [part for part in parts(Poll(tuple(new)), PART) if part.observations]
