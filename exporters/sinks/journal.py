"""Appends lines to a file or to standard output: either all of them, synced to disk, or none."""

import errno
import logging
import os
import stat
from pathlib import Path

from collector.logs import fields

_log = logging.getLogger("lineage.file")


class Journal:
    """A file of lines, for one writer and one thread at a time. Others may move the file away at any moment; rotated
    files are `name.1` (the oldest), `name.2` and so on.
    """

    def __init__(self, path: Path, rotate_at: int | None = None, keep: int | None = None) -> None:
        self._path, self._rotate_at, self._keep = path, rotate_at, keep
        self._fd: int | None = None
        self._torn = False

    def append(self, lines: bytes) -> None:
        """Write whole lines and sync them to disk. Raises `OSError`; then none of them is in the file."""
        fd = self._ready(len(lines))
        start = os.fstat(fd).st_size
        try:
            _write(fd, b"\n" + lines if self._torn else lines)
            _sync(fd)
        except OSError:
            self._undo(fd, start, len(lines) + 1)
            raise
        self._torn = False

    def close(self) -> None:
        fd, self._fd = self._fd, None
        if fd is not None:
            os.close(fd)

    def _ready(self, more: int) -> int:
        """The open file with room for `more` bytes."""
        if self._fd is not None and not _same(self._fd, self._path):
            _log.warning("file.moved_away", extra=fields(path=str(self._path), then="a new one is begun"))
            self.close()
        if self._fd is None:
            self._fd = self._opened()
        size = os.fstat(self._fd).st_size
        if self._rotate_at is not None and size and size + more > self._rotate_at and _regular(self._fd):
            self.close()
            self._set_aside()
            self._fd = self._opened()
        return self._fd

    def _opened(self) -> int:
        new = not self._path.exists()
        fd = os.open(self._path, os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            self._torn = _torn(fd)
            if new:
                _sync_folder(self._path)
        except OSError:
            os.close(fd)
            raise
        if self._torn:
            _log.warning(
                "file.torn_line", extra=fields(path=str(self._path), then="it is ended, its event comes again")
            )
        return fd

    def _set_aside(self) -> None:
        numbers = sorted(_numbers(self._path))
        number = numbers[-1] + 1 if numbers else 1
        self._path.rename(_numbered(self._path, number))
        _sync_folder(self._path)
        _log.info("file.set_aside", extra=fields(path=str(_numbered(self._path, number))))
        for old in [] if self._keep is None else [*numbers, number][: -self._keep]:
            _numbered(self._path, old).unlink(missing_ok=True)
            _log.info("file.removed", extra=fields(path=str(_numbered(self._path, old)), keep=self._keep))

    def _undo(self, fd: int, start: int, most: int) -> None:
        """Remove what a failed write left, unless another process wrote there, too; a torn line is ended later."""
        try:
            if _regular(fd) and 0 < os.fstat(fd).st_size - start <= most:
                os.ftruncate(fd, start)
        except OSError as error:
            _log.warning("file.not_undone", extra=fields(path=str(self._path), cause=str(error)))
        self.close()


class Pipe:
    """An open file descriptor that this process must not close, such as standard output."""

    def __init__(self, fd: int) -> None:
        self._fd = fd
        self._torn = False

    def append(self, lines: bytes) -> None:
        """Write whole lines. Raises `OSError`; what was written by then stays, and the next write ends that line."""
        data = b"\n" + lines if self._torn else lines
        self._torn = True
        _write(self._fd, data)
        _sync(self._fd)
        self._torn = False

    def close(self) -> None:
        """Nothing to do: the descriptor stays open."""


def explained(error: OSError, path: Path) -> str:
    """What went wrong at `path` and what to do, for people."""
    reason = error.strerror or str(error)
    match error.errno:
        case errno.ENOSPC | errno.EDQUOT:
            advice = "free some space there"
        case errno.EFBIG:
            advice = "raise the limit on file sizes or let the sink rotate its file (`rotate_at`)"
        case errno.ENOENT | errno.ENOTDIR:
            advice = f"create the folder {path.parent} or change the sink's `path`"
        case errno.EACCES | errno.EPERM:
            advice = "let this user write the file and its folder"
        case errno.EROFS:
            advice = "mount it writable or change the sink's `path`"
        case errno.EISDIR:
            advice = "`path` must name a file, not a folder"
        case errno.EPIPE:
            advice = "the reader has ended; start this program again with a reader"
        case _:
            advice = "fix it or change the sink's `path`"
    where = "standard output" if str(path) == "-" else str(path)
    return f"cannot write {where}: {reason}; {advice}"


def _write(fd: int, data: bytes) -> None:
    left = memoryview(data)
    while left:
        left = left[os.write(fd, left) :]


def _sync(fd: int) -> None:
    """To disk; pipes and devices cannot be synced."""
    if _regular(fd):
        os.fsync(fd)


def _sync_folder(path: Path) -> None:
    """So that a new file or a new name survives a power cut."""
    fd = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def _regular(fd: int) -> bool:
    return stat.S_ISREG(os.fstat(fd).st_mode)


def _same(fd: int, path: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(fd), path.stat())
    except FileNotFoundError:
        return False


def _torn(fd: int) -> bool:
    size = os.fstat(fd).st_size
    return size > 0 and os.pread(fd, 1, size - 1) != b"\n"


def _numbered(path: Path, number: int) -> Path:
    return path.with_name(f"{path.name}.{number}")


def _numbers(path: Path) -> list[int]:
    endings = (other.name.removeprefix(f"{path.name}.") for other in path.parent.iterdir())
    return [int(ending) for ending in endings if ending.isascii() and ending.isdecimal()]
