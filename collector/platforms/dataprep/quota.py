"""The waits that the platform asks for when a quota is used up."""

import re
from collections.abc import Iterable, Mapping
from datetime import datetime

LONGEST_ASKED = 120.0
"""Seconds. The platform's windows last a minute, so more is a misreading."""
MILLISECONDS_FROM = 10**11
"""A reset time from here on is in milliseconds; the vendor's table says seconds, its examples milliseconds."""

_SCOPES = ("user", "workspace")
_NUMBER = re.compile(r"[0-9]{1,19}(\.[0-9]{1,9})?")


def asked_wait(headers: Mapping[str, str], now: datetime) -> float | None:
    """Seconds that a 429 asks for: `x-retry-after`, else the reset times; between 0 and two minutes."""
    told = _float(headers.get("x-retry-after"))
    if told is None:
        told = _float(headers.get("retry-after"))
    if told is None:
        told = _until_reset(headers, _SCOPES, now)
    return None if told is None else min(max(told, 0.0), LONGEST_ASKED)


def used_up(headers: Mapping[str, str], now: datetime) -> float:
    """Seconds for which an answer of any status leaves nothing of a quota; 0 where something remains."""
    scopes = [scope for scope in _SCOPES if _float(headers.get(f"x-rate-limit-{scope}-remaining")) == 0]
    return min(max(_until_reset(headers, scopes, now) or 0.0, 0.0), LONGEST_ASKED)


def _until_reset(headers: Mapping[str, str], scopes: Iterable[str], now: datetime) -> float | None:
    resets = [_reset(headers.get(f"x-rate-limit-{scope}-reset")) for scope in scopes]
    return max((reset - now.timestamp() for reset in resets if reset is not None), default=None)


def _reset(text: str | None) -> float | None:
    value = _float(text)
    if value is None:
        return None
    return value / 1000 if value >= MILLISECONDS_FROM else value


def _float(text: str | None) -> float | None:
    return float(text) if text is not None and _NUMBER.fullmatch(text) else None
