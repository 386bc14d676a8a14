"""What sources and sinks did lately, as numbers for JSON and as paths and bars for pictures."""

from collections.abc import Collection, Mapping, Sequence
from typing import Any

from sqlalchemy import Connection

from collector.clock import duration, from_ms, moment
from collector.ledger import activity
from collector.ledger.activity import MINUTE_MS, Activity

HOUR_MS, DAY_MS = 60 * MINUTE_MS, 24 * 60 * MINUTE_MS
HOUR_STEP_MS, DAY_STEP_MS = 2 * MINUTE_MS, 10 * MINUTE_MS
_HOUR_STEPS, _DAY_STEPS = HOUR_MS // HOUR_STEP_MS, DAY_MS // DAY_STEP_MS
WIDE, HIGH = 120, 24
"""Of a sparkline, in units of its picture."""
_DAY_WIDE, _DAY_HIGH = 1000, 100
Day = Sequence[tuple[int, Activity]]
"""Starts of steps in epoch milliseconds, and what happened in each."""


def last_hours(conn: Connection, names: Collection[str], now_ms: int) -> dict[str, list[int]]:
    """Events of the last hour in steps of two minutes, the oldest first: what sources committed, and sinks acknowledged."""
    last = now_ms - now_ms % HOUR_STEP_MS
    starts = range(last - (_HOUR_STEPS - 1) * HOUR_STEP_MS, last + 1, HOUR_STEP_MS)
    found = activity.within(conn, names, starts[0], HOUR_STEP_MS)
    return {name: [_events(name, at.get(start)) for start in starts] for name, at in found.items()}


def _events(name: str, at: Activity | None) -> int:
    if at is None:
        return 0
    return at.ok if name.startswith("sink:") else at.events


def last_day(conn: Connection, name: str, now_ms: int) -> Day:
    """In steps of ten minutes; those in which nothing happened are not there."""
    last = now_ms - now_ms % DAY_STEP_MS
    first = last - (_DAY_STEPS - 1) * DAY_STEP_MS
    return sorted(activity.within(conn, [name], first, DAY_STEP_MS)[name].items())


def polls(day: Day) -> list[dict[str, Any]]:
    return [
        {"since": moment(since), "ok": at.ok, "failed": at.failed, **_times(at, at.ok + at.failed)}
        | {"requests": at.requests, "throttled": at.throttled, "events": at.events}
        for since, at in day
    ]


def deliveries(day: Day) -> list[dict[str, Any]]:
    return [
        {"since": moment(since), "acknowledged": at.ok, "repeated": at.failed, "parked": at.parked, **_times(at, at.ok)}
        for since, at in day
    ]


def _times(at: Activity, count: int) -> dict[str, float | None]:
    average = round(at.took_ms / count / 1000, 3) if count else None
    return {"average_seconds": average, "longest_seconds": at.longest_ms / 1000 if count else None}


def sparkline(counts: Sequence[int]) -> str:
    """Bars as one path, as high as their count is of the largest; empty where there is nothing."""
    most, step = max(counts, default=0), WIDE / max(1, len(counts))
    bars = ((place * step, max(1, round((HIGH - 1) * count / most))) for place, count in enumerate(counts) if count)
    return "".join(f"M{x:g} {HIGH}v-{high}h{step * 0.8:g}v{high}z" for x, high in bars)


def poll_bars(day: Day, now_ms: int) -> list[dict[str, Any]]:
    """A bar for each step: as high as its longest poll took, its lower part as large as the share of polls that failed."""
    longest = max((at.longest_ms for _, at in day), default=0) or 1
    return [
        _bar(since, now_ms, at.longest_ms / longest, at.failed / max(1, at.ok + at.failed), _poll_words(at))
        for since, at in day
        if at.ok or at.failed
    ]


def delivery_bars(day: Day, now_ms: int) -> list[dict[str, Any]]:
    """A bar for each step: as high as there were attempts, its lower part as large as the share of those that failed."""
    attempts = {since: at.ok + at.failed + at.parked for since, at in day}
    most = max(attempts.values(), default=0) or 1
    return [
        _bar(since, now_ms, count / most, (at.failed + at.parked) / count, _delivery_words(at))
        for since, at in day
        if (count := attempts[since])
    ]


def _bar(since: int, now_ms: int, share: float, failed: float, words: str) -> dict[str, Any]:
    place = _DAY_STEPS - 1 - (now_ms - now_ms % DAY_STEP_MS - since) // DAY_STEP_MS
    wide, high = _DAY_WIDE / _DAY_STEPS, max(4, round(_DAY_HIGH * share))
    bad = max(4, round(high * failed)) if failed else 0
    title = f"{from_ms(since):%Y-%m-%d %H:%M} UTC: {words}"
    return {"x": round(place * wide, 1), "wide": round(wide * 0.8, 1), "high": high, "bad": bad, "title": title}


def _poll_words(at: Activity) -> str:
    average = duration(at.took_ms / (at.ok + at.failed) / 1000)
    return f"{at.ok} ok, {at.failed} failed; {average} on average, {duration(at.longest_ms / 1000)} at most"


def _delivery_words(at: Activity) -> str:
    took = f"; {duration(at.took_ms / at.ok / 1000)} on average from commit" if at.ok else ""
    return f"{at.ok} acknowledged, {at.failed} to be repeated, {at.parked} parked{took}"


def quota(conn: Connection, name: str, now_ms: int) -> Mapping[str, int | None]:
    """As last known within an hour."""
    last = activity.latest(conn, name, now_ms - HOUR_MS)
    return {"remaining": last.remaining, "needed_a_minute": last.needed, "allowed_a_minute": last.allowed}


def of_last_hour(conn: Connection, name: str, now_ms: int) -> Activity:
    """All of it."""
    return activity.total([*activity.within(conn, [name], now_ms - HOUR_MS, HOUR_MS)[name].values()])
