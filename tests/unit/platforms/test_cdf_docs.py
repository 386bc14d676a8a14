"""The page for users says what the code does."""

import re
from pathlib import Path

import pytest
import yaml

from collector.lineage.sql import read
from collector.platforms.cdf.rows import STATES, WORKFLOW_STATES
from collector.platforms.cdf.sources import CdfCatalog
from config.sources import CdfSource

PAGE = (Path(__file__).parents[3] / "docs" / "platforms" / "cdf.md").read_text()


def generated() -> str:
    jobs = [f"| `{status}` | {state.value} |" for status, state in STATES.items()]
    canceled = "| `Failed` with an error of `canceled_errors` | canceled |"
    executions = [f"| workflow execution `{status}` | {state.value} |" for status, state in WORKFLOW_STATES.items()]
    return "\n".join(["| status | run state |", "| --- | --- |", *jobs, canceled, *executions])


def test_the_table_of_states_is_fresh() -> None:
    assert PAGE.split("test_cdf_docs.py -->\n")[1].split("\n<!-- end of states -->")[0] == generated()


def test_the_configurations_can_be_used(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "secret").write_text("a-secret")
    monkeypatch.setenv("CDF_CLIENT_SECRET", "a-secret")
    blocks = re.findall(r"```yaml\n(.*?)```", PAGE, re.DOTALL)
    assert len(blocks) == 2
    for block in blocks:
        text = block.replace("/run/secrets/cdf-client-secret", str(tmp_path / "secret"))
        for source in yaml.safe_load(text)["sources"]:
            read = CdfSource.model_validate(source)
            assert read.job_namespace == "cdf://westeurope-1.cognitedata.com/plant-a"


def test_every_key_of_its_own_is_shown() -> None:
    own = {"base_url", "project", "auth", "workflows", "canceled_errors", "backfill_metrics"}
    assert own <= CdfSource.model_fields.keys()
    assert all(f"{key}:" in PAGE for key in own)


def test_what_the_page_says_of_sql_is_so() -> None:
    table = PAGE.split("| in the SQL | input |\n| --- | --- |\n")[1].split("\n\n")[0]
    for line in table.splitlines():
        written, expected = line.strip("| ").split(" | ")
        patterns = [re.sub(r"\\\{.+?\\\}", ".+", re.escape(name)) for name in re.findall(r"`([^`]+)`", expected)]
        for pair in re.findall(r"`` (.+?) ``|`([^`]+)`", written):
            source = "".join(pair).replace("...", "'x'")
            anywhere = source.startswith(("asset_ids", "dataset_id"))
            found = read(f"select {source} as a" if anywhere else f"select a from {source}", CdfCatalog())
            [name] = [one.name for one in found.reads or ()]
            assert any(re.fullmatch(pattern, name) for pattern in patterns), (source, name)
