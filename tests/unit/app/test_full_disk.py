"""A disk with no room is in the metrics at once: what failed, why, and how much is free."""

import math
import shutil
from pathlib import Path

import pytest
from prometheus_client import generate_latest
from sqlalchemy import Connection, insert

from collector.app.ledger_file import free_bytes
from collector.app.service import Service
from collector.errors import LedgerError
from collector.ledger import schema
from simulators.server import Served
from simulators.wetransform import WetransformSimulator
from tests.deployment import now
from tests.unit.app.test_service_end import settings


def test_the_room_is_that_of_the_ledgers_file_system(tmp_path: Path) -> None:
    assert free_bytes(tmp_path / "lineage.db") == pytest.approx(shutil.disk_usage(tmp_path).free, rel=0.05)
    assert math.isnan(free_bytes(tmp_path / "gone" / "lineage.db")), (
        "nobody can say: no alert is better than a false one"
    )


async def test_a_service_whose_ledger_is_full_says_so_in_its_metrics(tmp_path: Path) -> None:
    def much(conn: Connection) -> None:
        for number in range(200):
            conn.execute(insert(schema.source).values(name=f"{number} " + "x" * 4000))

    async with (
        Served(WetransformSimulator(seed=5, now=now)) as served,
        Service(settings(tmp_path, served.url)) as service,
    ):
        await service.store.write(lambda conn: conn.exec_driver_sql("PRAGMA max_page_count=1").close())
        with pytest.raises(LedgerError, match="no space left"):
            await service.store.write(much)
        page = generate_latest(await service._parts.metrics.scrape()).decode()
        await service.store.write(lambda conn: conn.exec_driver_sql("PRAGMA max_page_count=1000000").close())
    samples = dict(line.rsplit(" ", 1) for line in page.splitlines() if line.startswith("lineage_ledger_"))
    assert float(samples['lineage_ledger_write_failures_total{cause="full"}']) >= 1
    assert float(samples['lineage_ledger_write_failures_total{cause="io"}']) == 0
    assert float(samples["lineage_ledger_disk_free_bytes"]) > 0
