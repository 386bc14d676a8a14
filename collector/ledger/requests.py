"""Requests of people and hints, done by the process that holds the lease of the source or sink."""

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Any

from sqlalchemy import ColumnElement, Connection, Executable, delete, insert, literal_column, select, update

from collector.errors import LedgerError
from collector.ledger import schema, shards
from collector.ledger.leases import Lease, fence
from collector.ledger.port import Change, announce


class RequestKind(StrEnum):
    TRIGGER = "trigger"
    WATCH = "watch"
    POLL = "poll"
    RETRY = "retry"
    DROP = "drop"
    RESEND = "resend"
    """To a sink: named runs are sent again."""
    BACKFILL = "backfill"
    """Takes hours, perhaps: its answer says how far it is until it is done, and who takes it over goes on there."""
    STOP = "stop"
    """Ends the backfill that is under way. Done in the ledger at once, whoever holds the lease; never a row."""
    FORGET = "forget"
    """Done by the running service itself, as a source or sink that left has no lease; never a row."""


class RequestState(StrEnum):
    NEW = "new"
    CLAIMED = "claimed"
    DONE = "done"
    FAILED = "failed"
    DOUBTFUL = "doubtful"
    """It was begun and it is unknown how far it came; never repeated automatically."""


@dataclass(frozen=True, slots=True)
class Request:
    """`target` is the lease's name, `source:<name>` or `sink:<name>`; `body` and `answer` are JSON of the two ends. A request to
    a sink with several shards has parts, one for each, whose target is the shard's lease; its own answer is made of theirs.
    """

    id: int
    kind: RequestKind
    target: str
    body: str
    created_at: int
    state: RequestState
    answer: str | None = None
    done_at: int | None = None
    part_of: int | None = None


class RequestClosed(LedgerError):
    """The request is no longer open: it was done, or stopped."""


STOPPED = "a person stopped it; what was done until then stays, the same command does the rest"
INTERRUPTED = "the collector was stopped while it did this: it is unknown whether it was done"


def add(conn: Connection, kind: RequestKind, target: str, body: str, now_ms: int) -> int:
    """Store a request; returns its number, by which `get` finds its answer."""
    row = {"kind": kind, "target": target, "body": body, "created_at": now_ms, "state": RequestState.NEW}
    number: int = conn.execute(insert(schema.request).returning(schema.request.c.id), row).scalar_one()
    if target.startswith(_SINK):
        sink = target.removeprefix(_SINK)
        if (count := shards.held_count(conn, sink)) > 1:
            divide(conn, sink, count)
    announce(conn, Change.REQUESTS)
    return number


_SINK = "sink:"


def divide(conn: Connection, sink: str, count: int) -> None:
    """The sink has so many shards now: its open requests get a part for each, that goes on where the former parts were. What the
    former parts answered is kept in the request.
    """
    table = schema.request
    target, leases = f"{_SINK}{sink}", shards.lease_names(sink, count)
    opened = select(table).where(table.c.target == target, table.c.done_at.is_(None), table.c.part_of.is_(None))
    for whole in _found(conn, opened.order_by(table.c.id)):
        if not _is_divided_into(conn, whole.id, leases):
            former = _with_answers(conn, whole)
            conn.execute(delete(table).where(table.c.part_of == whole.id))
            if count > 1:
                _add_parts(conn, former, leases)


def _with_answers(conn: Connection, whole: Request) -> Request:
    """A request that keeps what its parts have answered; a backfill has it already."""
    table = schema.request
    done = _parts(conn, whole.id, table.c.done_at.is_not(None))
    if whole.kind is RequestKind.BACKFILL or not done:
        return whole
    _, answer = _joined([*_answered(whole), *done])
    conn.execute(update(table).where(table.c.id == whole.id).values(answer=answer))
    return replace(whole, answer=answer)


def _answered(whole: Request) -> list[Request]:
    """The request as one more part, where it has the answers of former parts."""
    return [] if whole.answer is None or whole.kind is RequestKind.BACKFILL else [whole]


def _parts(conn: Connection, whole: int, *which: ColumnElement[bool]) -> list[Request]:
    table = schema.request
    return _found(conn, select(table).where(table.c.part_of == whole, *which).order_by(table.c.id))


def _is_divided_into(conn: Connection, whole: int, leases: Sequence[str]) -> bool:
    table = schema.request
    targets = conn.scalars(select(table.c.target).where(table.c.part_of == whole)).all()
    return sorted(targets) == (sorted(leases) if len(leases) > 1 else [])


def _add_parts(conn: Connection, whole: Request, leases: Sequence[str]) -> None:
    common = {"kind": whole.kind, "body": whole.body, "created_at": whole.created_at, "part_of": whole.id}
    begun = whole.answer if whole.kind is RequestKind.BACKFILL else None
    answers = [begun, *[_begun_elsewhere(begun)] * (len(leases) - 1)]
    rows = [
        {**common, "target": lease, "state": RequestState.NEW, "answer": answer}
        for lease, answer in zip(leases, answers, strict=True)
    ]
    conn.execute(insert(schema.request), rows)
    table = schema.request
    conn.execute(update(table).where(table.c.id == whole.id).values(state=RequestState.CLAIMED))


