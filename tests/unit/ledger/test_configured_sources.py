"""A source is its account: what becomes of sources that are renamed, moved, swapped and removed."""

import json

import pytest
from sqlalchemy import select

from collector.errors import ConfigurationError
from collector.ledger import configured_sources, memory, queries, requests, runs, schema, stored
from collector.ledger.configured_sources import Configured, KnownSource
from collector.ledger.requests import RequestKind
from tests.unit.ledger.ledgers import NOW, START, Ledger


@pytest.fixture
def plant(ledger: Ledger) -> Ledger:
    """The source of the account `cdf host p`, with a cursor, an open run and something remembered."""
    configured_sources.sync_sources(ledger.conn, [Configured("source", "cdf host p")], NOW)
    ledger.happen("r", START)
    ledger.commit(cursor="here", memory={"k": "v"}, polled_at_ms=NOW)
    return ledger


def sync(ledger: Ledger, *sources: Configured) -> dict[str, int]:
    return configured_sources.sync_sources(ledger.conn, sources, NOW)


def names(ledger: Ledger) -> dict[int, str]:
    return {row.id: row.name for row in queries.sources(ledger.conn)}


def test_a_renamed_source_goes_on_with_its_past(plant: Ledger, caplog: pytest.LogCaptureFixture) -> None:
    number = requests.add(plant.conn, RequestKind.POLL, "source:source", "{}", NOW)
    others = [requests.add(plant.conn, RequestKind.POLL, each, "{}", NOW) for each in ("source:s", "source:t")]
    assert sync(plant, Configured("new", "cdf host p")) == {"new": plant.source}
    assert names(plant) == {plant.source: "new"}
    assert runs.source_state(plant.conn, plant.source).cursor == "here"
    assert list(stored.known(plant.conn, plant.source, ["r"]).runs) == ["r"]
    assert memory.read(plant.conn, plant.source) == {"k": "v"}
    request = requests.get(plant.conn, number)
    assert request is not None
    assert request.target == "source:new"
    targets = [found.target for other in others if (found := requests.get(plant.conn, other)) is not None]
    assert targets == ["source:s", "source:t"]
    [logged] = [record for record in caplog.records if record.getMessage() == "source.renamed"]
    assert vars(logged)["fields"] | {"cause": ""} == {"source": "new", "former_name": "source", "cause": ""}


def test_a_former_name_says_what_the_account_cannot(plant: Ledger) -> None:
    assert sync(plant, Configured("new", "cdf other p", former_name="source")) == {"new": plant.source}
    assert sync(plant, Configured("new", "cdf other p", former_name="source")) == {"new": plant.source}, "for ever"
    assert sync(plant, Configured("newer", "cdf other p")) == {"newer": plant.source}, "the new account is known"


def test_a_former_name_that_nobody_had_does_no_harm(plant: Ledger) -> None:
    assert sync(plant, Configured("new", "cdf host q", former_name="never"))["new"] != plant.source


def test_another_account_is_a_new_source(plant: Ledger) -> None:
    assert sync(plant, Configured("other", "cdf host q"))["other"] != plant.source
    assert names(plant)[plant.source] == "source"


def test_a_source_that_was_away_comes_back_under_another_name(plant: Ledger) -> None:
    sync(plant, Configured("other", "cdf host q"))
    assert sync(plant, Configured("back", "cdf host p"))["back"] == plant.source


def test_a_name_that_stands_for_another_account_is_refused(plant: Ledger) -> None:
    with pytest.raises(ConfigurationError, match=r"'source' watches another account.*`former_name: source`"):
        sync(plant, Configured("source", "cdf host q"))
    assert sync(plant, Configured("source", "cdf host q", former_name="source")) == {"source": plant.source}


def test_two_sources_swap_their_names(plant: Ledger) -> None:
    other = sync(plant, Configured("source", "cdf host p"), Configured("b", "cdf host q"))["b"]
    swapped = sync(plant, Configured("b", "cdf host p"), Configured("source", "cdf host q"))
    assert swapped == {"b": plant.source, "source": other}
    assert names(plant) == {plant.source: "b", other: "source"}


def test_a_name_that_moved_on_is_free_for_another_account(plant: Ledger) -> None:
    numbers = sync(plant, Configured("b", "cdf host p"), Configured("source", "cdf host q"))
    assert numbers["b"] == plant.source
    assert numbers["source"] != plant.source


def test_an_account_that_had_two_names_goes_on_under_the_present_one(plant: Ledger) -> None:
    """As ledgers of earlier versions have it: what the former name left is kept beside it."""
    other = sync(plant, Configured("source", "cdf host p"), Configured("b"))["b"]
    numbers = sync(plant, Configured("b", "cdf host p"))
    assert numbers == {"b": other}
    assert names(plant) == {plant.source: "source", other: "b"}


def test_a_ledger_that_knows_no_accounts_learns_them_by_name(ledger: Ledger) -> None:
    assert sync(ledger, Configured("source", "cdf host p")) == {"source": ledger.source}
    assert sync(ledger, Configured("new", "cdf host p")) == {"new": ledger.source}


def test_what_left_and_came_back_is_marked(plant: Ledger) -> None:
    def retired() -> object:
        return plant.conn.scalar(select(schema.source.c.retired_at).where(schema.source.c.id == plant.source))

    sync(plant)
    assert retired() == NOW
    configured_sources.sync_sources(plant.conn, [], NOW + 5)
    assert retired() == NOW, "since it left"
    sync(plant, Configured("source", "cdf host p", lookback_ms=7))
    assert retired() is None


def test_no_account_is_kept_in_words(plant: Ledger) -> None:
    sync(plant, Configured("source", "cdf host p"), Configured("w", "wetransform host t someone@example.com"))
    kept = plant.conn.exec_driver_sql("SELECT * FROM source").mappings().all()
    assert "example.com" not in json.dumps([dict(row) for row in kept])


def test_the_mark_of_an_account_never_changes() -> None:
    """Ledgers have it: by another one their sources would be new, or refused."""
    assert Configured("source", "cdf host p").fingerprint == "ea104ed4eb1348f82f53bac6984bd3fa"


def test_two_pasts_are_not_merged_and_the_log_says_so(plant: Ledger, caplog: pytest.LogCaptureFixture) -> None:
    sync(plant, Configured("source", "cdf host p"), Configured("new", "cdf other q"))
    numbers = sync(plant, Configured("new", "cdf other q", former_name="source"))
    assert numbers["new"] != plant.source
    [logged] = [record for record in caplog.records if record.getMessage() == "source.unmerged"]
    assert vars(logged)["fields"]["former_name"] == "source"


@pytest.mark.parametrize(
    ("first", "second", "goes_on"), [(NOW, NOW - 1, 1), (NOW - 1, NOW, 2), (None, NOW, 2), (NOW, NOW, 2)]
)
def test_of_two_pasts_of_one_account_the_one_that_was_polled_last_goes_on(
    first: int | None, second: int | None, goes_on: int
) -> None:
    new = Configured("new", "cdf host p")
    known = [KnownSource(1, "a", new.fingerprint, first), KnownSource(2, "b", new.fingerprint, second)]
    assert configured_sources.matched([new], known)["new"].id == goes_on
