"""How many bytes of events each source has in the ledger: a database that never shrinks has no other useful size."""

import sqlalchemy as sa
from alembic import op

revision = "0010"
down_revision = "0009"

_COUNTED = """
    UPDATE source SET event_bytes = coalesce((
        SELECT sum(length(event.body)) FROM run JOIN event ON event.run_id = run.id WHERE run.source_id = source.id), 0)"""


def upgrade() -> None:
    op.add_column("source", sa.Column("event_bytes", sa.BigInteger, nullable=False, server_default=sa.text("0")))
    # one walk of the events, for the runs have no index to them
    op.execute(sa.text(_COUNTED))


def downgrade() -> None:
    raise NotImplementedError("the ledger is never taken back to an older version")
