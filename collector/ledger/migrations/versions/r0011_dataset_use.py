"""Which job reads and writes which dataset, by index, and the runs of a job: for pages of jobs, datasets and their graph."""

import json

import sqlalchemy as sa
from alembic import op

revision = "0011"
down_revision = "0010"


def upgrade() -> None:
    use = op.create_table(
        "dataset_use",
        sa.Column("namespace", sa.Text, primary_key=True),
        sa.Column("name", sa.Text, primary_key=True),
        sa.Column("source_id", sa.Integer, primary_key=True, autoincrement=False),
        sa.Column("job", sa.Text, primary_key=True),
        sa.Column("is_output", sa.Boolean, primary_key=True),
        sqlite_with_rowid=False,
    )
    op.create_index("dataset_use_job", "dataset_use", ["source_id", "job"])
    op.create_index("run_job", "run", ["source_id", "job", "id"])
    conn = op.get_bind()
    jobs = conn.execute(sa.text("SELECT source_id, name, inputs, outputs FROM job")).all()
    rows = {
        (one["namespace"], one["name"], source_id, job, is_output)
        for source_id, job, *both in jobs
        for is_output, text in zip((False, True), both, strict=True)
        for one in json.loads(text or "[]")
    }
    if rows:
        names = ("namespace", "name", "source_id", "job", "is_output")
        conn.execute(use.insert(), [dict(zip(names, row, strict=True)) for row in sorted(rows)])


def downgrade() -> None:
    raise NotImplementedError("the ledger is never taken back to an older version")
