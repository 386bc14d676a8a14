"""What a job reads and writes."""

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"


def upgrade() -> None:
    for name in ("inputs", "outputs"):
        op.add_column("job", sa.Column(name, sa.Text))


def downgrade() -> None:
    raise NotImplementedError("the ledger is never taken back to an older version")
