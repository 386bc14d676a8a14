"""Durations such as `1h30m`, sizes such as `10MiB`, moments such as `2026-01-31`, as types for the models.

Not pydantic's own: its durations take a bare number as seconds and no `1h30m`, and its errors do not say what to write.
"""

import re
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from typing import Annotated, Any

from pydantic import AfterValidator, BeforeValidator, Field, PlainSerializer, PlainValidator, WithJsonSchema

# No look-ahead: Helm checks patterns with Go's regular expressions, which have none.
DURATION_PATTERN = r"^([0-9]+d)?([0-9]+h)?([0-9]+m)?([0-9]+s)?([0-9]+ms)?$"
_DURATION = re.compile(DURATION_PATTERN)
_SIZE = re.compile(r"^([0-9]{1,15}) ?(B|kB|MB|GB|TB|KiB|MiB|GiB|TiB)$")
_UNITS = {"d": 86_400_000, "h": 3_600_000, "m": 60_000, "s": 1_000, "ms": 1}
_BYTES = {
    "B": 1,
    **{f"{letter}B": 1000**power for power, letter in enumerate("kMGT", 1)},
    **{f"{letter}iB": 1024**power for power, letter in enumerate("KMGT", 1)},
}
_LONGEST = timedelta(days=36_500)
_EARLIEST_YEAR, _LATEST_YEAR = 1970, 2200
"""No platform has runs of other years, and nobody computes with times at the ends of the calendar."""


def parse_duration(text: str) -> timedelta:
    """`1d2h3m4s5ms` with any parts left out; the message of `ValueError` is for people."""
    match = _DURATION.fullmatch(text)
    if match is None or not text:
        raise ValueError(f"invalid duration {text!r}; use for example 30s, 1h30m or 7d{_hint(text)}")
    parts = (re.fullmatch(r"([0-9]{1,15})([a-z]+)", part) for part in match.groups() if part)
    milliseconds = sum(int(part[1]) * _UNITS[part[2]] if part else 10**18 for part in parts)
    if milliseconds > _LONGEST.total_seconds() * 1000:
        raise ValueError(f"{text!r} is longer than a hundred years")
    return timedelta(milliseconds=milliseconds)


def _hint(text: str) -> str:
    if text.startswith("-"):
        return " (it cannot be negative)"
    return " (a unit is missing)" if text.isdecimal() else ""


def format_duration(value: timedelta) -> str:
    rest, parts = round(value.total_seconds() * 1000), []
    for unit, size in _UNITS.items():
        count, rest = divmod(rest, size)
        if count:
            parts.append(f"{count}{unit}")
    return "".join(parts) or "0s"


def parse_size(text: str) -> int:
    """Bytes. `10MiB` is 10 * 1024 * 1024, `10MB` is ten million."""
    match = _SIZE.fullmatch(text)
    if match is None:
        raise ValueError(f"invalid size {text!r}; use for example 512KiB, 10MiB or 1GB{_hint(text)}")
    return int(match[1]) * int(_BYTES[match[2]])


def format_size(value: int) -> str:
    for unit in ("TiB", "GiB", "MiB", "KiB"):
        if value and value % _BYTES[unit] == 0:
            return f"{value // _BYTES[unit]}{unit}"
    return f"{value}B"


def parse_lookback(text: str) -> timedelta | datetime | None:
    """A duration, a date (its first moment in UTC), a date with a time, or `none`."""
    if text == "none":
        return None
    if not re.match(r"\d{4}-", text):
        return parse_duration(text)
    moment = _moment(text)
    if moment is None or not _EARLIEST_YEAR <= moment.year < _LATEST_YEAR:
        raise ValueError(f"invalid date {text!r}; use for example 2026-01-31 or 2026-01-31T08:00:00Z")
    return moment


def parse_moment(text: str, now: datetime) -> datetime:
    """The moment that a duration lies before `now`, or that a date names."""
    given = None
    with suppress(ValueError):
        given = parse_lookback(text)
    if given is None:
        raise ValueError(f"{text!r} is not a time; use for example 2h, 7d or 2026-01-31")
    return now - given if isinstance(given, timedelta) else given


