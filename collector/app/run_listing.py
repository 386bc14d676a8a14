"""`runs` and `runs show`: runs of the ledger, read beside a running service or without one."""

import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any, Never

from sqlalchemy import Connection

from collector import views
from collector.app import configuration, live_view
from collector.app.listings import look, read
from collector.app.status import source_id
from collector.app.tables import Column, Kind, show, show_head, show_json, show_lines, show_one
from collector.clock import Clock, SystemClock, moment, to_ms
from collector.errors import ConfigurationError, LineageError
from collector.ledger import history, run_queries
from collector.ledger.history import RunHistory
from collector.ledger.run_queries import RunDetail, RunFilter, RunRow
from collector.model import RunState
from config.quantities import parse_moment

COLUMNS = (
    Column("source", Kind.NAME, 60),
    Column("run", weight=90),
    Column("state", weight=99),
    Column("platform_state", Kind.NAME, 10),
    Column("job", Kind.NAME, 95),
    Column("started", Kind.MOMENT, 80),
    Column("ended", Kind.MOMENT, 20),
    Column("duration_seconds", Kind.SECONDS, 85, bounded_by="duration_bounded"),
    Column("duration_bounded", Kind.ASIDE),
    Column("run_id", weight=30),
    Column("error", Kind.NOTE),
)
_OF_ONE = (
    *COLUMNS,
    *(
        Column(name)
        for name in ("last_seen", "not_watched_since", "only_sinks", "parent", "link", "inputs", "outputs", "problems")
    ),
)
_EVENTS = (Column("type"), Column("time", Kind.MOMENT), Column("committed", Kind.MOMENT), Column("fault", Kind.NOTE))
_PARKED = (
    Column("sink", Kind.NAME),
    Column("type"),
    Column("parked", Kind.MOMENT),
    Column("attempts"),
    Column("cause", Kind.NOTE),
)


_LISTS = {"events", "parked_events"}


@dataclass(frozen=True, slots=True)
class Wanted:
    """Which runs to list, in the words of the options; None for all."""

    source: str | None = None
    state: str | None = None
    since: str | None = None
    job: str | None = None

    def checked(self) -> "_Checked":
        """Raises `ConfigurationError`."""
        return _Checked(self.source, _state(self.state), time_given("--since", self.since), self.job)


@dataclass(frozen=True, slots=True)
class _Checked:
    source: str | None
    state: RunState | None
    since_ms: int | None
    job: str | None

    def filter(self, conn: Connection) -> RunFilter:
        return RunFilter(source_id(conn, self.source) if self.source is not None else None, self.state, self.job)

    def latest(self, limit: int, conn: Connection) -> list[dict[str, Any]]:
        return _shown(conn, run_queries.runs(conn, limit, self.filter(conn), since_ms=self.since_ms))


def runs(config: Path, wanted: Wanted, *, limit: int, as_json: bool) -> int:
    settings = configuration.load(config)
    rows = read(settings, partial(wanted.checked().latest, limit))
    show(rows, COLUMNS, as_json=as_json, nothing="no runs" if wanted == Wanted() else "no such runs")
    return 0


def _shown(conn: Connection, rows: Sequence[RunRow]) -> list[dict[str, Any]]:
    details = run_queries.details(conn, [row.run_uuid for row in rows])
    return [views.summary(row, views.known_run(details.get(row.run_uuid))) for row in rows]


def follow(config: Path, wanted: Wanted, *, limit: int, as_json: bool, clock: Clock | None = None) -> Never:
    """The latest runs until the user ends it: redrawn on a terminal, else a line for each run that changed."""
    settings, chosen, clock = configuration.load(config), wanted.checked(), clock or SystemClock()
    if sys.stdout.isatty() and not as_json:
        latest = partial(chosen.latest, min(limit, live_view.room()))
        live_view.run(partial(look, settings, latest), _redraw, clock)
    if not as_json:
        show_head(COLUMNS)
    changes = _Changes(chosen, limit)
    lines = partial(show_lines, columns=COLUMNS, as_json=as_json)
    live_view.run(partial(look, settings, changes.found), lambda rows, _: lines(rows), clock)


