"""The names that the jobs of a source get by the aliases of the configuration, the same one for all events of a run."""

import logging
from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from sqlalchemy import Connection

from collector.ledger import jobs
from collector.lineage.job_aliases import JobAliases
from collector.logs import fields
from collector.model import Job, Observation, Parent, Poll, Run

log = logging.getLogger("lineage.poll")

_MOST = 20_000


@dataclass(frozen=True, slots=True)
class JobNames:
    """A name that one job of the source has is not given to another one, which keeps the platform's: two jobs in one would be
    a lineage that does not exist.
    """

    source: str
    source_id: int
    aliases: JobAliases
    _owners: dict[str, str] = field(default_factory=dict)
    """By alias the platform's name of the job that has it."""
    _refused: set[str] = field(default_factory=set)

    def in_page(self, conn: Connection, page: Poll, known: Mapping[str, Run]) -> Poll:
        """The page with its jobs and parents named. `known` are the runs of the page and their parents."""
        if not self._may_rename(known):
            return page
        named = [replace(one, job=self.of(conn, one.job, known.get(one.key))) for one in page.observations]
        above: dict[str, Run | Observation] = {**known, **{one.key: one for one in named}}
        observations = tuple(
            one if one.parent is None else replace(one, parent=self._parent(one.parent, above)) for one in named
        )
        return replace(page, observations=observations)

    def of(self, conn: Connection, job: Job, known: Run | None) -> Job:
        """A run of which events were made keeps its job's name, whatever the configuration says by now."""
        if known is not None and known.last_event_at is not None:
            kept = replace(job, name=known.job.name, platform_name=known.job.platform_name)
            return kept if self._renames(known) else job
        named = self.aliases.named(job)
        return named if named.platform_name is None or self._is_free(conn, named.name, named.platform_name) else job

    def _may_rename(self, known: Mapping[str, Run]) -> bool:
        return bool(self.aliases.rules) or any(map(self._renames, known.values()))

    def _renames(self, known: Run) -> bool:
        return bool(self.aliases.rules) or known.job.platform_name is not None

    def _is_free(self, conn: Connection, name: str, platform_name: str) -> bool:
        if name not in self._owners:
            if len(self._owners) >= _MOST:
                self._owners.clear()
            self._owners[name] = jobs.platform_name(conn, self.source_id, name) or platform_name
        owner = self._owners[name]
        if owner != platform_name and platform_name not in self._refused:
            self._refused.add(platform_name)
            details = fields(source=self.source, job=platform_name, wanted=name, taken_by=owner)
            log.warning("job.name_taken", extra=details)
        return owner == platform_name

    def _parent(self, parent: Parent, runs: Mapping[str, "Run | Observation"]) -> Parent:
        """Under the names that the runs above have; of runs that are not known here by the aliases alone."""
        run = runs.get(parent.key or "")
        job = run.job.name if run is not None else self._plainly(parent.namespace, parent.job)
        if parent.root_job is None:
            return replace(parent, job=job)
        root = self._root(run, runs) or self._plainly(parent.root_namespace or parent.namespace, parent.root_job)
        return replace(parent, job=job, root_job=root)

    def _root(self, run: "Run | Observation | None", runs: Mapping[str, "Run | Observation"]) -> str | None:
        """The name of the run at the top, above this one; None where there is none above it."""
        passed: set[str] = set()
        root = None
        while run is not None and run.parent is not None and run.key not in passed:
            passed.add(run.key)
            top = run.parent
            run = runs.get(top.key or "")
            root = run.job.name if run is not None else self._plainly(top.namespace, top.root_job or top.job)
        return root

    def _plainly(self, namespace: str, name: str) -> str:
        return self.aliases.named(Job("", namespace, name, kind="", integration="")).name
