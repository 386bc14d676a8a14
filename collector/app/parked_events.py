"""`parked drop`: shows what would be dropped, asks, and drops exactly that."""

import sys
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

from collector.app import configuration, requests
from collector.app.confirmation import confirmed
from collector.app.listings import read
from collector.app.tables import printable, show_json
from collector.clock import moment
from collector.ledger import parked
from collector.ledger.parked import Choice, ParkedEvent
from collector.ledger.requests import RequestKind
from collector.numerals import counted

LISTED = 10
"""Events that are named one by one."""
AT_ONCE = 100_000


def retry(config: Path, sink: str, choice: Choice, *, as_json: bool) -> int:
    return requests.parked(configuration.load(config), RequestKind.RETRY, sink, choice, as_json=as_json)


def drop(config: Path, sink: str, choice: Choice, *, yes: bool, dry_run: bool, as_json: bool) -> int:
    """0 dropped (or, with `dry_run`, shown), 1 when there is nothing to drop, it was declined or could not be done."""
    settings = configuration.load(config)
    found = read(settings, partial(parked.chosen, sink=sink, choice=choice, limit=AT_ONCE))
    if dry_run and found:
        _say_dry(found, as_json=as_json)
        return 0
    if found and not yes and not _agreed(found):
        print("nothing was dropped", file=sys.stderr)
        return 1
    shown = replace(choice, until_ms=max(event.parked_at for event in found)) if found else choice
    return requests.parked(settings, RequestKind.DROP, sink, shown, as_json=as_json)


def _agreed(found: Sequence[ParkedEvent]) -> bool:
    question = "They are not sent to this sink any more, and this cannot be undone. Drop them?"
    return confirmed("parked drop", f"drop {_summary(found)}", _lines(found), question)


def _say_dry(found: Sequence[ParkedEvent], *, as_json: bool) -> None:
    if as_json:
        events = [{"event": one.name, "run_id": one.run_uuid, "type": one.kind.value} for one in found]
        show_json({"request": "dry run", "would_drop": len(found), "events": events})
        return
    for line in _lines(found):
        print(line)


def _lines(found: Sequence[ParkedEvent]) -> list[str]:
    lines = [f"would drop {_summary(found)}:"]
    for one in found[:LISTED]:
        words = f"  {one.name}  {one.kind.value} of {one.job}, run {one.run_uuid}, parked {moment(one.parked_at)}: {one.cause}"
        lines.append(printable(words))
    return lines + (
        [f"  and {len(found) - LISTED:,} more, which were parked before these"] if len(found) > LISTED else []
    )


def _summary(found: Sequence[ParkedEvent]) -> str:
    kinds = Counter(one.kind.value for one in found)
    by_kind = ", ".join(f"{count:,} {kind}" for kind, count in sorted(kinds.items()))
    events = f"{counted(len(found), 'parked event')} of sink {found[0].sink}"
    return f"{events} ({by_kind}; of {counted(len({one.run_uuid for one in found}), 'run')})"
