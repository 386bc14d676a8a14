"""The web configuration file: what it says, what is wrong with it, and what happens when it changes."""

import logging
import ssl
from collections.abc import Callable
from pathlib import Path

import pytest

from config.mistakes import ConfigurationMistakes
from config.web import AccessFile, read_access
from tests.servers.certificates import Certificates

HASH = "$2y$10$X0h1gDsPszWURQaxFh.zoubFi6DXncSjhoQNJgRrnGs7EsimhC7zG"
USERS = f"basic_auth_users: {{alice: {HASH}}}\n"
TLS = "tls_server_config: {cert_file: server.pem, key_file: server.pem%s}\n"
Write = Callable[[str], Path]


@pytest.fixture
def write(tmp_path: Path, certificates: Certificates) -> Write:
    for name in ("server.pem", "ca.crt", "stranger.crt", "stranger.key", "client.key"):
        (tmp_path / name).write_bytes((certificates.ca.parent / name).read_bytes())
    (tmp_path / "junk.pem").write_text("no certificate")

    def act(content: str) -> Path:
        path = tmp_path / "web.yaml"
        path.write_text(content)
        return path

    return act


def changed(path: Path, content: str | bytes) -> None:
    """Like a rotation: another file takes the name."""
    other = path.with_suffix(".new")
    other.write_bytes(content.encode() if isinstance(content, str) else content)
    other.replace(path)


def test_users_headers_and_certificates_beside_the_file(write: Write) -> None:
    headers = "http_server_config: {headers: {X-Frame-Options: sameorigin, Strict-Transport-Security: ''}}\n"
    access = read_access(write(TLS % "" + USERS + headers))
    assert access.users == {"alice": HASH}
    assert access.headers == {"X-Frame-Options": "sameorigin"}, "a blank one is none, as in the toolkit"
    assert access.tls is not None
    assert (access.tls.minimum_version, access.tls.verify_mode) == (ssl.TLSVersion.TLSv1_2, ssl.CERT_NONE)
    assert HASH not in repr(access)


@pytest.mark.parametrize(
    ("kind", "mode"),
    [("VerifyClientCertIfGiven", ssl.CERT_OPTIONAL), ("RequireAndVerifyClientCert", ssl.CERT_REQUIRED)],
)
def test_clients_are_verified(write: Write, kind: str, mode: ssl.VerifyMode) -> None:
    more = f", client_auth_type: {kind}, client_ca_file: ca.crt, min_version: TLS13"
    context = read_access(write(TLS % more)).tls
    assert context is not None
    assert (context.verify_mode, context.minimum_version) == (mode, ssl.TLSVersion.TLSv1_3)
    assert [each["subject"] for each in context.get_ca_certs()] == [((("commonName", "ca"),),)]


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("", "web.yaml: the file is empty; see docs/http.md for its content"),
        ("tls_server_confg: {}", "web.yaml:1: tls_server_confg: unknown key; did you mean tls_server_config?"),
        (TLS % ", cert_fil: x", "web.yaml:1: tls_server_config.cert_fil: unknown key; did you mean cert_file?"),
        (TLS % ", cipher_suites: [x]", "unknown key; known keys are cert_file, client_auth_type, client_ca_file"),
        ("tls_server_config: {cert_file: server.pem}", "tls_server_config.key_file: is missing"),
        ("tls_server_config: {cert_file: none.pem, key_file: server.pem}", "none.pem cannot be read: No such file"),
        ("tls_server_config: {cert_file: junk.pem, key_file: server.pem}", "junk.pem with the key in"),
        ("tls_server_config: {cert_file: junk.pem, key_file: server.pem}", "cannot be used: it must be PEM"),
        ("tls_server_config: {cert_file: server.pem, key_file: client.key}", "the key belongs to another certificate"),
        (TLS % ", min_version: TLS10", "tls_server_config.min_version: must be one of TLS12, TLS13, not 'TLS10'"),
        (TLS % ", min_version: TLS13, max_version: TLS12", "min_version is above max_version"),
        (TLS % ", client_auth_type: RequireAnyClientCert", "RequireAnyClientCert accepts any certificate"),
        (TLS % ", client_auth_type: RequireAndVerifyClientCert", "RequireAndVerifyClientCert needs client_ca_file"),
        (TLS % ", client_ca_file: ca.crt", "client_ca_file has no effect without client_auth_type"),
        (
            TLS % ", client_ca_file: junk.pem, client_auth_type: RequireAndVerifyClientCert",
            "the certificate authorities in",
        ),
        ("basic_auth_users: {alice: geheim}", "basic_auth_users.alice: is not a bcrypt hash ($2y$...)"),
        ("basic_auth_users: {alice: 4711}", "basic_auth_users.alice: is not a bcrypt hash ($2y$...)"),
        (USERS.replace("$10$", "$17$"), "the hash has the cost 17; it may be from 04 to 16"),
        (USERS.replace("alice", "'a:b'"), "'a:b' is not a valid user name"),
        ("basic_auth_users:", "basic_auth_users: must be a mapping (key: value)"),
        ("http_server_config: {http2: false}", "http_server_config.http2: unknown key; known keys are headers"),
        (
            "http_server_config: {headers: {X-Powered-By: x}}",
            "the header X-Powered-By cannot be set; possible are Content",
        ),
        ("http_server_config: {headers: {X-Frame-Options: maybe}}", "must be deny or sameorigin, not 'maybe'"),
        ('http_server_config: {headers: {X-XSS-Protection: "a\\r\\nb"}}', "contains a line break"),
    ],
)
def test_what_is_wrong_is_said_with_its_place(write: Write, content: str, words: str) -> None:
    with pytest.raises(ConfigurationMistakes) as caught:
        read_access(write(content))
    assert words in str(caught.value)
    assert not {"geheim", "4711"} & set(str(caught.value).split())


