"""Names, ids and times as Marquez reads, rewrites and splits them."""

import hashlib
import re
import zlib
from calendar import monthrange
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from typing import Any
from uuid import NAMESPACE_URL, UUID

from simulators.marquez.answers import DatabaseFault, IllegalArgument, Unparsable

_NAMESPACE = re.compile(r"[a-zA-Z:;=/0-9_\-.@+]{1,1024}")
_REWRITTEN = re.compile(r"[^a-z:/A-Z0-9\-_.@+]")
_UUID = re.compile(r"[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}")
_LENIENT_UUID = re.compile(r"[0-9a-fA-F]{1,8}(-[0-9a-fA-F]{1,4}){3}-[0-9a-fA-F]{1,12}")
_TIME = re.compile(
    r"(?P<date>\d{4}-\d\d-\d\d)T(?P<minute>\d\d:\d\d)(:(?P<second>\d\d)(?P<fraction>\.\d{1,9})?)?"
    r"(?P<zone>Z|[+-]\d\d(:\d\d(:\d\d)?)?)?",
    re.IGNORECASE,
)
_NODE = re.compile("(dataset|datasetField|job|run):[^\n\r\x85\u2028\u2029]*")
_SEPARATOR = re.compile(r":(?!//|\d)")
_INDEX_ROW = 2_700


def valid_namespace(name: str) -> bool:
    return _NAMESPACE.fullmatch(name) is not None


def namespace(name: str) -> str:
    """The namespace as it is; raises where Marquez's own type refuses it."""
    if not valid_namespace(name):
        raise IllegalArgument(f"namespace '{name}'")
    return name


def rewritten(name: str) -> str:
    """A namespace as the event path stores it."""
    return _REWRITTEN.sub("_", name)


def name(text: str) -> str:
    """A job, dataset, field or source name; raises where it is blank."""
    if not text.strip():
        raise IllegalArgument("value must not be blank")
    return text


def storable(*texts: str | None) -> None:
    """Raises for what PostgreSQL cannot keep in a text column."""
    if any(text is not None and "\0" in text for text in texts):
        raise DatabaseFault('org.postgresql.util.PSQLException: ERROR: invalid byte sequence for encoding "UTF8": 0x00')


def indexable(*texts: str) -> None:
    """Raises for what PostgreSQL cannot put into an index row (it compresses first)."""
    storable(*texts)
    for text in texts:
        raw = text.encode("utf-8", "surrogatepass")
        if len(raw) > _INDEX_ROW and len(zlib.compress(raw)) > _INDEX_ROW:
            raise DatabaseFault(
                "org.postgresql.util.PSQLException: ERROR: index row size exceeds btree version 4 maximum 2704"
            )


def strict_uuid(text: str) -> UUID | None:
    return UUID(text) if _UUID.fullmatch(text) else None


def lenient_uuid(text: str) -> UUID | None:
    """As Java reads a UUID: groups may be short."""
    if not _LENIENT_UUID.fullmatch(text):
        return None
    groups = zip(text.split("-"), (8, 4, 4, 4, 12), strict=True)
    return UUID("-".join(group.rjust(width, "0") for group, width in groups))


def hashed_uuid(data: bytes) -> UUID:
    """A name-based UUID (version 3) of bytes alone, without a namespace."""
    return UUID(bytes=hashlib.md5(data, usedforsecurity=False).digest(), version=3)


def run_uuid(text: str) -> UUID:
    return lenient_uuid(text) or hashed_uuid(text.encode("utf-8", "replace"))


def parent_job_name(text: str) -> str:
    """What is before the last dot."""
    return text.rpartition(".")[0] if "." in text else text


def conflict_uuid(*parts: str) -> UUID:
    return hashed_uuid(NAMESPACE_URL.bytes + ".".join(parts).encode("utf-8", "replace"))


def parent_run_uuid(job_namespace: str, job: str, run_id: str) -> UUID:
    return lenient_uuid(run_id) or conflict_uuid(job_namespace, parent_job_name(job), run_id)


def version_uuid(*parts: object) -> UUID:
    return hashed_uuid(":".join(str(part) for part in parts if part is not None).encode("utf-8", "replace"))


