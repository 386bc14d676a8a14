"""Who gets in, over real connections: TLS, client certificates, passwords, rotation."""

import asyncio
import base64
import ssl
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path

import aiohttp
import bcrypt
import pytest
from aiohttp import web
from yarl import URL

from config.web import Access, AccessFile
from exporters.web import access
from exporters.web.access import Passwords, TooMany
from exporters.web.connections import LIMITS
from exporters.web.listener import Listener
from exporters.web.pages import serve
from tests.servers.certificates import Certificates, make_certificates
from tests.unit.exporters.test_web import GOOD

OPEN = ["/healthz", "/-/healthy", "/readyz", "/-/ready"]
GUARDED = ["/", "/metrics", "/status.json", "/nothing"]


def hashed(password: bytes) -> str:
    return bcrypt.hashpw(password, bcrypt.gensalt(4)).decode()


USERS = {"alice": hashed(b"wonderland"), "björn": hashed("smörgås".encode())}


async def hint(_: web.Request) -> web.Response:
    return web.Response(status=202)


@asynccontextmanager
async def served(get: Callable[[], Access]) -> AsyncIterator[Listener]:
    listener = await serve(GOOD, "127.0.0.1", 0, [web.post("/hints/{platform}/{source}", hint)], get)
    try:
        yield listener
    finally:
        await listener.close()


@asynccontextmanager
async def guarded() -> AsyncIterator[aiohttp.ClientSession]:
    async with (
        served(lambda: Access(users=USERS)) as listener,
        aiohttp.ClientSession(f"http://127.0.0.1:{listener.port}") as client,
    ):
        yield client


def basic(name: str, password: str) -> dict[str, str]:
    return {"Authorization": f"Basic {base64.b64encode(f'{name}:{password}'.encode()).decode()}"}


async def status(client: aiohttp.ClientSession, path: str | URL, headers: dict[str, str] | None = None) -> int:
    async with client.get(path, headers=headers) as answer:
        return answer.status


@pytest.mark.parametrize(("name", "password"), [("alice", "wonderland"), ("björn", "smörgås")])
async def test_who_knows_the_password_comes_in(name: str, password: str) -> None:
    async with guarded() as client:
        for path in ("/", "/metrics", "/status.json"):
            assert await status(client, path, basic(name, password)) == 200
        async with client.head("/metrics", headers=basic(name, password)) as answer:
            assert answer.status == 200
        async with client.post("/metrics", headers=basic(name, password)) as answer:
            assert answer.status == 405


@pytest.mark.parametrize(
    "headers",
    [
        {},
        basic("alice", "wrong"),
        basic("alice", ""),
        basic("nobody", "wonderland"),
        basic("björn", "wonderland"),
        basic("alice", "wonderland\0"),
        basic("alice", "w" * 100),
        {"Authorization": "Basic"},
        {"Authorization": "Basic %%%"},
        {"Authorization": "Basic " + base64.b64encode(b"alice").decode()},
        {"Authorization": "Basic " + base64.b64encode(b"\xff:wonderland").decode()},
        {"Authorization": basic("alice", "wonderland")["Authorization"].replace("Basic", "Bearer")},
    ],
)
async def test_nobody_else_does(headers: dict[str, str]) -> None:
    async with guarded() as client:
        for path in GUARDED:
            async with client.get(path, headers=headers) as answer:
                assert answer.status == 401
                assert answer.headers["WWW-Authenticate"].startswith('Basic realm="')
                assert "wonderland" not in await answer.text()
        async with client.post("/metrics", headers=headers) as answer:
            assert answer.status == 401


async def test_probes_and_hints_need_no_password() -> None:
    async with guarded() as client:
        assert [await status(client, path) for path in OPEN] == [200] * 4
        async with client.post("/hints/wetransform/files") as answer:
            assert answer.status == 202, "they are signed instead"
        assert await status(client, "/hints/wetransform/files") == 401
        for odd in ("/hints/../metrics", "/hints/a/../../metrics", "/%2e/metrics", "/healthz/"):
            assert await status(client, URL(odd, encoded=True)) == 401


