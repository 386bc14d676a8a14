"""`forget` says what would go and asks before it has anything removed; what is configured and what is owed it refuses."""

import asyncio
import io
import json
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from sqlalchemy import Connection

from collector.app import forget, requests
from collector.app.removal import Removal
from collector.errors import ConfigurationError
from collector.ledger import configured_sources, queries, retirement
from collector.ledger.configured_sources import Configured
from collector.ledger.postgres.database import Database
from collector.ledger.postgres.store import Store as PostgresStore
from collector.ledger.requests import RequestState
from collector.ledger.sqlite.store import Store
from collector.testing.clock import SimulatedClock
from tests.servers.postgres import PASSWORD, PostgresServer
from tests.unit.app.test_parked_events import Terminal
from tests.unit.app.test_run_listing import CONFIG
from tests.unit.ledger.ledgers import ALL, COMPLETE, NOW, START, T0, Ledger, in_ledger

Forget = Callable[..., int]
Requests = list[tuple[str, bool]]


def happened(conn: Connection) -> None:
    """The configuration has the source `source` and the sink `marquez`; `old-plant`, `twin` and the sinks `mirror` and `twin`
    left.
    """
    ledger = Ledger(conn)
    ledger.configure(marquez=ALL, mirror=ALL, twin=ALL)
    names = [Configured("source"), Configured("old-plant"), Configured("twin"), Configured("marquez")]
    numbers = configured_sources.sync_sources(conn, names, NOW)
    ledger.source, ledger.lease = numbers["old-plant"], ledger._take("source:old-plant")
    ledger.happen("a", START, COMPLETE)
    ledger.happen("\x1b[31mb", START)
    ledger.park(ledger.claim("mirror")[0], sink="mirror")
    ledger.drain("marquez")
    configured_sources.sync_sources(conn, names[:1], NOW)


@pytest.fixture
def sent_requests(monkeypatch: pytest.MonkeyPatch) -> Requests:
    """Requests that the service would get; other tests show that it does them."""
    found: Requests = []

    def recorded(_: object, target: str, *, drop_undelivered: bool, as_json: bool) -> int:
        found.append((target, drop_undelivered))
        return 0

    monkeypatch.setattr(requests, "forget", recorded)
    return found


@pytest.fixture
def act(tmp_path: Path) -> Forget:
    config = tmp_path / "c.yaml"
    config.write_text(CONFIG.format(folder=tmp_path))

    in_ledger(tmp_path / "lineage.db", happened)

    def done(name: str, **how: bool) -> int:
        usual = {"drop_undelivered": False, "yes": False, "dry_run": False, "as_json": False}
        return forget.forget(config, name, **{**usual, **how})

    return done


@pytest.mark.parametrize(
    ("name", "words"),
    [
        (
            "source",
            r"source source is in the configuration \(.*c\.yaml\), so it was not removed: remove it there, restart",
        ),
        ("sink:marquez", r"sink marquez is in the configuration"),
        (
            "old-plnt",
            r"no source and no sink 'old-plnt'; forget can remove source:marquez, source:old-plant.*; did you mean old-plant\?",
        ),
        ("sink:old-plant", r"no source and no sink 'sink:old-plant'"),
        ("twin", r"a source and a sink have the name twin: use source:twin or sink:twin"),
        ("zzz", r"no sink 'zzz'; forget can remove"),
    ],
)
def test_what_cannot_be_meant_is_refused(act: Forget, sent_requests: Requests, name: str, words: str) -> None:
    with pytest.raises(ConfigurationError, match=words):
        act(name, yes=True, drop_undelivered=True)
    assert sent_requests == []


def test_what_a_configured_source_has_to_do_with_a_sink_of_its_name_is_said(
    act: Forget, sent_requests: Requests
) -> None:
    with pytest.raises(ConfigurationError, match="a source and a sink have the name marquez"):
        act("marquez", yes=True)
    assert act("source:marquez", yes=True) == 0
    assert sent_requests == [("source:marquez", False)]


def test_undelivered_events_are_dropped_only_on_demand(
    act: Forget, sent_requests: Requests, capsys: pytest.CaptureFixture[str]
) -> None:
    assert act("old-plant", yes=True) == 1
    said = capsys.readouterr().err
    assert "source old-plant has 5 undelivered events (2 to sink mirror, 3 to sink twin); nothing was removed" in said
    assert "add --drop-undelivered to lose them" in said
    assert sent_requests == []
    assert act("old-plant", yes=True, drop_undelivered=True) == 0
    assert sent_requests == [("source:old-plant", True)]