def test_all_mistakes_are_reported_at_once(write: Write) -> None:
    with pytest.raises(ConfigurationMistakes) as caught:
        read_access(write("tls_server_config:\n  cert_file: none.pem\nbasic_auth_users:\n  alice: x\n"))
    assert [(mistake.line, mistake.key) for mistake in caught.value.mistakes] == [
        (1, "tls_server_config.key_file"),
        (2, "tls_server_config.cert_file"),
        (4, "basic_auth_users.alice"),
    ]


def test_a_changed_file_is_read_again(write: Write) -> None:
    path = write(USERS)
    file = AccessFile(path)
    before = file.get()
    assert file.get() is before, "unchanged, it is not read"
    changed(path, USERS.replace("alice", "bob"))
    assert list(file.get().users) == ["bob"]


def test_a_new_certificate_is_read_with_its_key_only(write: Write, caplog: pytest.LogCaptureFixture) -> None:
    path = write("tls_server_config: {cert_file: a.crt, key_file: a.key}")
    folder = path.parent
    changed(folder / "a.crt", (folder / "server.pem").read_bytes())
    changed(folder / "a.key", (folder / "server.pem").read_bytes())
    file = AccessFile(path)
    before = file.get()
    changed(folder / "a.crt", (folder / "stranger.crt").read_bytes())
    with caplog.at_level(logging.WARNING):
        assert file.get() is before, "half of a rotation"
        assert file.get() is before
    assert [record.getMessage().partition(": ")[0] for record in caplog.records] == [
        "the pages keep their former configuration"
    ], "once, not at every request"
    changed(folder / "a.key", (folder / "stranger.key").read_bytes())
    assert file.get() is not before


@pytest.mark.parametrize("broken", ["", "basic_auth_users: {alice: x}", USERS + TLS % ""])
def test_a_change_for_the_worse_changes_nothing(write: Write, broken: str, caplog: pytest.LogCaptureFixture) -> None:
    path = write(USERS)
    file = AccessFile(path)
    changed(path, broken)
    with caplog.at_level(logging.WARNING):
        assert list(file.get().users) == ["alice"]
    assert len(caplog.records) == 1
    path.unlink()
    assert list(file.get().users) == ["alice"]
    changed(path, USERS.replace("alice", "bob"))
    assert list(file.get().users) == ["bob"]