def _begun_elsewhere(answer: str | None) -> str | None:
    """How far a part is that goes on where the whole was, whose counts another part has."""
    return None if answer is None else json.dumps({**dict.fromkeys(read := json.loads(answer), 0), AFTER: read[AFTER]})


AFTER = "after"
"""In the answer of a backfill that goes on: up to which run it is done."""
NOTHING_PARKED = "nothing is parked there"


def _joined(parts: Sequence[Request]) -> tuple[RequestState, str]:
    """The answer of a request from those of its parts. That one shard had nothing parked does not matter where others had."""
    answers = [json.loads(part.answer or "{}") for part in parts]
    found = [answer for answer in answers if not _found_nothing(answer)]
    counts = _sum(found)
    is_good = found and "error" not in counts
    state = RequestState.DONE if is_good else RequestState.FAILED
    return state, json.dumps(counts or answers[0])


def _sum(answers: Iterable[Mapping[str, Any]]) -> dict[str, Any]:
    counts = dict[str, Any]()
    for name, value in (item for answer in answers for item in answer.items()):
        counts[name] = _added(name, counts.get(name), value)
    return counts


def _found_nothing(answer: Mapping[str, Any]) -> bool:
    return str(answer.get("error", "")).startswith(NOTHING_PARKED)


def _added(name: str, one: Any, other: Any) -> Any:
    if one is None or name == "error":
        return other
    return min(one, other) if name == AFTER else one + other


def _join(conn: Connection, whole: int, now_ms: int | None) -> bool:
    """Write the answer of a request as far as its parts are. Returns True when all were done at `now_ms`, and so is it."""
    table = schema.request
    former = _answered(_found(conn, select(table).where(table.c.id == whole).with_for_update())[0])
    parts = _parts(conn, whole)
    is_done = now_ms is not None and all(part.done_at is not None for part in parts)
    begun = parts if is_done else [part for part in parts if part.answer is not None]
    state, answer = _joined([*former, *begun])
    values = {"state": state, "answer": answer, "done_at": now_ms} if is_done else {"answer": answer}
    if is_done or parts[0].kind is RequestKind.BACKFILL:
        conn.execute(update(table).where(table.c.id == whole, table.c.done_at.is_(None)).values(values))
    return is_done


def join_done(conn: Connection, now_ms: int) -> None:
    """Answer the requests of which all parts were answered without their holders."""
    table = schema.request
    part = table.alias("part")
    undone = select(part.c.part_of).where(part.c.part_of.is_not(None), part.c.done_at.is_(None))
    parts = select(part.c.part_of).where(part.c.part_of.is_not(None))
    left = select(table.c.id).where(table.c.done_at.is_(None), table.c.id.in_(parts), table.c.id.not_in(undone))
    for whole in conn.scalars(left).all():
        _join(conn, whole, now_ms)


MOST_KEYS = 1_000
"""Runs that one request to poll names."""


def add_poll(conn: Connection, target: str, keys: Sequence[str], now_ms: int) -> int:
    """Store a request to poll now, with these runs being due, or add them to one that nobody has begun: however many
    messages come, the holder of the source has one such request to do.
    """
    table = schema.request
    new = table.c.target == target, table.c.kind == RequestKind.POLL, table.c.state == RequestState.NEW
    waiting = conn.execute(select(table.c.id, table.c.body).where(*new).order_by(table.c.id).limit(1)).one_or_none()
    if waiting is not None:
        named = dict.fromkeys([*json.loads(waiting.body).get("keys", ()), *keys])
        body = json.dumps({"keys": list(named)[:MOST_KEYS]})
        still_new = table.c.id == waiting.id, table.c.state == RequestState.NEW
        if conn.execute(update(table).where(*still_new).values(body=body)).rowcount:
            announce(conn, Change.REQUESTS)
            return int(waiting.id)
    return add(conn, RequestKind.POLL, target, json.dumps({"keys": list(keys)}), now_ms)


def claim(conn: Connection, lease: Lease, limit: int) -> list[Request]:
    """New requests to the lease's name, oldest first, now this holder's to do. Begin only after the commit."""
    fence(conn, lease)
    table = schema.request
    mine = table.c.target == lease.name, table.c.done_at.is_(None), table.c.state == RequestState.NEW
    oldest = select(table.c.id).where(*mine).order_by(table.c.id).limit(limit)
    # as they are when they are locked: `add_poll` may have added to one meanwhile
    claimed = update(table).where(table.c.id.in_(oldest.scalar_subquery()), table.c.state == RequestState.NEW)
    taken = _found(conn, claimed.values(state=RequestState.CLAIMED).returning(*table.c))
    return sorted(taken, key=lambda request: request.id)


def _interrupted(_: Request) -> str:
    return json.dumps({"error": INTERRUPTED})


