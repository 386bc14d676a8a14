"""What changes at each look at an open run moves to short rows: until now a look wrote the whole run."""

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"

_MOVED = """
    INSERT INTO watch (run_id, source_id, seen_at, due_at, misses)
    SELECT id, source_id, seen_at, poll_due_at, misses FROM run WHERE ended_at IS NULL AND abandoned_at IS NULL"""


def upgrade() -> None:
    op.create_table(
        "watch",
        sa.Column(
            "run_id",
            sa.BigInteger().with_variant(sa.Integer(), "sqlite"),
            sa.ForeignKey("run.id", ondelete="CASCADE"),
            primary_key=True,
            autoincrement=False,
        ),
        sa.Column("source_id", sa.Integer, nullable=False),
        sa.Column("seen_at", sa.BigInteger, nullable=False),
        sa.Column("due_at", sa.BigInteger),
        sa.Column("misses", sa.Integer, nullable=False),
    )
    is_due = sa.text("due_at IS NOT NULL")
    op.create_index("watch_due", "watch", ["source_id", "due_at"], sqlite_where=is_due, postgresql_where=is_due)
    op.execute(sa.text(_MOVED))
    op.drop_index("run_due", "run")


def downgrade() -> None:
    raise NotImplementedError("the ledger is never taken back to an older version")
