"""Before the first use: whether this server, database and schema can hold a ledger, and the schema brought up to date."""

import logging
from hashlib import blake2b

from sqlalchemy import Connection, Row, text
from sqlalchemy.schema import CreateSchema

from collector.errors import LedgerError, LedgerMissing
from collector.ledger import migration
from collector.ledger.postgres.database import Database
from collector.ledger.postgres.faults import GRANT
from collector.logs import fields

log = logging.getLogger("lineage.ledger")

OLDEST, NEWEST = 14, 18
"""Major versions."""

_OF_EACH_VERSION = {"alembic_version", "lease", "lane", "event"}

_FACTS = text(
    "SELECT current_setting('server_version_num')::int / 10000 AS major, current_setting('server_version') AS version, "
    "pg_is_in_recovery() AS is_standby, current_setting('default_transaction_read_only') = 'on' AS is_read_only, "
    "getdatabaseencoding() AS encoding, EXISTS (SELECT FROM pg_namespace WHERE nspname = :schema) AS has_schema, "
    "ARRAY(SELECT relname::text FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace "
    "WHERE n.nspname = :schema AND c.relkind IN ('r', 'p') AND NOT EXISTS "
    "(SELECT FROM pg_depend d WHERE d.objid = c.oid AND d.deptype = 'e') ORDER BY 1) AS tables"
)
_RIGHTS = text(
    "SELECT coalesce("
    "(SELECT has_schema_privilege(n.oid, 'USAGE') AND coalesce("
    "(SELECT bool_and(has_table_privilege(c.oid, 'SELECT') AND has_table_privilege(c.oid, 'INSERT') "
    "AND has_table_privilege(c.oid, 'UPDATE') AND has_table_privilege(c.oid, 'DELETE')) "
    "FROM pg_class c WHERE c.relnamespace = n.oid AND c.relkind IN ('r', 'p')), has_schema_privilege(n.oid, 'CREATE')) "
    "FROM pg_namespace n WHERE n.nspname = :schema), has_database_privilege(current_database(), 'CREATE'))"
)
"""To write the tables where there are some, else to create them in the schema, else to create the schema."""
_DURABILITY = text(
    "SELECT name FROM (VALUES ('fsync'), ('full_page_writes'), ('synchronous_commit')) AS needed (name) "
    "WHERE current_setting(name) = 'off' ORDER BY 1"
)


def migrate(conn: Connection, database: Database) -> bool:
    """One process at a time, the others wait and find it done. False when nothing was to be done. Raises `LedgerTooNew`,
    and `LedgerError` for what cannot hold a ledger.
    """
    lock(conn, database)
    facts = _facts(conn, database)
    _refuse_unusable(facts, database)
    _refuse_unwritable(conn, facts, database)
    for risk in risks(conn):
        log.warning("ledger.risk_found", extra=fields(path=database.name, cause=risk))
    if not facts.has_schema:
        conn.execute(CreateSchema(database.schema, if_not_exists=True))
    return migration.migrate(conn, database.name)


def lock(conn: Connection, database: Database) -> None:
    """Until the end of the transaction no other process migrates it, so that no service starts."""
    conn.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": _lock_key(database.schema)})


def check(conn: Connection, database: Database) -> None:
    """For readers, who change nothing. Raises as `migrate` does, and `LedgerMissing` where no ledger is yet but could be made."""
    facts = _facts(conn, database)
    _refuse_unusable(facts, database)
    if not facts.tables:
        _refuse_unwritable(conn, facts, database)
        raise LedgerMissing(f"{database.name} has no ledger yet: start the service with this configuration first")
    migration.check(conn, database.name)


def risks(conn: Connection) -> list[str]:
    """Settings, of the server or of this user, by which acknowledged commits may be lost, each in a sentence."""
    return [
        f"{name} is off for this user in PostgreSQL: a crash of the server may lose what was committed; set it to on"
        for name in conn.execute(_DURABILITY).scalars()
    ]


def check_writable(conn: Connection, database: Database) -> None:
    """Raises `LedgerError` where a service could not write."""
    _refuse_unwritable(conn, _facts(conn, database), database)


def _facts(conn: Connection, database: Database) -> Row[*tuple[object, ...]]:
    return conn.execute(_FACTS, {"schema": database.schema}).one()


def _refuse_unusable(facts: Row[*tuple[object, ...]], database: Database) -> None:
    major: int = facts.major
    if not OLDEST <= major <= NEWEST:
        raise LedgerError(
            f"{database.name} is in PostgreSQL {facts.version}, but this version of the collector works with {OLDEST} to {NEWEST}"
        )
    if facts.encoding != "UTF8":
        raise LedgerError(f"{database.name} is in a database with the encoding {facts.encoding}: create one with UTF8")
    if facts.tables and not set(facts.tables) >= _OF_EACH_VERSION:
        raise LedgerError(
            f"{database.name} holds tables of another program ({', '.join(facts.tables[:5])}): give the ledger "
            "a separate schema with ledger.schema"
        )


def _refuse_unwritable(conn: Connection, facts: Row[*tuple[object, ...]], database: Database) -> None:
    if facts.is_standby or facts.is_read_only:
        raise LedgerError(
            f"{database.name} can only be read: it is a standby, or read-only by its settings; in ledger.url give the address of the "
            "primary, or of all hosts with target_session_attrs=read-write"
        )
    if not conn.execute(_RIGHTS, {"schema": database.schema}).scalar_one():
        raise LedgerError(f"{database.name}: the user may not write there; {GRANT}")


def _lock_key(schema: str) -> int:
    """One number for all versions of this program."""
    return int.from_bytes(blake2b(f"lineage-collector {schema}".encode(), digest_size=8).digest(), signed=True)
