"""Calls to the disk that fail in a real process, by libfiu (Debian: fiu-utils): started with it, the process is asked by pipes."""

import asyncio
import errno
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from tests.servers.processes import unavailable

_LIBRARIES = [Path("/usr/lib/fiu/fiu_run_preload.so"), Path("/usr/lib/fiu/fiu_posix_preload.so")]
_PATIENCE = 30.0


@dataclass(frozen=True, slots=True)
class Failure:
    """Calls that fail, by libfiu's name for them, with this error number; None is a call that does part of its work."""

    name: str
    number: int | None

    def enabling(self, probability: float) -> str:
        number = "" if self.number is None else f",failinfo={self.number}"
        return f"enable_random name={self.name}{number},probability={probability}"


FULL_ON_WRITE = Failure("posix/io/rw/pwrite", errno.ENOSPC)
BROKEN_ON_WRITE = Failure("posix/io/rw/pwrite", errno.EIO)
FULL_ON_SYNC = Failure("posix/io/sync/*", errno.ENOSPC)
BROKEN_ON_SYNC = Failure("posix/io/sync/*", errno.EIO)
BROKEN_ON_CUT = Failure("posix/io/rw/ftruncate", errno.EIO)
SHORT_WRITE = Failure("posix/io/rw/pwrite/reduce", None)


class FaultyDisk:
    """Of processes that are started with `environment`: SQLite's writes and syncs, and those of the file sink."""

    def __init__(self, folder: Path) -> None:
        """Skips the test where libfiu is not installed."""
        if not all(library.exists() for library in _LIBRARIES):
            unavailable("libfiu is not installed: Debian's package fiu-utils")
        self._pipes = folder / "fiu"

    def environment(self, *failures: Failure) -> Mapping[str, str]:
        """For a process whose calls fail so from the beginning on."""
        return {
            "LD_PRELOAD": " ".join(map(str, _LIBRARIES)),
            "FIU_CTRL_FIFO": str(self._pipes),
            "FIU_ENABLE": "\n".join(failure.enabling(1) for failure in failures),
        }

    async def fail(self, pid: int | None, failure: Failure, probability: float = 1.0) -> None:
        await self._ask(pid, failure.enabling(probability))

    async def heal(self, pid: int | None, failure: Failure) -> None:
        await self._ask(pid, f"disable name={failure.name}")

    async def _ask(self, pid: int | None, request: str) -> None:
        answer = await asyncio.wait_for(asyncio.to_thread(self._exchanged, pid, request), _PATIENCE)
        assert answer.strip() == "0", f"libfiu refuses {request!r}: {answer!r}"

    def _exchanged(self, pid: int | None, request: str) -> str:
        self._pipes.with_name(f"{self._pipes.name}-{pid}.in").write_text(f"{request}\n")
        return self._pipes.with_name(f"{self._pipes.name}-{pid}.out").read_text()
