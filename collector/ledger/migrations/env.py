"""Run by Alembic: migrates the connection that `migrating` hands over, in that connection's transaction."""

from alembic import context

from collector.ledger.schema import metadata

context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=metadata,
    transactional_ddl=True,
    render_as_batch=True,
)
context.run_migrations()
