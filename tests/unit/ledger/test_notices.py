"""Where a pooler stands between, no notice would come, so nothing listens."""

import threading
from types import SimpleNamespace
from typing import Any, Self

import pytest

from collector.ledger.port import Change
from collector.ledger.postgres.database import Database
from collector.ledger.postgres.notices import Notices, channel, payload


class Pooled:
    """A connection to a pooler, which gives it another number than the server's process has."""

    info = SimpleNamespace(backend_pid=1)
    autocommit = False

    def __init__(self) -> None:
        self.statements: list[object] = []

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def execute(self, statement: object) -> Any:
        self.statements.append(statement)
        return SimpleNamespace(fetchone=lambda: (4711,))


def test_nothing_listens_through_a_pooler_which_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    pooled, announced = Pooled(), threading.Event()
    connections: Any = SimpleNamespace(connect=lambda: pooled)
    notices = Notices(Database("postgresql://me@db/x", "lineage"), connections, "me", lambda _: announced.set())
    notices._run()
    assert pooled.statements == ["SELECT pg_backend_pid()"]
    assert not announced.is_set()
    [record] = [record for record in caplog.records if record.message == "ledger.unnotified"]
    assert "a look twice a second" in record.fields["then"]  # type: ignore[attr-defined]


def test_a_channel_has_a_name_that_postgresql_takes() -> None:
    assert channel("x" * 63) == f"lineage {'x' * 55}"
    assert payload("me", frozenset({Change.LEASES, Change.EVENTS})) == "me events leases"
