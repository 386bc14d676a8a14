"""The tables of docs/performance.md that `make bench` writes."""

import pytest

from tests.bench.__main__ import PAGE, written

NAMES = ("delivery", "latency", "end-to-end", "ledger", "beside", "scrape", "idle", "machine")
TABLES = {name: f"the {name}" for name in NAMES}


def test_each_table_has_its_place_and_the_text_around_stays() -> None:
    page = PAGE.read_text(encoding="utf-8")
    again = written(page, TABLES)
    assert all(f"-->\nthe {name}\n<!-- /" in again for name in TABLES)
    assert written(again, TABLES) == again
    assert again.startswith(page[:200])


def test_a_table_without_a_place_is_an_error() -> None:
    with pytest.raises(KeyError):
        written("# Performance", TABLES)
