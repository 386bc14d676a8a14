"""From which schema on a program can work on this ledger, so that replicas of an older version go on beside a newer one.

A migration that an older program could not go on with raises `compatible_from` to its own number; one that only adds leaves it.
"""

import sqlalchemy as sa
from alembic import op

revision = "0012"
down_revision = "0011"


def upgrade() -> None:
    # beside the number, in a table that no copy and no comparison of schemas looks at
    op.add_column("alembic_version", sa.Column("compatible_from", sa.Text))
    op.execute(sa.text("UPDATE alembic_version SET compatible_from = '0012'"))


def downgrade() -> None:
    raise NotImplementedError("the ledger is never taken back to an older version")
