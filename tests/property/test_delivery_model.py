"""Promises 1 and 2 over anything that can happen to deliveries, against the real ledger on disk.

Outside of the machine stand the targets: they know what they were sent and acknowledged, whatever this program forgets
in a crash. Each arrival is checked there; what is owed is known from the commits and the configuration alone.
"""

import asyncio
from collections.abc import Awaitable, Coroutine
from datetime import datetime
from pathlib import Path
from random import Random
from typing import Any, TypeVar

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule
from sqlalchemy import Connection, text

from collector.ledger import parked
from collector.model import EventKind, Outgoing
from exporters.sinks.base import Delivered, Outcome, Park, Retry
from tests.unit.exporters.delivery_simulation import (
    DeliverySimulation,
    ScriptedSink,
    SimulatedClock,
    name_of,
    number_of,
    open_store,
    quick_folder,
)

T = TypeVar("T")

ALL = frozenset(EventKind)
FEW = ALL - {EventKind.OTHER, EventKind.RUNNING}
ENDS = (EventKind.COMPLETE, EventKind.FAIL, EventKind.ABORT)
SURELY = 400
"""Seconds in which everything that is owed arrives at sinks that answer, whatever was before."""

outcomes = st.sampled_from(
    (
        Delivered(),
        Delivered(),
        Retry("odd", sink_wide=False),
        Retry("down"),
        Retry("no answer in time", unanswered=True),
        Retry("no answer yet", in_flight=True),
        Park("answer 422"),
    )
)


class Target(ScriptedSink):
    """A sink that waits to be given its answers, and checks what arrives. `batch`: how many events a call may have."""

    def __init__(self, *, rechecks: bool, batch: int | None = None) -> None:
        super().__init__(self._asked, capacity=4, rechecks=rechecks)
        self.batch = batch
        self.waiting: dict[int, tuple[Outgoing, asyncio.Future[Outcome]]] = {}
        self.acknowledged: set[int] = set()
        self.parked: set[int] = set()
        self.in_doubt: set[str] = set()
        self.settle_doubts = True
        self.obliging = False
        self._last_of_run: dict[int, int] = {}
        self._last_of_strand: dict[int, int] = {}
        self.recheck_script = self._looked_at

    def _asked(self, item: Outgoing) -> Outcome | Awaitable[Outcome]:
        self._check(item)
        if self.obliging:
            self.took(item, Delivered())
            return Delivered()
        return self._wait(item)

    async def _wait(self, item: Outgoing) -> Outcome:
        future: asyncio.Future[Outcome] = asyncio.get_running_loop().create_future()
        self.waiting[item.strand_id] = (item, future)
        try:
            return await future
        except asyncio.CancelledError:
            self.in_doubt.add(name_of(item))
            if self.waiting.get(item.strand_id) == (item, future):
                del self.waiting[item.strand_id]
            raise

    def _check(self, item: Outgoing) -> None:
        if self._last_of_run.get(item.run_number, 0) > item.seq:
            self.violations.append(f"{name_of(item)} {item.kind} after a later event of its run")
        if self._last_of_strand.get(item.strand_id, 0) > item.seq and number_of(item) not in self.parked:
            self.violations.append(f"{name_of(item)} {item.kind} after a later event of its strand")

    def answer(self, strand: int, outcome: Outcome) -> None:
        item, future = self.waiting.pop(strand)
        if number_of(item) in self.acknowledged and isinstance(outcome, Park):
            outcome = Delivered()  # what it took for good, as it said before a crash, it does not refuse
        self.took(item, outcome)
        future.set_result(outcome)

    def took(self, item: Outgoing, outcome: Outcome) -> None:
        """From here on the target has this answer on its side, whatever becomes of it on ours."""
        match outcome:
            case Delivered():
                self.acknowledged.add(number_of(item))
                for last, key in ((self._last_of_run, item.run_number), (self._last_of_strand, item.strand_id)):
                    last[key] = max(last.get(key, 0), item.seq)
            case Park():
                self.parked.add(number_of(item))
            case Retry(unanswered=True):
                self.in_doubt.add(name_of(item))

    def _looked_at(self, terminal: Outgoing) -> Outcome:
        if number_of(terminal) not in self.acknowledged:
            self.violations.append(f"{name_of(terminal)} was looked at before its end was acknowledged")
        if not (self.settle_doubts or self.obliging):
            return Retry("another state")
        self.in_doubt.discard(name_of(terminal))
        return Delivered()


