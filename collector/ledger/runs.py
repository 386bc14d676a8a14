"""Runs: the commit of a poll, and what the next poll reads."""

from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from sqlalchemy import Connection, bindparam, insert, select, update

from collector.errors import LedgerError
from collector.ledger import detail, duplicates, jobs, lanes, memory, restriction, schema, skips, stored, tallies
from collector.ledger.duplicates import Duplicates
from collector.ledger.lanes import Entry
from collector.ledger.leases import Lease, fence
from collector.ledger.port import Change, announce
from collector.ledger.restriction import Alone
from collector.ledger.run_rows import Place, places, put, put_looks, set_aside
from collector.ledger.statements import KEYS, changed, rows_of
from collector.ledger.stored import Known, is_open
from collector.ledger.strands import in_order, parent_key
from collector.model import Definition, EventKind, Run, RunState, Skip

_TERMINAL = sorted(state.value for state in RunState if state.terminal)


@dataclass(frozen=True, slots=True)
class NewEvent:
    """`body` is the RunEvent as JSON, `happened_at_ms` its eventTime; with a `fault` it is not valid, and no sink gets it."""

    kind: EventKind
    body: bytes
    happened_at_ms: int
    fault: str | None = None


@dataclass(frozen=True, slots=True)
class RunChange:
    """A run as known now, and the events of its transitions, in order. `only_seen`: nothing else changed of what is
    stored than when it was seen, missed and is due.
    """

    run: Run
    events: tuple[NewEvent, ...] = ()
    only_seen: bool = False

    @property
    def is_look(self) -> bool:
        """True where there is no more to store than a look."""
        return self.only_seen and not self.events


@dataclass(frozen=True, slots=True)
class PollCommit:
    """What one page of a poll, one enrichment or one request changes. `cursor` and `polled_at_ms`: None leaves them.
    `definitions` are what jobs read and write, by job name; `shown` gives datasets the names that they have in events.
    `unreadable` are keys of runs whose row cannot be read: they are watched no longer. `known` is what it was decided on, which must still be so.
    `alone`: the new runs are for one sink.
    """

    lease: Lease
    source_id: int
    changes: tuple[RunChange, ...] = ()
    cursor: str | None = None
    polled_at_ms: int | None = None
    skips: tuple[Skip, ...] = ()
    memory: Mapping[str, str] = field(default_factory=dict)
    definitions: Mapping[str, Definition] = field(default_factory=dict)
    shown: Callable[[Definition], Definition] = lambda one: one
    unreadable: tuple[str, ...] = ()
    known: Known | None = None
    alone: Alone | None = None


class RunsChanged(LedgerError):
    """A commit was decided on runs that another commit changed meanwhile: decide it again."""


@dataclass(frozen=True, slots=True)
class SourceState:
    """`polled_at` and `hinted_at` (when a hint came last) in epoch milliseconds."""

    cursor: str | None
    polled_at: int | None
    hinted_at: int | None


def commit_poll(conn: Connection, commit: PollCommit, now_ms: int) -> Duplicates:
    """Runs, events, lanes, counts, skips and cursor, all or nothing but for runs that another source has already.

    A run is the one with its key at its source; it comes several times where a page saw it several times. Its strand
    is its parent's, if that is known by then, and never changes. Raises `LeaseLost`, `RunsChanged`, and `LedgerError`
    when a START or a terminal event is there already.
    """
    fence(conn, commit.lease)
    if commit.known is not None and not stored.is_current(conn, commit.source_id, commit.known):
        raise RunsChanged("another commit changed these runs meanwhile; nothing was committed")
    changes = _folded(commit.changes)
    keys = {key for change in changes for key in (change.run.key, parent_key(change.run)) if key is not None}
    known = places(conn, commit.source_id, keys)
    left_out = duplicates.duplicate_runs(
        conn, commit.source_id, [change.run for change in changes if change.run.key not in known]
    )
    changes = [change for change in changes if change.run.key not in left_out.keys]
    known |= _forgotten(conn, commit.alone, known)
    _refuse_repeats(changes, known)
    _put_changes(conn, commit.source_id, changes, known, now_ms, commit.alone)
    jobs.define(conn, commit.source_id, commit.definitions, commit.shown)
    skips.note(conn, commit.source_id, (*commit.skips, *left_out.skips), now_ms)
    set_aside(conn, commit.source_id, commit.unreadable, now_ms)
    memory.note(conn, commit.source_id, commit.memory, now_ms)
    _note_poll(conn, commit)
    return left_out


