"""What a poll, an enrichment or a request commits: the runs are read, what becomes of them is decided and made into events
beside the writes, and written if the runs are still as they were read.

That keeps a poll and an enrichment of the same run from overwriting each other, and long pages from holding up others.
"""

from collections import Counter, defaultdict
from collections.abc import AsyncIterator, Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from functools import partial

from sqlalchemy import Connection

from collector.clock import to_ms
from collector.faultpoints import Point, passing
from collector.ledger import graph, jobs, runs, schema, stored
from collector.ledger.duplicates import Duplicates
from collector.ledger.leases import Lease
from collector.ledger.looks import Look, commit_looks
from collector.ledger.port import Ledger
from collector.ledger.restriction import Alone
from collector.ledger.runs import NewEvent, PollCommit, RunChange, RunsChanged
from collector.ledger.stored import Known
from collector.ledger.strands import parent_key
from collector.lifecycle import Step, finish
from collector.lineage.events import EventMaker
from collector.lineage.job_aliases import NO_ALIASES, JobAliases
from collector.model import Enrichment, Observation, Poll, Run, RunState, Skip, SkipKind
from collector.polling import redaction
from collector.polling.decision import Policy, by_known_ids, decide, turns
from collector.polling.definitions import completed, jobs_to_know
from collector.polling.job_names import JobNames
from collector.polling.repeats import Batch, Repeat, Repeats, fingerprint
from collector.reports import EventReport


@dataclass(frozen=True, slots=True)
class Committed:
    """What one commit held, for logs and metrics. `unchanged` are the runs that were only seen again, for `Repeats`."""

    events: tuple[EventReport, ...] = ()
    skips: tuple[Skip, ...] = ()
    unchanged: Mapping[str, Repeat] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Found:
    """What came of asking for the details of a run that ended; without them, the `problem` says why."""

    details: Enrichment | None = None
    problem: str | None = None


@dataclass(frozen=True, slots=True)
class _Ready:
    """All that a commit writes, made of the runs as they were read; None for nothing."""

    commit: PollCommit | None = None
    committed: Committed = Committed()
    keys: tuple[str, ...] = ()
    """Of each event in `committed` the key of its run."""

    def without(self, left_out: Duplicates) -> Committed:
        """What was committed when these runs were not."""
        events = zip(self.keys, self.committed.events, strict=True)
        taken = tuple(report for key, report in events if key not in left_out.keys)
        return replace(self.committed, events=taken, skips=(*self.committed.skips, *left_out.skips))


TRIES = 3
"""Times that something is decided anew because its runs changed meanwhile, before that is done inside the write."""
PART = 20
"""Observations in one commit, which take some 15 ms with 40 columns each: settles wait for it."""
JOBS = 200
"""Jobs whose datasets are read at once."""
LOOKS = 300
"""Observations in one commit that most likely change nothing: they write short rows, hundreds of them in one page."""
LOOKS_AT_ONCE = 1000
"""Repeats in one commit, which take some milliseconds."""


