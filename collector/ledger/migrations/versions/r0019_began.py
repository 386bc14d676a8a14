"""Runs by the time at which they began, of all and of a job: those that a first look-back found are in the platform's order."""

import sqlalchemy as sa
from alembic import op

revision = "0019"
down_revision = "0018"


def upgrade() -> None:
    began = sa.text("coalesce(started_at, last_event_time, seen_at)")
    op.drop_index("run_started", "run")
    op.create_index("run_began", "run", [began, "id"])
    op.drop_index("run_job", "run")
    op.create_index("run_job", "run", ["source_id", "job", began, "id"])


def downgrade() -> None:
    raise NotImplementedError("the ledger is never taken back to an older version")
