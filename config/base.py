"""The base of all models, and the types of texts that appear in several."""

import re
from ipaddress import ip_address
from pathlib import Path
from typing import Annotated, Any
from urllib.parse import SplitResult, urlsplit

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, WithJsonSchema

# Marquez 0.51 allows more in its API, but rewrites `=`, `;`, `,`, `%` and all else to `_` in events, and its graph
# fails on a colon that is not followed by `//` or a digit.
NAMESPACE = re.compile(r"^[A-Za-z][A-Za-z0-9_\-.@+/]*(:(//|\d)[A-Za-z0-9_\-.@+/]*)*$")
_NAMESPACE_PART = re.compile(r"[A-Za-z0-9_\-.@+/]+")
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,62}")


class Model(BaseModel):
    """A part of the configuration: unknown keys are refused, values never change. The schema has the text below each key."""

    model_config = ConfigDict(extra="forbid", frozen=True, hide_input_in_errors=True)


def checked_namespace(value: str) -> str:
    if len(value) > 255:
        raise ValueError(f"has {len(value)} characters; Marquez finds only names of up to 255")
    if NAMESPACE.fullmatch(value) is None:
        raise ValueError(
            f"Marquez would rewrite or not find {value!r}: use letters, digits and _-.@+/, begin with a letter, "
            "and follow a colon by // or a digit, as in cdf://api.cognitedata.com/my-project"
        )
    return value


def checked_url(value: str) -> str:
    """An http(s) URL without credentials, query or fragment; a slash at the end is taken off."""
    parts = split_url(no_reference(value))
    if parts.username is not None or parts.password is not None:
        raise ValueError("contains a credential: remove it from the URL and use the key for secrets beside it")
    if parts.query or parts.fragment:
        raise ValueError("must end with the path: a query or fragment could contain a secret")
    return value.rstrip("/")


def split_url(value: str) -> SplitResult:
    """`ValueError` texts do not repeat the URL, since it may hold a password."""
    try:
        parts = urlsplit(value)
        _ = parts.port
        _ = (parts.hostname or "").encode("idna")  # refuses empty and overlong labels
    except ValueError:
        raise ValueError("is not a valid URL: the host or port cannot be read") from None
    if parts.scheme not in {"http", "https"} or not parts.hostname or re.search(r"[\s\x00-\x20]", value):
        raise ValueError("is not a valid URL: write http:// or https:// and the host")
    return parts


def authority(url: str) -> str:
    """host[:port] of a checked URL, in lower case."""
    parts = urlsplit(url)
    host = f"[{parts.hostname}]" if parts.hostname and ":" in parts.hostname else parts.hostname or ""
    return f"{host}:{parts.port}" if parts.port is not None else host


def address(url: str) -> str:
    """A checked URL in the form for comparisons: host in lower case, without the default port of its scheme."""
    parts = urlsplit(url)
    port = {"http": ":80", "https": ":443"}[parts.scheme]
    return f"{parts.scheme}://{authority(url).removesuffix(port)}{parts.path.rstrip('/')}"


def is_loopback(host: str) -> bool:
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _checked_name(value: str) -> str:
    if _NAME.fullmatch(value) is None:
        raise ValueError(
            f"{value!r} is not a valid name; use up to 63 letters, digits, _, - and ., and begin with a letter or digit"
        )
    return value


def _checked_part(value: str) -> str:
    if _NAMESPACE_PART.fullmatch(value) is None:
        raise ValueError(f"{value!r} becomes part of the namespace: use only letters, digits and _-.@+/")
    return value


def _number_as_text(value: Any) -> Any:
    return str(value) if isinstance(value, int) and not isinstance(value, bool) else value


def no_switch(value: Any) -> Any:
    """Refuses booleans: pydantic would accept `true` as 1."""
    if isinstance(value, bool):
        raise ValueError(f"must be a number, not {str(value).lower()}")  # noqa: TRY004 -- pydantic collects ValueError
    return value


def _readable_file(value: Path) -> Path:
    try:
        with value.open("rb"):
            return value
    except OSError as error:
        raise ValueError(f"{value.absolute()} cannot be read: {error.strerror}") from None


def no_reference(value: str) -> str:
    if "${" in value:
        raise ValueError(
            "references such as ${env:NAME} are for secrets only; set this key with LINEAGE_COLLECTOR__..."
        )
    return value


def _no_empty(value: str) -> str:
    if not value.strip():
        raise ValueError("is empty")
    return no_reference(value)


def _checked_path(value: Any) -> Any:
    if isinstance(value, str) and "\0" in value:
        raise ValueError("holds a NUL character, which no path of a file can")
    return _no_empty(value) if isinstance(value, str) else value


Count = Annotated[int, Field(ge=1), BeforeValidator(no_switch)]
Text = Annotated[str, AfterValidator(_no_empty), WithJsonSchema({"type": "string", "minLength": 1})]
Url = Annotated[
    str, AfterValidator(checked_url), WithJsonSchema({"type": "string", "pattern": r"^https?://[^@?#\s$]+$"})
]
Name = Annotated[
    str, AfterValidator(_checked_name), WithJsonSchema({"type": "string", "pattern": f"^{_NAME.pattern}$"})
]
Namespace = Annotated[
    str,
    AfterValidator(checked_namespace),
    WithJsonSchema({"type": "string", "maxLength": 255, "pattern": NAMESPACE.pattern}),
]
NamespacePart = Annotated[
    str,
    BeforeValidator(_number_as_text),
    AfterValidator(_checked_part),
    WithJsonSchema({"anyOf": [{"type": "string", "pattern": f"^{_NAMESPACE_PART.pattern}$"}, {"type": "integer"}]}),
]
FilePath = Annotated[Path, BeforeValidator(_checked_path)]
ReadableFile = Annotated[FilePath, AfterValidator(_readable_file)]
