"""How a server is reached: trust, client certificate, proxy, headers, timeout."""

import re
import ssl
from collections.abc import Mapping
from datetime import timedelta
from pathlib import Path
from typing import Annotated, Any

from pydantic import AfterValidator, Field, ValidationInfo

from config.base import Model, ReadableFile, checked_url, split_url
from config.quantities import Duration
from config.secret import Secret, SecretText

_HEADER = re.compile(r"[A-Za-z0-9!#$%&'*+.^_`|~-]+")
_OURS = frozenset({"host", "content-length", "transfer-encoding", "connection", "content-encoding", "accept-encoding"})


def unusable(error: Exception) -> str:
    """Why a file with certificates or a key cannot be used."""
    if isinstance(error, ssl.SSLError):
        return "the key belongs to another certificate" if error.reason == "KEY_VALUES_MISMATCH" else "it must be PEM"
    return str(error)


def no_password() -> str:
    """OpenSSL would ask for it on the terminal, and wait."""
    raise ValueError("the key is protected by a password")


def _usable_authorities(value: Path) -> Path:
    try:
        ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT).load_verify_locations(cafile=value)
    except OSError as error:
        raise ValueError(f"the certificates in {value.absolute()} cannot be used: {unusable(error)}") from None
    return value


def _usable_key(value: Path | None, info: ValidationInfo) -> Path | None:
    """Of the client certificate, in whose file it is where there is no other."""
    if "client_cert_file" not in info.data:
        return value
    certificate: Path | None = info.data["client_cert_file"]
    if certificate is None:
        if value is not None:
            raise ValueError("a key needs its certificate: set client_cert_file too")
        return value
    try:
        ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT).load_cert_chain(certificate, value, password=no_password)
    except (OSError, ValueError) as error:
        what = f"the certificate in {certificate.absolute()} with the key in {(value or certificate).absolute()}"
        raise ValueError(f"{what} cannot be used: {unusable(error)}") from None
    return value


def _checked_proxy(value: Secret | None) -> Secret | None:
    if value is not None:
        (checked_url if value.origin == "literal" else split_url)(value.get())
    return value


def _checked_headers(value: Mapping[str, Secret]) -> Mapping[str, Secret]:
    for name in value:
        if _HEADER.fullmatch(name) is None:
            raise ValueError(f"{name!r} is not a valid name of an HTTP header")
        if name.lower() in _OURS:
            raise ValueError(f"the header {name} is set by the program itself: remove it")
    if len({name.lower() for name in value}) < len(value):
        raise ValueError("a header is set twice (upper and lower case are the same)")
    return value


class Tls(Model):
    """Trust and client certificate."""

    ca_file: Annotated[ReadableFile, AfterValidator(_usable_authorities)] | None = None
    """PEM file with certificate authorities to trust beside the system's."""
    client_cert_file: ReadableFile | None = None
    """PEM file with the client certificate (and its chain)."""
    client_key_file: Annotated[ReadableFile | None, AfterValidator(_usable_key)] = Field(
        default=None, validate_default=True
    )
    """PEM file with the key of the client certificate, when it is not in the same file."""


class Network(Tls):
    """How an HTTP server is reached."""

    proxy: Annotated[SecretText | None, AfterValidator(_checked_proxy)] = None
    """URL of an HTTP proxy. One with a password must come from an environment variable: `${env:NAME}`."""
    headers: Annotated[dict[str, SecretText], AfterValidator(_checked_headers)] = Field(default_factory=dict)
    """Headers sent with every request; a value can be `${env:NAME}`."""


class OverHttp(Model):
    """A server that is reached over HTTP."""

    timeout: Duration = timedelta(seconds=60)
    """How long one request may take."""
    network: Network = Network()

    def http_options(self) -> dict[str, Any]:
        """Keyword arguments for `collector.http.HttpOptions`, as plain values; secrets are resolved."""
        network = self.network
        return {
            "ca_file": network.ca_file,
            "client_cert_file": network.client_cert_file,
            "client_key_file": network.client_key_file,
            "proxy": network.proxy.get() if network.proxy else None,
            "headers": {name: value.get() for name, value in network.headers.items()},
            "timeout": self.timeout.total_seconds(),
        }
