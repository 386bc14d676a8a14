"""The polling loop without waiting and without a ledger, for tests of adapters against their simulators."""

from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from datetime import timedelta

from collector.ledger.strands import in_order
from collector.lifecycle import Step, VanishedPolicy, finish
from collector.lineage.events import EventMaker
from collector.model import Definition, EventKind, Observation, Poll, Run, Skip, Transition
from collector.platforms.base import Platform, Remembering
from collector.polling.decision import Policy, decide
from collector.polling.definitions import completed
from collector.testing.clock import SimulatedClock

POLICY = Policy(timedelta(seconds=60), VanishedPolicy.LEAVE_OPEN)


@dataclass(frozen=True, slots=True)
class _Made:
    kind: EventKind
    depth: int
    event: bytes


@dataclass
class SimulatedPoller:
    """Does with pages what the polling loop does, over a dict in place of the ledger. `events` are as sinks get them."""

    platform: Platform
    clock: SimulatedClock
    policy: Policy = POLICY
    cursor: str | None = None
    memory: dict[str, str] = field(default_factory=dict)
    runs: dict[str, Run] = field(default_factory=dict)
    transitions: list[tuple[str, Transition]] = field(default_factory=list)
    skips: list[Skip] = field(default_factory=list)
    pages: list[Poll] = field(default_factory=list)
    events: list[bytes] = field(default_factory=list)
    maker: EventMaker = field(default_factory=lambda: EventMaker("source"))
    definitions: dict[str, Definition] = field(default_factory=dict)
    is_unread: bool = False
    """Whether the details of ended runs cannot be read."""

    def adopt(self, seen: Observation) -> None:
        """Add a run that a trigger or a watch returned."""
        self._take(Poll((seen,)))

    def restart(self, platform: Platform) -> None:
        """Continue with the adapter of a new process, which has the stored state and nothing else."""
        self.platform = platform
        if isinstance(platform, Remembering):
            platform.remember(self.memory)

    def due(self) -> list[Run]:
        now = self.clock.now()
        waiting = [run for run in self.runs.values() if run.open and not run.state.terminal]
        due = [run for run in waiting if run.due_at is None or run.due_at <= now]
        return sorted(due, key=lambda run: run.due_at or now)

    async def cycle(self) -> list[Poll]:
        """One poll and what follows from it. An error is raised after the pages before it were taken in."""
        pages: list[Poll] = []
        async for compact in self.platform.poll(self.due(), self.cursor):
            page = compact.expanded()
            pages.append(page)
            self._take(page)
        await self._enrich()
        return pages

    async def follow(self, seconds: float, *, every: float = 5.0) -> None:
        """Cycles every so many seconds for a while."""
        end = self.clock.monotonic() + seconds
        await self.cycle()
        while self.clock.monotonic() < end:
            self.clock.advance(every)
            await self.cycle()

    def kinds(self, key: str) -> list[EventKind]:
        return [transition.kind for of, transition in self.transitions if of == key]

    def at(self, key: str, kind: EventKind) -> Transition:
        [found] = [transition for of, transition in self.transitions if of == key and transition.kind is kind]
        return found

    def _take(self, page: Poll) -> None:
        self.pages.append(page)
        decided = decide(self.runs, page, self.clock.now(), self.policy)
        self._apply(decided.steps)
        self.skips += decided.skips
        self.cursor = self.cursor if page.cursor is None else page.cursor
        self.memory |= page.memory

    def _apply(self, steps: Iterable[Step]) -> None:
        """As the ledger does it: the runs are placed in their families first, then their events in order."""
        steps, made = self._with_definitions(tuple(steps)), list[_Made]()
        self.runs |= {step.run.key: step.run for step in steps}
        for step in steps:
            self.transitions += [(step.run.key, transition) for transition in step.transitions]
            for transition in step.transitions:
                event = self.maker.event(step.run, transition)
                made.append(_Made(transition.kind, self._depth(step.run), event))
        self.events += [one.event for one in in_order(made)]

    def _with_definitions(self, steps: tuple[Step, ...]) -> tuple[Step, ...]:
        unread = {step.run.key for step in steps} if self.is_unread else set()
        done = completed(steps, self.definitions, unread=unread)
        self.definitions |= done.definitions
        return done.steps

    def _depth(self, run: Run) -> int:
        parent = self.runs.get(run.parent.key or "") if run.parent is not None else None
        return 0 if parent is None or parent.key == run.key else 1 + self._depth(parent)

    async def _enrich(self) -> None:
        """Children before their parents, as `ledger.runs.enrichable` has it."""
        while turn := [run for run in self.runs.values() if self._is_its_turn(run)]:
            for run in turn:
                self._apply([await self._finished(run)])

    async def _finished(self, run: Run) -> Step:
        if self.is_unread:
            return finish(run, None, problem="details could not be read in time")
        return finish(run, await self.platform.enrich(run))

    def _is_its_turn(self, run: Run) -> bool:
        if not run.state.terminal or run.ended_at is not None or run.abandoned_at is not None:
            return False
        in_time = run.enrich_until is not None and self.clock.now() < run.enrich_until
        return not any(in_time or child.state.terminal for child in self._open_children(run))

    def _open_children(self, run: Run) -> list[Run]:
        return [other for other in self.runs.values() if other.open and other.parent and other.parent.key == run.key]

    def make_due(self, keys: Iterable[str]) -> None:
        """What a hint does: these runs are due now."""
        for key in keys:
            self.runs[key] = replace(self.runs[key], due_at=self.clock.now())
