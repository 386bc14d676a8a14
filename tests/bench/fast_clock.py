"""The program on a clock that goes faster than the wall's: `python -m tests.bench.fast_clock BEGIN SPEED run --config FILE`."""

import asyncio
import sys
import time
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial

from collector.__main__ import main


@dataclass(frozen=True, slots=True)
class FastClock:
    """`speed` times as fast as the wall clock since `begin`, in epoch seconds: two processes with the same two agree."""

    begin: float
    speed: float

    def now(self) -> datetime:
        return datetime.fromtimestamp(self.begin + (time.time() - self.begin) * self.speed, UTC)

    def monotonic(self) -> float:
        return time.monotonic() * self.speed

    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(seconds / self.speed)


if __name__ == "__main__":
    sys.modules["httpx._main"] = None  # type: ignore[assignment] # as the program itself does
    from collector.app import process

    assert "SystemClock" in vars(process), "the clock of `run` is made elsewhere"
    vars(process)["SystemClock"] = partial(FastClock, float(sys.argv[1]), float(sys.argv[2]))
    sys.argv[1:3] = []
    main()
