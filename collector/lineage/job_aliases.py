"""Other names for jobs, by configuration: names that people know in place of a platform's ids. Pure."""

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

from collector import names
from collector.lineage.aliases import fitted
from collector.model import Job, Run

DESCRIPTION = "{description}"
_HOLES = re.compile(rf"\*|{re.escape(DESCRIPTION)}")


@dataclass(frozen=True, slots=True)
class JobAlias:
    """Jobs that fit `namespace` and `name` get another name.

    A `*` of the new name is what the one in the same place of `name` stood for, `{description}` the description that
    the platform gives: a job without one does not fit then.
    """

    namespace: str
    name: str
    new_name: str

    def of(self, job: Job) -> str | None:
        """The new name, None where this alias does not fit."""
        stars = fitted(self.name, job.name)
        if stars is None or fitted(self.namespace, job.namespace) is None:
            return None
        description = names.part(names.clean(job.description or "").strip())
        if not description and DESCRIPTION in self.new_name:
            return None
        left = iter(stars)
        return names.cut(_HOLES.sub(lambda hole: next(left, "") if hole[0] == "*" else description, self.new_name))


@dataclass(frozen=True, slots=True)
class JobAliases:
    """The first alias that fits a job names it."""

    rules: tuple[JobAlias, ...] = ()

    def named(self, job: Job) -> Job:
        """The job under its new name, with the platform's beside it; as it is where no alias fits."""
        job = platform_job(job)
        new = next((new for rule in self.rules if (new := rule.of(job)) is not None), job.name)
        return job if new == job.name else replace(job, name=new, platform_name=job.name)


NO_ALIASES = JobAliases()


@dataclass(frozen=True, slots=True)
class Renaming:
    """What the aliases make of a job; `taken_by` is the platform's name of another job that has the new name already."""

    old: str
    new: str
    taken_by: str | None = None


def renamings(aliases: JobAliases, jobs: Iterable[Job]) -> Sequence[Renaming]:
    """Of these jobs those that get another name. The one that has a name keeps it, else the first one gets it."""
    jobs = list(jobs)
    owners = {job.name: job.platform_name or job.name for job in jobs}
    found: list[Renaming] = []
    for job in map(aliases.named, jobs):
        if job.platform_name is not None:
            owner = owners.setdefault(job.name, job.platform_name)
            found.append(Renaming(job.platform_name, job.name, owner if owner != job.platform_name else None))
    return list(dict.fromkeys(found))


def platform_job(job: Job) -> Job:
    """The job under the platform's own name."""
    return job if job.platform_name is None else replace(job, name=job.platform_name, platform_name=None)


def as_on_platform(run: Run) -> Run:
    """The run as its adapter knows it."""
    return run if run.job.platform_name is None else replace(run, job=platform_job(run.job))
