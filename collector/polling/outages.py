"""Keeps a loop going while the ledger does not answer: a full disk, a volume that went away."""

import logging
from collections.abc import Awaitable, Callable
from functools import partial

from collector.clock import Clock
from collector.errors import LeaseLost, LedgerCorrupt, LedgerError
from collector.ledger import leases
from collector.ledger.port import Ledger
from collector.logs import fields

log = logging.getLogger("lineage.ledger")

LONGEST_PAUSE = 30.0
LOOK = 1.0
"""Seconds between two looks whether the ledger takes writes again."""


async def outlasting(work: Callable[[], Awaitable[None]], name: str, clock: Clock, store: Ledger) -> None:
    """Run `work`, which runs until cancelled, again whenever the ledger fails it: as soon as it takes writes, or, where it
    does and fails this work alone, after a pause. Raises `LeaseLost`, as all work under that lease has to end, and
    `LedgerCorrupt`: the process has to start anew, which sets the ledger aside.
    """
    pause = 1.0
    while True:
        began = clock.monotonic()
        try:
            await work()
        except (LeaseLost, LedgerCorrupt):
            raise
        except LedgerError as error:
            then = f"tries again when it takes writes, or in {pause:.0f} s"
            log.error("ledger.failed", extra=fields(task=name, cause=str(error), then=then))  # noqa: TRY400 - the cause says it all
            if await waited_for_writes(partial(store.write, leases.probe), clock):
                pause = 1.0
                continue
        else:
            return
        pause = 1.0 if clock.monotonic() - began > LONGEST_PAUSE else pause
        await clock.sleep(pause)
        pause = min(2 * pause, LONGEST_PAUSE)


async def waited_for_writes(
    attempt: Callable[[], Awaitable[object]], clock: Clock, look: Callable[[], None] = lambda: None
) -> bool:
    """Until the ledger takes this write; False when it takes it already, so that there was nothing to wait for. `look` is
    called before each wait for the next attempt.
    """
    waited = False
    while not await _is_taken(attempt):
        waited = True
        look()
        await clock.sleep(LOOK)
    return waited


async def _is_taken(attempt: Callable[[], Awaitable[object]]) -> bool:
    try:
        await attempt()
    except (LeaseLost, LedgerCorrupt):
        raise
    except LedgerError:
        return False
    return True
