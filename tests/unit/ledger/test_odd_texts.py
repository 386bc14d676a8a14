"""What PostgreSQL cannot store as text: NUL, and halves of surrogate pairs as broken JSON escapes make them."""

import pytest
from sqlalchemy import Table, insert, select

from collector.ledger import schema
from tests.unit.ledger.ledgers import Ledger

ODD, STORED = "a\0b\ud800c\u00e9", "ab?c\u00e9"


def texts(table: Table) -> list[str]:
    return [column.name for column in table.columns if isinstance(column.type, schema.Text)]


@pytest.mark.parametrize(
    "table", [table for table in schema.metadata.sorted_tables if texts(table)], ids=lambda table: table.name
)
def test_every_column_of_text_takes_any_text(ledger: Ledger, table: Table) -> None:
    """What is left of it is stored and found again, in place of an error that would stop a source."""
    others = {column.name: 1 for column in table.columns if not column.identity}
    row = {**others, **dict.fromkeys(texts(table), ODD)}
    if table is schema.event:
        row["body"] = ODD.encode("utf-8", "replace")
    if table is schema.job:
        row["duration_bounded"] = False
    ledger.conn.execute(insert(table), [row])
    for name in texts(table):
        column = table.c[name]
        assert ledger.conn.scalars(select(column).where(column == ODD)).all() == [STORED]
        assert ledger.conn.scalars(select(column).where(column.in_([ODD, "x"]))).all() == [STORED]
