"""What the wetransform simulator knows: accounts, customers, transformations and runs, all read against one clock."""

from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, fields
from datetime import datetime, timedelta
from random import Random
from typing import Any
from uuid import UUID

from simulators.wetransform.scenarios import (
    BY_A_PERSON,
    GONE,
    QUEUED,
    STEPS,
    SUBMITTED,
    TERMINAL,
    Move,
    Plan,
    Scenario,
    moves,
    rest_of_walk,
)

FAILURE = "The column 'amount' holds a value that is no number (row 12)."


@dataclass(slots=True)
class Behaviour:
    """What the vendor's documentation leaves open. Each default is the likelier reading; set it to see the other one."""

    start_status: int = 200
    refusal_status: int = 403
    """A start whose preconditions are not met: 403 or 400."""
    manual_sources_may_run: bool = False
    may_run: bool = True
    """False: the account never bought runs over the API; a start is refused with `product` set."""
    parallel_starts: str = "new"
    """A start while a run of the same transformation is under way: "new", "refuse" or "same" (the run under way)."""
    foreign_status: int = 403
    """Someone else's run or transformation: 403 or 404."""
    wrong_customer_status: int = 403
    missing_status: int = 404
    malformed_id_status: int = 404
    customer_header_needed: bool = True
    """Whether a customer's runs are read only with the `X-Customer` they were started with."""
    hello_needs_token: bool = True
    html_without_accept: bool = True
    """Whether an error is a page for people when the request does not ask for JSON."""
    product_on_success: bool = False
    """Whether a success carries a `product`, as the vendor's example does."""
    transformed_file_early: bool = False
    """Whether `transformed_file` is sent before the run is processed, as in the vendor's example."""
    signed_files: bool = True
    file_lifetime_seconds: float = 86_400.0
    dead_file_status: int = 410
    record_lifetime_seconds: float | None = None
    """How long after its end a run can be read. None: for ever."""
    trashed_runs_stay: bool = True
    full_list_entries: bool = True
    """Whether the list's entries have every field that one transformation has."""
    newest_first: bool = True
    changes_imported_at: bool = True
    changes_download_url: bool = True
    changes_source_file_url: bool = True
    """Which fields of a transformation show that a run of it happened."""
    insertions_during_walk: int = 0
    """How many times a new transformation appears while a client goes from one page of a list to the next."""
    requests_per_second: float | None = None
    retry_after: str | None = "seconds"
    """What a 429 carries: "seconds", "date" or None."""
    webhook_has_transformed_file: bool = True

    def change(self, changes: dict[str, Any]) -> None:
        """Raises KeyError when there is no such switch."""
        known = {f.name for f in fields(self)}
        for name, value in changes.items():
            if name not in known:
                raise KeyError(name)
            setattr(self, name, value)


@dataclass(slots=True)
class Account:
    """A company: who holds one of its tokens, and the customers it may act for (internal id to e-mail)."""

    name: str
    tokens: set[str]
    customers: dict[str, str] = field(default_factory=dict)

    def customer(self, header: str) -> str | None:
        """The internal id that an `X-Customer` header means, None when it means nobody."""
        by_mail = {mail: key for key, mail in self.customers.items()}
        return header if header in self.customers else by_mail.get(header)


@dataclass(slots=True, eq=False)
class Transformation:
    key: str
    account: Account
    customer: str | None
    source_id: str
    source_name: str | None
    template_handle: str | None
    template_name: str | None
    imported_at: datetime
    is_dynamic: bool = True
    has_schedule: bool = False
    columns: tuple[str, ...] = ("employee_id", "first_name", "last_name", "amount")
    custom_fields: tuple[str, ...] = ("cost_center",)
    row_count: int = 120
    deleted_at: datetime | None = None
    runs: list["Run"] = field(default_factory=list)


@dataclass(slots=True, eq=False)
class Run:
    key: str
    transformation: Transformation
    created_at: datetime
    moves: list[Move]
    started_by: str
    """`api`, `schedule` or `manual`."""
    failure: str = FAILURE
    details: str | None = None
    """What a control call set; in place of the usual text."""

    def past(self, now: datetime) -> Iterator[Move]:
        return (move for move in self.moves if move.at <= now)

    def step(self, now: datetime) -> str | None:
        shown: str | None = self.moves[0].step
        for move in self.past(now):
            shown = move.step
        return shown

    def first(self, steps: frozenset[str], now: datetime) -> datetime | None:
        return next((move.at for move in self.past(now) if move.step in steps), None)

    def ended_at(self, now: datetime) -> datetime | None:
        return self.first(TERMINAL, now)

    def started_at(self, now: datetime) -> datetime | None:
        begun = frozenset(STEPS) - QUEUED
        return self.first(begun, now)

    def put(self, step: str | None, now: datetime, then: list[Move]) -> None:
        """From now on the run shows `step`; what was to come is forgotten but for `then`."""
        self.moves = [*self.past(now), Move(now, step), *then]


