"""What a source keeps by key."""

from collector.ledger import memory
from collector.ledger.runs import RunChange
from tests.unit.ledger.ledgers import SECOND, START, Ledger, a_run


def test_what_a_page_keeps_is_given_back(ledger: Ledger) -> None:
    ledger.commit(memory={"name/1": "a", "name/2": "b"})
    ledger.now += SECOND
    ledger.commit(memory={"name/2": "c"})
    assert memory.read(ledger.conn, ledger.source) == {"name/1": "a", "name/2": "c"}
    assert memory.read(ledger.conn, ledger.source + 1) == {}


def test_what_is_known_is_not_written_again(ledger: Ledger) -> None:
    ledger.commit(memory={str(number): "x" for number in range(1000)})
    before = ledger.changes()
    memory.note(ledger.conn, ledger.source, {str(number): "x" for number in range(1000)}, ledger.now + SECOND)
    assert ledger.changes() == before


def test_only_the_latest_are_kept(ledger: Ledger) -> None:
    memory.note(ledger.conn, ledger.source, {f"old{number}": "x" for number in range(memory.KEPT)}, ledger.now)
    memory.note(ledger.conn, ledger.source, {"new": "y"}, ledger.now + SECOND)
    kept = memory.read(ledger.conn, ledger.source)
    assert len(kept) == memory.KEPT
    assert list(kept)[-1] == "new"
    assert "old0" not in kept


def test_words_that_no_database_can_store_are_kept_cleaned(ledger: Ledger) -> None:
    ledger.commit(RunChange(a_run("r")), memory={"name/\0": "a\ud800b\0"})
    assert memory.read(ledger.conn, ledger.source) == {"name/": "a?b"}
    ledger.happen("r", START)