@dataclass(frozen=True, slots=True)
class Stamp:
    """A moment, and how Marquez writes it back into the event."""

    at: datetime
    echo: str

    @property
    def short(self) -> str:
        """As Java prints it: no seconds where they are zero, fractions in groups of three digits."""
        found = _TIME.fullmatch(self.echo)
        assert found is not None
        fraction = (found["fraction"] or "").lstrip(".")
        digits = fraction.ljust(-(-len(fraction) // 3) * 3, "0")
        second = f":{found['second']}" if found["second"] != "00" or digits else ""
        return f"{found['date']}T{found['minute']}{second}{'.' + digits if digits else ''}{found['zone']}"


def stamp(value: Any) -> Stamp | None:
    """An event's time: ISO 8601 with or without a zone (then UTC), or a number of seconds."""
    if value is None or value == "":
        return None
    if isinstance(value, bool) or not isinstance(value, str | int | float):
        raise Unparsable("expected one of [VALUE_STRING, VALUE_NUMBER_INT, VALUE_NUMBER_FLOAT] for ZonedDateTime")
    if isinstance(value, int | float):
        return _numbered(value)
    found = _TIME.fullmatch(value)
    if found is None:
        raise Unparsable(f"Text '{value}' could not be parsed")
    zone = (found["zone"] or "Z").upper()
    fraction = (found["fraction"] or "").rstrip("0").rstrip(".")
    return Stamp(_moment(found), f"{found['date']}T{found['minute']}:{found['second'] or '00'}{fraction}{zone}")


def _numbered(value: float) -> Stamp:
    at = datetime.fromtimestamp(value, UTC)
    return Stamp(at, iso(at) or "")


def _moment(found: re.Match[str]) -> datetime:
    """Java's way: 24:00:00 is the next day's midnight, and February 30 the last of February."""
    year, month, day = map(int, found["date"].split("-"))
    hour, minute, second = map(int, (*found["minute"].split(":"), found["second"] or 0))
    try:
        last = monthrange(year, month)[1]
        midnight = hour == 24 and not (minute or second)
        base = datetime(
            year, month, min(day, last) if day <= 31 else day, 0 if midnight else hour, minute, second, tzinfo=UTC
        )
    except ValueError as error:
        raise Unparsable(f"Text '{found[0]}' could not be parsed: {error}") from error
    micros = round(float("0" + (found["fraction"] or ".0")) * 1_000_000)
    offset = _offset((found["zone"] or "Z").upper())
    return base + timedelta(days=midnight, microseconds=micros) - offset


def _offset(zone: str) -> timedelta:
    if zone == "Z":
        return timedelta()
    hours, minutes, seconds, *_ = [*map(int, zone[1:].split(":")), 0, 0]
    offset = timedelta(hours=hours, minutes=minutes, seconds=seconds)
    if offset > timedelta(hours=18):
        raise Unparsable(f"Zone offset not in valid range: {zone}")
    return -offset if zone[0] == "-" else offset


def instant(value: Any) -> datetime | None:
    """A time in a runs API body: the zone is required."""
    found = stamp(value)
    if isinstance(value, str) and value and not re.search(r"(Z|[+-]\d\d(:\d\d)*)$", value, re.IGNORECASE):
        raise Unparsable(f"Text '{value}' could not be parsed at index {len(value)}")
    return found.at if found else None


def at_parameter(text: str | None) -> datetime | None:
    """The `at` of a state call; without seconds or zone, and empty, it is an unhandled error."""
    if text is None:
        return None
    found = _TIME.fullmatch(text)
    if found is None or not found["second"] or re.search(r"(Z|:\d\d)$", found["zone"] or "", re.IGNORECASE) is None:
        raise DatabaseFault(f"Text '{text}' could not be parsed")
    try:
        date.fromisoformat(found["date"])
        return _moment(found)
    except (ValueError, Unparsable) as error:
        raise DatabaseFault(f"Text '{text}' could not be parsed") from error


def iso(at: datetime | None) -> str | None:
    """As Java writes an Instant: no fraction, or three or six digits of it."""
    if at is None:
        return None
    base = at.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S")
    if not at.microsecond:
        return f"{base}Z"
    digits = f"{at.microsecond:06d}"
    return f"{base}.{digits[:3] if digits.endswith('000') else digits}Z"


@dataclass(frozen=True, slots=True)
class Node:
    """A node id, split as Marquez splits it: at colons, but not before `//` or a digit once there are too many."""

    text: str

    @property
    def kind(self) -> str:
        return self.text.partition(":")[0]

    @property
    def versioned(self) -> bool:
        return "#" in self.text

    def parts(self, expected: int) -> list[str]:
        """The parts after the kind; raises for an id that cannot be split so."""
        simple = re.split("[:#]", self.text)
        while simple and not simple[-1]:
            simple.pop()
        if len(simple) < expected:
            raise DatabaseFault(f"Expected NodeId with {expected} parts. Got: {self.text}")
        return (simple if len(simple) == expected else self._split(expected))[1:]

    def _split(self, expected: int) -> list[str]:
        parts = []
        start = 0
        for _ in range(expected - 1):
            found = _SEPARATOR.search(self.text, start)
            if found is None:
                raise DatabaseFault("No match available")
            parts.append(self.text[start : found.start()])
            start = found.end()
        return [*parts, self.text[start:]]

    def names(self) -> list[str]:
        """Namespace, name and, for a field, the field; raises for names that Marquez refuses."""
        first, *rest = self.parts(4 if self.kind == "datasetField" else 3)
        return [namespace(first), *(name(text) for text in rest)]


def node(text: str) -> Node | None:
    """None where Marquez does not take the text for a node id at all (a line break is enough)."""
    return Node(text) if _NODE.fullmatch(text) else None


def node_id(kind: str, *parts: str) -> str:
    """An id in a graph; raises where the text would be none."""
    text = ":".join((kind, *parts))
    if _NODE.fullmatch(text) is None:
        raise IllegalArgument(f"node ID ({text})")
    return text


Now = Callable[[], datetime]
