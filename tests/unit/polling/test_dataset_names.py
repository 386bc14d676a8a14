"""Pages and the graph have the names that datasets have in events, also for jobs that ran before an alias was given."""

from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import pytest

from collector.errors import LeaseLost
from collector.ledger import graph, leases
from collector.lifecycle import VanishedPolicy
from collector.lineage.aliases import Alias, Aliases
from collector.lineage.events import EventMaker
from collector.model import Dataset, Facts, RunState
from collector.polling.commits import Writer
from tests.unit.polling.test_families import Source, opened

ALIASES = Aliases((Alias("cdf://h/p", "raw/warehouse/*", "bigquery", "plant.*"),))
READS = Dataset("cdf://h/p", "raw/warehouse/parts")
WRITES = Dataset("cdf://h/p", "model/parts")


@pytest.fixture
async def source(tmp_path: Path) -> AsyncIterator[Source]:
    made = await opened(tmp_path, VanishedPolicy.LEAVE_OPEN)
    yield made
    await made.store.close()


def with_aliases(writer: Writer, aliases: Aliases) -> Writer:
    return replace(writer, maker=EventMaker("plant", aliases=aliases))


async def shown(source: Source) -> set[tuple[str, str]]:
    rows = await source.store.read(graph.datasets, None, 10)
    return {(row.namespace, row.name) for row in rows}


async def run(source: Source, key: str) -> None:
    facts = Facts(inputs=(READS,), outputs=(WRITES,))
    await source.see(source.seen(key, RunState.SUCCEEDED, settled=True, facts=facts))


async def test_datasets_are_shown_as_events_name_them(source: Source) -> None:
    source.writer = with_aliases(source.writer, ALIASES)
    await run(source, "a")
    [_, end] = await source.delivered()
    assert b'"plant.parts"' in end
    assert await shown(source) == {("bigquery", "plant.parts"), ("cdf://h/p", "model/parts")}


async def test_what_was_shown_before_an_alias_came_or_went_is_shown_under_the_new_name(
    source: Source, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("collector.polling.commits.JOBS", 2)
    for key in "abcde":
        await run(source, key)
    assert ("cdf://h/p", "raw/warehouse/parts") in await shown(source)
    for aliases, name in ((ALIASES, ("bigquery", "plant.parts")), (Aliases(), ("cdf://h/p", "raw/warehouse/parts"))):
        source.writer = with_aliases(source.writer, aliases)
        await source.writer.name_datasets(source.store)
        assert await shown(source) == {name, ("cdf://h/p", "model/parts")}


async def test_nothing_is_written_where_the_names_are_the_same(source: Source, monkeypatch: pytest.MonkeyPatch) -> None:
    await run(source, "a")

    async def write(*_: object) -> None:
        raise AssertionError

    monkeypatch.setattr(source.store, "write", write)
    await source.writer.name_datasets(source.store)


async def test_who_has_lost_the_lease_renames_nothing(source: Source) -> None:
    await run(source, "a")
    await source.store.write(leases.take, "source:plant", "test", 10**9)
    source.writer = with_aliases(source.writer, ALIASES)
    with pytest.raises(LeaseLost):
        await source.writer.name_datasets(source.store)
