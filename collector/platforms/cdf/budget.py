"""What polling a project costs in requests, and whether the limit that was set allows it. Pure."""

from dataclasses import dataclass
from datetime import timedelta
from math import ceil, inf

from collector.platforms.cdf.api import MOST_IDS


@dataclass(frozen=True, slots=True)
class Budget:
    """`per_minute` is the limit of requests, None without one; `interval` the wish of the configuration."""

    per_minute: int | None
    interval: timedelta
    workflows: bool

    def per_poll(self, open_runs: int) -> int:
        """One page of the list, one request for 1,000 open runs, one for workflow executions."""
        return 1 + max(1, ceil(open_runs / MOST_IDS)) + self.workflows

    def needed(self, open_runs: int) -> float:
        """Requests a minute in the steady state, without the one that each ended run costs."""
        return self.per_poll(open_runs) * 60 / self.interval.total_seconds()

    def is_reachable(self, open_runs: int) -> bool:
        return self.needed(open_runs) <= (self.per_minute or inf)

    def shortest_interval(self, open_runs: int) -> float:
        """Seconds between polls that the limit allows."""
        return self.per_poll(open_runs) * 60 / (self.per_minute or inf)

    def words(self) -> str:
        each = self.per_poll(0)
        cost = f"{each} requests a poll for up to {MOST_IDS:,} open runs, {self.needed(0):.0f} a minute"
        if self.per_minute is None:
            return f"{cost}, and one for each run that ended; no limit of our own"
        left = (self.per_minute - self.needed(0)) * 60
        return f"{cost}; the limit of {self.per_minute} leaves the ends of {max(0, left):.0f} runs an hour"
