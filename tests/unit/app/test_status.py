"""What `status` says of the service itself, and of errors that are over."""

import io
import sys
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from collector import __version__
from collector.app import listings
from collector.app.service import Service
from simulators.server import Served
from simulators.wetransform import WetransformSimulator
from tests.deployment import now
from tests.unit.app.test_service_end import settings


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


async def test_the_service_says_its_version_and_since_when_it_runs(tmp_path: Path) -> None:
    async with (
        Served(WetransformSimulator(seed=5, now=now)) as served,
        Service(settings(tmp_path, served.url)) as service,
    ):
        status = await service.status()
    assert status["version"] == __version__
    assert status["started"].endswith("+00:00")
    assert status["uptime_seconds"] >= 0
    assert {"last_error", "last_error_at"} <= status["sources"][0].keys() & status["sinks"][0].keys()


def test_people_see_uptime_and_errors_that_are_over(monkeypatch: pytest.MonkeyPatch) -> None:
    status: dict[str, Any] = {
        "running": True,
        "version": "1.2.3",
        "started": "2026-11-22T12:00:00.000+00:00",
        "uptime_seconds": 7325.0,
        "sources": [
            {"source": "plant-a", "state": "ok", "lag_seconds": 61.0, "last_error": None, "last_error_at": None}
        ],
        "sinks": [
            {
                "sink": "marquez",
                "state": "delivering",
                "owed_bytes": 2048,
                "last_error": "connection\x1b refused",
                "last_error_at": "2026-11-22T13:00:00.000+00:00",
            }
        ],
        "ledger": {"path": "lineage.db", "bytes": 1024, "limit_bytes": 2048, "wrong": None},
    }
    terminal = Terminal()
    monkeypatch.setattr(sys, "stdout", terminal)
    monkeypatch.setenv("COLUMNS", "100")
    monkeypatch.setenv("TERM", "dumb")
    listings._show_status(status)
    said = terminal.getvalue()
    assert said.startswith("lineage-collector 1.2.3, up 2h 2m (since 2026-11-22 12:00:00)\n")
    assert "1m 1s" in said
    assert "2.0 KiB" in said
    assert said.endswith("last errors\n  2026-11-22 13:00:00  marquez: connection  refused\n")


def test_people_see_backfills_that_are_under_way(monkeypatch: pytest.MonkeyPatch) -> None:
    of_source = {"sink": None, "since": None, "until": None, "begun": None, "seen": 1200, "total": None, "new": 7}
    status: dict[str, Any] = {
        "running": True,
        "sources": [{"source": "plant-a", "state": "ok", "backfill": of_source}],
        "sinks": [
            {"sink": "marquez", "state": "delivering", "backfill": {**of_source, "total": 5000}},
            {"sink": "kafka", "state": "delivering", "backfill": None},
        ],
        "ledger": {"path": "lineage.db", "bytes": 1024, "limit_bytes": 2048, "wrong": None},
    }
    for out in (Terminal(), io.StringIO()):
        monkeypatch.setattr(sys, "stdout", out)
        monkeypatch.setenv("COLUMNS", "120")
        monkeypatch.setenv("TERM", "dumb")
        listings._show_status(status)
        said = out.getvalue()
        assert "backfill under way: 1,200 runs looked at, 7 made\n" in said.replace("\t-\t-\n", "\n")
        assert "backfill under way: 1,200 of 5,000 runs looked at, 7 events put on their way" in said
        assert said.count("under way") == 2


async def test_a_source_that_a_changed_configuration_renames_is_not_retired(tmp_path: Path) -> None:
    """No service runs: the configuration was changed since the last one, and the next start acts on it."""
    async with Served(WetransformSimulator(seed=5, now=now)) as served:
        before = settings(tmp_path, served.url)
        async with Service(before):
            pass
        [source] = before.sources
        renamed = before.model_copy(update={"sources": (source.model_copy(update={"name": "renamed"}),)})
        moved = before.model_copy(update={"sources": ()})
        found = [
            (await listings.look(each, partial(listings._status, each)))["sources"] for each in (before, renamed, moved)
        ]
        async with Service(renamed):
            pass
        async with Service(moved):
            pass
        found.append((await listings.look(before, partial(listings._status, moved)))["sources"])
    assert [(row["source"], row["state"], row["change"]) for [row] in found] == [
        (source.name, None, None),
        (
            source.name,
            None,
            "this configuration calls it renamed: it goes on under that name once the service starts with it",
        ),
        (source.name, None, "this configuration does not have it: the service retires it once it starts with it"),
        ("renamed", "retired", None),
    ]
