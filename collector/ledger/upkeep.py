"""What keeps the ledger small: retention in short steps, each a write of its own so that others come between."""

from collections.abc import Mapping
from dataclasses import dataclass

from sqlalchemy import Connection


@dataclass(frozen=True, slots=True)
class Swept:
    """One step: go on with `after`, None at the end."""

    after: int | None
    removed: int


@dataclass(frozen=True, slots=True)
class Size:
    """`used` leaves out free pages, which new events use again; `file` is what the disk holds."""

    file: int
    used: int


def expire_events(conn: Connection, after: int, older_than_ms: int) -> Swept:
    """Remove delivered events that were committed before, among the next 1,000. Start with `after=0`. What is
    pending, parked or in doubt for a configured sink stays, and so do the events of open runs.
    """
    raise NotImplementedError


def expire_runs(conn: Connection, after: int, older_than_ms: Mapping[int, int]) -> Swept:
    """Remove ended runs without events, last touched before their source's time, among the next 1,000. The time must
    lie before the look-back: the run is what makes a repeated observation silent.
    """
    raise NotImplementedError


def expire_parked(conn: Connection, older_than_ms: int, limit: int = 1000) -> dict[int, int]:
    """Forget events that were parked before; how many per sink."""
    raise NotImplementedError


def prune(conn: Connection, older_than_ms: int) -> dict[str, int]:
    """Remove requests done, skips last seen, and idle jobs last touched before; how many of each, by table."""
    raise NotImplementedError


def pull_in(conn: Connection, now_ms: int, furthest_ms: int) -> int:
    """After a clock that ran ahead: make due now what is due later than any back-off or schedule can mean."""
    raise NotImplementedError


def size(conn: Connection) -> Size:
    raise NotImplementedError


def over_limit(conn: Connection, limit_bytes: int) -> bool:
    """Time to pause polling; first try `expire_events` with the present time, which keeps only what is owed."""
    raise NotImplementedError
