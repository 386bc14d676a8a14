"""Brings a ledger to this program's schema. Alembic is loaded only when there is something to do."""

from pathlib import Path

from sqlalchemy import Connection, text

from collector.errors import LedgerError, LedgerTooNew
from collector.ledger.schema import APPLICATION_ID, REVISIONS


def revision(conn: Connection) -> str | None:
    """The schema that the ledger has, None for an empty one."""
    if not conn.dialect.has_table(conn, "alembic_version"):
        return None
    found: str | None = conn.scalar(text("SELECT version_num FROM alembic_version"))
    return found


def check(conn: Connection, name: str) -> None:
    """For readers, who change nothing. Raises `LedgerTooNew`, and `LedgerError` for one that is not migrated yet."""
    found = revision(conn)
    refuse_newer(found, name)
    if found != REVISIONS[-1]:
        raise LedgerError(
            f"ledger {name} has schema {found} and needs {REVISIONS[-1]}: start the service, which migrates it"
        )


def migrate(conn: Connection, name: str) -> bool:
    """Migrate in one transaction; False when the schema was up to date. Raises `LedgerTooNew`."""
    found = revision(conn)
    refuse_newer(found, name)
    if found == REVISIONS[-1]:
        return False
    from alembic import command  # noqa: PLC0415 - 0.4 s that an ordinary start does not need
    from alembic.config import Config  # noqa: PLC0415

    config = Config(attributes={"connection": conn})
    config.set_main_option("script_location", str(Path(__file__).parent / "migrations").replace("%", "%%"))
    command.upgrade(config, "head")
    if conn.dialect.name == "sqlite":
        conn.exec_driver_sql(f"PRAGMA application_id={APPLICATION_ID}")
    return True


def refuse_newer(found: str | None, name: str) -> None:
    """Raises `LedgerTooNew`."""
    if found is not None and found not in REVISIONS:
        raise LedgerTooNew(
            f"ledger {name} has schema {found}, made by a newer version of this program; this one knows "
            f"{REVISIONS[-1]} and takes no ledger back: install the newer version, or give this one another file"
        )
