"""The file beside the ledger that says who writes it: SQLite up to 3.51.2 can corrupt a file that two processes write.

Not filelock: it does not hand out the file, where this one notes who holds the ledger and how it was left, and where flock is missing
it falls back to a file that a kill leaves behind.
"""

import fcntl
import json
import logging
import os
import socket
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from pathlib import Path
from typing import Any

from collector.errors import LedgerError, LedgerLocked
from collector.logs import fields

log = logging.getLogger("lineage.ledger")


class Condition(StrEnum):
    """How a process left the ledger, as far as it could write that."""

    NEW = "new"
    OPEN = "open"
    CLOSED = "closed"
    SUSPECT = "suspect"
    """SQLite called it malformed."""
    RESCUED = "rescued"
    """Its file was deleted or replaced while it was open, and written again."""


@dataclass(frozen=True, slots=True)
class FileLock:
    """Held until `release`, or until this process ends. `former` is how the previous holder left the ledger."""

    path: Path
    descriptor: int
    holder: Mapping[str, Any]
    former: Condition

    def note(self, condition: Condition) -> None:
        """Write who we are and the condition of the ledger, for the next holder and for processes that find it locked."""
        words = json.dumps({**self.holder, "condition": condition}).encode()
        os.pwrite(self.descriptor, words, 0)
        os.ftruncate(self.descriptor, len(words))
        os.fsync(self.descriptor)

    def release(self) -> None:
        os.close(self.descriptor)


def take(ledger: Path, holder: str, now: datetime, *, command: bool = False) -> FileLock:
    """`command` says that the holder soon ends by itself. Raises `LedgerLocked`, naming the holder, and `LedgerError`
    where no file can be made.
    """
    path = ledger.with_name(f"{ledger.name}.lock")
    try:
        _make_folder(ledger)
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise LedgerError(f"cannot create {path}, the lock file of the ledger: {error.strerror}") from error
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        written = _read(descriptor)
        os.close(descriptor)
        by_command = written.get("command") is True
        then = "it ends by itself" if by_command else "stop that process first"
        raise LedgerLocked(f"ledger {ledger} is in use by {_who(written)}: {then}", by_command=by_command) from error
    me = {
        "pid": os.getpid(),
        "host": socket.gethostname(),
        "holder": holder,
        "since": now.isoformat(),
        "command": command,
    }
    former = _condition(_read(descriptor))  # not before: the former holder writes until it lets go
    held = FileLock(path, descriptor, me, former)
    try:
        held.note(former)  # a process that finds it taken from now on must not read the former holder's note
    except OSError as error:
        held.release()
        raise LedgerError(f"cannot write {path}, the lock file of the ledger: {error.strerror}") from error
    return held


def former(ledger: Path) -> Condition:
    """How the last process that had this ledger left it; for those who do not take it."""
    try:
        written = json.loads(ledger.with_name(f"{ledger.name}.lock").read_bytes())
    except (OSError, ValueError):
        return Condition.NEW
    return _condition(written if isinstance(written, dict) else {})


def _make_folder(ledger: Path) -> None:
    refuse_far_folder(ledger)
    folder = ledger.absolute().parent
    if not folder.is_dir():
        folder.mkdir(exist_ok=True)
        log.warning("ledger.folder_made", extra=fields(path=str(folder), then="the ledger is created in it"))


def refuse_far_folder(ledger: Path) -> None:
    """One folder is created at the most: a path whose beginning is missing too is rather misspelt, or a volume is not there.
    Raises `LedgerError`.
    """
    folder = ledger.absolute().parent
    if not folder.is_dir() and not folder.parent.is_dir():
        what = f"cannot create the ledger {ledger}: neither its folder {folder} exists nor the one above it"
        raise LedgerError(f"{what}; correct ledger.path, or create the folder")


def _read(descriptor: int) -> dict[str, Any]:
    try:
        written = json.loads(os.pread(descriptor, 4096, 0))
    except (OSError, ValueError):
        return {}
    return written if isinstance(written, dict) else {}


def _condition(written: Mapping[str, Any]) -> Condition:
    try:
        return Condition(written["condition"])
    except (KeyError, ValueError):
        return Condition.NEW


def _who(written: Mapping[str, Any]) -> str:
    if "pid" not in written:
        return "another process"
    kind = "the command of process" if written.get("command") is True else "process"
    return "{kind} {pid} on {host} ({holder}, since {since})".format(
        **{"host": "?", "holder": "?", "since": "?", **written, "kind": kind}
    )


@dataclass(frozen=True, slots=True)
class Reservation:
    """A service waits for the ledger: commands that work on it step aside. Until `withdraw`, or until this process ends."""

    path: Path
    descriptor: int

    def withdraw(self) -> None:
        self.path.unlink(missing_ok=True)
        os.close(self.descriptor)


def reserve(ledger: Path) -> Reservation | None:
    """None when another service waits already. Raises `LedgerError` where no file can be made."""
    path = _reservation_path(ledger)
    try:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise LedgerError(f"cannot create {path}, by which a service reserves the ledger: {error.strerror}") from error
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        os.close(descriptor)
        return None
    return Reservation(path, descriptor)


def is_reserved(ledger: Path) -> bool:
    """Whether a living service waits for the ledger."""
    try:
        descriptor = os.open(_reservation_path(ledger), os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return False
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(descriptor)
    return False


def _reservation_path(ledger: Path) -> Path:
    return ledger.with_name(f"{ledger.name}.claim")