@dataclass(frozen=True, slots=True)
class Writer:
    """Commits for one source, under its lease."""

    source: str
    source_id: int
    lease: Callable[[], Lease]
    maker: EventMaker
    policy: Policy
    repeats: Repeats = field(default_factory=Repeats)
    job_aliases: JobAliases = NO_ALIASES
    _names: JobNames = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "_names", JobNames(self.source, self.source_id, self.job_aliases))

    async def page(
        self, store: Ledger, page: Poll, at: datetime, *, polled: bool, alone: Alone | None = None
    ) -> AsyncIterator[Committed]:
        """Take one page of a poll in, part by part; `polled` marks the end of a walk, with `alone` new runs are for one sink.
        Yields each part once it is committed, the last with the cursor moved; nothing for a page that repeats an earlier one.
        """
        page = _under_stored_keys(await self._without_repeats(store, page, at))
        if page == Poll() and not polled:
            return
        many = len(page.observations) > PART
        keys = {seen.key for seen in page.observations}
        known = await store.read(stored.states, self.source_id, keys) if many else {}
        some = parts(page, LOOKS, partial(_weight, known=known) if many else lambda _: 1)
        for part in some:
            decide = partial(self._page, page=part, at=at, polled=polled and part is some[-1], alone=alone)
            committed = await self._written(store, write_page, decide, at)
            self.repeats.remember(committed.unchanged)
            yield committed

    async def _without_repeats(self, store: Ledger, page: Poll, at: datetime) -> Poll:
        """What is left of the page once the repeats in it are committed as looks."""
        news, repeats = await self.repeats.parted(page, LOOKS_AT_ONCE)
        for batch in repeats:
            changed = await store.write(commit_looks, self.lease(), _looks(batch, page.repeated_at, at))
            news += batch.written_since(changed, page)
        return replace(page, observations=tuple(news), repeated=(), repeated_at=None)

    async def ends(self, store: Ledger, found: Mapping[str, Found], at: datetime) -> Committed:
        """Make the terminal events of those of these runs that ended, have none yet, and whose turn has come, see `turns`."""
        return await self._written(store, write_ends, partial(self._ends, found=found, at=at), at)

    async def name_datasets(self, store: Ledger) -> None:
        """Show the datasets of all jobs under the names that they have in events from now on: aliases may have changed."""
        known = await store.read(jobs.defined, self.source_id, "", JOBS)
        while known:
            shown = {name: self.maker.named(one) for name, one in known.items()}
            if differing := await store.read(graph.differing, self.source_id, shown):
                await store.write(jobs.name_datasets, self.lease(), self.source_id, differing, self.maker.named)
            known = await store.read(jobs.defined, self.source_id, list(known)[-1], JOBS)

    async def _written(
        self, store: Ledger, write: "_Write", decide: Callable[[Connection], _Ready], at: datetime
    ) -> Committed:
        for _ in range(TRIES):
            ready = await store.read(decide)
            try:
                return await store.write(write, ready, at) if ready.commit is not None else ready.committed
            except RunsChanged:
                continue
        return await store.write(lambda conn: write(conn, decide(conn), at))

    def _page(self, conn: Connection, page: Poll, at: datetime, *, polled: bool, alone: Alone | None = None) -> _Ready:
        said = page.observations
        page = redaction.poll(page)
        keys = {seen.key for seen in page.observations} | set(page.missing)
        keys |= {
            seen.parent.key for seen in page.observations if seen.parent is not None and seen.parent.key is not None
        }
        ending = {seen.key for seen in page.observations if seen.state.terminal} | set(page.missing)
        known = stored.known(conn, self.source_id, keys, ending)
        page = self._names.in_page(conn, _readable(page, known.unreadable), known.runs)
        page, before = (page, known.runs) if alone is None else _as_unknown(page, known.runs, alone.anew)
        decided = decide(before, page, at, self.policy)
        ready = self._ready(
            conn, known, decided.steps, decided.skips, at, cursor=page.cursor, polled=polled, memory=page.memory
        )
        if alone is not None and ready.commit is not None:
            ready = replace(ready, commit=replace(ready.commit, alone=alone))
        return replace(ready, committed=replace(ready.committed, unchanged=_unchanged(ready.commit, said, known)))

    def _ends(self, conn: Connection, found: Mapping[str, Found], at: datetime) -> _Ready:
        known = stored.known(conn, self.source_id, found, found)
        turn = _whose_turn(known, found, at)
        if not turn and not known.unreadable:
            return _Ready()
        steps = tuple(self._finished(conn, run, found[key]) for key, run in turn.items())
        problems = {key: problem for key in turn if (problem := found[key].problem) is not None}
        skips = tuple(redaction.skip(Skip(SkipKind.ENRICHMENT, key, cause)) for key, cause in problems.items())
        return self._ready(conn, known, steps, skips, at, unread=problems.keys())

    def _finished(self, conn: Connection, run: Run, found: Found) -> Step:
        details = redaction.enrichment(found.details) if found.details is not None else None
        if details is not None and details.job is not None:
            details = replace(details, job=self._names.of(conn, details.job, run))
        return finish(run, details, problem=redaction.problem(found.problem))

    def _ready(
        self,
        conn: Connection,
        known: Known,
        steps: tuple[Step, ...],
        skips: tuple[Skip, ...],
        at: datetime,
        *,
        cursor: str | None = None,
        polled: bool = False,
        memory: Mapping[str, str] | None = None,
        unread: Collection[str] = (),
    ) -> _Ready:
        defined = jobs.definitions(conn, self.source_id, jobs_to_know(steps))
        made = completed(steps, defined, unread=unread)
        steps = made.steps
        changes = tuple(
            RunChange(step.run, self._events(step), _only_seen(known.runs.get(step.run.key), step)) for step in steps
        )
        skips = (*skips, *_set_aside(known), *(skip for change in changes for skip in _invalid(change)))
        commit = PollCommit(
            lease=self.lease(),
            source_id=self.source_id,
            changes=changes,
            definitions=made.definitions,
            shown=self.maker.named,
            cursor=cursor,
            polled_at_ms=to_ms(at) if polled else None,
            skips=skips,
            memory=memory or {},
            unreadable=tuple(known.unreadable),
            known=known,
        )
        made_of = [(step.run.key, report) for step in steps for report in self._reports(step)]
        committed = Committed(tuple(report for _, report in made_of), skips)
        return _Ready(commit, committed, tuple(key for key, _ in made_of))

    def _events(self, step: Step) -> tuple[NewEvent, ...]:
        made = [(transition, self.maker.event(step.run, transition)) for transition in step.transitions]
        return tuple(
            NewEvent(transition.kind, body, to_ms(transition.at), self.maker.fault(body)) for transition, body in made
        )

    def _reports(self, step: Step) -> list[EventReport]:
        run = step.run
        return [
            EventReport(
                self.source,
                transition.kind,
                run.job.name,
                outcome=(run.state if run.state.terminal else RunState.UNKNOWN) if transition.kind.terminal else None,
                seconds=_duration(step) if transition.kind.terminal else None,
                run_id=str(run.run_id),
                bounded=transition.kind.terminal and run.duration_bounded,
            )
            for transition in step.transitions
        ]


