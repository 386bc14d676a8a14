"""The installed collector with the installed plug-in: by configuration, with options checked and the secret hidden."""

import sys
from pathlib import Path

import pytest

from collector.app.cli import main
from collector.ledger import configured_sources
from collector.ledger.configured_sources import Configured
from collector.testing.ledger import temporary_ledger

CONFIG = """
ledger: {path: %s/ledger.db}
sources:
  - {platform: taskbox, name: box, namespace: "taskbox://here", options: {url: "http://127.0.0.1:1", token: a-planted-secret}}
sinks:
  - {type: mailbox, name: team, options: {url: "http://127.0.0.1:1"}}
"""


def test_check_asks_both(tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "c.yaml").write_text(CONFIG % tmp_path)
    monkeypatch.setattr(sys, "argv", ["lineage-collector", "check", "--json", "--config", str(tmp_path / "c.yaml")])
    with pytest.raises(SystemExit) as ended:
        main()
    said = capsys.readouterr().out
    assert ended.value.code == 1
    assert "look at options.url and options.token" in said
    assert "http://127.0.0.1:1 was not sent" in said
    assert "a-planted-secret" not in said


async def test_a_temporary_ledger_takes_writes() -> None:
    async with temporary_ledger() as ledger:
        assert (await ledger.write(configured_sources.sync_sources, [Configured("box")], 0)).keys() == {"box"}
