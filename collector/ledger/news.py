"""What a commit brings for others, so that they wake up for what concerns them and sleep through the rest."""

from enum import StrEnum

from sqlalchemy import Connection

_KEY = "news"


class News(StrEnum):
    EVENTS = "events"
    """There is something new to send."""
    REQUESTS = "requests"
    """Somebody asked for something."""


def tell(conn: Connection, news: News) -> None:
    """For the functions of the ledger: announced when this transaction commits."""
    conn.info.setdefault(_KEY, set()).add(news)


def take(conn: Connection) -> frozenset[News]:
    """What was told on this connection since the last call."""
    return frozenset(conn.info.pop(_KEY, ()))
