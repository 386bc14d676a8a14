"""`forget`: shows what the ledger holds of a source or sink that left the configuration, asks, and removes all of it."""

import sys
from functools import partial
from pathlib import Path
from typing import Any

from sqlalchemy import Connection

from collector.app import configuration, requests
from collector.app.confirmation import confirmed
from collector.app.listings import read
from collector.app.tables import printable, show_json
from collector.errors import ConfigurationError
from collector.ledger import inventory
from collector.ledger.inventory import Inventory, OpenRun, TargetKind
from collector.numerals import counted
from config.mistakes import did_you_mean
from config.settings import Settings

LISTED = 10
"""Open runs that are named one by one."""
AT_ONCE = 10_000
"""Open runs that are named in JSON."""


def forget(config: Path, name: str, *, drop_undelivered: bool, yes: bool, dry_run: bool, as_json: bool) -> int:
    """0 removed (or, with `dry_run`, shown), 1 when it was declined or could not be done, as with undelivered events."""
    settings = configuration.load(config)
    kind, known = _chosen(settings, config, name)
    held, still_open = read(settings, partial(_held, kind=kind, name=known))
    if dry_run:
        _show(held, still_open, as_json=as_json)
        return 0
    if held.pending and not drop_undelivered:
        print(f"error: {printable(_undelivered(held))}", file=sys.stderr)
        return 1
    if not yes and not _agreed(held, still_open):
        print("nothing was removed", file=sys.stderr)
        return 1
    return requests.forget(settings, f"{kind}:{known}", drop_undelivered=drop_undelivered, as_json=as_json)


def _chosen(settings: Settings, config: Path, name: str) -> tuple[TargetKind, str]:
    """The source or sink of this name. Raises `ConfigurationError` if the ledger does not have it, and if it is configured."""
    known = read(settings, inventory.names)
    kind, colon, rest = name.partition(":")
    kinds, wanted = ([TargetKind(kind)], rest) if colon and kind in set(TargetKind) else (list(TargetKind), name)
    configured = {
        TargetKind.SOURCE: {source.name for source in settings.sources},
        TargetKind.SINK: {sink.name for sink in settings.sinks},
    }
    found = [kind for kind in kinds if wanted in {*known[kind], *configured[kind]}]
    if not found:
        raise ConfigurationError([_unknown(name, wanted, known, configured)])
    if len(found) > 1:
        raise ConfigurationError([f"a source and a sink have the name {wanted}: use source:{wanted} or sink:{wanted}"])
    if wanted in configured[found[0]]:
        why = f"{found[0]} {wanted} is in the configuration ({config})"
        raise ConfigurationError(
            [f"{why}, so it was not removed: remove it there, restart the service, then run forget again"]
        )
    return found[0], wanted


def _unknown(name: str, wanted: str, known: dict[TargetKind, list[str]], configured: dict[TargetKind, set[str]]) -> str:
    names = {each: kind for kind in TargetKind for each in known[kind]}
    left = [f"{kind}:{each}" for kind in TargetKind for each in known[kind] if each not in configured[kind]]
    hint = did_you_mean(wanted, names)
    can = (
        f"forget can remove {', '.join(left)}"
        if left
        else "all sources and sinks of the ledger are in the configuration"
    )
    return f"the ledger has no source and no sink {name!r}; {can}{hint}"


def _held(conn: Connection, *, kind: TargetKind, name: str) -> tuple[Inventory, list[OpenRun]]:
    held = inventory.of(conn, kind, name)
    if held is None:  # it was removed since the names were read
        raise ConfigurationError([f"the ledger has no {kind} {name!r} any more: it was removed meanwhile"])
    return held, inventory.open_runs(conn, held.id, AT_ONCE) if kind is TargetKind.SOURCE else []


def _undelivered(held: Inventory) -> str:
    return (
        f"{inventory.undelivered(held)}; nothing was removed: let the service deliver them first (a sink must be in the "
        "configuration for that), or add --drop-undelivered to lose them"
    )


def _agreed(held: Inventory, still_open: list[OpenRun]) -> bool:
    effect = f"forget {held.kind} {held.name}"
    return confirmed("forget", effect, _lines(held, still_open), "This cannot be undone. Forget it?")


def _show(held: Inventory, still_open: list[OpenRun], *, as_json: bool) -> None:
    if as_json:
        show_json(_as_json(held, still_open))
        return
    for line in _lines(held, still_open):
        print(line)


def _as_json(held: Inventory, still_open: list[OpenRun]) -> dict[str, Any]:
    return {
        "request": "dry run",
        held.kind.value: held.name,
        **held.counts(),
        "by_sink": [
            {"source": each.source, "sink": each.sink, "undelivered": each.pending, "parked": each.parked}
            for each in held.owed
        ],
        "open": [{"run": run.key, "run_id": run.run_uuid, "job": run.job, "state": run.state} for run in still_open],
    }


def _lines(held: Inventory, still_open: list[OpenRun]) -> list[str]:
    lines = [f"would forget {held.kind} {held.name}, which left the configuration, with"]
    if held.kind is TargetKind.SOURCE:
        lines.append(f"  {counted(held.runs, 'run')} ({held.open:,} open) and all else that is stored of it")
        lines += [f"    {run.key} of {run.job}, {run.state} (run {run.run_uuid})" for run in still_open[:LISTED]]
        lines += [f"    and {held.open - LISTED:,} more"] if held.open > LISTED else []
        lines += ["    they get no terminal event: sinks continue to show them as open"] if held.open else []
    lines.append(f"  {counted(held.pending, 'undelivered event')}, {held.parked:,} parked")
    lines += [
        f"    source {each.source}, sink {each.sink}: {each.pending:,} undelivered, {each.parked:,} parked"
        for each in held.owed
    ]
    lines.append(f"  {counted(held.requests, 'request')} not done")
    new = (
        "what its look-back finds is reported again"
        if held.kind is TargetKind.SOURCE
        else "it gets the runs that are open then"
    )
    return [printable(line) for line in (*lines, f"If you configure this name again, it is a new {held.kind}: {new}.")]
