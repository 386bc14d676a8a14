"""A copy of a ledger of one moment, made beside a running service: checked, synced to the disk, then put in its place."""

import fcntl
import os
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote

from collector.errors import LedgerError
from collector.ledger import migration
from collector.ledger.schema import APPLICATION_ID, REVISIONS
from collector.ledger.sqlite import file

Progress = Callable[[int, int], None]
"""Called with the number of bytes copied, and of all bytes."""

_PAGES = 1024


@dataclass(frozen=True, slots=True)
class Backup:
    """What a finished backup holds."""

    path: Path
    bytes: int
    schema: str
    runs: int
    events: int


def back_up(ledger: Path, target: Path, progress: Progress = lambda *_: None) -> Backup:
    """Copy the ledger to `target`, whose folder must be there; a former backup there is replaced at the last moment, and
    stays as it is when anything fails. Raises `LedgerError` and `LedgerTooNew` in words for people.
    """
    _refuse(ledger, target)
    with part_of(target) as part:
        try:
            schema = _copy(ledger, part, progress)
            made = _checked(part, target, schema)
            sync(part)
            part.replace(target)
            sync(target.parent)
        except (OSError, sqlite3.Error) as error:
            raise LedgerError(f"backup of {ledger} to {target}: {error}; nothing was replaced") from error
    return made


def _refuse(ledger: Path, target: Path) -> None:
    if not ledger.is_file():
        raise LedgerError(f"there is no ledger at {ledger}: start the service with this configuration first")
    if target.is_dir():
        raise LedgerError(f"{target} is a folder: name a file in it, such as {target / 'lineage.db'}")
    if not target.parent.is_dir():
        raise LedgerError(f"the folder {target.parent} does not exist: create it, then try again")
    if _is_of_ledger(target, ledger):
        raise LedgerError(f"{target} is a file of the ledger itself: name another file for the backup")
    is_lock = target.resolve() == ledger.resolve().with_name(f"{ledger.resolve().name}.lock")
    if is_lock or target.with_name(f"{target.name}.lock").exists():
        raise LedgerError(f"{target} is or was the ledger of a service: name another file for the backup")
    if target.exists() and target.stat().st_size and not _is_ledger(target):
        raise LedgerError(f"{target} exists and is not a ledger: it is not overwritten; name another file")


def _is_of_ledger(target: Path, ledger: Path) -> bool:
    """Whether it is the ledger's file, under whatever name, or one that SQLite keeps beside it."""
    where, own = target.resolve(), ledger.resolve()
    is_companion = where.parent == own.parent and where.name.startswith(f"{own.name}-")
    return where == own or is_companion or (target.exists() and target.samefile(ledger))


def _is_ledger(path: Path) -> bool:
    with path.open("rb") as opened:
        header = opened.read(72)
    return int.from_bytes(header[68:72]) == APPLICATION_ID


@contextmanager
def part_of(target: Path) -> Iterator[Path]:
    """A file beside the target that only this process writes; gone in the end. What a killed one left is used again."""
    part = target.with_name(f"{target.name}.part")
    try:
        descriptor = os.open(part, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    except OSError as error:
        raise LedgerError(f"cannot write {part}: {error.strerror}") from error
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            raise LedgerError(f"another backup to {target} is running: wait for its end") from error
        os.ftruncate(descriptor, 0)
        try:
            yield part
        finally:
            for leftover in (part, part.with_name(f"{part.name}-journal")):
                with suppress(FileNotFoundError):
                    leftover.unlink()
    finally:
        os.close(descriptor)


def _copy(ledger: Path, part: Path, progress: Progress) -> str:
    """All of it is of one moment, however long it takes: the reader keeps what it saw first. Returns the schema."""
    with closing(file.connect_reader(ledger)) as source, closing(sqlite3.connect(part, isolation_level=None)) as copy:
        (made_by,) = source.execute("PRAGMA application_id").fetchone()
        if made_by != APPLICATION_ID:
            raise LedgerError(f"{ledger} is not a ledger of this program")
        source.execute("BEGIN")
        schema = _schema(source, ledger)
        (size,) = source.execute("PRAGMA page_size").fetchone()

        def copied(_: int, remaining: int, total: int) -> None:
            progress((total - remaining) * size, total * size)

        copy.execute("PRAGMA synchronous=OFF")  # it is synced as a whole
        source.backup(copy, pages=_PAGES, progress=copied)
        # one file without a log, which can be read from a disk that is not writable
        copy.execute("PRAGMA journal_mode=DELETE")
    return schema


def _schema(connection: sqlite3.Connection, name: Path) -> str:
    if not connection.execute("SELECT 1 FROM sqlite_master WHERE name = 'alembic_version'").fetchone():
        raise LedgerError(f"ledger {name} has no tables yet: start the service first")
    version = migration.Version(*connection.execute("SELECT * FROM alembic_version").fetchone())
    migration.refuse_unusable(version, f"ledger {name}")
    return version.revision


def _checked(part: Path, target: Path, schema: str) -> Backup:
    with closing(sqlite3.connect(f"file:{quote(str(part.absolute()))}?mode=ro&immutable=1", uri=True)) as copy:
        fault = file.fault_within(copy, is_newest=schema == REVISIONS[-1])
        (made_by,) = copy.execute("PRAGMA application_id").fetchone()
        (copied,) = copy.execute("SELECT version_num FROM alembic_version").fetchone()
        if fault is None and (made_by, copied) != (APPLICATION_ID, schema):
            fault = f"it has schema {copied} of application {made_by}"
        if fault is not None:
            raise LedgerError(
                f"the copy for {target} is damaged: {fault}; nothing was replaced. Is the ledger itself sound?"
            )
        (runs,) = copy.execute("SELECT count(*) FROM run").fetchone()
        (events,) = copy.execute("SELECT count(*) FROM event").fetchone()
    return Backup(target, part.stat().st_size, schema, runs, events)


def sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