async def test_a_password_that_fits_is_checked_once_and_a_wrong_one_each_time(monkeypatch: pytest.MonkeyPatch) -> None:
    checked: list[bytes] = []

    def counting(password: bytes, hashed: str) -> bool:
        checked.append(password)
        return bcrypt.checkpw(password, hashed.encode())

    monkeypatch.setattr(access, "_fits", counting)
    passwords = Passwords()
    assert all(await asyncio.gather(*(passwords.fits(USERS, "alice", b"wonderland") for _ in range(8))))
    assert checked == [b"wonderland"]
    for _ in range(2):
        assert not await passwords.fits(USERS, "alice", b"guess")
        assert not await passwords.fits(USERS, "nobody", b"wonderland")
    assert checked[1:] == [b"guess", b"wonderland"] * 2, "an unknown name takes as long as a known one"
    other = {"alice": hashed(b"other")}
    assert not await passwords.fits(other, "alice", b"wonderland"), "its hash changed"
    assert not await passwords.fits({"bob": USERS["alice"]}, "alice", b"wonderland"), "she was taken out"


async def test_guesses_wait_in_a_short_line_and_hold_up_nobody_who_is_known(monkeypatch: pytest.MonkeyPatch) -> None:
    passwords = Passwords()
    assert await passwords.fits(USERS, "alice", b"wonderland")
    async with passwords._alone:
        guesses = [asyncio.create_task(passwords.fits(USERS, "alice", b"guess")) for _ in range(access.MOST_WAITING)]
        await asyncio.sleep(0)
        with pytest.raises(TooMany):
            await passwords.fits(USERS, "alice", b"guess")
        assert await passwords.fits(USERS, "alice", b"wonderland")
    assert not any(await asyncio.gather(*guesses))
    assert not await passwords.fits(USERS, "alice", b"guess"), "the line is free again"
    monkeypatch.setattr(access, "MOST_WAITING", 0)
    async with guarded() as client, client.get("/metrics", headers=basic("alice", "wonderland")) as answer:
        assert (answer.status, answer.headers["Retry-After"]) == (503, "5")


async def test_users_change_without_a_restart(tmp_path: Path) -> None:
    path = tmp_path / "web.yaml"
    path.write_text(f"basic_auth_users: {{alice: {USERS['alice']}}}")
    async with (
        served(AccessFile(path).get) as listener,
        aiohttp.ClientSession(f"http://127.0.0.1:{listener.port}") as client,
    ):
        assert await status(client, "/metrics", basic("alice", "wonderland")) == 200
        replaced(path, f"basic_auth_users: {{bob: {USERS['alice']}}}".encode())
        assert await status(client, "/metrics", basic("alice", "wonderland")) == 401
        assert await status(client, "/metrics", basic("bob", "wonderland")) == 200


def replaced(path: Path, content: bytes) -> None:
    other = path.with_suffix(".new")
    other.write_bytes(content)
    other.replace(path)


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    return make_certificates(tmp_path_factory.mktemp("certificates"))


@pytest.fixture
def web_file(tmp_path: Path, certificates: Certificates) -> Callable[[str], AccessFile]:
    for name in ("tls.crt", "tls.key"):
        (tmp_path / name).write_bytes(certificates.server.read_bytes())

    def make(more: str = "") -> AccessFile:
        path = tmp_path / "web.yaml"
        path.write_text(f"tls_server_config: {{cert_file: tls.crt, key_file: tls.key{more}}}\n")
        return AccessFile(path)

    return make


def trusting(certificates: Certificates, *, client: bool = False) -> ssl.SSLContext:
    context = ssl.create_default_context(cafile=certificates.ca)
    if client:
        context.load_cert_chain(certificates.client, certificates.client_key)
    return context


