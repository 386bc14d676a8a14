"""The envelope of every answer: what it says, or which error it is. `success` and the HTTP status decide, nothing else."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

import orjson

from collector.errors import AuthFailed, BadAnswer, NotFound, SourceError, Throttled, Unavailable
from collector.http import retry_after
from collector.lineage.redaction import capped, redacted
from collector.names import clean

_LONGEST_WORDS = 300


class Forbidden(AuthFailed):
    """403: the token is good, but not for this. It may also be how somebody else's or a vanished run is answered."""


class Rejected(BadAnswer):
    """The service understood that it was asked and said no: nothing came of the request."""


@dataclass(frozen=True, slots=True)
class Envelope:
    """A success. `product` on a success says nothing: the vendor's own example carries one."""

    payload: Mapping[str, Any]
    template_handle: str | None
    source_id: str | None
    product: Any


def read(status: int, headers: Mapping[str, str], body: bytes, *, tried: str, now: datetime) -> Envelope:
    """The envelope of a success. Raises the `SourceError` that any other answer means; `tried` says what was asked."""
    if not 200 <= status < 300:
        raise _refusal(status, headers, body, tried=tried, now=now)
    return _success(_parsed(body), tried, status)


def _success(data: Any, tried: str, status: int) -> Envelope:
    if not isinstance(data, dict):
        raise BadAnswer(f"{tried}: status {status} with a body that is no JSON object")
    if data.get("success") is not True:
        raise Rejected(f"{tried}: status {status}, but success is not true{_because(data)}")
    payload = data.get("payload")
    if not isinstance(payload, dict):
        raise BadAnswer(f"{tried}: status {status} with a payload that is no object")
    return Envelope(payload, text(data, "template_handle"), text(data, "source_id"), data.get("product"))


def _refusal(status: int, headers: Mapping[str, str], body: bytes, *, tried: str, now: datetime) -> SourceError:
    said = f"{tried}: status {status}{_because(_parsed(body))}"
    if status == 401:
        return AuthFailed(f"{said}; the token was refused")
    if status == 403:
        return Forbidden(said)
    if status in {404, 410}:
        return NotFound(said)
    if status == 429:
        return Throttled(said, after=retry_after(headers, now))
    if status >= 500:
        return Unavailable(said, sent=True)
    return Rejected(said)


def _parsed(body: bytes) -> Any:
    try:
        return orjson.loads(body)
    except ValueError:
        return None


def _because(data: Any) -> str:
    """What an error answer says in words: what is missing, for there is no message in the envelope."""
    if not isinstance(data, dict):
        return ""
    words = [*missing_product(data.get("product")), *_strings(data.get("payload"))]
    return f" ({capped(redacted(clean('; '.join(words))), _LONGEST_WORDS)})" if words else ""


def missing_product(product: Any) -> list[str]:
    """A permission or a limit that the account would need, in words."""
    if not isinstance(product, dict):
        return []
    words = []
    permission = product.get("permission")
    if isinstance(permission, dict):
        name, description = text(permission, "name"), text(permission, "description")
        words.append("missing permission " + " ".join(w for w in (name, description and f"({description})") if w))
    if limit := text(product, "limitation_type"):
        needed, has = product.get("limitation_needed_value"), product.get("limitation_current_value")
        words.append(f"limit {limit}: {needed} needed, {has} allowed")
    return words


def _strings(payload: Any) -> list[str]:
    """The texts of an error's payload, which the vendor calls "context about the error, if any"."""
    if not isinstance(payload, dict):
        return []
    return [f"{key}: {value}" for key, value in payload.items() if isinstance(value, str)][:5]


def text(data: Mapping[str, Any], key: str) -> str | None:
    """A string that says something, None for anything else."""
    value = data.get(key)
    return value if isinstance(value, str) and value else None


def number(data: Mapping[str, Any], key: str) -> int | None:
    value = data.get(key)
    return value if isinstance(value, int) and not isinstance(value, bool) else None


def moment(data: Mapping[str, Any], key: str) -> datetime | None:
    """ISO 8601; a time without an offset is taken as UTC. None where it cannot be read."""
    try:
        read = datetime.fromisoformat(data.get(key) or "")
        return read.replace(tzinfo=UTC) if read.tzinfo is None else read.astimezone(UTC)
    except (TypeError, ValueError, OverflowError):
        return None


def uuid(value: str | None) -> str | None:
    """The usual form of a UUID, None for anything else: what is asked for by path must not hold anything else."""
    try:
        return str(UUID(value)) if value else None
    except ValueError:
        return None
