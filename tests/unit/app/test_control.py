"""The control socket: whose it is, what it takes, and what its clients say when nobody answers well."""

import asyncio
import os
import socket
import stat
from collections.abc import AsyncIterator, Mapping
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from collector.app import control
from collector.app.control import Control, RequestResult
from collector.errors import ConfigurationError, LedgerError, LineageError
from collector.ledger.requests import RequestKind, RequestState

Asked = tuple[str, RequestKind, Mapping[str, Any]]


class Service:
    def __init__(self) -> None:
        self.asked: list[Asked] = []
        self.hang: asyncio.Event | None = None
        self.error: LineageError | None = None

    async def ask(self, target: str, kind: RequestKind, body: Mapping[str, Any]) -> RequestResult:
        self.asked.append((target, kind, body))
        if self.hang is not None:
            await self.hang.wait()
        if self.error is not None:
            raise self.error
        return RequestResult(RequestState.DONE, {"key": "7"})

    async def status(self) -> Mapping[str, Any]:
        return {"running": True}


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "lineage.db.sock"


@pytest.fixture
async def service(path: Path) -> AsyncIterator[Service]:
    made = Service()
    listening = Control(path, made.ask, made.status)
    await listening.start()
    yield made
    await listening.stop()


async def test_a_request_and_its_answer(service: Service, path: Path) -> None:
    answer = await control.submit(path, "source:prep", RequestKind.TRIGGER, {"job": "7"})
    assert answer == RequestResult(RequestState.DONE, {"key": "7"})
    assert service.asked == [("source:prep", RequestKind.TRIGGER, {"job": "7"})]
    assert await control.status(path) == {"running": True}
    assert control.is_alive(path)


async def test_only_its_owner_can_open_it(service: Service, path: Path) -> None:
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


async def test_the_mode_of_other_files_is_left_alone(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(_: int) -> int:
        raise AssertionError("the mask is one for all threads")

    monkeypatch.setattr(os, "umask", refuse)
    listening = Control(path, Service().ask, Service().status)
    await listening.start()
    await listening.stop()
    assert not path.exists()


async def test_the_socket_of_a_killed_process_is_replaced(path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as left:
        left.bind(str(path))
    assert path.exists()
    assert not control.is_alive(path)
    assert await control.status(path) is None
    service = Service()
    listening = Control(path, service.ask, service.status)
    await listening.start()
    assert await control.status(path) == {"running": True}
    await listening.stop()


async def test_nobody_listens(path: Path) -> None:
    assert await control.status(path) is None
    assert await control.submit(path, "source:prep", RequestKind.POLL, {}) is None
    assert not control.is_alive(path)


async def test_a_file_of_somebody_else_is_left_alone(path: Path) -> None:
    path.write_text("dear diary")
    with pytest.raises(ConfigurationError, match=r"control_socket: there is a file at .* that is not a socket"):
        await Control(path, Service().ask, Service().status).start()
    assert path.read_text() == "dear diary"


async def test_a_folder_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match=r"control_socket: .* cannot be made: No such file or directory"):
        await Control(tmp_path / "none" / "x.sock", Service().ask, Service().status).start()


@pytest.mark.parametrize("body", [b"", b"[]", b"{}", b'{"target": 1}', b'{"target": "a", "kind": "fly", "body": {}}'])
async def test_what_is_no_request_is_refused(service: Service, path: Path, body: bytes) -> None:
    connector = aiohttp.UnixConnector(str(path))
    async with (
        aiohttp.ClientSession(connector=connector) as session,
        session.post("http://service/requests", data=body) as answer,
    ):
        assert answer.status == 400
    assert service.asked == []


async def test_a_request_that_the_ledger_does_not_take_is_answered_with_why(service: Service, path: Path) -> None:
    service.error = LedgerError(
        "ledger x: no space left on its disk; nothing was committed. Writing continues once there is space"
    )
    with pytest.raises(LineageError, match="answered 503: ledger x: no space left on its disk; nothing was committed"):
        await control.submit(path, "source:prep", RequestKind.TRIGGER, {"job": "7"})


async def test_a_service_that_gives_no_answer_is_called_frozen(
    service: Service, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(control, "ANSWERS_WITHIN", -9.9)
    service.hang = asyncio.Event()
    with pytest.raises(LineageError, match="gave no answer within 0 s: look at its log"):
        await control.submit(path, "source:prep", RequestKind.TRIGGER, {})
    service.hang.set()


async def test_a_service_that_ends_meanwhile_leaves_it_open_what_happened(path: Path) -> None:
    service = Service()
    service.hang = asyncio.Event()
    listening = Control(path, service.ask, service.status)
    await listening.start()
    asking = asyncio.create_task(control.submit(path, "source:prep", RequestKind.TRIGGER, {}))
    while not service.asked:
        await asyncio.sleep(0.01)
    await listening.stop()
    with pytest.raises(LineageError, match=r"ended before it answered .* may have been done"):
        await asking


async def test_something_else_that_listens_there(path: Path) -> None:
    async def greet(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"220 mail.example ready\r\n")
        writer.close()

    server = await asyncio.start_unix_server(greet, path)
    async with server:
        with pytest.raises(LineageError, match="ended before it answered"):
            await control.status(path)
