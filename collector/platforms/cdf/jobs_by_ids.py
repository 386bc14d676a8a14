"""Jobs by their ids, where CDF may refuse some of them: one that is forbidden, or too large to read, holds up no other."""

from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from collector.errors import BadAnswer
from collector.http import Received
from collector.model import Skip, SkipKind
from collector.platforms.answers import Forbidden
from collector.platforms.cdf.api import Api
from collector.platforms.cdf.repeated_pages import Summary, summarized

UNPROVEN = 7
"""Requests without one good answer, after which the fault is the source's: for all ids, both halves, and all quarters."""
MOST = 40
"""Requests for one list of ids. What is not found out by then is asked for with the next poll."""


@dataclass(frozen=True, slots=True)
class JobsFound:
    """Rows as they came; `refused` are the ids about which nothing is known, each with the error."""

    rows: list[Any]
    refused: Mapping[int, BadAnswer | Forbidden]
    answer: Received | None = None
    """The one answer about all ids, where it is known: its rows were not read."""
    summary: Summary | None = None
    """Of the one answer about all ids, if it can be compared with others."""

    def skips(self) -> Iterator[Skip]:
        for job_id, error in self.refused.items():
            yield Skip(SkipKind.ROW, f"job {job_id}", f"{error}; it is asked for again")


async def jobs_by_ids(api: Api, ids: Sequence[int], is_known: Callable[[Summary], bool]) -> JobsFound:
    """Where the answer for all is an error that may be about some of them, the halves are asked for. Raises `SourceError`
    where no part of them can be read, unless they are so few that each was asked for alone. An answer about all that `is_known` is
    not read.
    """
    rows: list[Any] = []
    summary: Summary | None = None
    refused: dict[int, BadAnswer | Forbidden] = {}
    parts, requests, answered = deque([list(ids)]), 0, False
    while parts:
        part, requests = parts.popleft(), requests + 1
        try:
            answer = await api.jobs_answer(part)
            summary = summarized(answer.body) if requests == 1 else None
            if summary is not None and is_known(summary):
                return JobsFound([], {}, answer, summary)
            rows += api.jobs_in(answer)
            answered = True
        except (BadAnswer, Forbidden) as error:
            if not answered and requests >= UNPROVEN:
                raise
            if len(part) == 1 or requests >= MOST:
                refused |= dict.fromkeys(part, error)
            else:
                parts += [part[: len(part) // 2], part[len(part) // 2 :]]
    return JobsFound(rows, refused, summary=summary)
