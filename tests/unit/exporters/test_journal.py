"""What the lines of a file or a pipe are after a write or a sync that failed, and what is synced when."""

import asyncio
import errno
import os
import stat
from collections.abc import Callable
from pathlib import Path

import pytest

from exporters.sinks import file, journal
from exporters.sinks.base import Delivered
from exporters.sinks.file import FileSink
from exporters.sinks.journal import Journal, Pipe
from tests.unit.exporters.test_file import event, numbers, sent

NO_SPACE = OSError(errno.ENOSPC, "No space left on device")


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "events.ndjson"


def fails_to_sync(monkeypatch: pytest.MonkeyPatch, first: Callable[[], object] = lambda: None) -> None:
    """The next sync fails, after this was done."""
    fsync = os.fsync

    def failing(fd: int) -> None:
        monkeypatch.setattr(os, "fsync", fsync)
        first()
        raise NO_SPACE

    monkeypatch.setattr(os, "fsync", failing)


def writes_half(monkeypatch: pytest.MonkeyPatch) -> None:
    """The next write takes half of it and fails."""
    write = os.write

    def half(fd: int, data: memoryview) -> int:
        monkeypatch.setattr(os, "write", write)
        write(fd, data[: len(data) // 2])
        raise NO_SPACE

    monkeypatch.setattr(os, "write", half)


def synced(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What is synced from now on: "file" or "folder"."""
    kinds: list[str] = []

    def noted(fd: int) -> None:
        kinds.append("folder" if stat.S_ISDIR(os.fstat(fd).st_mode) else "file")

    monkeypatch.setattr(os, "fsync", noted)
    return kinds


# A file


def test_a_torn_line_is_ended_once(path: Path) -> None:
    path.write_bytes(b"to")
    target = Journal(path)
    target.append(b"a\n")
    target.append(b"b\n")
    assert path.read_bytes() == b"to\na\nb\n"


def test_what_a_failed_sync_left_after_a_torn_line_is_taken_back_whole(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path.write_bytes(b"to")
    target = Journal(path)
    fails_to_sync(monkeypatch)
    with pytest.raises(OSError, match="No space"):
        target.append(b"a\n")
    assert path.read_bytes() == b"to"
    target.append(b"a\n")
    assert path.read_bytes() == b"to\na\n"


def test_what_another_process_wrote_meanwhile_stays(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def others() -> None:
        with path.open("ab") as other:
            other.write(b"a line of another process\n")

    target = Journal(path)
    target.append(b"first\n")
    fails_to_sync(monkeypatch, others)
    with pytest.raises(OSError, match="No space"):
        target.append(b"a\n")
    assert path.read_bytes() == b"first\na\na line of another process\n"


def test_a_file_that_was_emptied_meanwhile_is_not_filled_with_zeros(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    target = Journal(path)
    target.append(b"first\n")
    fails_to_sync(monkeypatch, lambda: os.truncate(path, 0))
    with pytest.raises(OSError, match="No space"):
        target.append(b"a\n")
    assert path.read_bytes() == b""


def test_half_a_line_that_cannot_be_taken_back_is_ended(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    target = Journal(path)
    target.append(b"first\n")

    def refuses(fd: int, size: int) -> None:
        raise OSError(errno.EPERM, "append only")

    monkeypatch.setattr(os, "ftruncate", refuses)
    writes_half(monkeypatch)
    with pytest.raises(OSError, match="No space"):
        target.append(b"second\n")
    target.append(b"second\n")
    assert path.read_bytes() == b"first\nsec\nsecond\n"


def test_a_new_file_and_a_renamed_one_are_synced_with_their_folder(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    kinds = synced(monkeypatch)
    target = Journal(path, rotate_at=5)
    target.append(b"a\n")
    assert kinds == ["folder", "file"]
    target.append(b"b\n")
    assert kinds == ["folder", "file", "file"]
    target.append(b"cc\n")
    assert kinds[3:] == ["folder", "folder", "file"], "the new name, then the new file"


def test_a_file_may_be_as_large_as_the_limit(path: Path) -> None:
    target = Journal(path, rotate_at=4)
    target.append(b"a\n")
    target.append(b"b\n")
    target.append(b"c\n")
    assert (path.with_name("events.ndjson.1").read_bytes(), path.read_bytes()) == (b"a\nb\n", b"c\n")


def descriptors() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))


def test_a_file_that_cannot_be_read_is_closed_again(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(fd: int) -> bool:
        raise NO_SPACE

    monkeypatch.setattr(journal, "_torn", fails)
    target, before = Journal(path), descriptors()
    for _ in range(3):
        with pytest.raises(OSError, match="No space"):
            target.append(b"a\n")
    assert descriptors() == before


def test_an_old_file_that_somebody_removed_is_no_failure(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(journal, "_numbers", lambda _: [7])
    target = Journal(path, rotate_at=1, keep=1)
    target.append(b"a\n")
    target.append(b"b\n")
    assert path.with_name("events.ndjson.8").read_bytes() == b"a\n"


def test_numbers_of_set_aside_files_are_written_in_digits_of_ascii(path: Path) -> None:
    (path.parent / "events.ndjson.٣").touch()
    target = Journal(path, rotate_at=1)
    target.append(b"a\n")
    target.append(b"b\n")
    assert path.with_name("events.ndjson.1").exists()


# A pipe


@pytest.fixture
def output(tmp_path: Path) -> tuple[Path, Pipe]:
    """Standard output that leads to a file."""
    where = tmp_path / "output"
    return where, Pipe(os.open(where, os.O_WRONLY | os.O_APPEND | os.O_CREAT))


def test_half_a_line_in_a_pipe_is_ended_once(output: tuple[Path, Pipe], monkeypatch: pytest.MonkeyPatch) -> None:
    where, pipe = output
    writes_half(monkeypatch)
    with pytest.raises(OSError, match="No space"):
        pipe.append(b"first\n")
    pipe.append(b"first\n")
    pipe.append(b"second\n")
    assert where.read_bytes() == b"fir\nfirst\nsecond\n"


def test_output_that_leads_to_a_file_is_synced(output: tuple[Path, Pipe], monkeypatch: pytest.MonkeyPatch) -> None:
    kinds = synced(monkeypatch)
    output[1].append(b"first\n")
    assert kinds == ["file"]


def test_a_write_that_takes_a_part_is_gone_on_with(output: tuple[Path, Pipe], monkeypatch: pytest.MonkeyPatch) -> None:
    write = os.write
    monkeypatch.setattr(os, "write", lambda fd, data: write(fd, data[:2]))
    output[1].append(b"first\n")
    assert output[0].read_bytes() == b"first\n"


# The sink


async def test_a_batch_that_is_cancelled_during_its_write_holds_up_no_other(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sink, begun, go = FileSink(path), asyncio.Event(), asyncio.Event()
    to_thread = asyncio.to_thread

    async def slow(*call: object) -> object:
        begun.set()
        await go.wait()
        return await to_thread(*call)  # type: ignore[arg-type]

    monkeypatch.setattr(asyncio, "to_thread", slow)
    first = asyncio.ensure_future(sent(sink, [event(0)]))
    await begun.wait()
    second = asyncio.ensure_future(sent(sink, [event(1)]))
    await asyncio.sleep(0)
    first.cancel()
    await asyncio.wait([first])
    go.set()
    async with asyncio.timeout(60):
        assert await second == [Delivered()]
    assert numbers(path) == [0, 1]


async def test_a_file_is_not_closed_under_a_write(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    sink, go, begun = FileSink(path), asyncio.Event(), asyncio.Event()
    await sent(sink, [event(0)])

    async def hangs(*_: object) -> None:
        begun.set()
        await go.wait()

    monkeypatch.setattr(asyncio, "to_thread", hangs)
    last = asyncio.ensure_future(sent(sink, [event(1)]))
    await begun.wait()
    assert isinstance(sink._target, Journal)
    await sink.close(0.01)
    assert sink._target._fd is not None, "the thread would write into another file"
    go.set()
    await last
    await sink.close(60)
    assert sink._target._fd is None


async def test_check_leaves_what_is_in_the_file(path: Path) -> None:
    path.write_bytes(b"a\n")
    assert [finding.ok for finding in await FileSink(path).check()] == [True]
    assert path.read_bytes() == b"a\n"


async def test_check_warns_of_little_space(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(file, "_LITTLE_SPACE", 2**62)
    [finding] = await FileSink(path).check()
    assert (finding.ok, finding.remedy) == (False, "free some space there")
