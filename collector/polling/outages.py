"""Keeps a loop going while the ledger does not answer: a full disk, a volume that went away."""

import logging
from collections.abc import Awaitable, Callable

from collector.clock import Clock
from collector.errors import LeaseLost, LedgerCorrupt, LedgerError
from collector.logs import fields

log = logging.getLogger("lineage.ledger")

LONGEST_PAUSE = 30.0


async def outlasting(work: Callable[[], Awaitable[None]], name: str, clock: Clock) -> None:
    """Run `work`, which runs until cancelled, again whenever the ledger fails it. Raises `LeaseLost`, as all work under
    that lease has to end, and `LedgerCorrupt`: the process has to start anew, which sets the ledger aside.
    """
    pause = 1.0
    while True:
        began = clock.monotonic()
        try:
            await work()
        except (LeaseLost, LedgerCorrupt):
            raise
        except LedgerError as error:
            log.error("ledger.failed", extra=fields(task=name, cause=str(error), then=f"tries again in {pause:.0f} s"))  # noqa: TRY400 - the cause says it all
        else:
            return
        pause = 1.0 if clock.monotonic() - began > LONGEST_PAUSE else pause
        await clock.sleep(pause)
        pause = min(2 * pause, LONGEST_PAUSE)
