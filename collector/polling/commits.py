"""What a poll, an enrichment or a request commits, each one transaction that reads the runs as they are, decides and writes.

Deciding inside the transaction keeps a poll and an enrichment of the same run from overwriting each other.
"""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import Connection

from collector.clock import to_ms
from collector.faultpoints import Point, passing
from collector.ledger import runs
from collector.ledger.leases import Lease
from collector.ledger.runs import NewEvent, PollCommit, RunChange
from collector.lifecycle import Step, finish
from collector.lineage.events import EventMaker
from collector.model import Enrichment, Poll, RunState, Skip, SkipKind
from collector.polling.decide import Policy, decide
from collector.reports import EventReport


@dataclass(frozen=True, slots=True)
class Committed:
    """What one commit held, for logs and metrics."""

    events: tuple[EventReport, ...] = ()
    skips: tuple[Skip, ...] = ()


@dataclass(frozen=True, slots=True)
class Writer:
    """Commits for one source, under its lease."""

    source: str
    source_id: int
    lease: Callable[[], Lease]
    maker: EventMaker
    policy: Policy

    def page(self, conn: Connection, page: Poll, at: datetime, *, polled: bool) -> Committed:
        """Take one page of a poll in; `polled` marks the end of a walk."""
        keys = {seen.key for seen in page.observations} | set(page.missing)
        known = runs.by_keys(conn, self.source_id, sorted(keys)) if keys else {}
        decided = decide(known, page, at, self.policy)
        return self._commit(conn, decided.steps, decided.skips, at, cursor=page.cursor, polled=polled)

    def end(self, conn: Connection, key: str, found: Enrichment | None, problem: str | None, at: datetime) -> Committed:
        """Make the terminal event of a run that waited for its enrichment; nothing when it has one already."""
        run = runs.by_keys(conn, self.source_id, [key]).get(key)
        if run is None:
            return Committed()
        step = finish(run, found, problem=problem)
        skips = (Skip(SkipKind.ENRICHMENT, key, problem),) if problem and step.transitions else ()
        return self._commit(conn, (step,) if step.transitions else (), skips, at)

    def _commit(
        self,
        conn: Connection,
        steps: tuple[Step, ...],
        skips: tuple[Skip, ...],
        at: datetime,
        *,
        cursor: str | None = None,
        polled: bool = False,
    ) -> Committed:
        changes = tuple(RunChange(step.run, self._events(step)) for step in steps)
        passing(Point.BEFORE_COMMIT)
        commit = PollCommit(
            lease=self.lease(),
            source_id=self.source_id,
            changes=changes,
            cursor=cursor,
            polled_at_ms=to_ms(at) if polled else None,
            skips=skips,
        )
        runs.commit_poll(conn, commit, to_ms(at))
        return Committed(tuple(report for step in steps for report in self._reports(step)), skips)

    def _events(self, step: Step) -> tuple[NewEvent, ...]:
        return tuple(
            NewEvent(transition.kind, self.maker.event(step.run, transition), to_ms(transition.at))
            for transition in step.transitions
        )

    def _reports(self, step: Step) -> list[EventReport]:
        run = step.run
        return [
            EventReport(
                self.source,
                transition.kind,
                run.job.name,
                outcome=(run.state if run.state.terminal else RunState.UNKNOWN) if transition.kind.terminal else None,
                seconds=_duration(step) if transition.kind.terminal else None,
                run_id=str(run.run_id),
            )
            for transition in step.transitions
        ]


def _duration(step: Step) -> float | None:
    run = step.run
    if run.started_at is None or run.ended_at is None:
        return None
    return (run.ended_at - run.started_at).total_seconds()
