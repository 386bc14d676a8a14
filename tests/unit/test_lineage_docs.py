"""The page about lineage says what the code does."""

import re

import orjson
import pytest
import yaml

from collector.lineage.custom_facets import OBSERVED, PLATFORM, RESOLVED
from config.settings import Settings
from tests import openlineage
from tests.lineage_examples import EXAMPLES, PAGE, block, shown
from tests.openlineage_schemas import FACETS, own_facets

TEXT = PAGE.read_text(encoding="utf-8")


@pytest.mark.parametrize("name", EXAMPLES)
async def test_the_example_is_what_the_adapter_makes(name: str) -> None:
    event = await EXAMPLES[name]()
    assert openlineage.faults(orjson.dumps(event)) == []
    on_the_page = block(name).search(TEXT)
    assert on_the_page is not None
    assert on_the_page[2] == shown(event), "run python -m tests.lineage_examples"


def test_the_configurations_can_be_used(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("T", "a-token")
    blocks = re.findall(r"```yaml\n(.*?)```", TEXT, re.DOTALL)
    assert len(blocks) == 3
    source = {"platform": "dataprep", "name": "a", "workspace": "w", "token": "${env:T}"}
    for written in blocks:
        Settings.model_validate({"sources": [source], **yaml.safe_load(written)})


def test_the_page_has_all_our_own_facets_and_links_that_lead_somewhere() -> None:
    assert {OBSERVED, PLATFORM, RESOLVED} == own_facets().keys()
    for key, (name, _) in own_facets().items():
        assert f"[`{key}`](facets/{name}.json)" in TEXT
    for link in re.findall(r"\]\((?!https)([^)#]+)", TEXT):
        assert (FACETS.parent / link).exists(), link


def test_every_standard_facet_of_an_example_is_in_the_table() -> None:
    for found in re.findall(r"```json\n(.*?)\n```", TEXT, re.DOTALL):
        event = orjson.loads(found)
        parts = [event["run"], event["job"], *event["inputs"], *event["outputs"]]
        keys = {key for part in parts for key in part["facets"]} - own_facets().keys()
        assert [key for key in sorted(keys) if f"| `{key}` |" not in TEXT] == []
