"""The status of sources and sinks, for pages and the command line: read from the ledger and from the running loops."""

from collections.abc import Collection, Mapping, Sequence
from datetime import datetime
from typing import Any

from sqlalchemy import Connection

from collector import views
from collector.clock import Clock, moment, to_ms
from collector.errors import ConfigurationError
from collector.ledger import queries, replicas, requests, shard_count, shards
from collector.ledger.queries import SinkRow, SourceRow
from collector.ledger.replicas import Replica
from collector.ledger.shards import Shards
from collector.reports import SourceStatus
from exporters.delivery.reports import SinkState, SinkStatus


def source_id(conn: Connection, name: str) -> int:
    """The ledger's number of a source. Raises `ConfigurationError` for a source that it does not have."""
    known = {row.name: row.id for row in queries.sources(conn)}
    if name not in known:
        raise ConfigurationError([f"the ledger has no source {name!r}; it has {', '.join(known) or 'none'}"])
    return known[name]


def status(
    conn: Connection,
    clock: Clock,
    sources: Collection[str],
    polled: Mapping[str, SourceStatus],
    delivered: Mapping[str, SinkStatus],
    ledger: Mapping[str, Any],
    new_names: Mapping[str, str] | None = None,
) -> dict[str, Any]:
    """Sources and sinks as rows for people. `sources` are configured; `polled` and `delivered` come from the running
    loops and are empty without them. `new_names` are those that sources of the ledger get at the next start.
    """
    now_ms = to_ms(clock.now())
    under_way = {each.target: views.backfill(each) for each in requests.backfills(conn)}
    held = {row.name: row.holder for row in queries.leases(conn) if row.left_ms}
    live = replicas.live(conn)
    renamed = new_names or {}
    of_sources = [
        _source(row, polled.get(row.name), row.name in sources, now_ms) | _change(row, row.name in sources, renamed)
        for row in queries.sources(conn)
    ]
    of_sinks = [
        _sink(row, delivered.get(row.name), now_ms) | {"shards_wait": _shards_wait(row, live, held)}
        for row in queries.sinks(conn)
    ]
    return {
        "running": bool(polled),
        "sources": [_with(row, f"source:{row['source']}", held, under_way) for row in of_sources],
        "sinks": [_with(row, f"sink:{row['sink']}", held, under_way) for row in of_sinks],
        "replicas": _replicas(live, held),
        "ledger": dict(ledger),
    }


def _with(
    row: dict[str, Any], target: str, held: Mapping[str, str], under_way: Mapping[str, dict[str, Any]]
) -> dict[str, Any]:
    holders = sorted({holder for name, holder in held.items() if shards.whole_name(name) == target})
    return {**row, "holder": ", ".join(holders) or None, "backfill": under_way.get(target)}


def _shards_wait(row: SinkRow, live: Sequence[Replica], held: Mapping[str, str]) -> str | None:
    if row.retired_at is not None:
        return None
    leases: dict[str, set[str]] = {}
    for name, holder in held.items():
        leases.setdefault(holder, set()).add(name)
    wishes = {each.id: each.shards_of_sinks for each in live}
    return shard_count.waits_for(row.name, Shards(row.shards, row.shards_next), wishes, leases)


def divisions(conn: Connection, configured: Mapping[str, int]) -> dict[str, str]:
    """Of sinks that get another number of shards, or would get one by a configuration with these numbers: when that happens."""
    live, held = replicas.live(conn), {row.name: row.holder for row in queries.leases(conn) if row.left_ms}
    found = dict[str, str]()
    for row in queries.sinks(conn):
        if (waits := _shards_wait(row, live, held)) is not None:
            found[row.name] = waits
        elif configured.get(row.name, row.shards) != row.shards:
            numbers = f"the ledger has {row.shards} for it, this configuration {configured[row.name]}"
            found[row.name] = f"{numbers}: the number changes once all live replicas have the same one"
    return found


