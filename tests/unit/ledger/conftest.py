from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.servers.postgres import PostgresServer
from tests.unit.ledger.ledgers import ALL, Ledger, opened, opened_in


@pytest.fixture
def postgres_ledger(postgres: PostgresServer) -> Iterator[Ledger]:
    """As `ledger`, in PostgreSQL."""
    with opened_in(postgres) as made:
        made.configure(a=ALL)
        yield made


@pytest.fixture
def sqlite_ledger(tmp_path: Path) -> Iterator[Ledger]:
    """As `ledger`, in SQLite."""
    with opened(tmp_path / "ledger.db") as made:
        made.configure(a=ALL)
        yield made


@pytest.fixture(params=["sqlite", "postgres"])
def ledger(request: pytest.FixtureRequest) -> Ledger:
    """One source and the sink `a`, which wants every kind; in each of the two databases."""
    made: Ledger = request.getfixturevalue(f"{request.param}_ledger")
    return made
