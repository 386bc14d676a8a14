"""The HTTP client against servers on loopback that answer byte by byte what a test wants."""

import asyncio
import contextlib
import gzip
import logging
import ssl
import subprocess
import tracemalloc
import zlib
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

import httpx
import pytest

from collector import http as module
from collector.errors import ConfigurationError
from collector.http import LARGEST_PAGE, AnswerTooLarge, HttpClient, HttpOptions
from collector.tls import tls_context
from tests.servers.certificates import Certificates, make_certificates
from tests.servers.ports import free_port

OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
SECRET = "geheim-4711"


@dataclass
class Request:
    line: str
    headers: dict[str, str]
    body: bytes

    @property
    def target(self) -> str:
        return self.line.split(" ")[1]


Behave = Callable[[Request, asyncio.StreamWriter], Awaitable[None]]


@dataclass
class Server:
    port: int
    scheme: str
    seen: list[Request] = field(default_factory=list)
    connections: int = 0

    @property
    def url(self) -> str:
        return f"{self.scheme}://127.0.0.1:{self.port}"


def answering(answer: bytes) -> Behave:
    async def behave(request: Request, writer: asyncio.StreamWriter) -> None:
        writer.write(answer)

    return behave


async def hang_up(request: Request, writer: asyncio.StreamWriter) -> None:
    writer.close()


async def stay_silent(request: Request, writer: asyncio.StreamWriter) -> None:
    await asyncio.sleep(3600)


@contextlib.asynccontextmanager
async def serving(behave: Behave, tls: ssl.SSLContext | None = None) -> AsyncIterator[Server]:
    server = Server(0, "https" if tls else "http")
    tasks: set[asyncio.Task[None]] = set()

    async def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task
        tasks.add(task)
        server.connections += 1
        with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError, ssl.SSLError, asyncio.CancelledError):
            while not writer.is_closing():
                request = await read_request(reader)
                server.seen.append(request)
                await behave(request, writer)
                if not writer.is_closing():
                    await writer.drain()
        writer.close()

    listener = await asyncio.start_server(connected, "127.0.0.1", 0, ssl=tls)
    server.port = listener.sockets[0].getsockname()[1]
    try:
        yield server
    finally:
        listener.close()
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks)


async def read_request(reader: asyncio.StreamReader) -> Request:
    head = (await reader.readuntil(b"\r\n\r\n")).decode().split("\r\n")
    headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in head[1:] if line)}
    return Request(head[0], headers, await reader.readexactly(int(headers.get("content-length", "0"))))


@contextlib.asynccontextmanager
async def client(
    options: HttpOptions | None = None, on_request: module.RequestListener | None = None
) -> AsyncIterator[HttpClient]:
    made = HttpClient(options or HttpOptions(timeout=5.0), on_request)
    try:
        yield made
    finally:
        await made.close()


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    return make_certificates(tmp_path_factory.mktemp("certificates"))


@pytest.mark.parametrize(
    "path",
    [
        "/a%3Bb",
        "/a%2E%2E/b",
        "/%2E%2E/b",
        "/a%2Fb/c",
        "/jobs/transformation%2F1%3A2%20%C3%A9",
        "/a%25b",
        "/plain;b,c@d",
        "/a%23b%3Fc",
        "/x%2Fy?filter=%5Bid%5D&a=b%2Bc",
        "/a?b=c%26d%3De",
        "/jobs/17/metrics",
        "/~a/b..c/d_e-f/",
        "/a//b",
    ],
)
async def test_a_url_is_sent_as_it_is_written(path: str) -> None:
    async with serving(answering(OK)) as server, client() as http:
        await http.request("GET", server.url + path)
    assert server.seen[0].target == path


@pytest.mark.parametrize("path", ["/a/b", "/a%2Fb/c"])
async def test_a_host_is_sent_in_lower_case(path: str) -> None:
    async with serving(answering(OK)) as server, client() as http:
        await http.request("GET", server.url.replace("127.0.0.1", "LOCALHOST") + path)
    assert server.seen[0].target == path
    assert server.seen[0].headers["host"].startswith("localhost:")


