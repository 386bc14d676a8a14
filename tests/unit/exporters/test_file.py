"""The file sink against a real file system."""

import asyncio
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Iterator
from datetime import timedelta
from pathlib import Path

import pytest

from collector.model import EventKind, Outgoing
from exporters.sinks.base import Delivered, Outcome, Park, Retry
from exporters.sinks.file import FileSink
from exporters.sinks.journal import Journal


def event(number: int, size: int = 0) -> Outgoing:
    body = json.dumps({"number": number, "filler": "x" * size}).encode()
    return Outgoing(number, 1, number, "a run", 1, EventKind.START, body, 0, 0, 0)


async def sent(sink: FileSink, events: Iterable[Outgoing]) -> list[Outcome]:
    return [outcome async for _, outcome in sink.send(list(events))]


def numbers(path: Path) -> list[int]:
    return [json.loads(line)["number"] for line in path.read_bytes().splitlines()]


def names(folder: Path) -> list[str]:
    return sorted(file.name for file in folder.iterdir())


async def test_events_are_lines_in_the_order_they_came(tmp_path: Path) -> None:
    path = tmp_path / "events.ndjson"
    sink = FileSink(path)
    assert await sent(sink, map(event, range(3))) == [Delivered()] * 3
    assert await sent(sink, [event(3)]) == [Delivered()]
    await sink.close(1)
    assert path.read_bytes().endswith(b"\n")
    assert numbers(path) == [0, 1, 2, 3]
    assert path.stat().st_mode & 0o777 == 0o600, "it holds SQL and names: for its owner alone"


async def test_a_restart_goes_on_where_the_file_ends(tmp_path: Path) -> None:
    path = tmp_path / "events.ndjson"
    for number in range(2):
        sink = FileSink(path)
        await sent(sink, [event(number)])
        await sink.close(1)
    assert numbers(path) == [0, 1]


