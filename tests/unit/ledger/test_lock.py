"""The file beside the ledger that says who writes it, and how the one before left."""

import fcntl
import re
from pathlib import Path
from typing import Any

import pytest

from collector.errors import LedgerError
from collector.ledger.sqlite import lock
from collector.ledger.sqlite.lock import Condition
from tests.unit.ledger.ledgers import T0


def test_a_clean_close_just_before_the_lock_is_no_crash(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What the file says counts from the moment on in which nobody else can write it."""
    path, flock = tmp_path / "ledger.db", fcntl.flock
    before = lock.take(path, "before", T0)
    before.note(Condition.OPEN)

    def closes_first(descriptor: int, operation: int) -> Any:
        before.note(Condition.CLOSED)
        before.release()
        return flock(descriptor, operation)

    monkeypatch.setattr(fcntl, "flock", closes_first)
    after = lock.take(path, "after", T0)
    assert after.former is Condition.CLOSED
    after.release()


@pytest.mark.parametrize("condition", [Condition.OPEN, Condition.CLOSED, Condition.SUSPECT])
def test_the_next_holder_learns_how_the_one_before_left(tmp_path: Path, condition: Condition) -> None:
    path = tmp_path / "ledger.db"
    first = lock.take(path, "first", T0)
    assert first.former is Condition.NEW
    first.note(condition)
    first.release()
    second = lock.take(path, "second", T0)
    assert second.former is condition
    second.release()


def test_a_missing_folder_is_made_and_said(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    lock.take(tmp_path / "made" / "ledger.db", "first", T0).release()
    assert [record.getMessage() for record in caplog.records] == ["ledger.folder_made"]


def test_a_folder_whose_parent_is_missing_too_is_not_made(tmp_path: Path) -> None:
    path = tmp_path / "misspelt" / "lineage" / "ledger.db"
    with pytest.raises(LedgerError, match=re.escape(str(path.parent)) + ".*correct ledger.path"):
        lock.take(path, "first", T0)
    assert list(tmp_path.iterdir()) == []
