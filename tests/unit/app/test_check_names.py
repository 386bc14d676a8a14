"""`check` says before a start which jobs would be called otherwise, and which two the same."""

import asyncio
import json
from pathlib import Path

import pytest

from collector.app import check
from collector.errors import SourceError
from collector.lifecycle import VanishedPolicy
from collector.lineage.job_aliases import JobAlias, JobAliases
from collector.model import Job, RunState
from collector.testing.clock import SimulatedClock
from tests.cdf_rig import cdf_rig
from tests.unit.polling.test_families import opened
from tests.unit.polling.test_job_names import job
from tests.wetransform_rig import wetransform_rig

CONFIG = """
ledger: {path: %s}
http: {listen: "127.0.0.1:0"}
sources:
  - {platform: wetransform, name: plant, base_url: "https://api.example.com", tenant: acme, token: t}
jobs:
  - {match: {name: transformation/*}, replace: {name: "wt/{description}"}}
"""


async def _filled(folder: Path) -> None:
    source = await opened(folder, VanishedPolicy.LEAVE_OPEN)
    jobs = {"a": "parts", "b": "hires", "c": "parts", "d": None}
    for key, description in jobs.items():
        await source.see(source.seen(key, RunState.RUNNING, job=job(key, description)))
    await source.store.close()


def test_check_lists_new_names_and_refuses_one_for_two(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    asyncio.run(_filled(tmp_path))
    file = tmp_path / "lineage-collector.yaml"
    file.write_text(CONFIG % (tmp_path / "lineage.db"))
    assert check.run(file, offline=True, as_json=True) == 1
    rows = [row for row in json.loads(capsys.readouterr().out) if row["subject"] == "job name"]
    assert [(row["ok"], row["detail"]) for row in rows] == [
        (True, "transformation/a is called wt/parts"),
        (True, "transformation/b is called wt/hires"),
        (False, "transformation/c keeps its name, for transformation/a is called wt/parts already"),
    ]
    assert "a name of its own" in rows[-1]["remedy"]


class Lists:
    def __init__(self, *found: Job | SourceError) -> None:
        self.found = found

    async def jobs(self) -> list[Job]:
        for each in self.found:
            if isinstance(each, SourceError):
                raise each
        return [each for each in self.found if isinstance(each, Job)]


ALIASES = JobAliases((JobAlias("*", "transformation/*", "wt/{description}"),))


async def test_jobs_that_never_ran_are_named_beside_those_that_ran() -> None:
    ran = [ALIASES.named(job("a", "parts"))]
    platform = Lists(job("a", "parts"), job("b", "hires"), job("c", "parts"), job("d", None))
    found = await check._names_to_come(platform, ALIASES, ran)
    assert [(each.ok, each.detail) for each in found] == [
        (True, "transformation/b is called wt/hires once it runs"),
        (False, "transformation/c keeps its name, for transformation/a is called wt/parts already"),
    ]


async def test_jobs_that_cannot_be_listed_are_said() -> None:
    [found] = await check._names_to_come(Lists(SourceError("502")), ALIASES, [])
    assert (found.ok, found.detail) == (True, "the jobs cannot be listed, so only those that ran are here: 502")


async def test_wetransform_and_cdf_list_the_jobs_that_configuration_wants() -> None:
    async with wetransform_rig(SimulatedClock()) as rig:
        listed = await rig.adapter().jobs()
        assert len(listed) == len(rig.simulator.transformations)
        assert all(each.name == f"transformation/{each.key}" and " to " in (each.description or "") for each in listed)
        chosen = await rig.adapter(discover=True, include=[listed[1].key]).jobs()
        assert [each.key for each in chosen] == [listed[1].key]
    async with cdf_rig() as cdf:
        for name in ("pumps", "valves"):
            cdf.simulator.add_transformation(name, {"type": "events"})
        assert [each.name for each in await cdf.platform.jobs()] == ["transformation/pumps", "transformation/valves"]
        only = await (await cdf.platform_again(include=["valves"])).jobs()
        assert [(each.name, bool(each.description)) for each in only] == [("transformation/valves", True)]
