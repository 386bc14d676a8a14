"""The ledger in PostgreSQL on the server that Debian has, and through pgbouncer in transaction mode: the tests of the ledger run
once more, each time in a process that is given that server. Both are skipped where they are not installed.
"""

import asyncio
import os
import subprocess
import sys
from pathlib import Path

import pytest

from collector.ledger import requests
from collector.ledger.port import Change
from collector.ledger.postgres.database import Database
from collector.ledger.postgres.store import Store
from tests.servers import pgbouncer, postgres
from tests.servers.processes import unavailable

ROOT = Path(__file__).parents[2]
LEDGER = "tests/unit/ledger"
OUTAGES = ("only_reads", "frozen", "connection_that_is_left", "was_away", "notified")
"""Through pgbouncer they are its own, which it reports in words of its own."""
OTHER_USERS = ("refused_in_a_sentence", "user_may_only_read")
"""It lets in those that its file names, and the tests make others."""


@pytest.mark.timeout(900)
@pytest.mark.parametrize(
    ("server", "left_out"),
    [("debian", ()), ("pgbouncer", (*OUTAGES, *OTHER_USERS))],
    ids=["debian", "pgbouncer"],
)
def test_the_tests_of_the_ledger_pass_on(server: str, left_out: tuple[str, ...]) -> None:
    if server == "pgbouncer" and pgbouncer.program() is None:
        unavailable("pgbouncer is not installed: apt-get install pgbouncer")
    if server == "debian" and postgres.of_debian() is None:
        unavailable("Debian's PostgreSQL is not installed: apt-get install postgresql")
    words = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-p", "no:xdist", LEDGER]
    words += ["-k", " and not ".join(["postgres", *left_out])]
    ours = {name: value for name, value in os.environ.items() if not name.startswith("PYTEST_")}
    done = subprocess.run(
        words,
        cwd=ROOT,
        env={**ours, "TESTED_POSTGRES": server},
        capture_output=True,
        text=True,
        timeout=800,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-5000:] + done.stderr[-1000:]
    assert " skipped" not in done.stdout


async def test_with_notify_through_pgbouncer_a_look_finds_what_other_replicas_commit(
    own_postgres: postgres.PostgresServer, caplog: pytest.LogCaptureFixture
) -> None:
    if pgbouncer.program() is None:
        unavailable("pgbouncer is not installed: apt-get install pgbouncer")
    with postgres.pooled(own_postgres, own_postgres.folder):
        url = own_postgres.url(own_postgres.new_database())
        database = Database(url, "lineage", lambda: postgres.PASSWORD, notify=True)
        one, other = [await asyncio.to_thread(Store.open, each) for each in (database, database)]
        try:
            found = asyncio.Queue[None]()
            one.on_commit(lambda: found.put_nowait(None), Change.REQUESTS)
            for each in (one, other):
                await asyncio.to_thread(each._notices._thread.join)
            logged = [record for record in caplog.records if record.message == "ledger.unnotified"]
            assert len(logged) == 2, "once by each, which then listens no more"
            assert all("a pooler (such as pgbouncer)" in record.__dict__["fields"]["cause"] for record in logged)
            await found.get()  # the first look finds everything new
            for sink in ("sink:a", "sink:b"):
                await other.write(requests.add, requests.RequestKind.RETRY, sink, "{}", 0)
                await found.get()
        finally:
            for each in (one, other):
                await each.close()