class State:
    def __init__(self, *, seed: int, now: Callable[[], datetime]) -> None:
        self.now = now
        self.rng = Random(seed)  # noqa: S311 - a scenario to repeat, not a secret
        self.behaviour = Behaviour()
        self.accounts: list[Account] = []
        self.transformations: dict[str, Transformation] = {}
        self.runs: dict[str, Run] = {}
        self.default_plan = Plan()
        self.next_plans: deque[Plan] = deque()
        """What the next starts over the vendor's endpoint become; `default_plan` when it is empty."""

    def uuid(self) -> str:
        return str(UUID(int=self.rng.getrandbits(128), version=4))

    def account_of(self, token: str) -> Account | None:
        return next((account for account in self.accounts if token in account.tokens), None)

    def add_transformation(
        self, account: Account, *, customer: str | None = None, name: str | None = None, **details: Any
    ) -> Transformation:
        number = len(self.transformations) + 1
        made = Transformation(
            key=details.pop("key", None) or self.uuid(),
            account=account,
            customer=customer,
            source_id=details.pop("source_id", None) or self.uuid(),
            source_name=name or f"Source {number}",
            template_handle=details.pop("template_handle", "new-hires"),
            template_name=details.pop("template_name", "New hires"),
            imported_at=details.pop("imported_at", None) or self.now(),
            **details,
        )
        self.transformations[made.key] = made
        return made

    def start(self, transformation: Transformation, plan: Plan, *, started_by: str = "api") -> Run:
        """Make a run. Its `created_at` is the present second, as the vendor gives no fractions."""
        created_at = self.now().replace(microsecond=0)
        run = Run(self.uuid(), transformation, created_at, moves(plan, created_at, self.rng), started_by)
        self.runs[run.key] = run
        transformation.runs.append(run)
        return run

    def take_plan(self) -> Plan:
        return self.next_plans.popleft() if self.next_plans else self.default_plan

    def running(self, transformation: Transformation) -> Run | None:
        now = self.now()
        return next((run for run in reversed(transformation.runs) if run.ended_at(now) is None), None)

    def resume(self, run: Run, *, duration: timedelta) -> None:
        """A person did what the run waited for: it walks on and is processed after `duration`."""
        now = self.now()
        steps = rest_of_walk(run.step(now))
        run.moves = [
            *run.past(now),
            *(Move(now + duration * (i / len(steps)), step) for i, step in enumerate(steps, start=1)),
        ]

    def is_readable(self, run: Run) -> bool:
        now, behaviour = self.now(), self.behaviour
        if run.step(now) == GONE:
            return False
        if run.transformation.deleted_at is not None and not behaviour.trashed_runs_stay:
            return False
        ended, lifetime = run.ended_at(now), behaviour.record_lifetime_seconds
        return ended is None or lifetime is None or now - ended <= timedelta(seconds=lifetime)

    def latest(self, transformation: Transformation, steps: frozenset[str]) -> tuple[Run, datetime] | None:
        """The run of `transformation` that reached one of `steps` last, and when."""
        now = self.now()
        reached = [(run.first(steps, now), run) for run in transformation.runs]
        known = [(at, run) for at, run in reached if at is not None]
        if not known:
            return None
        at, run = max(known, key=lambda pair: pair[0])
        return run, at

    def is_submitted(self, transformation: Transformation) -> bool:
        now = self.now()
        return any(run.step(now) in SUBMITTED for run in transformation.runs[-1:])

    def expected_runs(self) -> list[dict[str, Any]]:
        now = self.now()
        return [expected_run(run, now) for run in self.runs.values()]


def expected_run(run: Run, now: datetime) -> dict[str, Any]:
    """A run as it is, whatever a client saw. A run that cannot be read is `unknown`."""
    step, ended = run.step(now), run.ended_at(now)
    return {
        "key": run.key,
        "job": run.transformation.key,
        "customer": run.transformation.customer,
        "started_by": run.started_by,
        "state": _state(run, now),
        "raw_state": None if step == GONE else step,
        "created_at": run.created_at.isoformat(),
        "started_at": _iso(run.started_at(now)),
        "ended_at": _iso(ended),
    }


def _state(run: Run, now: datetime) -> str:
    """In the collector's seven words; the first end counts, whatever comes after it."""
    closing = next((move.step for move in run.past(now) if move.step in TERMINAL), None)
    if closing is not None:
        return "succeeded" if closing == "processed" else "failed"
    step = run.step(now)
    if step is None or step not in STEPS:
        return "unknown"
    if step in QUEUED:
        return "queued"
    return "waiting" if step in BY_A_PERSON else "running"


def _iso(moment: datetime | None) -> str | None:
    return None if moment is None else moment.isoformat()


def plan_from_json(data: dict[str, Any]) -> Plan:
    """`{"scenario": ..., "duration_seconds": ..., "at_step": ...}`, each optional. Raises ValueError for an unknown scenario."""
    usual = Plan()
    seconds = data.get("duration_seconds")
    return Plan(
        scenario=Scenario(data.get("scenario", usual.scenario)),
        duration=usual.duration if seconds is None else timedelta(seconds=float(seconds)),
        at_step=data.get("at_step", usual.at_step),
    )