def _replicas(live: Sequence[Replica], held: Mapping[str, str]) -> list[dict[str, Any]]:
    """Each row has the difference from the replica that started first."""
    return [
        {
            "replica": each.id,
            "version": each.version,
            "configuration": each.fingerprint,
            "started": moment(each.started),
            "leases": sum(holder == each.id for holder in held.values()),
            "wrong": _difference(live[0], each),
        }
        for each in live
    ]


def _difference(first: Replica, other: Replica) -> str | None:
    parts = [
        words
        for words, differs in (
            ("another version", other.version != first.version),
            ("another configuration", other.fingerprint != first.fingerprint),
        )
        if differs
    ]
    return f"{' and '.join(parts)} than replica {first.id}: an upgrade under way, or a mistake" if parts else None


def status_of_loops(
    polled: Mapping[str, SourceStatus], delivered: Mapping[str, SinkStatus], ledger: Mapping[str, Any]
) -> dict[str, Any]:
    """As `status`, from the running loops alone while the ledger cannot be read."""
    sources = [{"source": each.name, "state": _state(each), "wrong": each.wrong} for each in polled.values()]
    sinks = [
        {"sink": each.sink, "state": each.state.value, "in_flight": each.in_flight, "wrong": each.problem}
        for each in delivered.values()
    ]
    return {"running": True, "sources": sources, "sinks": sinks, "replicas": [], "ledger": dict(ledger)}


def _source(row: SourceRow, polled: SourceStatus | None, configured: bool, now_ms: int) -> dict[str, Any]:
    state = _state(polled) if polled is not None else None
    return {
        "source": row.name,
        "state": "retired" if row.retired_at is not None and not configured else state,
        "last_success": moment(row.polled_at),
        "lag_seconds": _age(row.polled_at, now_ms) if configured else None,
        "active": row.active,
        "abandoned": row.abandoned,
        "pending": row.pending,
        "parked": row.parked,
        "wrong": polled.wrong if polled else None,
        "last_error": polled.last_error if polled else None,
        "last_error_at": _time(polled.failed_at) if polled else None,
    }


def _change(row: SourceRow, configured: bool, new_names: Mapping[str, str]) -> dict[str, str | None]:
    """What the next start of the service does with the source."""
    if (name := new_names.get(row.name)) is not None:
        words = f"this configuration calls it {name}: it goes on under that name once the service starts with it"
    elif not configured and row.retired_at is None:
        words = "this configuration does not have it: the service retires it once it starts with it"
    else:
        words = None
    return {"change": words}


def _state(polled: SourceStatus) -> str | None:
    if polled.standby:
        return "standby"
    return polled.result.value if polled.result is not None else None


def _sink(row: SinkRow, delivered: SinkStatus | None, now_ms: int) -> dict[str, Any]:
    return {
        "sink": row.name,
        "state": _sink_state(row, delivered),
        "last_success": _time(delivered.last_success_at) if delivered else None,
        "lag_seconds": _age(row.oldest, now_ms),
        "pending": row.pending,
        "owed_bytes": row.owed_bytes,
        "parked": row.parked,
        "shards": row.shards,
        "shards_next": row.shards_next,
        "doubts": row.doubts,
        "in_flight": delivered.in_flight if delivered else None,
        "wrong": (delivered.problem if delivered else None) or row.refusing or row.cause,
        "last_error": delivered.last_error if delivered else None,
        "last_error_at": _time(delivered.failed_at) if delivered else None,
    }


def _sink_state(row: SinkRow, delivered: SinkStatus | None) -> str | None:
    if row.retired_at is not None:
        return "retired"
    if delivered is None:
        return None
    is_refusing = row.refusing and delivered.state is SinkState.DELIVERING
    return "refusing" if is_refusing else delivered.state.value


def _time(at: datetime | None) -> str | None:
    return None if at is None else at.isoformat(timespec="milliseconds")


def _age(since_ms: int | None, now_ms: int) -> float | None:
    return None if since_ms is None else round(max(0, now_ms - since_ms) / 1000, 1)
