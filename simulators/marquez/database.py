"""The database behind Marquez, as far as a client feels it: there, stopped, coming back, frozen; and killed."""

import asyncio
from collections.abc import Callable
from datetime import datetime, timedelta
from enum import StrEnum
from random import Random

from simulators.marquez.answers import DatabaseFault

CONNECTIONS_PER_EVENT = 2


class Condition(StrEnum):
    UP = "up"
    STOPPED = "stopped"
    FROZEN = "frozen"


class Killed(Exception):
    """The process is gone: connections close without an answer."""


class Database:
    """What stands between a request and the tables.

    Stopped: every call fails at once, and for `recovery` after it is back all but a share (`luck`) of them, because the
    pool hands out dead connections beside new ones. Frozen: calls hang without limit on the `pool` of open connections,
    further ones fail after `connect_timeout` seconds. A thaw lets the hanging ones go on in no fixed order, spread over
    `spread` seconds; with `hold` they stay where they are until `release`, so that a test decides who comes last.
    `kill_during` names an eventType: the process dies once the run's state of the next such event is stored.
    `clash_chance` is how often one of two first events of a dataset that come at once ends in a 500, `pause` the seconds
    between the check for a run's id and its insert.
    """

    def __init__(self, now: Callable[[], datetime], rng: Random) -> None:
        self.condition = Condition.UP
        self.alive = True
        self.recovery = timedelta(seconds=20)
        self.luck = 0.1
        self.connect_timeout = 5.0
        self.pool = 10
        self.spread = 0.05
        self.clash_chance = 0.002
        self.pause = 0.002
        self.kill_during: str | None = None
        self._now, self._rng = now, rng
        self._sick_until: datetime | None = None
        self._lives = 0
        self._hanging = 0
        self._held = False
        self._moved = asyncio.Condition()

    @property
    def healthy(self) -> bool:
        return self.alive and self.condition is Condition.UP and not self._sick

    @property
    def hanging(self) -> int:
        """How many requests wait for the database to move."""
        return self._hanging

    @property
    def _sick(self) -> bool:
        return self._sick_until is not None and self._now() < self._sick_until

    def stop(self) -> None:
        self.condition = Condition.STOPPED

    def freeze(self) -> None:
        self.condition = Condition.FROZEN

    async def start(self) -> None:
        """Back after a stop: still failing for a while."""
        if self.condition is Condition.STOPPED:
            self._sick_until = self._now() + self.recovery
        await self._move()

    async def thaw(self, *, hold: bool = False) -> None:
        self._held = hold
        await self._move()

    async def release(self) -> None:
        self._held = False
        await self._move()

    async def kill(self) -> None:
        """The process dies: what it had in hand is never finished, what hangs is never applied."""
        self.alive = False
        self._lives += 1
        async with self._moved:
            self._moved.notify_all()

    async def restart(self) -> None:
        self.alive = True
        self._sick_until = None

    async def _move(self) -> None:
        self.condition = Condition.UP
        async with self._moved:
            self._moved.notify_all()

    @property
    def life(self) -> int:
        """Changes when the process is killed."""
        return self._lives

    async def connected(self, connections: int = 1) -> None:
        """Returns once the database answers; raises `DatabaseFault` where it does not, `Killed` if the process died."""
        if self.condition is Condition.STOPPED or (self._sick and self._rng.random() >= self.luck):
            raise DatabaseFault("org.postgresql.util.PSQLException: This connection has been closed.")
        if self.condition is not Condition.FROZEN:
            return
        if self._hanging + connections > self.pool:
            await asyncio.sleep(self.connect_timeout)
            raise DatabaseFault("org.postgresql.util.PSQLException: The connection attempt failed.")
        await self._hang(connections)

    async def _hang(self, connections: int) -> None:
        life = self._lives
        self._hanging += connections
        try:
            async with self._moved:
                await self._moved.wait_for(lambda: self._moves(life))
        finally:
            self._hanging -= connections
        if life != self._lives:
            raise Killed
        await asyncio.sleep(self._rng.random() * self.spread)

    def _moves(self, life: int) -> bool:
        return life != self._lives or (self.condition is not Condition.FROZEN and not self._held)
