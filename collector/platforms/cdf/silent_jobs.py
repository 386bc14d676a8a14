"""Running jobs without a sign of life: a lost worker, or a slow one. They stay under watch, and each is logged once."""

import logging
from collections.abc import Collection, Iterable, Mapping, Sequence
from datetime import datetime, timedelta

from collector import numerals
from collector.clock import Clock, to_ms
from collector.logs import fields
from collector.platforms.cdf.repeated_pages import Summary
from collector.platforms.cdf.rows import JobRow, last_signs_of_life

log = logging.getLogger("lineage.cdf")

SILENT = timedelta(minutes=15)
"""A running job whose last sign of life is older is logged."""


class SilentJobs:
    """Those of one source that were logged. Lost at a restart."""

    def __init__(self, clock: Clock, source: str) -> None:
        self._clock, self._source = clock, source
        self._known: set[int] = set()

    def keep(self, watched: Collection[int]) -> None:
        """Forget those that are not watched any more."""
        self._known &= set(watched)

    def are_well(self, answer: Summary) -> bool:
        """Whether all of an answer were heard of lately, and none of them needs to be forgotten."""
        before = to_ms(self._clock.now() - SILENT)
        return not self._known and (answer.heard_at is None or answer.heard_at >= before)

    def flag(self, rows: Iterable[JobRow], answered: Iterable[object]) -> None:
        """`rows` is what was read of `answered`."""
        read = {row.id: row for row in rows}
        last_seen = last_signs_of_life(answered, self._clock.now() - SILENT)
        silent = [row for job_id in last_seen if (row := read.get(job_id)) is not None and row.status == "Running"]
        fresh = [row for row in silent if row.id not in self._known]
        self._known = (self._known - read.keys()) | {row.id for row in silent}
        if fresh:
            details = fields(source=self._source, cause=_said(fresh, last_seen), silent=len(self._known))
            log.warning("cdf.job_stalled", extra=details)


def _said(rows: Sequence[JobRow], last_seen: Mapping[int, datetime]) -> str:
    some = "; ".join(f"job {row.id} of transformation {row.external_id} since {last_seen[row.id]}" for row in rows[:5])
    more = "; …" if len(rows) > 5 else ""
    return f"no sign of life of {numerals.counted(len(rows), 'more running job')}: {some}{more}"
