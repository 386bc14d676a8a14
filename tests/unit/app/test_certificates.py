"""`check` of every kind of source and sink against a server whose certificate is not to be trusted: a plain sentence that says
what is wrong with it and what to do, and never a traceback.
"""

import asyncio
import logging
import ssl
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from collector.http import HttpClient, HttpOptions
from collector.tls import Trust, wrong_certificate
from exporters.sinks.kafka.cluster import Cluster
from exporters.sinks.kafka.sink import KafkaSink
from tests.servers.certificates import Certificates, expired, make_certificates
from tests.unit.app.test_check_answers import PARTS, Finding

HERE, ELSEWHERE = "127.0.0.1", "127.0.0.2"
"""The certificate is for the first of them."""
CASES = {
    "expired": (HERE, "the certificate has expired", "renew it on that server", "if it is ahead"),
    "stranger": (HERE, "the certificate is not one we trust", "give its authority in "),
    "other host": (ELSEWHERE, "the certificate is for another host", "check the address, and what is behind it"),
}


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    return make_certificates(tmp_path_factory.mktemp("certificates"))


@asynccontextmanager
async def _listening(host: str, pem: Path) -> AsyncIterator[str]:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(pem)
    server = await asyncio.start_server(lambda *_: None, host, 0, ssl=context)
    async with server:
        yield f"{host}:{server.sockets[0].getsockname()[1]}"


@asynccontextmanager
async def _case(certificates: Certificates, case: str) -> AsyncIterator[tuple[str, Path]]:
    """The address of a server, and the authority that its client trusts."""
    pem = expired(certificates) if case == "expired" else certificates.server
    async with _listening(CASES[case][0], pem) as address:
        yield address, certificates.stranger if case == "stranger" else certificates.ca


def _words(found: Sequence[Finding]) -> list[str]:
    assert found
    assert not any(each.ok for each in found)
    return [f"{each.detail} => {each.remedy}" for each in found]


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("part", PARTS)
async def test_a_source_or_sink_over_http(
    certificates: Certificates, part: str, case: str, caplog: pytest.LogCaptureFixture
) -> None:
    async with _case(certificates, case) as (address, authority):
        http = HttpClient(HttpOptions(ca_file=authority))
        words = _words(await PARTS[part](f"https://{address}", http))
        await http.close()
    for each in words:
        assert all(words in each for words in CASES[case][1:])
        assert address in each
        assert "network.ca_file" in each
        assert "_ssl.c" not in each
        assert "Error(" not in each
    assert not any(record.exc_info for record in caplog.records)


@pytest.mark.parametrize("case", CASES)
async def test_a_kafka(certificates: Certificates, case: str, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    async with _case(certificates, case) as (address, authority):
        sink = KafkaSink(Cluster((address,), "any", "tests", trust=Trust(authority)), "out")
        words = _words(await sink.check())
        await sink.close(0)
    for each in words:
        assert all(words in each for words in CASES[case][1:])
        assert address in each
        assert "_ssl.c" not in each
    assert not any(record.exc_info for record in caplog.records)


def test_a_clock_that_is_behind_is_no_matter_of_trust() -> None:
    error = ssl.SSLCertVerificationError()
    error.verify_code, error.verify_message = 9, "certificate is not yet valid"
    assert wrong_certificate(error, "network.ca_file") == (
        "the certificate is not valid yet (certificate is not yet valid): set the clock of this machine, if it is behind"
    )