def _forgotten(conn: Connection, alone: Alone | None, known: Mapping[str, Place]) -> dict[str, Place]:
    """The places of runs to make anew whose events are all gone, as if none had been made; their strands are for one sink alone
    from now on.
    """
    if alone is None:
        return {}
    places = {key: known[key] for key in alone.anew & known.keys()}
    strands = {place.strand_id for place in places.values()}
    left = with_events(conn, strands)
    restriction.restrict(conn, strands - left, alone.sink)
    return {
        key: replace(place, started=False, ended=False) for key, place in places.items() if place.strand_id not in left
    }


def with_events(conn: Connection, strands: Iterable[int]) -> set[int]:
    """Those of these strands of which the ledger has an event."""
    kept = select(schema.event.c.strand_id).where(schema.event.c.strand_id.in_(KEYS)).distinct()
    return {strand for (strand,) in rows_of(conn, kept, sorted(set(strands)))}


def _put_changes(
    conn: Connection,
    source_id: int,
    changes: Sequence[RunChange],
    known: Mapping[str, Place],
    now_ms: int,
    alone: Alone | None,
) -> None:
    """Runs with their events, which every sink is owed from here on, or one alone; only a look where nothing else changed."""
    looks = [change.run for change in changes if change.is_look]
    put_looks(conn, [(known[run.key].id, detail.watch_row(run, now_ms)) for run in looks])
    changes = [change for change in changes if not change.is_look]
    placed = put(conn, source_id, [change.run for change in changes], known, now_ms, alone)
    _put_events(
        conn, source_id, [_Happened(placed[change.run.key], new) for change in changes for new in change.events], now_ms
    )
    jobs.note(conn, source_id, [(change.run, _terminal(change)) for change in changes], now_ms)


def _put_events(conn: Connection, source_id: int, happened: Sequence["_Happened"], now_ms: int) -> None:
    if entries := _append(conn, happened, now_ms):
        lanes.owe(conn, source_id, entries, now_ms)
        tallies.grow(conn, Counter({source_id: sum(entry.size for entry in entries)}))
        announce(conn, Change.EVENTS)


def _folded(changes: Iterable[RunChange]) -> list[RunChange]:
    """One change per run: its last state, with the events of all."""
    folded: dict[str, RunChange] = {}
    for change in changes:
        before = folded.get(change.run.key)
        folded[change.run.key] = replace(change, events=before.events + change.events) if before else change
    return list(folded.values())


def _refuse_repeats(changes: Iterable[RunChange], known: Mapping[str, Place]) -> None:
    """Promise 3's second guard: at most one START and one terminal event per run."""
    for change in changes:
        place = known.get(change.run.key)
        starts = sum(new.kind is EventKind.START for new in change.events) + (place is not None and place.started)
        ends = sum(new.kind.terminal for new in change.events) + (place is not None and place.ended)
        if starts > 1 or ends > 1:
            raise LedgerError(f"run {change.run.key} has its START or its end already; nothing was committed")


@dataclass(frozen=True, slots=True)
class _Happened:
    """A new event and the place of its run."""

    place: Place
    new: NewEvent

    @property
    def kind(self) -> EventKind:
        return self.new.kind

    @property
    def depth(self) -> int:
        return self.place.depth


def _append(conn: Connection, happened: Sequence[_Happened], now_ms: int) -> list[Entry]:
    """Write events at the end of their strands."""
    strands: defaultdict[int, list[_Happened]] = defaultdict(list)
    for one in happened:
        strands[one.place.strand_id].append(one)
    last, only_sinks = _ends_of(conn, strands)
    placed = [
        (strand, seq, one) for strand in strands for seq, one in enumerate(in_order(strands[strand]), last[strand] + 1)
    ]
    if placed:
        conn.execute(_NEW_EVENT, [_event_row(strand, seq, one, now_ms) for strand, seq, one in placed])
        rows = [{"of_id": strand, "last_seq": last[strand] + len(strands[strand])} for strand in sorted(strands)]
        conn.execute(_LONGER, rows)
    return [Entry(strand, seq, one.kind, len(one.new.body), only_sinks[strand]) for strand, seq, one in placed]


