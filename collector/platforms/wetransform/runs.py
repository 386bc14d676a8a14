"""One run: read by its id, and put as an observation."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta
from uuid import UUID

from collector.clock import Clock
from collector.errors import BadAnswer
from collector.model import Observation, Run, RunState
from collector.platforms.unread_times import UnreadTimes
from collector.platforms.wetransform.api import Api
from collector.platforms.wetransform.automations import Automation, automation
from collector.platforms.wetransform.definitions import Definitions
from collector.platforms.wetransform.lineage import Place, facts, job
from collector.platforms.wetransform.schedule import next_look
from collector.platforms.wetransform.steps import Table, state_of
from config.sources import WetransformIntervals


@dataclass(frozen=True, slots=True)
class Meaning:
    """What steps mean: the whole table, the part of it that configuration gave, and when a step that may wait does."""

    states: Table
    overridden: Table
    patience: timedelta


@dataclass(frozen=True, slots=True)
class RunOrigin:
    """What the answer about a run does not have and is stored with it: its transformation, and for whom it runs."""

    transformation: str | None
    customer: str | None

    @classmethod
    def of(cls, handle: Mapping[str, str]) -> "RunOrigin":
        return cls(handle.get("transformation"), handle.get("customer"))

    @property
    def handle(self) -> dict[str, str]:
        known = {"transformation": self.transformation, "customer": self.customer}
        return {name: value for name, value in known.items() if value is not None}


class Runs:
    def __init__(
        self,
        api: Api,
        definitions: Definitions,
        place: Place,
        clock: Clock,
        meaning: Meaning,
        intervals: WetransformIntervals,
    ) -> None:
        self._api, self._definitions, self._place = api, definitions, place
        self._clock, self._meaning, self._intervals = clock, meaning, intervals
        self.unread_times = UnreadTimes()

    async def read(self, key: str, customer: str | None) -> Automation:
        """Raises `SourceError`s; `NotFound` where there is no such run."""
        envelope = await self._api.get(f"/transformation/automation/{key}", customer=customer)
        read = automation(envelope, asked=key)
        self.unread_times.note(key, read.unread)
        return read

    async def look(self, run: Run) -> Observation:
        """A run that is tracked, as it is now."""
        whose = RunOrigin.of(run.handle)
        return self.observation(await self.read(run.key, whose.customer), whose, run)

    def observation(self, seen: Automation, whose: RunOrigin, known: Run | None = None) -> Observation:
        """Raises `BadAnswer` where there is nothing by which the run's job could be named."""
        now = self._clock.now()
        job_key = _job_key(seen, whose, known)
        key = seen.key or (known.key if known else "")
        meaning = self._meaning
        state = state_of(
            seen.step, known, now, states=meaning.states, overridden=meaning.overridden, patience=meaning.patience
        )
        described = self._definitions.cached(whose.transformation, whose.customer) if whose.transformation else None
        born_at = seen.created_at or (known.queued_at if known else None) or now
        return Observation(
            key=key,
            run_id=UUID(key),
            job=job(self._place, job_key, described),
            state=state,
            raw_state=seen.step,
            seen_at=now,
            queued_at=seen.created_at,
            facts=facts(
                self._place,
                seen,
                described,
                whose.customer,
                job_key,
                ended=state.terminal,
                failed=state is RunState.FAILED,
                step_before=known.raw_state if known is not None else None,
            ),
            handle=whose.handle,
            due_at=next_look(self._intervals, known, state, seen.step, now=now, born_at=born_at),
            settled=described is not None or whose.transformation is None,
        )


def _job_key(seen: Automation, whose: RunOrigin, known: Run | None) -> str:
    if whose.transformation is not None:
        return whose.transformation
    if known is not None:
        return known.job.key
    if seen.source_id is None:
        raise BadAnswer(
            f"run {seen.key}: the answer names no source, so its transformation cannot be found; name it by "
            "transformation=UUID"
        )
    return f"source-{seen.source_id}"
