"""Sinks whose strands several leases share.

Programs of an older version know one lease of a sink only. They go on as long as no sink has more: `shard_count.bar_older`.
"""

import sqlalchemy as sa
from alembic import op

revision = "0017"
down_revision = "0016"


def upgrade() -> None:
    op.add_column("sink", sa.Column("shards", sa.Integer, nullable=False, server_default=sa.text("1")))
    op.add_column("sink", sa.Column("shards_next", sa.Integer))
    op.add_column("replica", sa.Column("shards", sa.Text))
    op.add_column("request", sa.Column("part_of", sa.BigInteger))
    parts = sa.text("part_of IS NOT NULL")
    op.create_index("request_part", "request", ["part_of"], sqlite_where=parts, postgresql_where=parts)


def downgrade() -> None:
    raise NotImplementedError("the ledger is never taken back to an older version")
