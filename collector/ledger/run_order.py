"""The order of runs in lists: those that began last come first, whatever the order in which a platform showed them."""

from typing import TypeAlias

from sqlalchemy import ColumnElement, Connection, or_, select

from collector.ledger import schema

NEWEST_FIRST = schema.BEGAN.desc(), schema.run.c.id.desc()
Place: TypeAlias = tuple[int, int]
"""When a run began, see `schema.BEGAN`, and its number."""


def place_of(conn: Connection, number: int | None) -> Place | None:
    """None for a run that the ledger has no more."""
    found = conn.execute(select(schema.BEGAN, schema.run.c.id).where(schema.run.c.id == number)).first()
    return None if found is None else (found[0], found[1])


def behind(place: Place | None) -> list[ColumnElement[bool]]:
    """The runs behind this place; all for None."""
    if place is None:
        return []
    began, number = place
    # SQLite finds no range of an index by a pair with an expression in it
    return [began >= schema.BEGAN, or_(began > schema.BEGAN, schema.run.c.id < number)]