async def test_batches_that_come_during_a_write_share_the_next(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    syncs: list[int] = []
    monkeypatch.setattr(os, "fsync", syncs.append)
    sink = FileSink(tmp_path / "events.ndjson")
    outcomes = await asyncio.gather(*(sent(sink, [event(number)]) for number in range(50)))
    await sink.close(1)
    assert outcomes == [[Delivered()]] * 50
    assert numbers(tmp_path / "events.ndjson") == list(range(50))
    assert len(syncs) <= 3  # the folder once, the file once for all that waited


async def test_a_torn_last_line_is_ended_and_never_merged(tmp_path: Path) -> None:
    path = tmp_path / "events.ndjson"
    path.write_bytes(b'{"number":0}\n{"numb')
    sink = FileSink(path)
    await sent(sink, [event(1)])
    await sink.close(1)
    first, torn, last = path.read_bytes().splitlines()
    assert (first, torn) == (b'{"number":0}', b'{"numb')
    assert json.loads(last)["number"] == 1


async def test_an_event_with_line_breaks_is_parked_and_its_neighbours_are_not(tmp_path: Path) -> None:
    path = tmp_path / "events.ndjson"
    broken = Outgoing(9, 1, 9, "a run", 1, EventKind.START, b'{\n"number":9}', 0, 0, 0)
    sink = FileSink(path)
    outcomes = {item.strand_id: outcome async for item, outcome in sink.send([event(1), broken, event(2)])}
    await sink.close(1)
    assert isinstance(outcomes[9], Park)
    assert outcomes[1] == outcomes[2] == Delivered()
    assert numbers(path) == [1, 2]


async def test_a_full_file_is_set_aside_before_it_grows_beyond_its_size(tmp_path: Path) -> None:
    path = tmp_path / "events.ndjson"
    sink = FileSink(path, rotate_at=250)
    for number in range(5):
        await sent(sink, [event(number, size=80)])
    await sink.close(1)
    assert [numbers(tmp_path / name) for name in ("events.ndjson.1", "events.ndjson.2", "events.ndjson")] == [
        [0, 1],
        [2, 3],
        [4],
    ]
    assert all((tmp_path / name).stat().st_size <= 250 for name in names(tmp_path))


async def test_only_the_newest_files_are_kept(tmp_path: Path) -> None:
    path = tmp_path / "events.ndjson"
    (tmp_path / "events.ndjson.old").touch()
    sink = FileSink(path, rotate_at=50, keep=2)
    for number in range(12):
        await sent(sink, [event(number, size=40)])
    await sink.close(1)
    assert names(tmp_path) == [
        "events.ndjson",
        "events.ndjson.10",
        "events.ndjson.11",
        "events.ndjson.old",
    ]
    assert numbers(tmp_path / "events.ndjson.11") == [10]


async def test_a_batch_larger_than_the_limit_still_fits_into_one_file(tmp_path: Path) -> None:
    path = tmp_path / "events.ndjson"
    sink = FileSink(path, rotate_at=100)
    assert await sent(sink, map(event, range(20))) == [Delivered()] * 20
    await sink.close(1)
    assert numbers(path) == list(range(20))


async def test_a_file_that_was_moved_away_is_begun_anew(tmp_path: Path) -> None:
    path = tmp_path / "events.ndjson"
    sink = FileSink(path)
    await sent(sink, [event(0)])
    path.rename(tmp_path / "moved")
    await sent(sink, [event(1)])
    path.unlink()
    await sent(sink, [event(2)])
    await sink.close(1)
    assert numbers(tmp_path / "moved") == [0]
    assert numbers(path) == [2]


async def test_a_missing_folder_is_retried_with_what_to_do_and_works_once_it_is_there(tmp_path: Path) -> None:
    path = tmp_path / "missing" / "events.ndjson"
    sink = FileSink(path)
    [outcome] = await sent(sink, [event(0)])
    assert isinstance(outcome, Retry)
    assert f"create the folder {path.parent}" in outcome.cause
    path.parent.mkdir()
    assert await sent(sink, [event(0)]) == [Delivered()]
    await sink.close(1)
    assert numbers(path) == [0]


async def test_a_full_disk_is_retried_with_what_to_do() -> None:
    sink = FileSink(Path("/dev/full"))
    [outcome] = await sent(sink, [event(0)])
    await sink.close(1)
    assert isinstance(outcome, Retry)
    assert "No space left" in outcome.cause
    assert "free some space" in outcome.cause


@pytest.fixture
def nobody() -> Iterator[None]:
    """Not root, for whom no file is read-only."""
    if os.geteuid() != 0:
        yield
        return
    os.seteuid(65534)
    yield
    os.seteuid(0)


async def test_a_file_that_may_not_be_written_is_retried_with_what_to_do(
    nobody: None,
) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "events.ndjson"
        path.touch(mode=0o400)
        [outcome] = await sent(FileSink(path), [event(0)])
    assert isinstance(outcome, Retry)
    assert "let this user write" in outcome.cause


async def test_a_folder_in_place_of_the_file_is_retried_with_what_to_do(tmp_path: Path) -> None:
    [outcome] = await sent(FileSink(tmp_path), [event(0)])
    assert isinstance(outcome, Retry)
    assert "must name a file" in outcome.cause


_LIMITED = """
import resource, sys
from pathlib import Path
from exporters.sinks.journal import Journal, explained
resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))
journal = Journal(Path(sys.argv[1]))
for line in (b"a" * 600, b"b" * 600, b"c" * 300):
    try:
        journal.append(line + b"\\n")
    except OSError as error:
        print(explained(error, Path(sys.argv[1])))
"""


def test_what_a_failed_write_left_is_taken_back(tmp_path: Path) -> None:
    path = tmp_path / "events.ndjson"
    done = subprocess.run(
        [sys.executable, "-c", _LIMITED, str(path)], check=True, capture_output=True, text=True, cwd=Path.cwd()
    )
    assert "File too large" in done.stdout
    assert path.read_bytes() == b"a" * 600 + b"\n" + b"c" * 300 + b"\n"


def test_a_sync_that_fails_delivers_nothing_and_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "events.ndjson"
    journal = Journal(path)
    journal.append(b"first\n")
    with monkeypatch.context() as broken:
        broken.setattr(os, "fsync", _fails)
        with pytest.raises(OSError, match="Input/output"):
            journal.append(b"second\n")
    journal.append(b"third\n")
    journal.close()
    assert path.read_bytes() == b"first\nthird\n"


def _fails(fd: int) -> None:
    raise OSError(5, "Input/output error")


async def test_standard_output_gets_the_lines(capfd: pytest.CaptureFixture[str]) -> None:
    sink = FileSink(Path("-"))
    assert await sent(sink, [event(1), event(2)]) == [Delivered()] * 2
    await sink.close(1)
    lines = capfd.readouterr().out.splitlines()
    assert [json.loads(line)["number"] for line in lines] == [1, 2]


def test_a_reader_that_is_gone_is_retried_with_what_to_do() -> None:
    program = (
        "import asyncio\nfrom pathlib import Path\nfrom exporters.sinks.file import FileSink\n"
        "from tests.unit.exporters.test_file import event, sent\nimport sys\n"
        "print(asyncio.run(sent(FileSink(Path('-')), [event(1)])), file=sys.stderr)"
    )
    read, write = os.pipe()
    os.close(read)
    done = subprocess.run(
        [sys.executable, "-c", program], check=True, stdout=write, stderr=subprocess.PIPE, text=True, cwd=Path.cwd()
    )
    os.close(write)
    assert "Broken pipe" in done.stderr
    assert "the reader has ended" in done.stderr


async def test_a_cancelled_batch_that_was_not_begun_is_not_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "events.ndjson"
    sink = FileSink(path)
    first, second = (asyncio.ensure_future(sent(sink, [event(number)])) for number in (1, 2))
    await asyncio.sleep(0)
    second.cancel()
    assert await first == [Delivered()]
    await sink.close(1)
    assert numbers(path) == [1]


async def test_check_says_whether_it_works_and_leaves_nothing_behind(tmp_path: Path) -> None:
    path = tmp_path / "events.ndjson"
    [good] = await FileSink(path).check()
    assert good.ok
    assert names(tmp_path) == []
    path.write_text("{}\n")
    before = path.stat()
    [good] = await FileSink(path).check()
    assert good.ok
    assert (path.stat().st_mtime_ns, path.stat().st_size) == (before.st_mtime_ns, before.st_size)


async def test_check_says_what_is_wrong_and_what_to_do(tmp_path: Path) -> None:
    [missing] = await FileSink(tmp_path / "no" / "events.ndjson").check()
    assert (missing.ok, missing.remedy) == (False, f"create the folder {tmp_path / 'no'} or change the sink's `path`")
    [folder] = await FileSink(tmp_path).check()
    assert (folder.ok, folder.remedy) == (False, "`path` must name a file, not a folder")


async def test_check_of_standard_output(tmp_path: Path) -> None:
    [finding] = await FileSink(Path("-")).check()
    assert finding.ok


def test_what_delivery_may_expect() -> None:
    sink = FileSink(Path("-"))
    assert sink.wants == frozenset(EventKind)
    assert not sink.rechecks
    assert sink.longest_attempt > timedelta(0)