async def test_parameters_bodies_and_headers_arrive() -> None:
    async with (
        serving(answering(OK)) as server,
        client(HttpOptions(headers={"X-Team": "data", "X-A": "client"})) as http,
    ):
        await http.request("GET", server.url + "/p", params={"q": "a b/c"}, headers={"X-A": "request"})
        await http.request("POST", server.url, json={"a": 1})
        await http.request("POST", server.url, content=gzip.compress(b"event"), headers={"Content-Encoding": "gzip"})
        await http.request("POST", server.url, data={"grant_type": "client_credentials"})
        await http.request("POST", server.url)
    got, json, packed, form, empty = server.seen
    assert got.target in {"/p?q=a+b%2Fc", "/p?q=a%20b%2Fc"}
    assert (got.headers["x-team"], got.headers["x-a"]) == ("data", "request")
    assert got.headers["user-agent"].startswith("lineage-collector/")
    assert (json.body, json.headers["content-type"]) == (b'{"a":1}', "application/json")
    assert (gzip.decompress(packed.body), packed.headers["content-encoding"]) == (b"event", "gzip")
    assert (form.body, form.headers["content-type"]) == (
        b"grant_type=client_credentials",
        "application/x-www-form-urlencoded",
    )
    assert (empty.body, empty.headers["content-length"]) == (b"", "0")
    assert all(request.headers["x-team"] == "data" for request in server.seen)


async def test_headers_beyond_ascii_do_no_harm() -> None:
    async with serving(answering(OK)) as server, client(HttpOptions(headers={"X-Team": "Übersee"})) as http:
        await http.request("GET", server.url, headers={"Authorization": "Bearer gehéim"})
    assert (server.seen[0].headers["x-team"], server.seen[0].headers["authorization"]) == ("Übersee", "Bearer gehéim")


@pytest.mark.parametrize(
    ("name", "packed"),
    [("gzip", gzip.compress(b'{"a": 1}')), ("deflate", zlib.compress(b'{"a": 1}'))],
    ids=["gzip", "deflate"],
)
async def test_a_compressed_answer_is_unpacked(name: str, packed: bytes) -> None:
    head = f"HTTP/1.1 200 OK\r\nContent-Encoding: {name}\r\nContent-Length: {len(packed)}\r\n\r\n"
    async with serving(answering(head.encode() + packed)) as server, client() as http:
        answer = await http.request("GET", server.url)
    assert answer.json() == {"a": 1}
    assert server.seen[0].headers["accept-encoding"] == "gzip, deflate"


async def test_a_chunked_answer_is_put_together() -> None:
    chunked = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nhe\r\n3\r\nllo\r\n0\r\n\r\n"
    async with serving(answering(chunked)) as server, client() as http:
        assert (await http.request("GET", server.url)).text == "hello"


def gzipped(body: bytes, name: str = "gzip") -> bytes:
    return f"HTTP/1.1 200 OK\r\nContent-Encoding: {name}\r\nContent-Length: {len(body)}\r\n\r\n".encode() + body


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (gzipped(b"no gzip at all"), "cannot be decompressed"),
        (gzipped(gzip.compress(b"x" * 1000)[:-9]), "is cut off"),
        (gzipped(b"x", "br"), "compressed by 'br', which was not requested"),
        (gzipped(gzip.compress(bytes(2000))), "more than 1000 bytes"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 2000\r\n\r\n" + bytes(2000), "more than 1000 bytes"),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n7d0\r\n" + bytes(2000), "more than 1000 bytes"),
        (b"SSH-2.0-OpenSSH_9.2\r\n\r\n", "not valid HTTP"),
        (b"HTTP/1.1 200 OK\r\nX: " + b"y" * 100_000 + b"\r\n\r\n", "not valid HTTP"),
    ],
    ids=["no gzip", "cut off", "brotli", "bomb", "large", "large in chunks", "no HTTP", "long header"],
)
async def test_an_answer_of_no_use_is_a_transport_error(answer: bytes, words: str) -> None:
    async with serving(answering(answer)) as server, client() as http:
        with pytest.raises(httpx.RemoteProtocolError, match=words):
            await http.request("GET", server.url, largest=1000)


async def test_of_an_answer_that_is_too_large_the_head_is_known() -> None:
    heard: list[int | None] = []
    body = gzip.compress(bytes(3 * 1024 * 1024))
    head = f"HTTP/1.1 201 Created\r\nContent-Encoding: gzip\r\nX-A: b\r\nContent-Length: {len(body)}\r\n\r\n".encode()

    def hear(url: str, status: int | None, seconds: float, headers: Mapping[str, str]) -> None:
        heard.append(status)

    async with serving(answering(head + body)) as server, client(on_request=hear) as http:
        with pytest.raises(AnswerTooLarge, match="status 201, and an answer of more than 2 MiB") as caught:
            await http.request("GET", server.url, largest=2 * 1024 * 1024)
        assert (await http.request("GET", server.url, largest=3 * 1024 * 1024)).content == bytes(3 * 1024 * 1024)
    assert (caught.value.status, caught.value.headers["x-a"]) == (201, "b")
    assert heard == [201, 201]


