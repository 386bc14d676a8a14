"""The web configuration file: TLS and passwords of the pages, in the format of Prometheus' exporter toolkit.

Its keys and defaults are those of the toolkit (https://github.com/prometheus/exporter-toolkit, docs/web-configuration.md),
and relative paths start at the file's own folder, as there. Keys that this program does not use are refused.
"""

import logging
import re
import ssl
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BeforeValidator, Field, ValidationError, ValidationInfo, model_validator

from config.base import Model, ReadableFile
from config.explanations import explain
from config.mistakes import ConfigurationMistakes, Mistake, dotted
from config.network import no_password, unusable
from config.secret import Stamp, stamp
from config.yaml_document import read

logger = logging.getLogger(__name__)

_HASH = re.compile(r"\$2[aby]\$(\d\d)\$[./A-Za-z0-9]{53}")
_MOST_COST = 16
"""Four seconds for each invalid password; every step more doubles it."""
_HEADERS: Mapping[str, tuple[str, ...]] = {
    "Content-Security-Policy": (),
    "Strict-Transport-Security": (),
    "X-Content-Type-Options": ("nosniff",),
    "X-Frame-Options": ("deny", "sameorigin"),
    "X-XSS-Protection": (),
}
_VERIFY = {
    "NoClientCert": ssl.CERT_NONE,
    "VerifyClientCertIfGiven": ssl.CERT_OPTIONAL,
    "RequireAndVerifyClientCert": ssl.CERT_REQUIRED,
}
_VERSIONS = {"TLS12": ssl.TLSVersion.TLSv1_2, "TLS13": ssl.TLSVersion.TLSv1_3}


def _beside(value: Any, info: ValidationInfo) -> Any:
    return (info.context or Path()) / value if isinstance(value, str) and value.strip() else value


def _checks(value: Any) -> Any:
    if value in {"RequestClientCert", "RequireAnyClientCert"}:
        raise ValueError(
            f"{value} accepts any certificate and is not supported: use RequireAndVerifyClientCert, VerifyClientCertIfGiven or NoClientCert"
        )
    return value


def _hash(value: Any) -> str:
    """The message never shows the value: it may be a password that was not hashed."""
    found = _HASH.fullmatch(value) if isinstance(value, str) else None
    if found is None:
        raise ValueError("is not a bcrypt hash ($2y$...); make one with htpasswd -nBC 10 USER")
    if not 4 <= int(found[1]) <= _MOST_COST:
        raise ValueError(f"the hash has the cost {found[1]}; it may be from 04 to {_MOST_COST}")
    return str(value)


def _user_names(value: Mapping[str, str]) -> Mapping[str, str]:
    for name in value:
        if not name or ":" in name or not name.isprintable():
            raise ValueError(
                f"{name!r} is not a valid user name: it must not be empty or contain a colon or control characters"
            )
    return value


def _known_headers(value: Mapping[str, str]) -> Mapping[str, str]:
    for name, text in value.items():
        if name not in _HEADERS:
            raise ValueError(f"the header {name} cannot be set; possible are {', '.join(_HEADERS)}")
        if text and _HEADERS[name] and text not in _HEADERS[name]:
            raise ValueError(f"{name} must be {' or '.join(_HEADERS[name])}, not {text!r}")
        if not text.isprintable():
            raise ValueError(f"{name} contains a line break or another control character")
    return value


_File = Annotated[ReadableFile, BeforeValidator(_beside)]
_Version = Literal["TLS12", "TLS13"]


class TlsServerConfig(Model):
    cert_file: _File
    key_file: _File
    client_auth_type: Annotated[
        Literal["NoClientCert", "VerifyClientCertIfGiven", "RequireAndVerifyClientCert"], BeforeValidator(_checks)
    ] = "NoClientCert"
    client_ca_file: _File | None = None
    min_version: _Version = "TLS12"
    max_version: _Version = "TLS13"

    @model_validator(mode="after")
    def _fits(self) -> "TlsServerConfig":
        verifies = self.client_auth_type != "NoClientCert"
        if verifies and self.client_ca_file is None:
            raise ValueError(f"client_auth_type: {self.client_auth_type} needs client_ca_file")
        if self.client_ca_file is not None and not verifies:
            raise ValueError(
                "client_ca_file has no effect without client_auth_type: set client_auth_type: RequireAndVerifyClientCert"
            )
        if self.min_version > self.max_version:
            raise ValueError("min_version is above max_version")
        return self


