"""What a disk holds after a power cut: the file operations of a real process, as strace saw them, replayed up to some moment.

What was synced is there. Of the rest each write at a place is there, not there, or there by some of its sectors; what was appended is
there up to some sector, as file systems count a file's length last; each cut of a length may be there; and names that came or went are
there up to some moment.
"""

import asyncio
import fcntl
import os
import re
import shutil
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from typing import BinaryIO

from tests.servers.processes import unavailable

SECTOR = 512
_CALLS = (
    "openat,open,creat,write,writev,pwrite64,pwritev,ftruncate,truncate,fallocate,fsync,fdatasync,sync_file_range,msync,"
    "unlink,unlinkat,rename,renameat,renameat2"
)
_LINE = re.compile(rb"(\d+) +([\d.]+) (.*)")
_UNFINISHED = b" <unfinished ...>"
_RESUMED = re.compile(rb"<\.\.\. \w+ resumed>(.*)")
_CALL = re.compile(rb"(\w+)\((.*)\) += (-?\d+)")
_DESCRIPTOR = re.compile(rb"\d+<([^>]*)>")
_STRING = re.compile(rb'"((?:\\x[0-9a-f]{2})*)"')
_NUMBER = re.compile(rb", (\d+)")


def strace(trace: Path) -> tuple[str, ...]:
    """What to run the program under. It stays the child of who starts it; `trace` is whole once all its processes have ended."""
    if shutil.which("strace") is None:
        unavailable("strace is not installed")
    words = f"strace -D -f --seccomp-bpf -y -ttt -xx -s 16777216 -e trace={_CALLS} -e signal=KILL -o"
    return *words.split(), str(trace)


async def whole(trace: Path) -> None:
    """Wait until strace has closed it; it writes no last line of a process that is killed as it starts."""
    async with asyncio.timeout(60):
        with trace.open("rb") as file:
            while not _is_closed(file):
                await asyncio.sleep(0.1)


def _is_closed(file: BinaryIO) -> bool:
    """Whether no process has it open for writing: only then may one have a lease for reading."""
    try:
        fcntl.fcntl(file, fcntl.F_SETLEASE, fcntl.F_RDLCK)
    except BlockingIOError:
        return False
    fcntl.fcntl(file, fcntl.F_SETLEASE, fcntl.F_UNLCK)
    return True


@dataclass(frozen=True, slots=True)
class Call:
    """A call to the system that was answered without an error."""

    at: float
    """Seconds since 1970."""
    name: str
    path: Path
    data: bytes = b""
    number: int = 0
    """Where it writes, the new length, or whether it may create a file."""
    target: Path | None = None


def calls(trace: Path, folder: Path) -> list[Call]:
    """Those on files in this folder and on itself, in order."""
    found = (_call(at, words) for at, words in _whole_lines(trace))
    return [call for call in found if call is not None and folder in {call.path, call.path.parent}]


def _whole_lines(trace: Path) -> Iterator[tuple[float, bytes]]:
    begun: dict[bytes, bytes] = {}
    with trace.open("rb") as lines:
        for line in lines:
            thread, at, words = _LINE.fullmatch(line.rstrip(b"\n")).groups()  # type: ignore[union-attr]
            if words.endswith(_UNFINISHED):
                begun[thread] = words.removesuffix(_UNFINISHED)
            elif resumed := _RESUMED.fullmatch(words):
                yield float(at), begun.pop(thread) + resumed.group(1)
            else:
                yield float(at), words


def _call(at: float, words: bytes) -> Call | None:
    parsed = _CALL.match(words)
    if parsed is None or parsed.group(3).startswith(b"-"):
        return None
    name, arguments, answer = parsed.group(1).decode(), parsed.group(2), int(parsed.group(3))
    texts = [_bytes(each) for each in _STRING.findall(arguments)]
    if name == "openat":
        return Call(at, name, Path(os.fsdecode(texts[0])), number=int(b"O_CREAT" in arguments))
    if name in {"unlink", "rename"}:
        return Call(at, name, Path(os.fsdecode(texts[0])), target=Path(os.fsdecode(texts[-1])))
    descriptor = _DESCRIPTOR.match(arguments)
    if descriptor is None:
        return Call(at, name, Path(os.fsdecode(texts[0])))
    path, numbers = Path(os.fsdecode(_bytes(descriptor.group(1)))), [int(each) for each in _NUMBER.findall(arguments)]
    if texts:
        return Call(at, name, path, texts[0][:answer], numbers[-1])
    return Call(at, name, path, number=numbers[-1] if numbers else 0)


