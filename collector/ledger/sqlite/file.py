"""A ledger in an SQLite file: how it is opened, looked through for damage, and set aside."""

import os
import sqlite3
from collections.abc import Iterable
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path
from urllib.parse import quote

from sqlalchemy import Connection, Engine, create_engine, event
from sqlalchemy.pool import StaticPool

from collector.errors import LedgerCorrupt, LedgerError, LedgerForeign
from collector.ledger.schema import APPLICATION_ID
from collector.ledger.sqlite.lock import Condition
from collector.reports import WriteFailure

READ_WHOLE_BELOW = 64 * 1024 * 1024
"""Files up to this size are checked page by page at every start (40 ms); larger ones after an unclean end only."""

WRITER_CACHE, READER_CACHE = 8000, 2000
"""KiB of pages that a connection keeps: memory that fills with the file. The system keeps them too, so four times as much was no faster."""

_HEADER = b"SQLite format 3\0"
_DAMAGED = {sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB}
_PRAGMAS = (
    "page_size=8192",
    "auto_vacuum=INCREMENTAL",
    "journal_mode=WAL",
    "synchronous=FULL",
    "secure_delete=OFF",
    "foreign_keys=ON",
    f"cache_size=-{WRITER_CACHE}",
    "journal_size_limit=67108864",
)


def connect_writer(path: Path) -> sqlite3.Connection:
    """The one connection that writes and checkpoints."""
    os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600))
    connection = sqlite3.connect(path, timeout=5, isolation_level=None, check_same_thread=False)
    _prepare(connection, _PRAGMAS)
    if connection.execute("PRAGMA journal_mode").fetchone() != ("wal",):
        connection.close()
        raise LedgerError(f"ledger {path}: SQLite cannot make a write-ahead log there (a network file system?)")
    return connection


def connect_reader(path: Path) -> sqlite3.Connection:
    """Never writes nor checkpoints, in this process or beside it."""
    address = f"file:{quote(str(path.absolute()))}?mode=ro"
    connection = sqlite3.connect(address, uri=True, timeout=5, isolation_level=None, check_same_thread=False)
    _prepare(connection, ("query_only=1", "wal_autocheckpoint=0", f"cache_size=-{READER_CACHE}"))
    return connection


def _prepare(connection: sqlite3.Connection, pragmas: Iterable[str]) -> None:
    """Read once, so that a damaged file fails here, where the connection is closed."""
    try:
        for pragma in pragmas:
            connection.execute(f"PRAGMA {pragma}")
        connection.execute("SELECT count(*) FROM sqlite_master").fetchone()
    except BaseException:
        connection.close()
        raise


def engine(connection: sqlite3.Connection, *, writes: bool) -> Engine:
    """SQLAlchemy over this one connection. A writer's transactions lock at once, so that none fails half way. Errors do not
    repeat what was to be written.
    """
    made = create_engine("sqlite+pysqlite://", creator=lambda: connection, poolclass=StaticPool, hide_parameters=True)
    if writes:

        @event.listens_for(made, "begin")
        def _begin(conn: Connection) -> None:
            conn.exec_driver_sql("BEGIN IMMEDIATE")

    made.connect().close()  # so that disposing of the engine closes the connection
    return made


def truncate_log(connection: sqlite3.Connection) -> bool:
    """For the connection that writes; no other connection writes meanwhile, and readers get little time to end."""
    try:
        connection.execute("PRAGMA busy_timeout=200")
        busy, _, _ = connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
    finally:
        connection.execute("PRAGMA busy_timeout=5000")
    return not busy


