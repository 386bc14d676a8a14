"""What the vendor's documentation leaves open, as switches: each simulator can behave either way."""

from collections.abc import Mapping
from dataclasses import dataclass, fields
from enum import StrEnum
from typing import Any


class Order(StrEnum):
    NEWEST = "newest"
    OLDEST = "oldest"
    SHUFFLED = "shuffled"


class OverLimit(StrEnum):
    FAIL = "fail"
    """The job exists and is Failed at once, without a start."""
    REFUSE = "refuse"
    """The call to run is answered with 400 and there is no job."""


@dataclass(slots=True)
class Modes:
    """Defaults are what is documented or most likely."""

    list_order: Order = Order.NEWEST
    byids_shuffled: bool = False
    duplicates_status: int = 409
    null_optionals: bool = False
    """Optional fields of a job that have no value are null instead of missing."""
    concurrency_limit: int | None = 10
    over_limit: OverLimit = OverLimit.FAIL
    second_run_status: int = 400
    """The answer to running a transformation that already runs."""
    private_jobs_listed: bool = True
    """Jobs of other people's private transformations are in the list of jobs."""
    jobs_vanish_with_transformation: bool = True
    byids_job_details: bool = True
    """What `withJobDetails` is for definitions by ids when it is not sent."""
    owner_is_object: bool = True
    metrics_history: bool = False
    """Each metric comes with its earlier values too."""
    retention_jobs: int | None = 1000
    retention_days: float | None = 90.0
    cursor_lifetime: float | None = None
    """Seconds after which a `nextCursor` is refused."""
    expires_in_as_text: bool = False

    def change(self, wanted: Mapping[str, Any]) -> None:
        """Raises ValueError for an unknown switch or value."""
        kinds = {"list_order": Order, "over_limit": OverLimit}
        for name, value in wanted.items():
            if name not in {known.name for known in fields(self)}:
                raise ValueError(f"there is no switch {name}")
            setattr(self, name, kinds.get(name, lambda given: given)(value))
