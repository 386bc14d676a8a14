"""The envelope of every answer: what it says, or which error it is. `success` and the HTTP status decide, nothing else."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from collector.errors import BadAnswer, SourceError
from collector.http import retry_after
from collector.platforms.answers import kind_of_body, parsed, refusal, text, words


class Rejected(BadAnswer):
    """The service understood that it was asked and said no: nothing came of the request."""


@dataclass(frozen=True, slots=True)
class Envelope:
    """A success. Its `product` is left out, for it says nothing: the vendor's own example carries one."""

    payload: Mapping[str, Any]
    template_handle: str | None
    source_id: str | None


def read(status: int, headers: Mapping[str, str], body: bytes, *, tried: str, now: datetime) -> Envelope:
    """The envelope of a success. Raises the `SourceError` that any other answer means; `tried` says what was asked."""
    if not 200 <= status < 300:
        raise _refusal(status, headers, body, tried=tried, now=now)
    return _success(body, tried, status)


def _success(body: bytes, tried: str, status: int) -> Envelope:
    data = parsed(body)
    if not isinstance(data, dict):
        raise BadAnswer(f"{tried}: status {status} with {kind_of_body(body)} in place of a JSON object")
    if data.get("success") is False:
        raise Rejected(f"{tried}: status {status}, but success is false{_because(data)}")
    if data.get("success") is not True:
        raise BadAnswer(f"{tried}: status {status}, but success is neither true nor false{_because(data)}")
    payload = data.get("payload")
    if not isinstance(payload, dict):
        raise BadAnswer(f"{tried}: status {status} with a payload that is not an object")
    return Envelope(payload, text(data.get("template_handle")), text(data.get("source_id")))


def _refusal(status: int, headers: Mapping[str, str], body: bytes, *, tried: str, now: datetime) -> SourceError:
    said = f"{tried}: status {status}{_because(parsed(body))}"
    known = refusal(status, said, unauthorized="the token was refused", after=retry_after(headers, now))
    return known or Rejected(said)


def _because(data: Any) -> str:
    """What an error answer says in words: what is missing, for there is no message in the envelope."""
    if not isinstance(data, dict):
        return ""
    said = [*_missing_product(data.get("product")), *_strings(data.get("payload"))]
    return f" ({words('; '.join(said))})" if said else ""


def _missing_product(product: Any) -> list[str]:
    """A permission or a limit that the account would need, in words."""
    if not isinstance(product, dict):
        return []
    found = []
    permission = product.get("permission")
    if isinstance(permission, dict):
        name, description = text(permission.get("name")), text(permission.get("description"))
        found.append("missing permission " + " ".join(w for w in (name, description and f"({description})") if w))
    if limit := text(product.get("limitation_type")):
        needed, has = product.get("limitation_needed_value"), product.get("limitation_current_value")
        found.append(f"limit {limit}: {needed} needed, {has} allowed")
    return found


def _strings(payload: Any) -> list[str]:
    """The texts of an error's payload, which the vendor calls "context about the error, if any"."""
    if not isinstance(payload, dict):
        return []
    return [f"{key}: {value}" for key, value in payload.items() if isinstance(value, str)][:5]