def take_over(
    conn: Connection, lease: Lease, now_ms: int, answer: Callable[[Request], str] = _interrupted
) -> list[Request]:
    """Once after taking the lease: what a former holder had begun. Triggers become doubtful and are returned, each with its
    `answer`, for what may have started a run is never repeated; all else is new again.
    """
    fence(conn, lease)
    table = schema.request
    begun = table.c.target == lease.name, table.c.done_at.is_(None), table.c.state == RequestState.CLAIMED
    triggers = select(table).where(*begun, table.c.kind == RequestKind.TRIGGER).order_by(table.c.id)
    cut_off = _found(conn, triggers)
    found = [replace(one, state=RequestState.DOUBTFUL, answer=answer(one), done_at=now_ms) for one in cut_off]
    for one in found:
        doubtful = {"state": one.state, "answer": one.answer, "done_at": one.done_at}
        conn.execute(update(table).where(table.c.id == one.id).values(doubtful))
    conn.execute(update(table).where(*begun).values(state=RequestState.NEW))
    return found


def finish(conn: Connection, lease: Lease, request_id: int, state: RequestState, answer: str, now_ms: int) -> bool:
    """Raises `RequestClosed` for a request that is not this lease's to answer, or answered before. Returns False for a part while
    other parts of its request are not done.
    """
    fence(conn, lease)
    table = schema.request
    ours = table.c.id == request_id, table.c.target == lease.name, table.c.done_at.is_(None)
    for before in _found(conn, select(table).where(*ours)):
        if former := _answered(before):
            state, answer = _joined([*former, replace(before, answer=answer)])
    done = update(table).where(*ours).values(state=state, answer=answer, done_at=now_ms).returning(table.c.part_of)
    if (row := conn.execute(done).one_or_none()) is None:
        raise _closed(lease, request_id)
    return row.part_of is None or _join(conn, row.part_of, now_ms)


def note(conn: Connection, lease: Lease, request_id: int, answer: str) -> None:
    """How far it is, for one that is not done yet. Raises `RequestClosed` for one that was stopped."""
    fence(conn, lease)
    table = schema.request
    ours = table.c.id == request_id, table.c.target == lease.name, table.c.done_at.is_(None)
    noted = update(table).where(*ours).values(answer=answer).returning(table.c.part_of)
    if (row := conn.execute(noted).one_or_none()) is None:
        raise _closed(lease, request_id)
    if row.part_of is not None:
        _join(conn, row.part_of, None)


def _closed(lease: Lease, request_id: int) -> RequestClosed:
    return RequestClosed(f"request {request_id} is not open for {lease.name}; its answer was not written")


def add_backfill(conn: Connection, target: str, body: str, now_ms: int) -> int:
    """Store a request to backfill; the number of the one that is not done yet, whatever its window, where there is one."""
    found = next((each for each in backfills(conn) if each.target == target), None)
    return found.id if found is not None else add(conn, RequestKind.BACKFILL, target, body, now_ms)


def backfills(conn: Connection) -> list[Request]:
    """Those that are not done, the oldest first: one for a target at the most."""
    table = schema.request
    undone = select(table).where(
        table.c.kind == RequestKind.BACKFILL, table.c.done_at.is_(None), table.c.part_of.is_(None)
    )
    return _found(conn, undone.order_by(table.c.id))


def last_backfill(conn: Connection, target: str) -> Request | None:
    """The latest of this target that is done, failed or was stopped, as long as retention keeps it."""
    table = schema.request
    # as the index has it: a bound value would not be recognised as its condition
    is_backfill = table.c.kind == literal_column(f"'{RequestKind.BACKFILL}'")
    ended = select(table).where(is_backfill, table.c.target == target, table.c.done_at.is_not(None))
    return next(iter(_found(conn, ended.order_by(table.c.id.desc()).limit(1))), None)


def stop_backfill(conn: Connection, target: str, now_ms: int) -> dict[str, Any] | None:
    """End the one of this target: its holder learns it with its next step, which is rolled back. Returns how far it was, None
    where none is under way.
    """
    found = next((each for each in backfills(conn) if each.target == target), None)
    if found is None:
        return None
    table, progress = schema.request, json.loads(found.answer or "{}")
    answer = json.dumps({**progress, "error": STOPPED})
    for which in (table.c.part_of == found.id, table.c.id == found.id):  # the parts first, as who answers one does
        ended = update(table).where(which, table.c.done_at.is_(None))
        conn.execute(ended.values(state=RequestState.FAILED, answer=answer, done_at=now_ms))
    announce(conn, Change.REQUESTS)
    return dict(progress)


def get(conn: Connection, request_id: int) -> Request | None:
    """None for one that never existed, or was done long ago and removed."""
    return next(iter(_found(conn, select(schema.request).where(schema.request.c.id == request_id))), None)


def hint(conn: Connection, source_id: int, now_ms: int) -> None:
    """A hint says that something changed at this source: see `runs.source_state`."""
    table = schema.source
    conn.execute(update(table).where(table.c.id == source_id).values(hinted_at=now_ms))
    announce(conn, Change.REQUESTS)


def _found(conn: Connection, statement: Executable) -> list[Request]:
    rows = conn.execute(statement).mappings()
    return [Request(**{**row, "kind": RequestKind(row["kind"]), "state": RequestState(row["state"])}) for row in rows]
