"""What an SQLite ledger committed, against what a sink got."""

import sqlite3
from collections import defaultdict
from contextlib import closing
from pathlib import Path


def committed(ledger: Path) -> dict[bytes, tuple[int, int]]:
    """Strand and place of each event, by its bytes."""
    with closing(sqlite3.connect(ledger)) as connection:
        assert connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)
        assert connection.execute("SELECT count(*) FROM lane").fetchone() == (0,)
        assert connection.execute("SELECT count(*) FROM parked").fetchone() == (0,)
        return {
            body: (strand, seq) for body, strand, seq in connection.execute("SELECT body, strand_id, seq FROM event")
        }


def out_of_order(got: list[bytes], places: dict[bytes, tuple[int, int]]) -> list[str]:
    """What does not follow from what came before it: only the last one of a strand may come again."""
    last: defaultdict[int, int] = defaultdict(int)
    wrong = []
    for line in got:
        strand, seq = places[line]
        if seq not in {last[strand], last[strand] + 1}:
            wrong.append(f"event {seq} of strand {strand} after {last[strand]}: {line[:300]!r}")
        last[strand] = seq
    return wrong