def _ends_of(conn: Connection, strands: Iterable[int]) -> tuple[dict[int, int], dict[int, restriction.Sinks | None]]:
    """Where each strand ends, and which sinks alone get it."""
    last: dict[int, int] = {}
    only_sinks: dict[int, restriction.Sinks | None] = {}
    for strand, seq, mark in rows_of(conn, _ENDS, sorted(strands)):
        last[strand], only_sinks[strand] = seq, restriction.read(mark)
    return last, only_sinks


_NEW_EVENT = insert(schema.event)
_LONGER = update(schema.run).where(schema.run.c.id == bindparam("of_id")).values(last_seq=bindparam("last_seq"))
_ENDS = select(schema.run.c.id, schema.run.c.last_seq, schema.run.c.only_sinks).where(schema.run.c.id.in_(KEYS))


def _event_row(strand_id: int, seq: int, one: _Happened, now_ms: int) -> dict[str, Any]:
    return {
        "strand_id": strand_id,
        "seq": seq,
        "run_id": one.place.id,
        "kind": one.kind.value,
        "created_at": now_ms,
        "happened_at": one.new.happened_at_ms,
        "fault": None if one.new.fault is None else schema.clean(one.new.fault),
        "body": one.new.body,
    }


def _terminal(change: RunChange) -> EventKind | None:
    return next((new.kind for new in change.events if new.kind.terminal), None)


def _note_poll(conn: Connection, commit: PollCommit) -> None:
    new = {"cursor": commit.cursor, "polled_at": commit.polled_at_ms}
    if values := {name: value for name, value in new.items() if value is not None}:
        conn.execute(_POLLED, {"of_id": commit.source_id, **values})


_POLLED = update(schema.source).where(schema.source.c.id == bindparam("of_id"))
"""Sets what the values name."""


def by_keys(conn: Connection, source_id: int, keys: Iterable[str]) -> dict[str, Run]:
    """Those of the runs that are known and can be read."""
    return stored.known(conn, source_id, keys).runs


def make_due(conn: Connection, lease: Lease, source_id: int, keys: Iterable[str], now_ms: int) -> int:
    """Make those of these open runs due now that would be due later; how many that are."""
    fence(conn, lease)
    run, watch = schema.run, schema.watch
    named = select(run.c.id).where(run.c.source_id == source_id, run.c.key.in_(KEYS))
    later = update(watch).where(watch.c.run_id.in_(named), watch.c.due_at > now_ms)
    return changed(conn, later.values(due_at=now_ms), sorted(set(keys)))


@dataclass(frozen=True, slots=True)
class Ended:
    """A run that ended and has no terminal event yet; `until_ms` is when that must go out at the latest."""

    key: str
    until_ms: int


def ended(conn: Connection, source_id: int, limit: int) -> list[Ended]:
    """The nearest deadline first."""
    table = schema.run
    columns = select(table.c.key, table.c.enrich_until).where(
        table.c.source_id == source_id, table.c.state.in_(_TERMINAL), *is_open(table)
    )
    rows = conn.execute(columns.order_by(table.c.enrich_until, table.c.id).limit(limit))
    return [Ended(key, until_ms or 0) for key, until_ms in rows]


def next_due(conn: Connection, source_id: int, after_ms: int = 0) -> int | None:
    """The earliest `due_at` behind `after_ms` of an open run that asked for one. With the start of the last poll as
    `after_ms`, runs that it could not read do not count: they wait for the next poll.
    """
    table = schema.watch
    asked = select(table.c.due_at).where(
        table.c.source_id == source_id, table.c.due_at > after_ms, table.c.due_at > table.c.seen_at
    )
    return conn.scalar(asked.order_by(table.c.due_at).limit(1))


def source_state(conn: Connection, source_id: int) -> SourceState:
    table = schema.source
    row = conn.execute(
        select(table.c.cursor, table.c.polled_at, table.c.hinted_at).where(table.c.id == source_id)
    ).one()
    return SourceState(*row)