def damage(path: Path, former: Condition) -> str | None:
    """Why this file cannot be used as a ledger, None if it can. Raises `LedgerError` for a file of another program.

    Lost pages at the end and a lost write-ahead log show at once. What lies deeper shows by reading every page, which
    is done for small files and after an unclean end; in a large one it may show at run time, and then at the next start.
    """
    refuse_directory(path)
    _roll_back(path)
    log = path.with_name(f"{path.name}-wal")
    length = path.stat().st_size if path.exists() else 0
    if length == 0:
        lost = log.exists() or (path.exists() and former is not Condition.NEW)
        return "the file is empty" if lost else None
    with path.open("rb") as file:
        header = file.read(100)
    if not header.startswith(_HEADER):
        if former is Condition.NEW:
            raise foreign(path)
        return "it does not begin as an SQLite file does"
    try:
        return _damage_as_read(path, log, thorough=former in {Condition.OPEN, Condition.SUSPECT})
    except sqlite3.DatabaseError as error:
        if is_damage(error):
            return str(error)
        raise


def _roll_back(path: Path) -> None:
    """Undo what was cut off without a write-ahead log: the making of a ledger, or its beginning from a backup. Readers cannot."""
    if not path.with_name(f"{path.name}-journal").exists() or not path.exists():
        return
    with path.open("rb") as file:
        made_by = int.from_bytes(file.read(72)[68:])
    if made_by not in {0, APPLICATION_ID}:
        raise _of_another_program(path)
    with closing(sqlite3.connect(path)) as connection:
        try:
            connection.execute("SELECT count(*) FROM sqlite_master").fetchone()
        except sqlite3.DatabaseError as error:
            if not is_damage(error):  # which the caller looks for next
                raise


def _damage_as_read(path: Path, log: Path, *, thorough: bool) -> str | None:
    with closing(connect_reader(path)) as connection:
        refuse_foreign(path, connection)
        if cut := _cut(path, log, connection):
            return cut
    with closing(connect_writer(path)) as connection:
        return _damage_within(connection, thorough=thorough)


def refuse_directory(path: Path) -> None:
    """Raises `LedgerForeign`."""
    if path.is_dir():
        raise LedgerForeign(f"{path} is a directory: set ledger.path to a file in it")


def foreign(path: Path) -> LedgerForeign:
    """For a file that is not SQLite's, where no ledger has been before."""
    what = f"there is a file at {path} that is not a ledger, and there has not been one before"
    return LedgerForeign(f"{what}; it was left as it is: set ledger.path to another file")


def refuse_foreign(path: Path, connection: sqlite3.Connection) -> None:
    """Raises `LedgerForeign`."""
    (made_by,) = connection.execute("PRAGMA application_id").fetchone()
    (tables,) = connection.execute("SELECT count(*) FROM sqlite_master").fetchone()
    if made_by != APPLICATION_ID and (made_by or tables):
        raise _of_another_program(path)


def _of_another_program(path: Path) -> LedgerForeign:
    return LedgerForeign(f"{path} is the SQLite file of another program: set ledger.path to another file")


def _cut(path: Path, log: Path, connection: sqlite3.Connection) -> str | None:
    """With something in its log, a file may lack its end: SQLite adds it from there, and pads it with zeros if need be."""
    (pages,) = connection.execute("PRAGMA page_count").fetchone()
    (page_size,) = connection.execute("PRAGMA page_size").fetchone()
    size, logged = path.stat().st_size, log.stat().st_size if log.exists() else 0
    return None if logged or size >= pages * page_size else f"it has {size} bytes of {pages * page_size}"


def _damage_within(connection: sqlite3.Connection, *, thorough: bool) -> str | None:
    (pages,) = connection.execute("PRAGMA page_count").fetchone()
    (page_size,) = connection.execute("PRAGMA page_size").fetchone()
    if thorough:
        return _complaint(connection, "PRAGMA integrity_check(1)") or _contradiction(connection)
    if pages * page_size <= READ_WHOLE_BELOW:
        return _complaint(connection, "PRAGMA quick_check(1)")
    return None


def fault_within(connection: sqlite3.Connection, *, is_newest: bool) -> str | None:
    """The fault of this ledger, after reading every page; relations between rows are checked only with the newest schema."""
    return _complaint(connection, "PRAGMA integrity_check(1)") or (_contradiction(connection) if is_newest else None)


def _complaint(connection: sqlite3.Connection, check: str) -> str | None:
    (answer,) = connection.execute(check).fetchone()
    return None if answer == "ok" else " ".join(str(answer).split())


