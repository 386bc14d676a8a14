"""`forget`: says what the ledger holds of a source or sink that left the configuration, asks, and has all of it removed."""

import json
import sys
from difflib import get_close_matches
from functools import partial
from pathlib import Path
from typing import Any

from sqlalchemy import Connection

from collector.app import loading, requests
from collector.app.confirmation import confirmed
from collector.app.listings import read
from collector.app.tables import printable
from collector.errors import ConfigurationError
from collector.ledger import holdings
from collector.ledger.holdings import Holder, Holdings, OpenRun
from config.settings import Settings

LISTED = 10
"""Open runs that are named one by one."""
AT_ONCE = 10_000
"""Open runs that are named in JSON."""


def forget(config: Path, name: str, *, drop_undelivered: bool, yes: bool, dry_run: bool, as_json: bool) -> int:
    """0 forgotten (or, with `dry_run`, shown), 1 when it was declined or could not be done, as while events are undelivered."""
    settings = loading.load(config)
    holder, known = _chosen(settings, config, name)
    held, still_open = read(settings, partial(_held, holder=holder, name=known))
    if dry_run:
        _show(held, still_open, as_json=as_json)
        return 0
    if held.pending and not drop_undelivered:
        print(f"error: {printable(_undelivered(held))}", file=sys.stderr)
        return 1
    if not yes and not _agreed(held, still_open):
        print("nothing was forgotten", file=sys.stderr)
        return 1
    return requests.forget(settings, f"{holder}:{known}", drop_undelivered=drop_undelivered, as_json=as_json)


def _chosen(settings: Settings, config: Path, name: str) -> tuple[Holder, str]:
    """What of the ledger is meant. Raises `ConfigurationError` for what it does not know, and for what is configured."""
    known = read(settings, holdings.names)
    kind, colon, rest = name.partition(":")
    holders, wanted = ([Holder(kind)], rest) if colon and kind in set(Holder) else (list(Holder), name)
    configured = {
        Holder.SOURCE: {source.name for source in settings.sources},
        Holder.SINK: {sink.name for sink in settings.sinks},
    }
    found = [holder for holder in holders if wanted in {*known[holder], *configured[holder]}]
    if not found:
        raise ConfigurationError([_unknown(name, wanted, known, configured)])
    if len(found) > 1:
        raise ConfigurationError([f"a source and a sink are called {wanted}: say source:{wanted} or sink:{wanted}"])
    if wanted in configured[found[0]]:
        why = f"{found[0]} {wanted} is in the configuration ({config})"
        raise ConfigurationError(
            [f"{why}, so it is not forgotten: remove it there, restart the service, then forget it"]
        )
    return found[0], wanted


def _unknown(name: str, wanted: str, known: dict[Holder, list[str]], configured: dict[Holder, set[str]]) -> str:
    names = {each: holder for holder in Holder for each in known[holder]}
    close = get_close_matches(wanted, names, n=1)
    left = [f"{holder}:{each}" for holder in Holder for each in known[holder] if each not in configured[holder]]
    hint = f"; did you mean {close[0]}?" if close else ""
    can = f"it can forget {', '.join(left)}" if left else "all that it knows is in the configuration"
    return f"the ledger knows no source and no sink {name!r}{hint}; {can}"


def _held(conn: Connection, *, holder: Holder, name: str) -> tuple[Holdings, list[OpenRun]]:
    held = holdings.of(conn, holder, name)
    if held is None:  # it went since the names were read
        raise ConfigurationError([f"the ledger knows no {holder} {name!r} any more"])
    return held, holdings.open_runs(conn, held.id, AT_ONCE) if holder is Holder.SOURCE else []


def _undelivered(held: Holdings) -> str:
    return (
        f"{holdings.undelivered(held)}; nothing was forgotten: let the service deliver them first (a sink needs to be in the "
        "configuration for that), or add --drop-undelivered to lose them"
    )


def _agreed(held: Holdings, still_open: list[OpenRun]) -> bool:
    effect = f"forget {held.holder} {held.name}"
    return confirmed("forget", effect, _lines(held, still_open), "This cannot be undone. Forget it?")


def _show(held: Holdings, still_open: list[OpenRun], *, as_json: bool) -> None:
    if as_json:
        print(json.dumps(_as_json(held, still_open), indent=2, ensure_ascii=False))
        return
    for line in _lines(held, still_open):
        print(line)


def _as_json(held: Holdings, still_open: list[OpenRun]) -> dict[str, Any]:
    return {
        "request": "dry run",
        held.holder.value: held.name,
        "runs": held.runs,
        "open_runs": held.open,
        "undelivered": held.pending,
        "parked": held.parked,
        "requests": held.requests,
        "by_sink": [
            {"source": each.source, "sink": each.sink, "undelivered": each.pending, "parked": each.parked}
            for each in held.owed
        ],
        "open": [{"run": run.key, "run_id": run.run_uuid, "job": run.job, "state": run.state} for run in still_open],
    }


def _lines(held: Holdings, still_open: list[OpenRun]) -> list[str]:
    lines = [f"would forget {held.holder} {held.name}, which left the configuration, with"]
    if held.holder is Holder.SOURCE:
        lines.append(f"  {held.runs:,} runs and all else that is known of it; {held.open:,} of them are open")
        lines += [f"    {run.key} of {run.job}, {run.state} (run {run.run_uuid})" for run in still_open[:LISTED]]
        lines += [f"    and {held.open - LISTED:,} more"] if held.open > LISTED else []
        lines += ["    no end is made up for them: sinks go on showing them as they are"] if held.open else []
    lines.append(f"  {held.pending:,} undelivered and {held.parked:,} parked events")
    lines += [
        f"    source {each.source}, sink {each.sink}: {each.pending:,} undelivered, {each.parked:,} parked"
        for each in held.owed
    ]
    lines.append(f"  {held.requests:,} requests that nobody took up")
    new = "what its look-back finds is reported again" if held.holder is Holder.SOURCE else "it gets the runs open then"
    return [printable(line) for line in (*lines, f"Who comes back under this name is a new {held.holder}: {new}.")]