def _bytes(escaped: bytes) -> bytes:
    return bytes.fromhex(escaped.replace(b"\\x", b"").decode()) if escaped.startswith(b"\\x") else escaped


@dataclass(frozen=True, slots=True)
class _Write:
    offset: int
    data: bytes
    is_append: bool = False

    def on(self, content: bytearray) -> None:
        content.extend(bytes(max(0, self.offset - len(content))))
        content[self.offset : self.offset + len(self.data)] = self.data

    def sectors(self) -> Iterator["_Write"]:
        place, end = self.offset, self.offset + len(self.data)
        while place < end:
            until = min(end, (place // SECTOR + 1) * SECTOR)
            yield _Write(place, self.data[place - self.offset : until - self.offset])
            place = until


@dataclass(frozen=True, slots=True)
class _Cut:
    length: int

    def on(self, content: bytearray) -> None:
        content.extend(bytes(max(0, self.length - len(content))))
        del content[self.length :]


@dataclass(slots=True)
class _File:
    length: int = 0
    synced: bytearray = field(default_factory=bytearray)
    pending: list[_Write | _Cut] = field(default_factory=list)

    def write(self, offset: int, data: bytes) -> None:
        self.pending.append(_Write(offset, data))
        self.length = max(self.length, offset + len(data))

    def append(self, data: bytes) -> None:
        self.pending.append(_Write(self.length, data, is_append=True))
        self.length += len(data)

    def cut(self, length: int) -> None:
        self.pending.append(_Cut(length))
        self.length = length

    def sync(self) -> None:
        for each in self.pending:
            each.on(self.synced)
        self.pending.clear()

    def left(self, chance: Random, odds: float) -> bytes:
        """`odds` are those of each thing that was not synced."""
        content = bytearray(self.synced)
        for each in self.pending:
            if chance.random() < odds:
                each.on(content)
            elif isinstance(each, _Write) and chance.random() < odds:
                sectors = list(each.sectors())
                kept = range(chance.randrange(len(sectors))) if each.is_append else _some(len(sectors), chance)
                for number in kept:
                    sectors[number].on(content)
            if isinstance(each, _Write) and each.is_append and len(content) < each.offset + len(each.data):
                break
        return bytes(content)


def _some(count: int, chance: Random) -> list[int]:
    return [number for number in range(count) if chance.random() < 0.5]


_Names = dict[Path, _File]
Files = Mapping[Path, bytes]


class Disk:
    """The files of one folder."""

    def __init__(self, files: Files, *, honest: bool = True) -> None:
        """`files` are there, synced. One that is not `honest` ignores syncs, and has written nothing when it is cut off."""
        self._honest = honest
        self._names: _Names = {path: _File(len(content), bytearray(content)) for path, content in files.items()}
        self._moments: list[_Names] = [self._names]
        """The names that were synced last, then those after each change since."""

    def do(self, call: Call) -> None:
        match call.name:
            case "openat":
                if call.number and call.path not in self._names:
                    self._rename({**self._names, call.path: _File()})
            case "unlink":
                self._rename({path: file for path, file in self._names.items() if path != call.path})
            case "rename":
                assert call.target is not None
                names = {path: file for path, file in self._names.items() if path != call.path}
                self._rename({**names, call.target: self._names[call.path]})
            case "pwrite64":
                self._names[call.path].write(call.number, call.data)
            case "write":  # all that is written without a place is written at the end
                self._names[call.path].append(call.data)
            case "ftruncate":
                self._names[call.path].cut(call.number)
            case "fsync" | "fdatasync":
                self._sync(call.path)
            case _:
                raise AssertionError(f"{call.name} of {call.path} is not replayed")

    def _rename(self, names: _Names) -> None:
        self._names = names
        self._moments.append(names)

    def _sync(self, path: Path) -> None:
        if not self._honest:
            return
        if path in self._names:
            self._names[path].sync()
        else:
            self._moments = [self._names]

    def left(self, chance: Random) -> Files:
        """The content of each file after a power cut now."""
        odds = chance.choice((0.0, 0.0, 0.3, 0.7, 0.95)) if self._honest else 0.0
        names = self._moments[0] if odds == 0 else chance.choice(self._moments)
        return {path: file.left(chance, odds) for path, file in names.items() if not path.name.endswith("-shm")}


def contents(paths: Iterable[Path]) -> Files:
    return {path: path.read_bytes() for path in paths if path.exists()}


def replaced(paths: Iterable[Path], files: Files, folder: Path) -> None:
    """Instead of these files have those in this folder."""
    for path in paths:
        path.unlink(missing_ok=True)
    for path, content in files.items():
        folder.joinpath(path.name).write_bytes(content)
