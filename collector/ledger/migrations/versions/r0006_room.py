"""How many bytes a sink is owed, and how many events it refused since it last took one."""

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0005"


def upgrade() -> None:
    op.add_column("tally", sa.Column("pending_bytes", sa.BigInteger, nullable=False, server_default=sa.text("0")))
    op.add_column("sink", sa.Column("refused", sa.Integer, nullable=False, server_default=sa.text("0")))
    op.add_column("sink", sa.Column("refused_cause", sa.Text))


def downgrade() -> None:
    raise NotImplementedError("the ledger is never taken back to an older version")
