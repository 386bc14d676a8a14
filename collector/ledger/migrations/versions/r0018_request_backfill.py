"""An index of backfills: hints make any number of other requests, and pages show the last backfill of a source or sink."""

import sqlalchemy as sa
from alembic import op

revision = "0018"
down_revision = "0017"


def upgrade() -> None:
    some = sa.text("kind = 'backfill'")
    op.create_index("request_backfill", "request", ["target", "id"], sqlite_where=some, postgresql_where=some)


def downgrade() -> None:
    raise NotImplementedError("the ledger is never taken back to an older version")