def _redraw(rows: list[dict[str, Any]], _: datetime) -> None:
    live_view.redraw(partial(show, rows, COLUMNS, as_json=False, nothing="no runs yet"))


class _Changes:
    """At first the latest runs, the oldest first, then at each look those with events made since.

    Replicas commit beside each other, so an event may become visible after one with a higher number: the last numbers
    are looked at again.
    """

    def __init__(self, wanted: _Checked, limit: int) -> None:
        self._wanted, self._limit = wanted, limit
        self._last: int | None = None
        self._seen: set[int] = set()

    def found(self, conn: Connection) -> list[dict[str, Any]]:
        if self._last is None:
            self._last = run_queries.latest_event(conn)
            self._seen = set(run_queries.runs_changed(conn, self._last - _AGAIN, _AT_ONCE))
            return self._wanted.latest(self._limit, conn)[::-1]
        made = run_queries.runs_changed(conn, self._last - _AGAIN, _AT_ONCE, self._wanted.filter(conn))
        fresh = {row.run_uuid: row for number, row in made.items() if row is not None and number not in self._seen}
        self._last = max((self._last, *made))
        self._seen = {number for number in (*self._seen, *made) if number > self._last - _AGAIN}
        return _shown(conn, list(fresh.values()))


_AGAIN = 100
_AT_ONCE = 1000


def one(config: Path, run: str, *, source: str | None, as_json: bool) -> int:
    """`run` is the run's UUID or the platform's own id. Raises `LineageError` where there is none, or more than one."""

    def found(conn: Connection) -> tuple[list[RunRow], RunDetail | None, RunHistory]:
        number = source_id(conn, source) if source is not None else None
        rows = run_queries.runs_by_id(conn, run, source_id=number)
        stored = run_queries.details(conn, [rows[0].run_uuid]).get(rows[0].run_uuid) if len(rows) == 1 else None
        return rows, stored, history.of_run(conn, stored.id) if stored is not None else RunHistory((), ())

    rows, stored, kept = read(configuration.load(config), found)
    if len(rows) != 1:
        raise LineageError(_not_one(run, rows))
    parked = [(event.kind, each) for event in kept.events for each in event.deliveries if each.parked_at is not None]
    shown = {
        **views.summary(rows[0], known := views.known_run(stored)),
        **views.more(rows[0], known),
        "only_sinks": views.only_sinks(kept),
        "events": [{column.name: event[column.name] for column in _EVENTS} for event in views.events(kept)],
        "parked_events": [
            {
                "sink": each.sink,
                "type": kind.value,
                "parked": moment(each.parked_at),
                "attempts": each.attempts,
                "cause": each.cause,
            }
            for kind, each in sorted(parked, key=lambda pair: pair[1].sink)
        ],
    }
    if as_json:
        show_json(shown)
    else:
        _show(shown)
    return 0


def _show(shown: Mapping[str, Any]) -> None:
    flat = {
        name: ", ".join(value) or None if isinstance(value, list) else value
        for name, value in shown.items()
        if name not in _LISTS
    }
    show_one(flat, _OF_ONE)
    print()
    show(shown["events"], _EVENTS, as_json=False, nothing="the ledger keeps no events of it")
    if shown["parked_events"]:
        print()
        show(shown["parked_events"], _PARKED, as_json=False, nothing="")


def _not_one(run: str, rows: Sequence[RunRow]) -> str:
    if not rows:
        return f"the ledger has no run {run!r}; `lineage-collector runs` lists those that it has"
    sources = ", ".join(row.source for row in rows)
    return f"several sources have a run {run!r} ({sources}): choose one with --source, or give its run id"


def _state(word: str | None) -> RunState | None:
    if word is None:
        return None
    try:
        return RunState(word)
    except ValueError:
        raise ConfigurationError([f"--state {word!r} is not valid; use {', '.join(RunState)}"]) from None


def time_given(option: str, words: str | None) -> int | None:
    """Epoch milliseconds of a moment as it was given to an option. Raises `ConfigurationError`."""
    if words is None:
        return None
    try:
        return to_ms(parse_moment(words, datetime.now(UTC)))
    except ValueError as error:
        raise ConfigurationError([f"{option}: {error}"]) from error
