from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.unit.ledger.ledgers import ALL, Ledger, opened


@pytest.fixture
def ledger(tmp_path: Path) -> Iterator[Ledger]:
    """One source and the sink `a`, which wants every kind."""
    with opened(tmp_path / "ledger.db") as made:
        made.configure(a=ALL)
        yield made