async def fetched(listener: Listener, context: ssl.SSLContext | None, path: str = "/metrics") -> int:
    """Over a new connection. Raises `aiohttp.ClientError` where there is no way in."""
    scheme = "http" if context is None else "https"
    connector = aiohttp.TCPConnector(ssl=context or False)
    async with aiohttp.ClientSession(f"{scheme}://127.0.0.1:{listener.port}", connector=connector) as client:
        return await status(client, path)


async def test_all_pages_are_under_tls(certificates: Certificates, web_file: Callable[..., AccessFile]) -> None:
    async with served(web_file().get) as listener:
        for path in ("/metrics", "/healthz"):
            assert await fetched(listener, trusting(certificates), path) == 200
            with pytest.raises(aiohttp.ClientError):
                await fetched(listener, None, path)
        old = trusting(certificates)
        old.maximum_version = ssl.TLSVersion.TLSv1_2
        assert await fetched(listener, old) == 200


async def test_a_handshake_that_never_ends_is_cut_off(web_file: Callable[..., AccessFile]) -> None:
    listener = await serve(GOOD, "127.0.0.1", 0, (), web_file().get, replace(LIMITS, handshake=0.3))
    reader, writer = await asyncio.open_connection("127.0.0.1", listener.port)
    try:
        async with asyncio.timeout(10):
            assert await reader.read() == b""
    finally:
        writer.close()
        await listener.close()


async def test_an_old_version_of_tls_is_refused(
    certificates: Certificates, web_file: Callable[..., AccessFile]
) -> None:
    old = trusting(certificates)
    old.maximum_version = ssl.TLSVersion.TLSv1_2
    async with served(web_file(", min_version: TLS13").get) as listener:
        assert await fetched(listener, trusting(certificates)) == 200
        with pytest.raises(aiohttp.ClientError):
            await fetched(listener, old)


async def test_a_certificate_is_asked_of_clients(
    certificates: Certificates, web_file: Callable[..., AccessFile]
) -> None:
    more = f", client_auth_type: RequireAndVerifyClientCert, client_ca_file: {certificates.ca}"
    stranger = ssl.create_default_context(cafile=certificates.ca)
    stranger.load_cert_chain(certificates.stranger, certificates.stranger.with_suffix(".key"))
    async with served(web_file(more).get) as listener:
        assert await fetched(listener, trusting(certificates, client=True)) == 200
        for context in (trusting(certificates), stranger):
            with pytest.raises((aiohttp.ClientError, ConnectionError)):
                await fetched(listener, context)


async def test_certificates_and_authorities_rotate_without_a_restart(
    certificates: Certificates, web_file: Callable[..., AccessFile], tmp_path: Path
) -> None:
    async with served(web_file().get) as listener:
        assert await fetched(listener, trusting(certificates)) == 200
        async with aiohttp.ClientSession(
            f"https://127.0.0.1:{listener.port}", connector=aiohttp.TCPConnector(ssl=trusting(certificates))
        ) as kept:
            assert await status(kept, "/metrics") == 200
            replaced(tmp_path / "tls.crt", certificates.stranger.read_bytes())
            replaced(tmp_path / "tls.key", certificates.stranger.with_suffix(".key").read_bytes())
            with pytest.raises(aiohttp.ClientConnectorCertificateError):
                await fetched(listener, trusting(certificates))
            assert await status(kept, "/metrics") == 200, "a connection goes on as it began"
        newer = ssl.create_default_context(cafile=certificates.stranger)
        newer.check_hostname = False
        assert await fetched(listener, newer) == 200
        for name in ("tls.crt", "tls.key"):
            replaced(tmp_path / name, certificates.server.read_bytes())
        web_file(f", client_auth_type: RequireAndVerifyClientCert, client_ca_file: {certificates.ca}")
        with pytest.raises((aiohttp.ClientError, ConnectionError)):
            await fetched(listener, trusting(certificates))
        assert await fetched(listener, trusting(certificates, client=True)) == 200
