"""Open runs that were asked for by their ids and not answered. The list of jobs may show them still. Pure."""

from collections.abc import Collection, Iterable, Mapping
from dataclasses import replace
from typing import NamedTuple

from collector.model import Poll, Run
from collector.platforms.cdf.observations import is_of
from collector.platforms.cdf.rows import JobRow


class Absent(NamedTuple):
    """CDF left the run out, which makes it `is_missing`, or nothing is known of it this time."""

    run: Run
    is_missing: bool


def left_out(watched: Mapping[int, Run], rows: Iterable[JobRow], unknown: Collection[int] | None) -> dict[int, Absent]:
    """Those of the runs that no row is of; nothing is known of `unknown` ones, None for all."""
    others = watched.keys() - {row.id for row in rows}
    return {one: Absent(watched[one], unknown is not None and one not in unknown) for one in others}


def shown_again(absent: dict[int, Absent], rows: Iterable[JobRow]) -> dict[int, Run]:
    """Those of the absent runs that these rows are of. They are absent no more."""
    found = {row.id for row in rows if row.id in absent and is_of(row, absent[row.id].run)}
    return {one: absent.pop(one).run for one in found}


def with_absent(absent: Mapping[int, Absent], last: Poll) -> Poll:
    """The last page of a poll, which says what nobody showed."""
    missing = (each.run.key for each in absent.values() if each.is_missing)
    unread = (each.run.key for each in absent.values() if not each.is_missing)
    return replace(last, missing=(*last.missing, *missing), unread=(*last.unread, *unread))