class Deliveries(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.runner = asyncio.Runner()
        self.folder = quick_folder()
        self.clock = SimulatedClock()
        self.targets = {
            "marquez": Target(rechecks=True),
            "file": Target(rechecks=False, batch=2),
            "late": Target(rechecks=True),
        }
        self.kinds: dict[str, frozenset[EventKind]] = {}
        self.owed: dict[str, set[int]] = {name: set() for name in self.targets}
        self.known: dict[str, float] = {}
        """Sinks that were configured before, and when they left."""
        self.parents: dict[str, str | None] = {}
        self.begun: dict[str, float] = {}
        self.ended: set[str] = set()
        self.made: list[tuple[str, EventKind]] = []
        self.committed_at: list[float] = []
        self.started: dict[str, datetime] = {}

    def do(self, call: Coroutine[Any, Any, T]) -> T:
        return self.runner.run(call)

    # The process and its configuration

    @initialize(seed=st.integers(0, 2**32))
    def begin(self, seed: int) -> None:
        self.chance = Random(seed)
        self.do(self._start({"marquez": FEW, "file": ALL}))

    async def _start(self, kinds: dict[str, frozenset[EventKind]]) -> None:
        store = open_store(Path(self.folder.name))
        self.simulation = DeliverySimulation(store, self.clock, made=self.made, started=self.started, hops=self._hops)
        self._reckon(kinds)
        await self.simulation.configure(kinds)
        self.deliveries = [self.simulation.deliver(self.targets[name], name) for name in kinds]
        await self.simulation.quiet()

    def _hops(self) -> int:
        return self.chance.choice((0, 0, 1, 3, 8))

    def _reckon(self, kinds: dict[str, frozenset[EventKind]]) -> None:
        """What each sink is owed after this change of the configuration."""
        now = self.clock.seconds
        for name, wanted in kinds.items():
            mine = self.owed[name]
            if name not in self.known:
                mine |= self._from_start_of_open_runs()
            elif name not in self.kinds:
                mine |= self._missed_since(self.known[name])
            if wanted != self.kinds.get(name):
                done = self.targets[name].acknowledged | self.targets[name].parked
                mine -= {number for number in mine - done if self.made[number][1] not in wanted}
        self.known |= dict.fromkeys([*self.kinds, *kinds], now)
        self.kinds = kinds

    def _from_start_of_open_runs(self) -> set[int]:
        found, begun = set(), set()
        for number, (run, kind) in enumerate(self.made):
            begun |= {run} if kind is EventKind.START and run not in self.ended else set()
            found |= {number} if run in begun else set()
        return found

    def _missed_since(self, left_at: float) -> set[int]:
        """What came of runs that had begun when the sink left or are open now."""
        return {
            number
            for number, (run, _) in enumerate(self.made)
            if self.committed_at[number] >= left_at
            and (self.begun.get(run, left_at) < left_at or run not in self.ended)
        }

    async def _crash(self) -> None:
        await self.simulation.crash()
        await self.simulation.store.close()

    async def _stop(self) -> None:
        for delivery in self.deliveries:
            await self.simulation.within(1.1, delivery.stop(1.0))
        await self.simulation.close()

    @rule(spins=st.integers(0, 40), outcome=outcomes, later=st.integers(0, 5))
    def crash(self, spins: int, outcome: Outcome, later: int) -> None:
        """At some moment between answers, their settles and the next claims."""

        async def happens() -> None:
            self._answer_all(outcome)
            for _ in range(spins):
                await asyncio.sleep(0)
            await self._crash()
            self.clock.seconds += later
            await self._start(self.kinds)

        self.do(happens())

    @rule(
        gently=st.booleans(),
        kinds=st.dictionaries(
            st.sampled_from(["marquez", "file", "late"]), st.sampled_from([ALL, FEW]), min_size=1, max_size=3
        ),
    )
    def configure(self, gently: bool, kinds: dict[str, frozenset[EventKind]]) -> None:
        """Sinks leave, come back, are new, or want other kinds."""

        async def happens() -> None:
            await (self._stop() if gently else self._crash())
            self.clock.seconds += 1
            await self._start(dict(sorted(kinds.items())))

        self.do(happens())

    # What happens on the platforms

    def commit(self, *happened: tuple[str, tuple[EventKind, ...]]) -> None:
        self.clock.seconds += 1
        for run, kinds in happened:
            if EventKind.START in kinds:
                self.begun[run] = self.clock.seconds
            if kinds[-1].terminal:
                self.ended.add(run)
        first = len(self.made)
        changes = [self.simulation.change(run, *kinds, parent=self.parents[run]) for run, kinds in happened]
        self.committed_at += [self.clock.seconds] * (len(self.made) - first)
        for name, wanted in self.kinds.items():
            self.owed[name] |= {number for number in range(first, len(self.made)) if self.made[number][1] in wanted}

        async def happens() -> None:
            await self.simulation.commit(*changes)
            await self.simulation.quiet()

        self.do(happens())

    def new_run(self, parent: str | None = None) -> str:
        run = f"run {len(self.parents)}"
        self.parents[run] = parent
        return run

    @rule(count=st.integers(1, 4), queued=st.booleans())
    def runs_begin(self, count: int, queued: bool) -> None:
        kinds = (EventKind.OTHER, EventKind.START) if queued else (EventKind.START,)
        self.commit(*((self.new_run(), kinds) for _ in range(count)))

    @rule(end=st.sampled_from(ENDS))
    def a_whole_family_is_seen_at_once(self, end: EventKind) -> None:
        parent = self.new_run()
        child = self.new_run(parent)
        self.commit((child, (EventKind.START, end)), (parent, (EventKind.START, end)))

    @precondition(lambda self: self.open)
    @rule(data=st.data())
    def a_child_begins(self, data: st.DataObject) -> None:
        self.commit((self.new_run(data.draw(st.sampled_from(self.open))), (EventKind.START,)))

    @precondition(lambda self: self.open)
    @rule(data=st.data())
    def a_run_waits(self, data: st.DataObject) -> None:
        self.commit((data.draw(st.sampled_from(self.open)), (EventKind.RUNNING,)))

    @precondition(lambda self: self.open)
    @rule(data=st.data(), end=st.sampled_from(ENDS))
    def a_run_ends(self, data: st.DataObject, end: EventKind) -> None:
        """Its children end before it."""
        run = data.draw(st.sampled_from(self.open))
        family = [child for child in self.open if self.parents[child] == run]
        for one in [*family, run]:
            self.commit((one, (end,)))

    @property
    def open(self) -> list[str]:
        return [run for run in self.parents if run not in self.ended]

    # What the targets answer, and time

    def _answer_all(self, outcome: Outcome) -> None:
        for target in self.targets.values():
            for strand in list(target.waiting):
                target.answer(strand, outcome)

    @rule(outcome=outcomes)
    def all_are_answered(self, outcome: Outcome) -> None:
        async def happens() -> None:
            self._answer_all(outcome)
            await self.simulation.quiet()

        self.do(happens())

    @precondition(lambda self: any(target.waiting for target in self.targets.values()))
    @rule(data=st.data(), outcome=outcomes)
    def one_is_answered(self, data: st.DataObject, outcome: Outcome) -> None:
        name = data.draw(st.sampled_from([name for name, target in self.targets.items() if target.waiting]))
        strand = data.draw(st.sampled_from(sorted(self.targets[name].waiting)))

        async def happens() -> None:
            self.targets[name].answer(strand, outcome)
            await self.simulation.quiet()

        self.do(happens())

    @rule(seconds=st.sampled_from((0.3, 2.0, 15.0, 45.0)), settle_doubts=st.booleans())
    def time_passes(self, seconds: float, settle_doubts: bool) -> None:
        for target in self.targets.values():
            target.settle_doubts = settle_doubts
        self.do(self.simulation.advance(seconds))

    @rule(data=st.data())
    def a_parked_event_is_sent_again(self, data: st.DataObject) -> None:
        rows = [row for row in self.do(self.simulation.store.read(parked.listing, 50)) if row.sink in self.kinds]
        if rows:
            row = data.draw(st.sampled_from(rows))
            delivery = self.deliveries[list(self.kinds).index(row.sink)]

            async def happens() -> None:
                asking = asyncio.ensure_future(delivery.retry_parked([(row.strand_id, row.seq)]))
                await self.simulation.advance(0.2)
                asking.cancel()
                await asyncio.gather(asking, return_exceptions=True)

            self.do(happens())

    # What must hold

    @invariant()
    def counts_are_right(self) -> None:
        if self.kinds:
            counted, kept = self.do(self.simulation.store.read(_counts))
            assert counted == kept

    @invariant()
    def order_was_kept(self) -> None:
        for name, target in self.targets.items():
            assert not target.violations, f"{name}: {target.violations}"

    def teardown(self) -> None:
        try:
            if self.kinds:
                self.do(self._arrive())
                self.order_was_kept()
        finally:
            if self.kinds:
                self.do(self.simulation.close())
            self.runner.close()
            self.folder.cleanup()

    async def _arrive(self) -> None:
        """All sinks answer well from now on: then nothing is owed, nothing was lost and no doubt is left."""
        for target in self.targets.values():
            target.obliging = True
        self._answer_all(Delivered())
        for _ in range(0, SURELY, 5):
            await self.simulation.advance(5)
            if not await self.simulation.store.read(_unfinished):
                break
        assert not await self.simulation.store.read(_unfinished)
        for name in self.kinds:
            target = self.targets[name]
            missing = self.owed[name] - target.acknowledged - target.parked
            assert not missing, f"{name} never got {[self.made[number] for number in sorted(missing)]}"
            ended = {run for run, kind in map(self.made.__getitem__, target.acknowledged) if kind.terminal}
            if target.rechecks:
                assert not target.in_doubt & ended, f"nobody looked at {target.in_doubt & ended}"


def _counts(conn: Connection) -> tuple[list[Any], list[Any]]:
    """Pending and parked events by sink: counted, and as kept."""
    rows = conn.execute(text(_COUNTED)).all()
    return [tuple(row[:3]) for row in rows], [(row[0], row[3], row[4]) for row in rows]


_COUNTED = """
SELECT s.name,
  (SELECT count(*) FROM lane l JOIN event e ON e.strand_id = l.strand_id AND e.seq <= l.last_seq
      AND (CASE WHEN l.resume_seq IS NULL THEN e.seq = l.next_seq OR e.seq > l.next_seq AND instr(s.filter, e.kind)
        ELSE e.seq >= l.resume_seq AND instr(s.filter, e.kind) END)
    WHERE l.sink_id = s.id)
  + (SELECT count(*) FROM parked p WHERE p.sink_id = s.id AND p.retry_at IS NOT NULL),
  (SELECT count(*) FROM parked p WHERE p.sink_id = s.id AND p.retry_at IS NULL),
  (SELECT coalesce(sum(t.pending), 0) FROM tally t WHERE t.sink_id = s.id),
  (SELECT coalesce(sum(t.parked), 0) FROM tally t WHERE t.sink_id = s.id)
FROM sink s WHERE s.retired_at IS NULL ORDER BY s.name
"""


def _unfinished(conn: Connection) -> list[Any]:
    """Configured sinks that are owed something, or have a doubt that can be settled."""
    return list(conn.execute(text(_OWED)).all())


_OWED = """
SELECT s.name FROM sink s WHERE s.retired_at IS NULL AND (
  EXISTS (SELECT 1 FROM lane l WHERE l.sink_id = s.id)
  OR EXISTS (SELECT 1 FROM doubt d WHERE d.sink_id = s.id AND d.check_at IS NOT NULL))
"""


TestDeliveries = Deliveries.TestCase
TestDeliveries.settings = settings(
    max_examples=20,
    stateful_step_count=25,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much],
)
