"""Whether the ledger's files are still where they were opened, and a new file from what is open where they are not.

A file that was deleted lives on as long as this process has it open, and with it all that sinks are owed: it is copied out
before the process ends. Nothing here opens the ledger's own file: closing it would drop SQLite's locks.
"""

import os
import sqlite3
from collections.abc import Iterable
from contextlib import closing
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from collector.errors import LedgerError
from collector.ledger.sqlite.backup import sync
from collector.ledger.sqlite.file import beside, free_name

_Identity = tuple[int, int]


@dataclass(frozen=True, slots=True)
class Presence:
    """The files of an open ledger: the file itself, its write-ahead log and its lock."""

    path: Path
    file: _Identity | None
    log: _Identity | None
    lock: _Identity | None

    @classmethod
    def of(cls, path: Path) -> "Presence":
        """As they are now, just after they were opened."""
        return cls(path, *(_identity(beside(path, suffix)) for suffix in ("", "-wal", ".lock")))

    def missing(self) -> str | None:
        """What was deleted or replaced, None if nothing was. Takes three stat calls, 5 µs."""
        now = Presence.of(self.path)
        if now.file != self.file:
            return "its file is gone" if now.file is None else "another file is in its place"
        if now.log != self.log:
            return f"its write-ahead log {'is gone' if now.log is None else 'was replaced'}"
        if now.lock != self.lock:
            return f"its lock {'is gone' if now.lock is None else 'was replaced'}"
        return None

    @property
    def file_is_there(self) -> bool:
        return _identity(self.path) == self.file

    @property
    def log_is_there(self) -> bool:
        return _identity(beside(self.path, "-wal")) == self.log

    @property
    def lock_is_there(self) -> bool:
        return _identity(beside(self.path, ".lock")) == self.lock


def _identity(path: Path) -> _Identity | None:
    """None where there is no such file. A folder that does not answer is no proof that the file is gone."""
    try:
        found = path.stat()
    except (FileNotFoundError, NotADirectoryError):
        return None
    return found.st_dev, found.st_ino


def checkpointed(connection: sqlite3.Connection, presence: Presence, now: datetime) -> Path:
    """The file is ours and its log is not there any more: all of it is written into the file. Returns the file. Raises
    `LedgerError` while another process reads an old state of it.
    """
    busy, _, _ = connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
    if busy:
        raise LedgerError(
            f"ledger {presence.path}: its log cannot be written into the file while another process reads it"
        )
    log = beside(presence.path, "-wal")
    if not presence.log_is_there and log.exists():
        log.rename(free_name(presence.path, "-wal.foreign", now))  # the next start would read it into the ledger
    return presence.path


def copied(connection: sqlite3.Connection, path: Path, now: datetime) -> Path:
    """A whole copy of what is open, on the disk, beside the place of the ledger. Raises `OSError`, `sqlite3.Error`
    and `LedgerError`, and leaves nothing then.
    """
    target = free_name(path, ".rescued", now)
    os.close(os.open(target, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600))
    try:
        with closing(sqlite3.connect(target, isolation_level=None)) as copy:
            connection.backup(copy)
            _refuse_damaged(copy)
        _remove(beside(target, suffix) for suffix in ("-wal", "-shm"))
        sync(target)
    except BaseException:
        _remove([target])
        raise
    sync(path.parent)
    return target


def _refuse_damaged(copy: sqlite3.Connection) -> None:
    (verdict,) = copy.execute("PRAGMA quick_check(1)").fetchone()
    if verdict != "ok":
        raise LedgerError(f"the copy is damaged: {verdict}")


def put_in_place(copy: Path, presence: Presence) -> Path:
    """Give the copy the ledger's name where no file has it; where the ledger is then. For the holder of the lock."""
    path = presence.path
    if presence.log_is_there or not path.exists():
        # the log of the file that is gone: the next start would read it into the file that replaced it
        _remove(beside(path, suffix) for suffix in ("-wal", "-shm"))
    try:
        os.link(copy, path)  # unlike a rename, a link replaces no file
    except OSError:
        return copy
    copy.unlink()
    sync(path.parent)
    return path


def _remove(files: Iterable[Path]) -> None:
    for file in files:
        file.unlink(missing_ok=True)
