"""What each source and sink did, by minute, for pages: polls, requests and events of the last day."""

import sqlalchemy as sa
from alembic import op

revision = "0013"
down_revision = "0012"

_COUNTS = ("ok", "failed", "took_ms", "longest_ms", "events", "parked", "requests", "throttled")


def upgrade() -> None:
    op.create_table(
        "activity",
        sa.Column("name", sa.Text, primary_key=True),
        sa.Column("since", sa.BigInteger, primary_key=True, autoincrement=False),
        *(sa.Column(name, sa.BigInteger, nullable=False) for name in _COUNTS),
        *(sa.Column(name, sa.Integer) for name in ("remaining", "needed", "allowed")),
        sqlite_with_rowid=False,
    )


def downgrade() -> None:
    raise NotImplementedError("the ledger is never taken back to an older version")
