"""The names of jobs by the configuration, on a real ledger: the same for all events of a run and of its family."""

from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import orjson
import pytest

from collector.ledger import job_queries, jobs
from collector.lifecycle import VanishedPolicy
from collector.lineage.job_aliases import JobAlias, JobAliases
from collector.model import Enrichment, Job, RunState
from collector.polling.commits import Found, Writer
from tests.unit.polling.test_families import SPACE, Source, opened

DESCRIBED = JobAlias("*", "transformation/*", "wt/{description}")
FLOWS = JobAlias("*", "flow/*", "plant/*")


def job(key: str, description: str | None = "parts") -> Job:
    return Job(key, SPACE, f"transformation/{key}", "JOB", "CDF", description=description)


def under(source: Source, *rules: JobAlias) -> Source:
    """The source after a start with these aliases."""
    writer = source.writer
    aliases = JobAliases(rules)
    again = Writer(writer.source, writer.source_id, writer.lease, writer.maker, writer.policy, job_aliases=aliases)
    return replace(source, writer=again)


@pytest.fixture
async def source(tmp_path: Path) -> AsyncIterator[Source]:
    made = await opened(tmp_path, VanishedPolicy.LEAVE_OPEN, validates=True)
    yield made
    await made.store.close()


async def names(source: Source) -> list[str]:
    lines = await source.delivered()
    assert source.skips == [], "each event was validated"
    return [orjson.loads(line)["job"]["name"] for line in lines]


async def test_all_events_of_a_run_have_the_new_name(source: Source) -> None:
    source = under(source, DESCRIBED)
    await source.see(source.seen("a", RunState.RUNNING, job=job("a")))
    source.clock.advance(10)
    await source.see(source.seen("a", RunState.SUCCEEDED, job=job("a")))
    await source.enrich_all()
    assert await names(source) == ["wt/parts"] * 2
    assert [row.name for row in await source.store.read(job_queries.jobs, 9)] == ["wt/parts"]


async def test_a_run_ends_under_the_name_with_which_it_began(source: Source) -> None:
    """Whatever becomes known of its job or is configured meanwhile."""
    source = under(source, DESCRIBED)
    await source.see(source.seen("a", RunState.RUNNING, job=job("a", None)))
    await source.see(source.seen("b", RunState.RUNNING, job=job("b", "hires")))
    source = under(source)
    source.clock.advance(10)
    await source.see(source.seen("b", RunState.SUCCEEDED, job=job("b", "hires"), settled=True))
    source = under(source, DESCRIBED)
    await source.see(source.seen("a", RunState.SUCCEEDED, job=job("a")))
    details = {"a": Found(Enrichment(job=job("a")))}
    await source.writer.ends(source.store, details, source.clock.now())
    assert sorted(await names(source)) == ["transformation/a"] * 2 + ["wt/hires"] * 2


async def test_a_run_first_seen_at_its_end_is_named_by_its_details(source: Source) -> None:
    source = under(source, DESCRIBED)
    await source.see(source.seen("a", RunState.SUCCEEDED, job=job("a", None)))
    await source.writer.ends(source.store, {"a": Found(Enrichment(job=job("a")))}, source.clock.now())
    assert await names(source) == ["wt/parts"] * 2


async def test_parents_are_named_as_their_own_runs_are(source: Source) -> None:
    source = under(source, FLOWS, DESCRIBED)
    flow = source.seen("flow/1", RunState.RUNNING)
    above = source.seen("a", RunState.RUNNING, "flow/1", job=job("a"))
    child = source.seen("stage", RunState.RUNNING, "a")
    assert child.parent is not None
    top: dict[str, Any] = {"root_run_id": flow.run_id, "root_namespace": SPACE, "root_job": "flow/1"}
    await source.see(flow, above, replace(child, parent=replace(child.parent, **top)))
    [first, second, third] = [orjson.loads(line) for line in await source.delivered()]
    assert [first["job"]["name"], second["job"]["name"]] == ["plant/1", "plant/1.wt/parts"]
    assert third["job"]["name"].startswith("plant/1.wt/parts.")
    assert second["run"]["facets"]["parent"]["job"]["name"] == "plant/1"
    facet: Any = third["run"]["facets"]["parent"]
    assert (facet["job"]["name"], facet["root"]["job"]["name"]) == ("plant/1.wt/parts", "plant/1")


async def test_the_root_is_named_as_its_own_run_is_through_the_generations(source: Source) -> None:
    """By what the ledger knows of the job: the name on the platform alone would not do."""
    source = under(source, DESCRIBED)
    root = source.seen("a", RunState.RUNNING, job=job("a"))
    above, child = source.seen("b", RunState.RUNNING, "a"), source.seen("stage", RunState.RUNNING, "b")
    assert child.parent is not None
    top: dict[str, Any] = {"root_run_id": root.run_id, "root_namespace": SPACE, "root_job": "transformation/a"}
    await source.see(root, above, replace(child, parent=replace(child.parent, **top)))
    facet: Any = orjson.loads((await source.delivered())[-1])["run"]["facets"]["parent"]
    assert facet["root"]["job"]["name"] == "wt/parts"


async def test_a_name_is_given_to_one_job_only(source: Source, caplog: pytest.LogCaptureFixture) -> None:
    source = under(source, DESCRIBED)
    await source.see(source.seen("b", RunState.SUCCEEDED, job=job("b"), settled=True))
    source = under(source, DESCRIBED)
    both = source.seen("a", RunState.RUNNING, job=job("a")), source.seen("b2", RunState.RUNNING, job=job("b"))
    await source.see(*both)
    await source.see(source.seen("a2", RunState.RUNNING, job=job("a")))
    assert sorted(await names(source)) == ["transformation/a"] * 2 + ["wt/parts"] * 3
    [logged] = [record for record in caplog.records if record.getMessage() == "job.name_taken"]
    assert "transformation/b" in str(vars(logged))
    known = await source.store.read(jobs.latest, source.source_id, 9)
    assert {one.name: one.platform_name for one in known} == {"transformation/a": None, "wt/parts": "transformation/b"}


async def test_without_aliases_jobs_keep_their_names(source: Source) -> None:
    await source.see(source.seen("a", RunState.RUNNING, job=job("a")))
    assert await names(source) == ["transformation/a"]
