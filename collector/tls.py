"""TLS of a client: whom to trust, and what is wrong with a certificate."""

import ssl
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from collector.errors import ConfigurationError
from collector.redaction import redacted
from config.network import no_password


@dataclass(frozen=True, slots=True)
class Trust:
    """The authorities to trust in addition to the system's, and the client certificate."""

    ca_file: Path | None = None
    client_cert_file: Path | None = None
    client_key_file: Path | None = None


def tls_context(trust: Trust) -> ssl.SSLContext | Literal[True]:
    """The system's trust plus `ca_file`, for aiohttp; raises `ConfigurationError` for files that cannot be used. True is the system's
    trust alone, which aiohttp has read: each further reading costs 35 ms and 0.6 MiB.
    """
    if trust.ca_file is None and trust.client_cert_file is None:
        return True
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


_EXPIRED, _OTHER_HOST = 10, {62, 64}
"""OpenSSL's codes of a certificate that is no longer valid, and of one for another host name or address."""


def wrong_certificate(error: Exception, authority: str) -> str:
    """What is wrong with a server's certificate, in OpenSSL's words too, and what to do; `authority` is the key of the
    configuration that names a file with authorities.
    """
    code, message = getattr(error, "verify_code", None), str(getattr(error, "verify_message", "")).rstrip(".")
    said = f" ({redacted(message)})" if message else ""
    if code == _EXPIRED:
        return f"the certificate has expired{said}: renew it on that server (or on the proxy whose authority {authority} has)"
    if code in _OTHER_HOST:
        return f"the certificate is for another host{said}: check the address, and what is behind it"
    return f"the certificate is not one we trust{said}: give its authority in {authority}"
