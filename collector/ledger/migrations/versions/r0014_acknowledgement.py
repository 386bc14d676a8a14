"""When each sink acknowledged an event, for the pages of runs."""

import sqlalchemy as sa
from alembic import op

revision = "0014"
down_revision = "0013"


def upgrade() -> None:
    op.create_table(
        "acknowledgement",
        sa.Column("sink_id", sa.Integer, primary_key=True, autoincrement=False),
        sa.Column("strand_id", sa.BigInteger, primary_key=True, autoincrement=False),
        sa.Column("seq", sa.Integer, primary_key=True, autoincrement=False),
        sa.Column("at", sa.BigInteger, nullable=False),
        sqlite_with_rowid=False,
    )


def downgrade() -> None:
    raise NotImplementedError("the ledger is never taken back to an older version")
