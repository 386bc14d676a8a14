"""The definitions of all outputs, which come in pages and are read under a limit of requests: once for all runs that need them."""

import asyncio
from typing import Any

import pytest

from collector.errors import Unavailable
from collector.platforms.dataprep.definitions import MISSED_FOR, PAGE, Definitions
from collector.platforms.unread_times import UnreadTimes

OUTPUTS = 3 * PAGE


class Answers:
    """An API with `OUTPUTS` outputs, one for each recipe. `offsets` are those that were asked for; the one at `hangs_at` gets no
    answer until `answers` is set.
    """

    def __init__(self) -> None:
        self.offsets: list[int] = []
        self.hangs_at: int | None = None
        self.asked, self.answers = asyncio.Event(), asyncio.Event()
        self.fault: Exception | None = None

    async def get(self, *path: str, query: dict[str, Any]) -> object:
        assert path == ("outputObjects",)
        offset = query["offset"]
        self.offsets.append(offset)
        if offset == self.hangs_at:
            self.asked.set()
            await self.answers.wait()
        if self.fault is not None:
            raise self.fault
        numbers = range(offset + 1, min(offset + PAGE, OUTPUTS) + 1)
        return {"data": [{"id": number, "flowNode": {"id": number}} for number in numbers], "count": OUTPUTS}


class Source:
    def __init__(self) -> None:
        self.now = 0.0
        self.api = Answers()
        self.definitions = Definitions(self.api, None, lambda: self.now, UnreadTimes())  # type: ignore[arg-type] # no deployment is asked

    async def key(self, recipe: int) -> str | None:
        found = await self.definitions.output(str(recipe), None)
        return found.key if found is not None else None

    async def give_up(self, offset: int) -> None:
        """A run whose time is over while the page at `offset` is asked for."""
        self.api.hangs_at = offset
        run = asyncio.create_task(self.key(300))
        async with asyncio.timeout(10):
            await self.api.asked.wait()
        run.cancel()
        await asyncio.gather(run, return_exceptions=True)
        self.api.hangs_at = None


async def test_runs_that_need_the_outputs_at_once_share_the_requests() -> None:
    source = Source()
    source.api.hangs_at = PAGE
    runs = [asyncio.create_task(source.key(recipe)) for recipe in (1, 150, 300, 999)]
    async with asyncio.timeout(10):
        await source.api.asked.wait()
    source.api.answers.set()
    assert await asyncio.gather(*runs) == ["1", "150", "300", None]
    assert source.api.offsets == [0, PAGE, 2 * PAGE]


async def test_the_next_run_goes_on_where_one_was_given_up() -> None:
    """With more pages than the limit allows within the time of one run, none would ever have them all."""
    source = Source()
    await source.give_up(PAGE)
    source.api.fault = Unavailable("busy")
    with pytest.raises(Unavailable):
        await source.key(300)
    source.api.fault = None
    assert await source.key(300) == "300"
    assert source.api.offsets == [0, PAGE, PAGE, PAGE, 2 * PAGE]


async def test_what_was_read_long_ago_is_read_anew() -> None:
    """Outputs that came or went meanwhile have moved the others to other pages."""
    source = Source()
    await source.give_up(PAGE)
    source.now += MISSED_FOR
    assert await source.key(1) == "1"
    assert source.api.offsets == [0, PAGE, 0, PAGE, 2 * PAGE]