@pytest.mark.parametrize("size", [LARGEST_PAGE, 20 * LARGEST_PAGE])
async def test_a_small_answer_that_becomes_a_large_one_fills_no_memory(size: int) -> None:
    packer = zlib.compressobj(1)
    packed = b"".join(packer.compress(bytes(2**20)) for _ in range(size // 2**20)) + packer.flush()
    async with serving(answering(gzipped(packed, "deflate"))) as server, client() as http:
        tracemalloc.start()
        try:
            with contextlib.suppress(AnswerTooLarge):
                await http.request("GET", server.url)
            _, peak = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
    assert peak < 2.5 * LARGEST_PAGE


async def test_nobody_listening_means_that_nothing_was_sent() -> None:
    heard: list[int | None] = []

    def hear(url: str, status: int | None, seconds: float, headers: Mapping[str, str]) -> None:
        heard.append(status)

    async with client(on_request=hear) as http:
        with pytest.raises(httpx.ConnectError, match=r"Cannot connect to host 127.0.0.1:\d+ \["):
            await http.request("POST", f"http://127.0.0.1:{free_port()}", content=b"x")
        with pytest.raises(httpx.ConnectError):
            await http.request("POST", "http://no-such-host.invalid", content=b"x")
    assert heard == [None, None]


@pytest.mark.parametrize(
    "behave",
    [
        hang_up,
        answering(b""),
        answering(b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nha"),
    ],
)
async def test_without_a_whole_answer_the_request_may_have_had_an_effect(behave: Behave) -> None:
    async def then_hang_up(request: Request, writer: asyncio.StreamWriter) -> None:
        await behave(request, writer)
        writer.close()

    async with serving(then_hang_up) as server, client() as http:
        with pytest.raises(httpx.TransportError) as caught:
            await http.request("POST", server.url, content=b"x")
    assert not isinstance(caught.value, httpx.ConnectError)
    assert server.seen[0].body == b"x"


async def test_a_lost_answer_is_not_asked_for_again() -> None:
    """A POST over a connection that was used before: the server may have done it."""
    answers = iter([answering(OK), hang_up, answering(OK)])

    async def behave(request: Request, writer: asyncio.StreamWriter) -> None:
        await next(answers)(request, writer)

    async with serving(behave) as server, client() as http:
        await http.request("POST", server.url, content=b"1")
        with pytest.raises(httpx.ReadError):
            await http.request("POST", server.url, content=b"2")
    assert [request.body for request in server.seen] == [b"1", b"2"]


async def test_a_time_out_may_have_had_an_effect() -> None:
    async with serving(stay_silent) as server, client() as http:
        with pytest.raises(httpx.ReadTimeout):
            await http.request("POST", server.url, content=b"x", timeout=0.05)
    assert server.seen[0].body == b"x"


async def test_a_body_that_never_ends_is_a_time_out() -> None:
    async with serving(answering(b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nha")) as server, client() as http:
        with pytest.raises(httpx.ReadTimeout):
            await http.request("GET", server.url, timeout=0.05)


async def test_a_server_that_never_shakes_hands_was_sent_nothing(certificates: Certificates) -> None:
    async with serving(stay_silent) as server, client(HttpOptions(connect_timeout=0.05)) as http:
        with pytest.raises(httpx.ConnectError):
            await http.request("POST", f"https://127.0.0.1:{server.port}", content=b"x")


async def test_redirects_are_answers() -> None:
    moved = b"HTTP/1.1 302 Found\r\nLocation: /elsewhere\r\nContent-Length: 0\r\n\r\n"
    async with serving(answering(moved)) as server, client() as http:
        answer = await http.request("GET", server.url)
    assert (answer.status_code, answer.headers["location"]) == (302, "/elsewhere")
    assert len(server.seen) == 1


async def test_cookies_are_not_kept() -> None:
    answer = b"HTTP/1.1 200 OK\r\nSet-Cookie: session=1; Path=/\r\nContent-Length: 0\r\n\r\n"
    async with serving(answering(answer)) as server, client() as http:
        url = f"http://localhost:{server.port}"  # of a server with no more than an address no jar keeps any
        await http.request("GET", url)
        await http.request("GET", url)
    assert "cookie" not in server.seen[1].headers


async def test_every_answer_is_heard() -> None:
    heard: list[tuple[str, int | None, str | None]] = []

    def hear(url: str, status: int | None, seconds: float, headers: Mapping[str, str]) -> None:
        assert seconds >= 0
        heard.append((url, status, headers.get("x-rate-limit-user-remaining")))

    limited = b"HTTP/1.1 429 Slow\r\nX-Rate-Limit-User-Remaining: 7\r\nContent-Length: 0\r\n\r\n"
    async with serving(answering(limited)) as server, client(on_request=hear) as http:
        await http.request("GET", server.url)
    assert heard == [(server.url, 429, "7")]


AT_NOON = datetime(2026, 11, 22, 12, 0, 10, tzinfo=UTC)


@pytest.mark.parametrize(
    ("headers", "seconds", "ahead"),
    [
        ({"Date": "Sun, 22 Nov 2026 12:00:08 GMT"}, 3.0, 0.0),
        ({"Date": "Sun, 22 Nov 2026 12:01:08 GMT"}, 3.0, 60.0),
        ({"Date": "Sun, 22 Nov 2026 11:00:10 GMT"}, 0.0, -3599.5),
        ({"Date": "Sun, 22 Nov 2026 12:00:10 -0000"}, 0.0, 0.5),
        ({"Date": "Sun, 22 Nov 2026 14:00:10 +0200"}, 0.0, 0.5),
        ({"Date": "Sun, 22 Nov 2026 12:00:10 GMT", "Age": "7"}, 0.0, None),
        ({"Date": "Sun, 22 Nov 2026 12:00:10 GMT"}, 5.1, None),
        ({"Date": "today"}, 0.0, None),
        ({"Date": "Sun, 99 Nov 99999999999999 12:00:10 GMT"}, 0.0, None),
        ({"Date": ""}, 0.0, None),
        ({}, 0.0, None),
    ],
)
def test_the_clock_of_a_server_is_read_from_its_date(
    headers: dict[str, str], seconds: float, ahead: float | None
) -> None:
    assert module.clock_ahead(httpx.Headers(headers), AT_NOON, seconds) == ahead


async def test_a_connection_is_used_again_and_closed_in_the_end() -> None:
    async with serving(answering(OK)) as server, client() as http:
        for _ in range(3):
            await http.request("GET", server.url)
        assert server.connections == 1
        await http.close()
        await http.request("GET", server.url)
        assert server.connections == 2


async def test_connections_are_limited() -> None:
    at_once = most = 0

    async def count(request: Request, writer: asyncio.StreamWriter) -> None:
        nonlocal at_once, most
        at_once += 1
        most = max(most, at_once)
        await asyncio.sleep(0.01)
        at_once -= 1
        writer.write(OK)

    async with serving(count) as server, client(HttpOptions(connections=2)) as http:
        await asyncio.gather(*(http.request("GET", server.url) for _ in range(6)))
    assert (most, server.connections) == (2, 2)


def listening_with(certificates: Certificates, *, ask: bool = False) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificates.server)
    if ask:
        context.load_verify_locations(certificates.ca)
        context.verify_mode = ssl.CERT_REQUIRED
        context.maximum_version = ssl.TLSVersion.TLSv1_2
    return context


def openssl(arguments: str) -> None:
    subprocess.run(["openssl", *arguments.split()], check=True, capture_output=True, timeout=30)


async def test_a_server_of_ones_own_authority_needs_its_file(certificates: Certificates) -> None:
    async with serving(answering(OK), listening_with(certificates)) as server:
        async with client(HttpOptions(ca_file=certificates.ca)) as http:
            assert (await http.request("GET", server.url)).text == "ok"
        for options in (HttpOptions(), HttpOptions(ca_file=certificates.stranger)):
            async with client(options) as http:
                with pytest.raises(
                    httpx.ConnectError, match=r"not one we trust \(.+\): give its authority in network\.ca_file"
                ):
                    await http.request("GET", server.url)
    assert len(server.seen) == 1


async def test_a_certificate_for_another_host_is_no_matter_of_trust(certificates: Certificates) -> None:
    server = await asyncio.start_server(lambda *_: None, "127.0.0.2", 0, ssl=listening_with(certificates))
    async with server, client(HttpOptions(ca_file=certificates.ca)) as http:
        port = server.sockets[0].getsockname()[1]
        with pytest.raises(httpx.ConnectError, match="the certificate is for another host") as caught:
            await http.request("GET", f"https://127.0.0.2:{port}")
    assert "network.ca_file" not in str(caught.value)


async def test_a_self_signed_server_is_trusted_by_its_own_certificate(tmp_path: Path) -> None:
    made, key = tmp_path / "self.pem", tmp_path / "key.pem"
    openssl(
        f"req -x509 -newkey rsa:2048 -nodes -subj /CN=me -addext subjectAltName=IP:127.0.0.1 -keyout {key} -out {made}"
    )
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(made, key)
    async with serving(answering(OK), context) as server, client(HttpOptions(ca_file=made)) as http:
        assert (await http.request("GET", server.url)).text == "ok"


async def test_a_ca_file_adds_to_the_trust_of_the_system(
    certificates: Certificates, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", str(certificates.ca))  # what OpenSSL takes for the system's
    options = HttpOptions(ca_file=certificates.stranger)
    async with serving(answering(OK), listening_with(certificates)) as server, client(options) as http:
        assert (await http.request("GET", server.url)).text == "ok"


async def test_a_client_certificate_is_shown(certificates: Certificates, tmp_path: Path) -> None:
    one_file = tmp_path / "both.pem"
    one_file.write_text(certificates.client_key.read_text() + certificates.client.read_text())
    async with serving(answering(OK), listening_with(certificates, ask=True)) as server:
        for cert, key in ((certificates.client, certificates.client_key), (one_file, None)):
            options = HttpOptions(ca_file=certificates.ca, client_cert_file=cert, client_key_file=key)
            async with client(options) as http:
                assert (await http.request("GET", server.url)).text == "ok"
        async with client(HttpOptions(ca_file=certificates.ca)) as http:
            with pytest.raises(httpx.ConnectError):
                await http.request("GET", server.url)


async def test_files_of_tls_rotate_while_the_client_lives(
    certificates: Certificates, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    ca_file, cert_file = tmp_path / "ca.pem", tmp_path / "client.pem"
    of_client = certificates.client_key.read_text() + certificates.client.read_text()
    of_stranger = certificates.stranger.with_suffix(".key").read_text() + certificates.stranger.read_text()

    async def ends(request: Request, writer: asyncio.StreamWriter) -> None:
        writer.write(OK.replace(b"\r\n", b"\r\nConnection: close\r\n", 1))

    def rotate(file: Path, text: str) -> None:
        (new := tmp_path / "new").write_text(text)
        new.replace(file)  # as Kubernetes swaps a mounted secret

    rotate(ca_file, certificates.stranger.read_text())
    rotate(cert_file, of_stranger)
    async with (
        serving(ends, listening_with(certificates, ask=True)) as server,
        client(HttpOptions(ca_file=ca_file, client_cert_file=cert_file)) as http,
    ):
        with pytest.raises(httpx.ConnectError, match="not one we trust"):
            await http.request("GET", server.url)
        rotate(ca_file, certificates.ca.read_text())
        with pytest.raises(httpx.TransportError):
            await http.request("GET", server.url)
        rotate(cert_file, of_client)
        assert (await http.request("GET", server.url)).text == "ok"
        for broken in ("half a certif", None):
            caplog.clear()
            rotate(ca_file, broken) if broken else ca_file.unlink()
            for _ in range(2):
                assert (await http.request("GET", server.url)).text == "ok", "by the former files"
            [kept] = [record for record in caplog.records if record.getMessage() == "tls.kept"]
            assert str(ca_file) in vars(kept)["fields"]["cause"]
        rotate(ca_file, certificates.stranger.read_text())
        with pytest.raises(httpx.ConnectError, match="not one we trust"):
            await http.request("GET", server.url)


def test_unusable_tls_files_are_named(certificates: Certificates, tmp_path: Path) -> None:
    junk = tmp_path / "junk.pem"
    junk.write_text("no certificate")
    missing = tmp_path / "missing.pem"
    locked = tmp_path / "locked.pem"
    openssl(f"rsa -in {certificates.client_key} -aes128 -passout pass:x -out {locked}")
    cert = certificates.client
    for options, words in (
        (HttpOptions(ca_file=missing), f"authorities in {missing} cannot be used: .*No such file"),
        (HttpOptions(ca_file=junk), f"authorities in {junk} cannot be used: .*PEM"),
        (HttpOptions(client_cert_file=junk), f"certificate in {junk} cannot be used: .*PEM"),
        (HttpOptions(client_cert_file=missing), f"certificate in {missing} cannot be used: .*No such file"),
        (HttpOptions(client_cert_file=cert), f"certificate in {cert} cannot be used"),
        (HttpOptions(client_cert_file=cert, client_key_file=junk), f"with the key in {junk} cannot be used"),
        (HttpOptions(client_cert_file=certificates.stranger, client_key_file=certificates.client_key), "mismatch"),
        (HttpOptions(client_cert_file=cert, client_key_file=locked), "the key is protected by a password"),
    ):
        with pytest.raises(ConfigurationError, match=words):
            tls_context(options)


@contextlib.asynccontextmanager
async def proxying(refuse: bytes | None = None) -> AsyncIterator[Server]:
    """A forward proxy: CONNECT for https, whole URLs for http; `refuse` is its answer to everything."""
    pipes: set[asyncio.Task[None]] = set()

    async def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        request = await read_request(reader)
        server.seen.append(request)
        if refuse is not None:
            writer.write(refuse)
            await writer.drain()
            writer.close()
            return
        connecting = request.line.startswith("CONNECT ")
        host, _, port = (request.target if connecting else request.target.split("/")[2]).partition(":")
        far_reader, far_writer = await asyncio.open_connection(host, int(port))
        if connecting:
            writer.write(b"HTTP/1.1 200 Connected\r\n\r\n")
        else:
            path = "/" + request.target.split("/", 3)[3]
            head = "".join(f"{name}: {value}\r\n" for name, value in request.headers.items())
            far_writer.write(f"{request.line.replace(request.target, path)}\r\n{head}\r\n".encode() + request.body)
        for source, target in ((reader, far_writer), (far_reader, writer)):
            pipes.add(asyncio.ensure_future(pipe(source, target)))

    async def pipe(source: asyncio.StreamReader, target: asyncio.StreamWriter) -> None:
        with contextlib.suppress(ConnectionError):
            while part := await source.read(65536):
                target.write(part)
        target.close()

    listener = await asyncio.start_server(connected, "127.0.0.1", 0)
    server = Server(listener.sockets[0].getsockname()[1], "http")
    try:
        yield server
    finally:
        listener.close()
        await asyncio.gather(*pipes)


async def test_requests_go_through_the_proxy() -> None:
    async with contextlib.AsyncExitStack() as stack:
        server = await stack.enter_async_context(serving(answering(OK)))
        proxy = await stack.enter_async_context(proxying())
        options = HttpOptions(proxy=proxy.url, headers={"X-Team": "data"})
        http = await stack.enter_async_context(client(options))
        assert (await http.request("POST", server.url + "/a%2Fb", content=b"x")).text == "ok"
    assert proxy.seen[0].target == f"{server.url}/a%2Fb"
    assert (server.seen[0].target, server.seen[0].body, server.seen[0].headers["x-team"]) == ("/a%2Fb", b"x", "data")


async def test_tls_goes_through_a_tunnel(certificates: Certificates) -> None:
    async with serving(answering(OK), listening_with(certificates)) as server, proxying() as proxy:
        options = HttpOptions(proxy=f"http://me:{SECRET}@127.0.0.1:{proxy.port}", ca_file=certificates.ca)
        async with client(options) as http:
            answer = await http.request("GET", server.url, headers={"Authorization": "Bearer target"})
    assert answer.text == "ok"
    assert proxy.seen[0].line.startswith(f"CONNECT 127.0.0.1:{server.port} ")
    assert proxy.seen[0].headers["proxy-authorization"].startswith("Basic ")
    assert "authorization" not in proxy.seen[0].headers
    assert server.seen[0].headers["authorization"] == "Bearer target"
    assert "proxy-authorization" not in server.seen[0].headers


async def test_a_proxy_that_is_down_or_refuses_means_that_nothing_was_sent() -> None:
    refusal = b"HTTP/1.1 407 Proxy Authentication Required\r\nContent-Length: 0\r\n\r\n"
    async with proxying(refusal) as proxy:
        for port, words in ((proxy.port, "the proxy answered 407 to CONNECT"), (free_port(), "Cannot connect")):
            options = HttpOptions(proxy=f"http://me:{SECRET}@127.0.0.1:{port}", timeout=5.0)
            async with client(options) as http:
                with pytest.raises(httpx.ConnectError, match=words) as caught:
                    await http.request("POST", "https://127.0.0.1:1/", content=b"x")
            assert SECRET not in f"{caught.value} {caught.value!r} {options!r}"


def test_options_show_no_header() -> None:
    assert SECRET not in repr(HttpOptions(headers={"X-Key": SECRET}))
