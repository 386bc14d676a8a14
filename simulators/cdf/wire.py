"""The vendor's error envelope, opaque cursors, and strict reading of parameters and bodies."""

import base64
import binascii
import json
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from aiohttp import web


class ApiError(Exception):
    """An error answer: `{"error": {code, message, missing?, duplicated?}}`."""

    def __init__(
        self,
        status: int,
        message: str,
        *,
        missing: Sequence[Mapping[str, Any]] = (),
        duplicated: Sequence[Mapping[str, Any]] = (),
    ) -> None:
        super().__init__(message)
        self.status = status
        self.body = envelope(status, message)
        if missing:
            self.body["error"]["missing"] = list(missing)
        if duplicated:
            self.body["error"]["duplicated"] = list(duplicated)


_MESSAGES = {
    401: "Unauthorized",
    403: "Forbidden",
    404: "Not found",
    429: "Rate limit exceeded. Please retry with truncated exponential backoff.",
    503: "Service unavailable. Please retry with truncated exponential backoff.",
}


def envelope(status: int, message: str | None = None) -> dict[str, Any]:
    return {"error": {"code": status, "message": message or _MESSAGES.get(status, "Internal server error")}}


def read_limit(given: Any) -> int:
    """1 to 1000, 100 when not given; query parameters come as text, bodies bring numbers."""
    limit = read_int(given, "limit", 100)
    if not 1 <= limit <= 1000:
        raise ApiError(400, f"limit must be between 1 and 1000, was {limit}")
    return limit


def read_int(given: Any, name: str, default: int) -> int:
    if given is None:
        return default
    if isinstance(given, bool) or not str(given).lstrip("-").isdecimal():
        raise ApiError(400, f"{name} must be an integer, was {given!r}")
    return int(given)


def read_bool(given: Any, name: str, *, default: bool) -> bool:
    words = {"true": True, "false": False}
    if given is None:
        return default
    if str(given).lower() not in words:
        raise ApiError(400, f"{name} must be true or false, was {given!r}")
    return words[str(given).lower()]


async def read_object(request: web.Request) -> dict[str, Any]:
    if request.content_type != "application/json":
        raise ApiError(415, f"Expected application/json, got {request.content_type}")
    try:
        body = await request.json()
    except ValueError as error:
        raise ApiError(400, "Request body is not valid JSON") from error
    if not isinstance(body, dict):
        raise ApiError(400, "Request body must be an object")
    return body


def read_items(body: Mapping[str, Any], keys: Sequence[str], duplicates_status: int) -> list[dict[str, Any]]:
    """`items` of a by-ids request: 1 to 1,000 objects with exactly one of `keys` each, none twice."""
    items = body.get("items")
    if not isinstance(items, list) or not all(isinstance(item, dict) for item in items):
        raise ApiError(400, "items must be a list of objects")
    if not 1 <= len(items) <= 1000:
        raise ApiError(400, f"items must have between 1 and 1000 entries, had {len(items)}")
    cleaned = [{key: item[key] for key in keys if item.get(key) is not None} for item in items]
    if any(len(item) != 1 for item in cleaned):
        raise ApiError(400, f"each item must have exactly one of {', '.join(keys)}")
    counts = Counter(json.dumps(item) for item in cleaned)
    twice = [json.loads(text) for text, count in counts.items() if count > 1]
    if twice:
        raise ApiError(duplicates_status, "Items are duplicated", duplicated=twice)
    return cleaned


def make_cursor(bound_to: Mapping[str, Any], after: Sequence[Any], now: int) -> str:
    text = json.dumps({"b": dict(sorted(bound_to.items())), "a": list(after), "t": now})
    return base64.urlsafe_b64encode(text.encode()).decode().rstrip("=")


def open_cursor(cursor: str, bound_to: Mapping[str, Any], now: int, lifetime: float | None) -> tuple[Any, ...]:
    """The place where the last page ended; 400 for a cursor of other parameters, a dead one and one made up."""
    try:
        data = json.loads(base64.urlsafe_b64decode(cursor + "=" * (-len(cursor) % 4)))
        bound, after, made = data["b"], data["a"], data["t"]
    except (ValueError, KeyError, TypeError, binascii.Error) as error:
        raise ApiError(400, "Invalid cursor") from error
    if bound != dict(sorted(bound_to.items())):
        raise ApiError(400, "Invalid cursor: all other parameters must be the same as in the first request")
    if lifetime is not None and now > made + lifetime * 1000:
        raise ApiError(400, "Invalid cursor: it has expired")
    return tuple(after)