_Write = Callable[[Connection, _Ready, datetime], Committed]


def write_page(conn: Connection, ready: _Ready, at: datetime) -> Committed:
    if ready.commit is not None:
        passing(Point.BEFORE_COMMIT)
        return ready.without(runs.commit_poll(conn, ready.commit, to_ms(at)))
    return ready.committed


def write_ends(conn: Connection, ready: _Ready, at: datetime) -> Committed:
    return write_page(conn, ready, at)


def parts(page: Poll, most: int, weight: Callable[[Observation], int] = lambda _: 1) -> list[Poll]:
    """The page in parts of some `most` by `weight`, the observations of one family together, as they are decided on together;
    all else of the page is in the last one.
    """
    above = {seen.key: seen.parent.key for seen in page.observations if seen.parent is not None and seen.parent.key}
    families: dict[str, list[Observation]] = {}
    for seen in page.observations:
        families.setdefault(_outermost(seen.key, above), []).append(seen)
    found: list[list[Observation]] = [[]]
    room = most
    for family in families.values():
        taken = sum(map(weight, family))
        if found[-1] and taken > room:
            found.append([])
            room = most
        found[-1] += family
        room -= taken
    *first, last = map(tuple, found)
    return [*(Poll(part) for part in first), replace(page, observations=last)]


def _outermost(key: str, above: Mapping[str, str]) -> str:
    """The outermost run that the page names; of runs that name each other in a circle the same one for all."""
    passed: list[str] = []
    while key in above and key not in passed:
        passed.append(key)
        key = above[key]
    return min(passed[passed.index(key) :]) if key in passed else key


