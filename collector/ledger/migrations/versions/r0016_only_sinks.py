"""Runs that a backfill of a source reads for one sink only.

A program of an older version does not know the mark and sends later events of such a run to every sink: finish the update of all
replicas before the first `backfill SOURCE --sink`.
"""

import sqlalchemy as sa
from alembic import op

revision = "0016"
down_revision = "0015"


def upgrade() -> None:
    op.add_column("run", sa.Column("only_sinks", sa.Text))


def downgrade() -> None:
    raise NotImplementedError("the ledger is never taken back to an older version")
