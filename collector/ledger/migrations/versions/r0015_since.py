"""Since when a lease is held, and an index for runs by the time at which they started, for the pages."""

import sqlalchemy as sa
from alembic import op

revision = "0015"
down_revision = "0014"


def upgrade() -> None:
    op.add_column("lease", sa.Column("since", sa.BigInteger))
    began = sa.text("started_at IS NOT NULL")
    op.create_index("run_started", "run", ["started_at", "id"], sqlite_where=began, postgresql_where=began)


def downgrade() -> None:
    raise NotImplementedError("the ledger is never taken back to an older version")
