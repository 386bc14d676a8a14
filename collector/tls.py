"""TLS of a client: whom to trust, and what is wrong with a certificate."""

import logging
import ssl
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Self

from collector.errors import ConfigurationError
from collector.logs import fields
from collector.redaction import redacted
from config.network import no_password
from config.secret import Stamp, stamp

log = logging.getLogger("lineage.tls")


@dataclass(frozen=True, slots=True)
class Trust:
    """The authorities to trust in addition to the system's, and the client certificate."""

    ca_file: Path | None = None
    client_cert_file: Path | None = None
    client_key_file: Path | None = None


class RotatingContext(ssl.SSLContext):
    """Gives each new connection the current context; asyncio uses nothing else of it."""

    def __new__(cls, _: Callable[[], ssl.SSLContext], protocol: int = ssl.PROTOCOL_TLS_SERVER) -> Self:
        return super().__new__(cls, protocol)

    def __init__(self, current: Callable[[], ssl.SSLContext], protocol: int = ssl.PROTOCOL_TLS_SERVER) -> None:
        self._current = current

    def wrap_bio(self, *args: Any, **kwargs: Any) -> ssl.SSLObject:
        return self._current().wrap_bio(*args, **kwargs)


def tls_context(trust: Trust) -> ssl.SSLContext | Literal[True]:
    """The system's trust plus `ca_file`, for aiohttp; raises `ConfigurationError` for files that cannot be used. True is the system's
    trust alone, which aiohttp has read: each further reading costs 35 ms and 0.6 MiB.

    The files may rotate: a new connection is made with what is in them then.
    """
    if trust.ca_file is None and trust.client_cert_file is None:
        return True
    return RotatingContext(_Files(trust).context, ssl.PROTOCOL_TLS_CLIENT)


class _Files:
    """Files that may change. Those that cannot be used are logged once, and the former ones go on."""

    def __init__(self, trust: Trust) -> None:
        self._trust = trust
        self._stamps, self._context = self._present(), _context(trust)

    def context(self) -> ssl.SSLContext:
        present = self._present()
        if present != self._stamps:
            self._stamps = present
            paths = ", ".join(str(path) for path in present)
            try:
                self._context = _context(self._trust)
            except ConfigurationError as error:
                log.warning("tls.kept", extra=fields(path=paths, cause=str(error)))
            else:
                log.info("tls.renewed", extra=fields(path=paths))
        return self._context

    def _present(self) -> dict[Path, Stamp]:
        trust = self._trust
        return {path: stamp(path) for path in (trust.ca_file, trust.client_cert_file, trust.client_key_file) if path}


def _context(trust: Trust) -> ssl.SSLContext:
    context = ssl.create_default_context()
    if trust.ca_file is not None:
        try:
            context.load_verify_locations(cafile=trust.ca_file)
        except OSError as error:
            raise _unusable(f"the certificate authorities in {trust.ca_file}", error) from error
    if trust.client_cert_file is not None:
        try:
            context.load_cert_chain(trust.client_cert_file, trust.client_key_file, password=no_password)
        except (OSError, ValueError) as error:
            key = f" with the key in {trust.client_key_file}" if trust.client_key_file else ""
            raise _unusable(f"the client certificate in {trust.client_cert_file}{key}", error) from error
    return context


def _unusable(what: str, error: Exception) -> ConfigurationError:
    hint = "; it must be PEM" if isinstance(error, ssl.SSLError) else ""
    return ConfigurationError([f"TLS: {what} cannot be used: {error}{hint}"])


_NOT_YET_VALID, _EXPIRED, _OTHER_HOST = 9, 10, {62, 64}
"""OpenSSL's codes of a certificate by its time, and of one for another host name or address."""


def wrong_certificate(error: Exception, authority: str) -> str:
    """What is wrong with a server's certificate, in OpenSSL's words too, and what to do; `authority` is the key of the
    configuration that names a file with authorities.
    """
    code, message = getattr(error, "verify_code", None), str(getattr(error, "verify_message", "")).rstrip(".")
    said = f" ({redacted(message)})" if message else ""
    if code == _NOT_YET_VALID:
        return f"the certificate is not valid yet{said}: set the clock of this machine, if it is behind"
    if code == _EXPIRED:
        renew = f"renew it on that server (or on the proxy whose authority {authority} has)"
        return f"the certificate has expired{said}: {renew}, or set the clock of this machine, if it is ahead"
    if code in _OTHER_HOST:
        return f"the certificate is for another host{said}: check the address, and what is behind it"
    return f"the certificate is not one we trust{said}: give its authority in {authority}"