def test_it_says_what_goes_and_asks(
    act: Forget, sent_requests: Requests, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "stdin", Terminal("n\n"))
    assert act("old-plant", drop_undelivered=True) == 1
    said = capsys.readouterr()
    assert said.out == ""
    for line in (
        "would forget source old-plant, which left the configuration, with\n",
        "  2 runs (1 open) and all else that is stored of it\n",
        "     [31mb of transformation/1, running (run ",
        "    they get no terminal event: sinks continue to show them as open\n",
        "  5 undelivered events, 1 parked\n",
        "    source old-plant, sink mirror: 2 undelivered, 1 parked\n",
        "  0 requests not done\n",
        "If you configure this name again, it is a new source: what its look-back finds is reported again.\n",
        "This cannot be undone. Forget it? [y/N] nothing was removed\n",
    ):
        assert line in said.err
    assert sent_requests == []
    monkeypatch.setattr(sys, "stdin", Terminal("yes\n"))
    assert act("sink:twin", drop_undelivered=True) == 0
    assert "is a new sink: it gets the runs that are open then" in capsys.readouterr().err
    assert sent_requests == [("sink:twin", True)]


def test_without_a_terminal_it_refuses_without_yes(
    act: Forget, sent_requests: Requests, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "stdin", io.StringIO("y\n"))
    with pytest.raises(ConfigurationError, match=r"no terminal to ask on: add --yes, or --dry-run"):
        act("old-plant", drop_undelivered=True)
    assert sent_requests == []


def test_a_dry_run_shows_it_and_asks_nobody(
    act: Forget, sent_requests: Requests, capsys: pytest.CaptureFixture[str]
) -> None:
    assert act("mirror", dry_run=True) == 0
    assert capsys.readouterr().out.startswith("would forget sink mirror, which left the configuration, with\n  2 und")
    assert act("old-plant", dry_run=True, as_json=True) == 0
    shown = json.loads(capsys.readouterr().out)
    assert (shown["source"], shown["runs"], shown["open_runs"], shown["undelivered"]) == ("old-plant", 2, 1, 5)
    assert shown["by_sink"][0] == {"source": "old-plant", "sink": "mirror", "undelivered": 2, "parked": 1}
    assert [run["job"] for run in shown["open"]] == ["transformation/1"]
    assert sent_requests == []


async def test_what_took_too_long_goes_with_the_next_sweep(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    clock = SimulatedClock(T0)
    store = await asyncio.to_thread(Store.open, tmp_path / "lineage.db", holder="test", clock=clock)
    try:
        await store.write(happened)
        monkeypatch.setattr("collector.ledger.inventory.RUNS", 1)
        monkeypatch.setattr("collector.app.removal.ANSWERS_WITHIN", -1.0)
        answer = await Removal(store, clock).forget("source:old-plant", drop_undelivered=True)
        assert (answer.state, answer.answer["removed"]) == (RequestState.DONE, False)
        assert [row.name for row in await store.read(queries.sources)] == ["marquez", "old-plant", "source", "twin"]
        [left] = await store.read(retirement.retired_sources, 0)
        assert await Removal(store, clock).remove_source(left)
        assert [row.name for row in await store.read(queries.sources)] == ["marquez", "source", "twin"]
    finally:
        await store.close()


@pytest.mark.parametrize("name", ["source:old-plant", "sink:mirror"])
def test_without_a_service_it_is_forgotten_in_postgresql(
    tmp_path: Path, postgres: PostgresServer, capsys: pytest.CaptureFixture[str], name: str
) -> None:
    config, place = tmp_path / "c.yaml", postgres.url(postgres.new_database())
    database = Database(place, "lineage", lambda: PASSWORD)
    (tmp_path / "password").write_text(PASSWORD)
    ledger = f"ledger: {{url: '{place}', password_file: {tmp_path}/password}}\ncontrol_socket: {tmp_path}/socket\n"
    config.write_text(CONFIG.format(folder=tmp_path).partition("ledger:")[0] + ledger)

    async def written() -> None:
        store = await asyncio.to_thread(PostgresStore.open, database)
        await store.write(happened)
        await store.close()

    async def left() -> list[str]:
        store = await asyncio.to_thread(PostgresStore.open_readonly, database)
        sources, sinks = await store.read(queries.sources), await store.read(queries.sinks)
        await store.close()
        return [f"source:{row.name}" for row in sources] + [f"sink:{row.name}" for row in sinks]

    asyncio.run(written())
    before = asyncio.run(left())
    how = {"drop_undelivered": True, "yes": True, "dry_run": False, "as_json": True}
    assert forget.forget(config, name, **how) == 0
    said = json.loads(capsys.readouterr().out)
    assert (said["request"], said["removed"], said["parked"]) == ("done", True, 1)
    assert asyncio.run(left()) == [one for one in before if one != name]
    with pytest.raises(ConfigurationError, match="no source"):
        forget.forget(config, name, **how)