_CONTRADICTIONS = {
    "an event that a sink is owed is gone": """
        SELECT 1 FROM sink s JOIN lane l ON l.sink_id = s.id WHERE s.retired_at IS NULL AND NOT EXISTS
        (SELECT 1 FROM event e WHERE e.strand_id = l.strand_id AND e.seq = l.next_seq) LIMIT 1""",
    "an event has no run, or its run does not count it": """
        SELECT 1 FROM event e LEFT JOIN run r ON r.id = e.strand_id
        WHERE r.id IS NULL OR e.seq > r.last_seq LIMIT 1""",
}
"""What a write-ahead log that was lost half way into the file leaves behind: sound pages of different moments."""


def _contradiction(connection: sqlite3.Connection) -> str | None:
    if connection.execute("SELECT count(*) FROM sqlite_master WHERE name IN ('run', 'event', 'lane')").fetchone() != (
        3,
    ):
        return None
    return next((words for words, query in _CONTRADICTIONS.items() if connection.execute(query).fetchone()), None)


def is_damage(error: BaseException) -> bool:
    """Whether SQLite said, itself or through SQLAlchemy, that the file is malformed."""
    cause = _of_sqlite(error)
    return cause is not None and cause.sqlite_errorcode & 0xFF in _DAMAGED


def set_aside(path: Path, now: datetime) -> Path:
    """Rename the file and its companions; where it is now."""
    target = free_name(path, ".damaged", now)
    for suffix in ("", "-wal", "-shm"):
        companion = beside(path, suffix)
        if companion.exists():
            companion.rename(beside(target, suffix))
    return target


def free_name(path: Path, suffix: str, now: datetime) -> Path:
    """The path of a file beside this one, called after it and the time, that is not there yet."""
    stem = f"{suffix}-{now.astimezone(UTC):%Y%m%dT%H%M%SZ}"
    names = (beside(path, stem if n == 1 else f"{stem}-{n}") for n in range(1, 1000))
    return next(name for name in names if not name.exists())


def beside(path: Path, suffix: str) -> Path:
    return path.with_name(path.name + suffix)


_FAILURES = {
    sqlite3.SQLITE_FULL: WriteFailure.FULL,
    sqlite3.SQLITE_IOERR: WriteFailure.IO,
    sqlite3.SQLITE_READONLY: WriteFailure.READ_ONLY,
    sqlite3.SQLITE_BUSY: WriteFailure.LOCKED,
    sqlite3.SQLITE_LOCKED: WriteFailure.LOCKED,
    **dict.fromkeys(_DAMAGED, WriteFailure.DAMAGED),
}


def failure(error: Exception) -> WriteFailure | None:
    """Why the file could not be written; None for errors that are not SQLite's, and for invalid values."""
    cause = _of_sqlite(error)
    if cause is None or cause.sqlite_errorcode & 0xFF == sqlite3.SQLITE_CONSTRAINT:
        return None
    return _FAILURES.get(cause.sqlite_errorcode & 0xFF, WriteFailure.OTHER)


def explained(path: Path, error: Exception) -> Exception:
    """An error of SQLite as a message for people; any other error unchanged."""
    cause = _of_sqlite(error)
    if cause is None:
        return error
    words = LedgerError(f"ledger {path}: {cause}; nothing was committed")
    if is_damage(cause):
        words = LedgerCorrupt(f"ledger {path}: {cause}; at the next start it is checked and set aside")
    elif cause.sqlite_errorcode & 0xFF == sqlite3.SQLITE_FULL:
        words = LedgerError(
            f"ledger {path}: no space left on its disk; nothing was committed. Writing continues once there is space"
        )
    words.__cause__ = error
    return words


def _of_sqlite(error: BaseException | None) -> sqlite3.Error | None:
    """SQLite's first error: those that follow (a savepoint that is gone) are its consequences."""
    found = None
    while error is not None:
        for one in (getattr(error, "orig", None), error):
            if isinstance(one, sqlite3.Error) and hasattr(one, "sqlite_errorcode"):
                found = one
        error = error.__cause__ or error.__context__
    return found
