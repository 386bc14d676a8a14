"""The file beside the ledger that says who writes it: SQLite up to 3.51.2 can corrupt a file that two processes write."""

import fcntl
import json
import os
import socket
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from pathlib import Path
from typing import Any

from collector.errors import LedgerError, LedgerLocked


class Condition(StrEnum):
    """How a process left the ledger, as far as it could write it down."""

    NEW = "new"
    OPEN = "open"
    CLOSED = "closed"
    SUSPECT = "suspect"
    """SQLite called it malformed."""
    RESCUED = "rescued"
    """Its file was deleted or replaced while it was open, and written anew."""


@dataclass(frozen=True, slots=True)
class FileLock:
    """Held until `release`, or until this process ends. `former` is how the holder before left the ledger."""

    path: Path
    descriptor: int
    holder: Mapping[str, Any]
    former: Condition

    def note(self, condition: Condition) -> None:
        """Write down who we are and how the ledger is, for the next holder and for whoever finds it locked."""
        words = json.dumps({**self.holder, "condition": condition}).encode()
        os.pwrite(self.descriptor, words, 0)
        os.ftruncate(self.descriptor, len(words))
        os.fsync(self.descriptor)

    def release(self) -> None:
        os.close(self.descriptor)


def take(ledger: Path, holder: str, now: datetime) -> FileLock:
    """Raises `LedgerLocked`, naming the holder, and `LedgerError` where no file can be made."""
    path = ledger.with_name(f"{ledger.name}.lock")
    try:
        ledger.parent.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise LedgerError(f"cannot make {path}, which guards the ledger: {error.strerror}") from error
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        who = _who(_read(descriptor))
        os.close(descriptor)
        raise LedgerLocked(f"ledger {ledger} is in use by {who}: stop that one first") from error
    written = _read(descriptor)  # not before: the former holder writes until it lets go
    me = {"pid": os.getpid(), "host": socket.gethostname(), "holder": holder, "since": now.isoformat()}
    return FileLock(path, descriptor, me, _condition(written))


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
    return "process {pid} on {host} ({holder}, since {since})".format(
        **{"host": "?", "holder": "?", "since": "?", **written}
    )
