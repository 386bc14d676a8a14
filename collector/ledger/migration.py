"""Brings a ledger to this program's schema. A new file gets it at once; Alembic is loaded only to change a ledger that is there, and
for a new one in PostgreSQL.
"""

import logging
from dataclasses import dataclass
from pathlib import Path

from sqlalchemy import Connection, text

from collector.errors import LedgerTooNew, LedgerUnmigrated
from collector.ledger.schema import APPLICATION_ID, REVISIONS, metadata
from collector.logs import fields

log = logging.getLogger("lineage.ledger")


@dataclass(frozen=True, slots=True)
class Version:
    """Of a ledger: its schema, and the oldest schema that a program has to know to work on it; None up to schema 0011."""

    revision: str
    compatible_from: str | None = None

    @property
    def is_newer(self) -> bool:
        """Whether a newer version of this program made it."""
        return self.revision not in REVISIONS

    @property
    def is_usable(self) -> bool:
        """Whether this program can work on it, once it is migrated if need be."""
        return not self.is_newer or self.compatible_from in REVISIONS


def version(conn: Connection) -> Version | None:
    """None for an empty ledger."""
    if not conn.dialect.has_table(conn, "alembic_version"):
        return None
    found = conn.execute(text("SELECT * FROM alembic_version")).mappings().first()
    return None if found is None else Version(found["version_num"], found.get("compatible_from"))


def revision(conn: Connection) -> str | None:
    """The schema that the ledger has, None for an empty one."""
    found = version(conn)
    return None if found is None else found.revision


def check(conn: Connection, name: str) -> None:
    """For readers, who change nothing. Raises `LedgerTooNew`, and `LedgerUnmigrated`."""
    found = version(conn)
    refuse_unusable(found, name)
    if found is None or (not found.is_newer and found.revision != REVISIONS[-1]):
        schema = None if found is None else found.revision
        words = f"{name} has schema {schema} and needs {REVISIONS[-1]}: start the service, which migrates it"
        raise LedgerUnmigrated(words)


def check_same(conn: Connection, name: str) -> None:
    """`check`, for copies row by row: a newer ledger may hold more than this program would copy."""
    check(conn, name)
    found = revision(conn)
    if found != REVISIONS[-1]:
        raise LedgerTooNew(
            f"{name} has schema {found}, made by a newer version of this program; this one knows {REVISIONS[-1]} "
            "and cannot copy all that is in it: use the newer version"
        )


def migrate(conn: Connection, name: str) -> bool:
    """Migrate in one transaction; False when nothing was to be done. Raises `LedgerTooNew`."""
    found = version(conn)
    refuse_unusable(found, name)
    if found is not None and (found.is_newer or found.revision == REVISIONS[-1]):
        return False
    is_file = conn.dialect.name == "sqlite"
    if is_file and found is None:
        _create(conn)
    else:
        _upgrade(conn)
    if is_file:
        conn.exec_driver_sql(f"PRAGMA application_id={APPLICATION_ID}")
    return True


def _create(conn: Connection) -> None:
    """What all migrations leave behind in an empty file, as a test compares."""
    metadata.create_all(conn, checkfirst=False)
    conn.exec_driver_sql(
        "CREATE TABLE alembic_version (version_num VARCHAR(32) NOT NULL, compatible_from TEXT, "
        "CONSTRAINT alembic_version_pkc PRIMARY KEY (version_num))"
    )
    found = {"revision": REVISIONS[-1], "oldest": _BEFORE}
    conn.execute(text("INSERT INTO alembic_version VALUES (:revision, :oldest)"), found)


def _upgrade(conn: Connection) -> None:
    from alembic import command  # noqa: PLC0415 - 0.3 s that an ordinary start does not need
    from alembic.config import Config  # noqa: PLC0415

    config = Config(attributes={"connection": conn})
    config.set_main_option("script_location", str(Path(__file__).parent / "migrations").replace("%", "%%"))
    command.upgrade(config, "head")


_SHARDS = "0017"
_BEFORE = "0012"
"""What the migrations leave in `compatible_from`, and what it is again without shards."""


def require_shards(conn: Connection, required: bool) -> None:
    """Programs of a version that knows no shards cannot work on this ledger, or can again."""
    if conn.dialect.has_table(conn, "alembic_version"):
        to, when = (_SHARDS, "compatible_from < :to") if required else (_BEFORE, f"compatible_from = '{_SHARDS}'")
        conn.execute(text(f"UPDATE alembic_version SET compatible_from = :to WHERE {when}"), {"to": to})  # noqa: S608 - of constants


def refuse_unusable(found: Version | None, name: str) -> None:
    """Raises `LedgerTooNew`."""
    if found is not None and not found.is_usable:
        raise LedgerTooNew(
            f"{name} has schema {found.revision}, made by a newer version of this program; this one knows "
            f"{REVISIONS[-1]} and takes no ledger back: install the newer version, or give this one another ledger"
        )


def report_newer(found: Version, name: str) -> None:
    """Log that this program goes on with a ledger that a newer one migrated."""
    cause = f"it has schema {found.revision}, made by a newer version of this program; this one knows {REVISIONS[-1]}"
    then = f"it goes on, as programs that know schema {found.compatible_from} can work on it"
    log.warning("ledger.newer", extra=fields(path=name, cause=cause, then=then))