def _unchanged(commit: PollCommit | None, said: Sequence[Observation], known: Known) -> dict[str, Repeat]:
    """Of the runs that were only seen again, and once in this page, what was said."""
    times = Counter(seen.key for seen in said)
    same = {change.run.key for change in commit.changes if change.only_seen} if commit is not None else set[str]()
    found: dict[str, Repeat] = {}
    for seen in said:
        if seen.key in same and times[seen.key] == 1 and (of_all := fingerprint(seen)) is not None:
            found[seen.key] = Repeat(*known.row(seen.key), of_all)
    return found


def _weight(seen: Observation, known: Mapping[str, tuple[str, str | None]]) -> int:
    """How much of a commit an observation takes, `LOOKS` being the whole."""
    return 1 if known.get(seen.key) == (seen.state, seen.raw_state) else LOOKS // PART


def _looks(batch: Batch, repeated_at: datetime | None, at: datetime) -> dict[Look, dict[int, int]]:
    found: defaultdict[Look, dict[int, int]] = defaultdict(dict)
    for (own, due_at), rows in batch.rows.items():
        seen_at = own or repeated_at or at
        look = Look(to_ms(seen_at), to_ms(min(seen_at, at) if due_at is None else due_at))
        found[look].update(rows)
    return found


def _under_stored_keys(page: Poll) -> Poll:
    """The page with the keys under which the ledger stores its runs: nearly always those of the platform."""
    return replace(
        page, observations=tuple(map(_keyed, page.observations)), missing=tuple(map(schema.storable, page.missing))
    )


def _keyed(seen: Observation) -> Observation:
    key, above = schema.storable(seen.key), seen.parent
    if above is not None and above.key is not None and (parent := schema.storable(above.key)) != above.key:
        above = replace(above, key=parent)
    return seen if key == seen.key and above is seen.parent else replace(seen, key=key, parent=above)


def _readable(page: Poll, unreadable: Collection[str]) -> Poll:
    """The page without the runs whose row cannot be read: what was made of them is not known."""
    if not unreadable:
        return page
    seen = tuple(one for one in page.observations if one.key not in unreadable)
    return replace(page, observations=seen, missing=tuple(key for key in page.missing if key not in unreadable))


def _as_unknown(page: Poll, known: Mapping[str, Run], anew: Collection[str]) -> tuple[Poll, dict[str, Run]]:
    """What is known without the runs that are made anew, which keep their ids."""
    again = {key: run for key, run in known.items() if key in anew}
    page = replace(page, observations=tuple(by_known_ids(seen, again) for seen in page.observations))
    return page, {key: run for key, run in known.items() if key not in anew}


def _only_seen(before: Run | None, step: Step) -> bool:
    if before is None or not before.open:
        return False
    return replace(step.run, seen_at=before.seen_at, due_at=before.due_at, misses=before.misses) == before


def _whose_turn(known: Known, found: Collection[str], at: datetime) -> dict[str, Run]:
    ended = {key: run for key in found if (run := known.runs.get(key)) and run.open and run.state.terminal}
    children = [run for run in known.runs.values() if run.open and parent_key(run) in found]
    return turns(ended, children, at)


def _set_aside(known: Known) -> list[Skip]:
    return [redaction.skip(Skip(SkipKind.UNREADABLE, key, cause)) for key, cause in known.unreadable.items()]


def _invalid(change: RunChange) -> list[Skip]:
    return [
        Skip(SkipKind.INVALID, f"{new.kind.value} of run {change.run.key}", f"{new.fault}; it is parked for every sink")
        for new in change.events
        if new.fault is not None
    ]


def _duration(step: Step) -> float | None:
    run = step.run
    if run.started_at is None or run.ended_at is None:
        return None
    return (run.ended_at - run.started_at).total_seconds()
