"""`check` says before a start which jobs would be called otherwise, and which two the same."""

import asyncio
import json
from pathlib import Path

import pytest

from collector.app import check
from collector.lifecycle import VanishedPolicy
from collector.model import RunState
from tests.unit.polling.test_families import opened
from tests.unit.polling.test_job_names import job

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
