"""How often this program asks: its own limit per token, and the waits that the platform asks for."""

import hashlib
from collections.abc import Mapping
from datetime import datetime
from weakref import WeakValueDictionary

from collector.clock import Clock
from collector.errors import Throttled

LONGEST_TURN = 30.0
"""Seconds to wait for a turn; beyond that the caller is told and tries later."""
LONGEST_ASKED = 120.0
"""Seconds. The platform's windows last a minute, so more is a misreading."""
MILLISECONDS_FROM = 10**11
"""A reset time from here on is in milliseconds; the vendor's table says seconds, its examples milliseconds."""


class Pace:
    """At most `per_minute` requests in the long run, `burst` at once; None means no limit of our own."""

    def __init__(self, clock: Clock, per_minute: int | None, burst: int) -> None:
        self._clock = clock
        self.per_minute = per_minute
        self._burst = float(burst)
        self._left = float(burst)
        self._at = clock.monotonic()
        self._held_until = 0.0

    async def turn(self) -> None:
        """Wait until the next request may go. Raises Throttled, taking no turn, when that is too far off."""
        now = self._clock.monotonic()
        wait = max(self._wait(now), self._held_until - now)
        if wait > LONGEST_TURN:
            raise Throttled(f"the limit for this token allows the next request in {wait:.0f} s", after=wait)
        if self.per_minute is not None:
            self._left -= 1.0
        if wait > 0:
            await self._clock.sleep(wait)

    def hold(self, seconds: float) -> None:
        """No request for so long: the platform asked for it."""
        self._held_until = max(self._held_until, self._clock.monotonic() + seconds)

    def _wait(self, now: float) -> float:
        if self.per_minute is None:
            return 0.0
        rate = self.per_minute / 60
        self._left = min(self._burst, self._left + (now - self._at) * rate)
        self._at = now
        return max(0.0, (1.0 - self._left) / rate)


_shared: WeakValueDictionary[tuple[int, str, str], Pace] = WeakValueDictionary()


def shared(clock: Clock, base_url: str, token: str, per_minute: int | None, burst: int) -> Pace:
    """The one pace of all sources that use this token; the lowest limit counts."""
    key = (id(clock), base_url, hashlib.sha256(token.encode()).hexdigest())
    pace = _shared.get(key)
    if pace is None:
        pace = _shared[key] = Pace(clock, per_minute, burst)
    if per_minute is not None:
        pace.per_minute = min(per_minute, pace.per_minute or per_minute)
    return pace


def asked_wait(headers: Mapping[str, str], now: datetime) -> float | None:
    """Seconds that a 429 asks for: `x-retry-after`, else the reset times; between 0 and two minutes."""
    told = _float(headers.get("x-retry-after"))
    if told is None:
        told = _float(headers.get("retry-after"))
    if told is None:
        resets = [_reset(headers.get(f"x-rate-limit-{scope}-reset")) for scope in ("user", "workspace")]
        known = [reset - now.timestamp() for reset in resets if reset is not None]
        told = max(known, default=None)
    return None if told is None else min(max(told, 0.0), LONGEST_ASKED)


def _reset(text: str | None) -> float | None:
    value = _float(text)
    if value is None:
        return None
    return value / 1000 if value >= MILLISECONDS_FROM else value


def _float(text: str | None) -> float | None:
    return float(text) if text is not None and text.isascii() and text.isdigit() and len(text) < 20 else None
