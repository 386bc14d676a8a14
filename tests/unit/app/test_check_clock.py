"""What `check` says of a clock that is wrong."""

from datetime import datetime, timedelta
from pathlib import Path

import pytest

from collector.app.check import _all
from collector.clock import SystemClock
from config.settings import Settings
from simulators.server import Served
from simulators.wetransform import WetransformSimulator
from tests.deployment import now


class _Wrong(SystemClock):
    def __init__(self, ahead: timedelta) -> None:
        self._ahead = ahead

    def now(self) -> datetime:
        return super().now() + self._ahead


@pytest.mark.parametrize(
    ("ahead", "words"),
    [
        (timedelta(hours=2, minutes=5), "the platform's clock is 2h 5m behind that of this machine"),
        (timedelta(days=-400), "the platform's clock is 400d ahead of that of this machine"),
        (timedelta(seconds=30), None),
    ],
)
async def test_a_clock_that_is_wrong_is_named_beside_the_other_checks(
    tmp_path: Path, ahead: timedelta, words: str | None
) -> None:
    async with Served(WetransformSimulator(seed=1, now=now)) as served:
        source = {"name": "customers", "platform": "wetransform", "base_url": served.url, "tenant": "acme"}
        settings = Settings.model_validate(
            {
                "ledger": {"path": tmp_path / "ledger.db"},
                "sources": [{**source, "token": "wetransform-token"}],
                "sinks": [],
            }
        )
        rows = await _all(settings, _Wrong(ahead))
    clocks = [row for row in rows if row["subject"] == "clock"]
    assert [row["detail"] for row in clocks if not row["ok"]] == ([words] if words else [])
    assert all("correct the one that is wrong" in row["remedy"] for row in clocks)
    assert any(row["subject"] == "load" for row in rows), "the others are made all the same"
