"""`check` says which sinks get another number of shards, and what that waits for."""

import asyncio
import json
from pathlib import Path

import pytest

from collector.app import check
from collector.clock import SystemClock
from collector.ledger import configured_sinks
from collector.ledger.sqlite.store import Store
from collector.model import EventKind

CONFIG = """
ledger: {path: %s}
http: {listen: "127.0.0.1:0"}
sources:
  - {platform: wetransform, name: plant, base_url: "https://api.example.com", tenant: acme, token: t}
sinks:
  - {name: a, type: openlineage, url: "http://127.0.0.1:9", shards: 4}
  - {name: b, type: openlineage, url: "http://127.0.0.1:9"}
"""


async def _with_sinks(path: Path) -> None:
    store = Store.open(path, holder="test", clock=SystemClock())
    await store.write(configured_sinks.sync_sinks, dict.fromkeys("ab", frozenset(EventKind)), 0)
    await store.close()


def test_check_names_the_sinks_whose_number_of_shards_would_change(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    asyncio.run(_with_sinks(tmp_path / "lineage.db"))
    file = tmp_path / "lineage-collector.yaml"
    file.write_text(CONFIG % (tmp_path / "lineage.db"))
    assert check.run(file, offline=True, as_json=True) == 0
    [row] = [row for row in json.loads(capsys.readouterr().out) if row["subject"] == "shards"]
    assert (row["part"], row["ok"]) == ("sink a", True)
    assert row["detail"].startswith("the ledger has 1 for it, this configuration 4: the number changes once all")
