"""Lanes: what one strand still owes one sink, in order."""

from dataclasses import dataclass

from sqlalchemy import Connection

from collector.ledger.leases import Lease
from collector.model import Outgoing


@dataclass(frozen=True, slots=True)
class Retried:
    """Not delivered. `unanswered`: the attempt may still be applied later."""

    item: Outgoing
    due_at_ms: int
    cause: str
    unanswered: bool = False


@dataclass(frozen=True, slots=True)
class Refused:
    """To be parked: the sink will never take it."""

    item: Outgoing
    cause: str


@dataclass(frozen=True, slots=True)
class Settlement:
    """Outcomes of heads that were claimed, at most one per strand."""

    delivered: tuple[Outgoing, ...] = ()
    retried: tuple[Retried, ...] = ()
    parked: tuple[Refused, ...] = ()


@dataclass(frozen=True, slots=True)
class SettleResult:
    """What was written. `stale` are events that were no longer the head of their lane: an earlier settle had them.
    `superseded` counts parked events that can never be sent again now, `doubted` the runs to look at later.
    """

    delivered: int = 0
    retried: int = 0
    parked: int = 0
    superseded: int = 0
    doubted: int = 0
    stale: tuple[Outgoing, ...] = ()


def claim(conn: Connection, sink_id: int, now_ms: int, limit: int, floor: int = 0) -> list[Outgoing]:
    """The heads that are due, oldest first; reads only. Ask for `limit` plus the number in flight and leave those out.

    `floor` spares PostgreSQL dead index entries: pass the `committed_at` of the first event of the last claim, and 0
    every 5 s and after a claim that came back short.
    """
    raise NotImplementedError


def next_due(conn: Connection, sink_id: int) -> int | None:
    """When the next head is or was due, None when all is delivered."""
    raise NotImplementedError


def settle(
    conn: Connection,
    lease: Lease,
    sink_id: int,
    settlement: Settlement,
    now_ms: int,
    recheck_at_ms: int | None,
) -> SettleResult:
    """Move lanes on. With `recheck_at_ms`, unanswered attempts leave a doubt, and the settled terminal event of a run
    in doubt is looked at then; None for sinks where nothing is applied late.
    """
    raise NotImplementedError
