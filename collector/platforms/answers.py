"""What the adapters have in common in asking a vendor and in reading its answers, without trust and without secrets."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

import httpx
import orjson

from collector import lenient_json
from collector.errors import AuthFailed, BadAnswer, NotFound, SourceError, Throttled, Unavailable
from collector.http import AnswerTooLarge
from collector.names import clean
from collector.redaction import capped, redacted

WAIT = "wait a minute and try again; if it stays so, lower requests_per_minute of this source"
"""What to do where the platform, or our own limit, asks for patience."""
REACH = "check base_url, network.proxy and network.ca_file of this source, and whether the platform is up"
"""What to do where no answer came, or only an error of the server."""
Remedies = Mapping[type[SourceError], str]
"""What to do about the errors of a kind; of several that fit, the first counts."""
LONGEST_WORDS = 300
parsed = lenient_json.parsed


def remedy(error: SourceError, known: Remedies, otherwise: str = REACH) -> str:
    """What to do about an error; what is not `known` of a limit or an outage is the same with every vendor."""
    with_defaults: Remedies = {**known, Throttled: known.get(Throttled, WAIT), Unavailable: REACH}
    return next((said for kind, said in with_defaults.items() if isinstance(error, kind)), otherwise)


class Forbidden(AuthFailed):
    """403: the token is good, but not for this; or what was asked for is somebody else's."""


class TooLarge(BadAnswer):
    """An answer that was not read to its end; one about fewer things may be."""


@contextmanager
def asking(tried: str) -> Iterator[None]:
    """Around one request: raises `Unavailable` where no answer came, whose `sent` says whether it may have had an
    effect, and `TooLarge` for one that is too large to be read.
    """
    try:
        yield
    except AnswerTooLarge as error:
        raise TooLarge(f"{tried}: {error}, so it was not read; check base_url, or what is behind it") from error
    except httpx.ConnectError as error:
        raise Unavailable(f"{tried}: no connection: {_named(error)}") from error
    except httpx.TransportError as error:
        raise Unavailable(f"{tried}: no answer: {_named(error)}", sent=True) from error


def refusal(status: int, said: str, *, unauthorized: str, after: float | None) -> SourceError | None:
    """What these statuses mean with every vendor, None for any other. `said` is what was tried and what came back,
    `unauthorized` what a 401 means, `after` how many seconds a 429 asks for.
    """
    if status == 401:
        return AuthFailed(f"{said}; {unauthorized}")
    if status == 403:
        return Forbidden(said)
    if status in {404, 410}:
        return NotFound(said)
    if status == 429:
        return Throttled(said, after=after)
    return Unavailable(said, sent=True) if status >= 500 else None


def kind_of_body(content: bytes) -> str:
    """What an answer holds that should have been other JSON, in words for people."""
    body = content.removeprefix(b"\xef\xbb\xbf").strip()
    if not body:
        return "an empty body"
    if body.startswith(b"<"):
        return "XML" if body.startswith(b"<?xml") else "an HTML page"
    value = parsed(content)
    if value is not None or body == b"null":
        return _JSON_KINDS.get(type(value), f"JSON {body.decode(errors='replace')}")
    if body[:1] in {b"{", b"["}:
        return "JSON that is cut off or broken"
    return "text that is not JSON" if _is_text(body) else "bytes that are not text"


_JSON_KINDS = {
    dict: "a JSON object",
    list: "a JSON list",
    str: "a JSON text",
    int: "a JSON number",
    float: "a JSON number",
}


def _is_text(body: bytes) -> bool:
    try:
        return "\0" not in body.decode()
    except UnicodeDecodeError:
        return False


def words(text: str, limit: int = LONGEST_WORDS) -> str:
    """A text of the vendor's that is fit for an error message or a facet."""
    return capped(redacted(clean(text)), limit)


def text(value: Any) -> str | None:
    """A text that is not empty, None for anything else."""
    return value if isinstance(value, str) and value else None


def prose(value: Any) -> str | None:
    """What people want to read whatever it is, such as an error: a text as it is, other JSON as its text."""
    if value is None or isinstance(value, str):
        return value or None
    try:
        return orjson.dumps(value).decode()
    except TypeError:
        return f"a value of the wrong kind ({type(value).__name__})"


def integer(value: Any) -> int | None:
    """A whole number of at most 64 bits that is not negative, also where it came as a float or as digits."""
    if isinstance(value, bool):
        return None
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    if isinstance(value, str) and value.isascii() and value.isdecimal() and len(value) < 20:
        value = int(value)
    return value if isinstance(value, int) and 0 <= value < 2**63 else None


def uuid(value: Any) -> str | None:
    """The usual form of a UUID, None for anything else."""
    try:
        return str(UUID(value)) if isinstance(value, str) else None
    except ValueError:
        return None


def moment(value: Any) -> datetime | None:
    """A time between 2001 and 2200, None for anything else: ISO 8601, without an offset in UTC; or epoch seconds or
    milliseconds, which cannot be mistaken for each other in these years.
    """
    number = integer(value)
    try:
        if number is not None and number >= _EARLIEST_SECOND:
            read = datetime.fromtimestamp(number / 1000 if number > _LATEST_SECOND else number, UTC)
        else:
            read = datetime.fromisoformat(value)
            read = read.replace(tzinfo=UTC) if read.tzinfo is None else read.astimezone(UTC)
    except (TypeError, ValueError, OverflowError, OSError):
        return None
    return read if _EARLIEST <= read < _LATEST else None


_EARLIEST, _LATEST = datetime(2001, 1, 1, tzinfo=UTC), datetime(2200, 1, 1, tzinfo=UTC)
_EARLIEST_SECOND, _LATEST_SECOND = _EARLIEST.timestamp(), _LATEST.timestamp()


def _named(error: Exception) -> str:
    return str(error) or type(error).__name__
