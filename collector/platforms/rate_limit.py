"""How often one account is asked: our own limit, shared by all who use it, and the waits that the platform asks for.

Not aiolimiter: it knows the event loop's time alone, and no wait that holds up all who queue.
"""

from hashlib import sha256
from math import inf
from weakref import WeakValueDictionary

from collector.clock import Clock
from collector.errors import Throttled

LONGEST_TURN = 30.0
"""Seconds to wait for a turn, unless each turn takes longer; beyond that the caller gets an error and tries later."""


class OwnLimitReached(Throttled):
    """Our own limit leaves no turn soon; nothing was sent."""


class Pace:
    """At most `per_minute` requests in the long run and `burst` at once; None means no limit of our own.

    A wait that the platform asks for delays every request: those that wait for a turn then queue again behind it.
    """

    def __init__(self, clock: Clock, per_minute: int | None, burst: int) -> None:
        self._clock, self.per_minute, self._burst = clock, per_minute, burst
        # the turns that were given out and not yet earned reach from now to here
        self._spent_until = self._held_until = -inf
        self._holds = 0

    async def turn(self) -> None:
        """Wait until the next request may go. Raises, taking no turn, where that is too far off: `OwnLimitReached` by our own
        limit, `Throttled` by the platform's wish.
        """
        while True:
            holds, wait = self._holds, self._taken()
            if wait <= 0:
                return
            try:
                await self._clock.sleep(wait)
            except BaseException:
                if holds == self._holds:
                    self._spent_until -= self._each
                raise
            if holds == self._holds:
                return

    def hold(self, seconds: float) -> None:
        """No request for so long: the platform asked for it."""
        now = self._clock.monotonic()
        until = now + seconds
        if seconds <= 0 or until <= self._held_until:
            return
        sent = min(self._spent_until, now + self._each * self._burst)
        self._spent_until = max(sent, until + self._each * (self._burst - 1))
        self._held_until = until
        self._holds += 1

    def tighten(self, per_minute: int | None, burst: int) -> None:
        """Somebody else uses the same account: the lowest wish holds for all."""
        if per_minute is not None:
            self.per_minute = min(per_minute, self.per_minute or per_minute)
            self._burst = min(burst, self._burst)

    @property
    def _each(self) -> float:
        """Seconds between two requests in the long run."""
        return 60.0 / self.per_minute if self.per_minute else 0.0

    def _taken(self) -> float:
        """Take the next turn: seconds until it comes."""
        now, each = self._clock.monotonic(), self._each
        spent_until = max(self._spent_until, now) + each
        wait = spent_until - each * self._burst - now
        if wait > max(LONGEST_TURN, 1.5 * each):
            if now < self._held_until:
                raise Throttled(f"the platform asked for patience: nothing is sent for {wait:.0f} s", after=wait)
            limit = f"the limit of {self.per_minute} requests a minute"
            raise OwnLimitReached(f"{limit} leaves no turn for another {wait:.0f} s", after=wait)
        self._spent_until = spent_until
        return wait


_shared: WeakValueDictionary[tuple[int, str], Pace] = WeakValueDictionary()


def shared(clock: Clock, *account: str, per_minute: int | None, burst: int) -> Pace:
    """The one pace of all sources that use this account: an address, and a token or the like."""
    key = (id(clock), sha256("\n".join(account).encode()).hexdigest())
    pace = _shared.get(key)
    if pace is None:
        pace = _shared[key] = Pace(clock, per_minute, burst)
    pace.tighten(per_minute, burst)
    return pace