def _moment(text: str) -> datetime | None:
    try:
        moment = datetime.fromisoformat(text)
        return moment.astimezone(UTC) if moment.tzinfo else moment.replace(tzinfo=UTC)
    except (ValueError, OverflowError):
        return None


def _text(value: Any, wanted: str) -> str:
    """What was written, where that can be a quantity."""
    if value is None or isinstance(value, bool | list | dict):
        kind = {type(None): "nothing", bool: "true or false", list: "a list"}.get(type(value), "a mapping")
        raise ValueError(f"must be {wanted}, not {kind}")
    return str(value)


def _as_duration(value: Any) -> Any:
    return value if isinstance(value, timedelta) else parse_duration(_text(value, "a duration, such as 30s"))


def _as_size(value: Any) -> Any:
    text = _text(value, "a size, such as 10MiB")
    return value if isinstance(value, int) else parse_size(text)


def _as_lookback(value: Any) -> Any:
    return (
        value
        if value is None or isinstance(value, timedelta | datetime)
        else parse_lookback(_text(value, "a duration, a date or none"))
    )


def _write_lookback(value: timedelta | datetime | None) -> str:
    if value is None:
        return "none"
    return value.isoformat() if isinstance(value, datetime) else format_duration(value)


def _positive(value: timedelta) -> timedelta:
    if value <= timedelta():
        raise ValueError("it must be longer than nothing")
    return value


DURATION_SCHEMA = {"type": "string", "pattern": DURATION_PATTERN, "minLength": 2, "examples": ["30s", "1h30m", "7d"]}
_SIZE_SCHEMA = {
    "anyOf": [{"type": "integer", "minimum": 1}, {"type": "string", "pattern": _SIZE.pattern}],
    "examples": ["512KiB", "10MiB", "1GB"],
}
_LOOKBACK_SCHEMA = {
    "type": "string",
    "pattern": f"^none$|^\\d{{4}}-\\d{{2}}-\\d{{2}}|{DURATION_PATTERN}",
    "minLength": 2,
    "examples": ["1h", "2026-01-31", "none"],
}

Duration = Annotated[
    timedelta,
    BeforeValidator(_as_duration),
    AfterValidator(_positive),
    PlainSerializer(format_duration, return_type=str),
    WithJsonSchema(DURATION_SCHEMA),
]
"""A span longer than nothing, written `30s`, `1h30m`, `7d`."""

Size = Annotated[
    int,
    BeforeValidator(_as_size),
    Field(ge=1),
    PlainSerializer(format_size, return_type=str),
    WithJsonSchema(_SIZE_SCHEMA),
]
"""Bytes, written `10MiB` or as a plain number."""


def parse_share(text: str) -> float:
    """`40%` as 0.4; the message of `ValueError` is for people."""
    match = _SHARE.fullmatch(text)
    if match is None or not 0 < float(match[1]) <= 100:
        raise ValueError(f"{text!r} is not a valid share: write a percentage above 0% and up to 100%, for example 40%")
    return float(match[1]) / 100


_SHARE = re.compile(r"^([0-9]{1,3}(?:\.[0-9]{1,3})?) ?%$")


def _as_share(value: Any) -> Any:
    return value if isinstance(value, float) else parse_share(_text(value, "a share, such as 40%"))


def format_share(value: float) -> str:
    return f"{value * 100:g}%"


Share = Annotated[
    float,
    BeforeValidator(_as_share),
    Field(gt=0, le=1),
    PlainSerializer(format_share, return_type=str),
    WithJsonSchema({"type": "string", "pattern": _SHARE.pattern, "examples": ["40%", "100%"]}),
]
"""A part of a whole, written `40%`, which is 0.4."""

Lookback = Annotated[
    timedelta | datetime | None,
    PlainValidator(_as_lookback),
    PlainSerializer(_write_lookback, return_type=str),
    WithJsonSchema(_LOOKBACK_SCHEMA),
]
"""How far back: a duration, a date, or `none`, which is None."""