class HttpServerConfig(Model):
    headers: Annotated[dict[str, str], AfterValidator(_known_headers)] = Field(default_factory=dict)


class WebConfig(Model):
    """The file, parsed."""

    tls_server_config: TlsServerConfig | None = None
    http_server_config: HttpServerConfig = HttpServerConfig()
    basic_auth_users: Annotated[dict[str, Annotated[str, BeforeValidator(_hash)]], AfterValidator(_user_names)] = Field(
        default_factory=dict, repr=False
    )


@dataclass(frozen=True, slots=True)
class Access:
    """What follows from the file: who may read the pages, by name and bcrypt hash (empty: everybody), the headers that
    all answers carry, and the context of TLS (None: plain HTTP). `stamps` are of the files that it was made from.
    """

    users: Mapping[str, str] = field(default_factory=dict, repr=False)
    headers: Mapping[str, str] = field(default_factory=dict)
    tls: ssl.SSLContext | None = None
    stamps: Mapping[Path, Stamp] = field(default_factory=dict)


class AccessFile:
    """`get()` returns the present content of the file. It and the certificates are read again when one of them changed, so that they
    can rotate under a running program. Invalid content is logged once, and the last valid state stays. So does TLS
    itself: to turn it on or off takes a restart.
    """

    def __init__(self, path: Path) -> None:
        """Raises `ConfigurationMistakes`."""
        self._path = path
        self._access = read_access(path)
        self._trouble = ""

    def get(self) -> Access:
        stamps = self._access.stamps
        if stamps != {path: stamp(path) for path in stamps}:
            self._renew()
        return self._access

    def _renew(self) -> None:
        try:
            access = self._changed()
        except ConfigurationMistakes as error:
            if str(error) != self._trouble:
                logger.warning("the pages keep their former configuration: %s", error)
            self._trouble = str(error)
        else:
            self._access, self._trouble = access, ""
            logger.info("the web configuration was read again from %s", self._path)

    def _changed(self) -> Access:
        access = read_access(self._path)
        if (access.tls is None) is not (self._access.tls is None):
            problem = "was added or removed, which needs a restart"
            raise ConfigurationMistakes([Mistake(str(self._path), "tls_server_config", problem)])
        return access


def read_access(path: Path) -> Access:
    """Raises `ConfigurationMistakes` with all mistakes, also certificates that cannot be used."""
    stamps = {path: stamp(path)}
    hint, named_by = "see docs/http.md for its content", "correct http.web_config_file"
    document = read(path, hint=hint, named_by=named_by)
    if document.mistakes:
        raise ConfigurationMistakes(document.mistakes)
    try:
        config = WebConfig.model_validate(document.values, context=path.parent)
        tls = config.tls_server_config
        stamps |= {file: stamp(file) for file in _files(tls)}
        headers = {name: text for name, text in config.http_server_config.headers.items() if text}
        return Access(config.basic_auth_users, headers, _context(tls) if tls else None, stamps)
    except ValidationError as error:
        found = [explain(each, WebConfig) for each in error.errors()]
        mistakes = [Mistake(document.file, dotted(at), words, near, document.line(at)) for at, words, near in found]
        raise ConfigurationMistakes(mistakes) from None
    except ValueError as error:
        key = "tls_server_config"
        raise ConfigurationMistakes([Mistake(document.file, key, str(error), line=document.line((key,)))]) from None


def _files(tls: TlsServerConfig | None) -> list[Path]:
    return [file for file in (tls.cert_file, tls.key_file, tls.client_ca_file) if file] if tls else []


def _context(tls: TlsServerConfig) -> ssl.SSLContext:
    """Raises `ValueError` for a file that cannot be used."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version, context.maximum_version = _VERSIONS[tls.min_version], _VERSIONS[tls.max_version]
    context.set_alpn_protocols(["http/1.1"])
    try:
        context.load_cert_chain(tls.cert_file, tls.key_file, password=no_password)
    except (OSError, ValueError) as error:
        what = f"the certificate in {tls.cert_file} with the key in {tls.key_file}"
        raise ValueError(f"{what} cannot be used: {unusable(error)}") from None
    context.verify_mode = _VERIFY[tls.client_auth_type]
    if tls.client_ca_file is not None:
        try:
            context.load_verify_locations(cafile=tls.client_ca_file)
        except (OSError, ValueError) as error:
            what = f"the certificate authorities in {tls.client_ca_file}"
            raise ValueError(f"{what} cannot be used: {unusable(error)}") from None
    return context
