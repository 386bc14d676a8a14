"""The schedule of a job."""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"


def upgrade() -> None:
    op.add_column("job", sa.Column("schedule", sa.Text))


def downgrade() -> None:
    raise NotImplementedError("the ledger is never taken back to an older version")
