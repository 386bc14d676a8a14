"""Jobs under other names: UUIDs of a platform become what people call them."""

from dataclasses import replace

import pytest

from collector.lineage.job_aliases import JobAlias, JobAliases, Renaming, platform_job, renamings
from collector.model import Job

WT = "wetransform://h/acme"
PARTS = Job("u1", WT, "transformation/u1", "JOB", "WETRANSFORM", description="parts.xlsx to Catalogue")
HIRES = Job("u2", WT, "transformation/u2", "JOB", "WETRANSFORM", description="parts.xlsx to Catalogue")
DESCRIBED = JobAlias("wetransform://*", "transformation/*", "transformation/{description}")


@pytest.mark.parametrize(
    ("rule", "job", "new"),
    [
        (DESCRIBED, PARTS, "transformation/parts.xlsx to Catalogue"),
        (DESCRIBED, replace(PARTS, description=None), None),
        (DESCRIBED, replace(PARTS, description=" \x00 "), None),
        (DESCRIBED, replace(PARTS, namespace="cdf://h/p"), None),
        (DESCRIBED, replace(PARTS, description="a/b:c#d"), "transformation/a%2Fb%3Ac%23d"),
        (DESCRIBED, replace(PARTS, description="* {description}"), "transformation/* {description}"),
        (JobAlias("*", "transformation/u1", "spare-parts"), PARTS, "spare-parts"),
        (JobAlias("*", "*/*", "wt.*.*"), PARTS, "wt.transformation.u1"),
        (JobAlias("*", "transformation/*", "t/{description} (*)"), PARTS, "t/parts.xlsx to Catalogue (u1)"),
        (JobAlias("*", "recipe/*", "r.*"), PARTS, None),
    ],
)
def test_a_job_is_called_what_the_first_fitting_alias_says(rule: JobAlias, job: Job, new: str | None) -> None:
    assert rule.of(job) == new
    named = JobAliases((rule, JobAlias("*", "*", "other/*"))).named(job)
    assert named.name == (new or f"other/{job.name}")
    assert named.platform_name == job.name
    assert platform_job(named) == job


def test_a_name_is_cut_where_backends_would_not_find_it() -> None:
    new = DESCRIBED.of(replace(PARTS, description="x" * 400))
    assert new is not None
    assert len(new) == 255


def test_naming_twice_is_naming_once() -> None:
    aliases = JobAliases((JobAlias("*", "transformation/*", "transformation/x-*"),))
    assert aliases.named(aliases.named(PARTS)) == aliases.named(PARTS)


def test_of_two_jobs_with_one_new_name_the_one_that_has_it_keeps_it() -> None:
    aliases = JobAliases((DESCRIBED,))
    new = "transformation/parts.xlsx to Catalogue"
    first = Renaming("transformation/u1", new)
    assert renamings(aliases, [PARTS, HIRES]) == [first, Renaming("transformation/u2", new, "transformation/u1")]
    having = aliases.named(HIRES)
    assert renamings(aliases, [PARTS, having])[0] == Renaming("transformation/u1", new, "transformation/u2")
    assert renamings(aliases, [replace(PARTS, name="recipe/a", namespace="dataprep://h/1")]) == []
    plain = replace(HIRES, name=new, description=None)
    assert renamings(aliases, [PARTS, plain]) == [Renaming("transformation/u1", new, new)]
