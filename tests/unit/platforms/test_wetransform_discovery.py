"""Runs that others started, found in the list of transformations."""

from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import timedelta
from typing import Any
from uuid import NAMESPACE_URL, uuid5

import pytest

from collector.clock import to_ms
from collector.errors import BadAnswer, SourceError
from collector.model import EventKind, Run, RunState, SkipKind
from collector.platforms.wetransform.changes import Change, Entry, Evidence, Memory, WatchedRun, compare, walked
from collector.platforms.wetransform.discovery import synthesised_id
from collector.platforms.wetransform.transformation_list import PER_PAGE
from collector.testing.clock import START, SimulatedClock
from collector.testing.faults import Fault, FaultKind
from collector.testing.poller import SimulatedPoller
from simulators.wetransform import Plan, Scenario
from tests.wetransform_rig import WetransformRig, watched, wetransform_rig


def minutes(count: float) -> timedelta:
    return timedelta(minutes=count)


class Reader:
    """Reads one entry again and again."""

    def __init__(self, *, shows_results: bool = False) -> None:
        self.memory = Memory()
        self.shows_results = shows_results

    def read(self, entry: Entry, at: float, own: frozenset[str] = frozenset()) -> Change | None:
        now = START + minutes(at)
        self.memory = Memory.load(self.memory.dump())
        seen, change = compare(self.memory, entry, now, own)
        shows = self.shows_results or entry.result is not None
        self.memory = walked(self.memory, {entry.key: seen}, now, shows_results=shows)
        return change


def entry(imported: float, result: str | None = None) -> Entry:
    return Entry("t", START + minutes(imported), result)


class TestChanges:
    def test_the_first_reading_reports_nothing(self) -> None:
        assert Reader().read(entry(0, "r1"), 1) is None

    @pytest.mark.parametrize(
        ("imported", "is_reported"), [(1, True), (0.5, True), (0, True), (-0.1, False), (-60, False)]
    )
    def test_an_entry_that_was_not_there_before_is_a_run_if_its_import_is_as_late(
        self, imported: float, is_reported: bool
    ) -> None:
        """But for a minute, as clocks differ: it may have come back from the trash."""
        memory = walked(Memory(), {}, START + minutes(1), shows_results=True)
        _, change = compare(memory, entry(imported, "r1"), START + minutes(2))
        assert (change is not None) == is_reported

    @pytest.mark.parametrize(
        ("seen_at", "is_open", "matters"),
        [(60, False, True), (59, False, False), (59, True, True), (-119, True, True), (-121, True, False)],
    )
    def test_a_watched_run_matters_from_the_walk_on_and_an_open_one_for_two_hours_before(
        self, seen_at: float, is_open: bool, matters: bool
    ) -> None:
        """In minutes; the walk was at 60."""
        own = WatchedRun("t", to_ms(START + minutes(seen_at)), is_open)
        now = START + minutes(0 if seen_at < 0 else 61)
        assert own.matters(to_ms(START + minutes(60)), now) == matters

    @pytest.mark.parametrize(
        ("later", "is_open", "needs"), [(0, True, False), (29, True, False), (31, True, True), (1, False, True)]
    )
    def test_a_watched_run_is_stored_when_it_ends_and_each_half_hour(
        self, later: float, is_open: bool, needs: bool
    ) -> None:
        stored = WatchedRun("t", to_ms(START), True)
        memory = Memory().with_own({"run": stored})
        seen = WatchedRun("t", to_ms(START + minutes(later)), is_open)
        assert memory.needs_storing("run", seen) == needs
        assert memory.needs_storing("another", seen)

    def test_a_result_that_comes_back_after_a_watched_run_is_no_change(self) -> None:
        reader = Reader()
        reader.read(entry(0, "r1"), 1)
        assert reader.read(entry(1), 2, own=frozenset({"t"})) is None
        assert reader.read(entry(1, "r1"), 3) is None

    def test_a_new_run_after_one_that_was_reported_by_its_import_is_reported_by_its_result(self) -> None:
        reader = Reader()
        for at in (1, 2, 30, 63):
            reported = reader.read(entry(0 if at == 1 else 2), at)
        assert reported is not None
        assert (reported.evidence, reported.after) == (Evidence.IMPORT, START + minutes(2)), "when it was noticed"
        again = reader.read(entry(64, "r1"), 65)
        assert again is not None
        assert again.evidence is Evidence.RESULT

    def test_the_hour_begins_anew_when_another_import_follows(self) -> None:
        reader = Reader()
        for imported, at in ((0, 1), (2, 3), (40, 41), (40, 65)):
            assert reader.read(entry(imported), at) is None
        assert reader.read(entry(40), 102) is not None

    def test_once_a_result_was_shown_an_import_alone_is_not_believed_any_more(self) -> None:
        reader = Reader()
        reader.read(entry(0, "r1"), 1)
        for imported, at in ((0, 2), (3, 4), (3, 70)):
            assert reader.read(entry(imported), at) is None

    def test_a_new_result_is_reported_once(self) -> None:
        reader = Reader()
        reader.read(entry(0, "r1"), 1)
        change = reader.read(entry(2, "r2"), 3)
        assert change is not None
        assert (change.evidence, change.content) == (Evidence.RESULT, (START + minutes(2)).isoformat())
        assert change.after == START + minutes(1)
        assert reader.read(entry(2, "r2"), 5) is None

    def test_a_source_refreshed_before_its_result_is_one_run(self) -> None:
        reader = Reader()
        reader.read(entry(0, "r1"), 1)
        assert reader.read(entry(2, "r1"), 3) is None
        change = reader.read(entry(2, "r2"), 5)
        assert change is not None
        assert change.content == (START + minutes(2)).isoformat()
        assert reader.read(entry(2, "r2"), 500) is None

    def test_where_only_the_result_changes_each_one_counts(self) -> None:
        reader = Reader()
        reader.read(entry(0, "r1"), 1)
        changes = [reader.read(entry(0, result), at) for at, result in ((2, "r2"), (3, "r3"), (4, "r3"))]
        assert [change.content if change else None for change in changes] == ["r2", "r3", None]

    def test_where_results_are_shown_a_refresh_alone_is_no_run(self) -> None:
        reader = Reader(shows_results=True)
        reader.read(entry(0), 1)
        assert [reader.read(entry(2), at) for at in (3, 10, 100, 1000)] == [None] * 4

    def test_where_no_results_are_shown_a_refresh_counts_after_a_while(self) -> None:
        reader = Reader()
        reader.read(entry(0), 1)
        changes = [reader.read(entry(2), at) for at in (3, 10, 62, 63, 64, 1000)]
        assert [change is not None for change in changes] == [False, False, False, True, False, False]
        assert changes[3] is not None
        assert changes[3].evidence is Evidence.IMPORT

    def test_a_result_that_comes_late_is_of_the_run_that_was_reported(self) -> None:
        reader = Reader()
        reader.read(entry(0), 1)
        reader.read(entry(2), 3)
        assert reader.read(entry(2), 70) is not None
        assert reader.read(entry(2, "r1"), 80) is None
        assert reader.read(entry(90, "r2"), 91) is not None

    def test_an_address_that_expires_is_no_run_nor_is_its_return(self) -> None:
        reader = Reader()
        reader.read(entry(0, "r1"), 1)
        assert [reader.read(entry(0, result), at) for at, result in ((2, None), (3, "r1"))] == [None, None]

    def test_a_new_transformation_with_a_result_has_run(self) -> None:
        reader = Reader()
        reader.read(Entry("other", START, None), 1)
        assert reader.read(entry(2, "r1"), 3) is not None

    def test_one_that_comes_back_from_the_trash_has_not(self) -> None:
        reader = Reader()
        reader.read(Entry("other", START, None), 60)
        assert reader.read(entry(2, "r1"), 61) is None

    def test_what_a_watched_run_changes_is_no_news(self) -> None:
        reader = Reader()
        reader.read(entry(0, "r1"), 1)
        assert reader.read(entry(2, "r2"), 3, frozenset({"t"})) is None
        assert reader.read(entry(2, "r2"), 5) is None
        assert reader.read(entry(6, "r3"), 7) is not None

    @pytest.mark.parametrize("cursor", ["", "x", "[]", "{}", "7", '{"v":1,"walked_at":"x","prints":{},"own":{}}'])
    def test_a_cursor_of_somebody_else(self, cursor: str) -> None:
        with pytest.raises(ValueError):
            Memory.load(cursor)

    def test_ids_follow_from_what_changed(self) -> None:
        change = Change(entry(2, "r2"), Evidence.RESULT, "c", START)
        made = synthesised_id("https://api.wetransform.com", None, change)
        assert made.version == 5
        assert made == synthesised_id("https://api.wetransform.com", None, replace(change, after=START + minutes(9)))
        others = {
            synthesised_id("https://api.wetransform.com", "cust-1", change),
            synthesised_id("https://other.example", None, change),
            synthesised_id("https://api.wetransform.com", None, replace(change, content="d")),
        }
        assert len(others | {made}) == 4


@pytest.fixture
def clock() -> SimulatedClock:
    return SimulatedClock()


@pytest.fixture
async def rig(clock: SimulatedClock) -> AsyncIterator[WetransformRig]:
    async with wetransform_rig(clock) as rig:
        yield rig


async def begun(rig: WetransformRig, **settings: Any) -> SimulatedPoller:
    """After the first walk, which only learns what is there."""
    poller = rig.poller(discover=True, **settings)
    await poller.cycle()
    rig.clock.advance(60)
    await poller.cycle()
    assert poller.runs == {}
    return poller


def only(poller: SimulatedPoller) -> Run:
    [run] = poller.runs.values()
    return run


class TestWalking:
    async def test_a_scheduled_run_is_made_up_once_and_marked(self, rig: WetransformRig) -> None:
        poller = await begun(rig)
        real = rig.start(seconds=20)
        began = rig.clock.now()
        await poller.follow(300, every=10)
        run = only(poller)
        assert run.state is RunState.SUCCEEDED
        assert poller.kinds(run.key) == [EventKind.START, EventKind.COMPLETE]
        assert run.run_id.version == 5
        assert str(run.run_id) == run.key != real.key
        assert run.facts.tags == (("synthesised", "true"),)
        assert run.facts.ids["synthesised_from"] == "download_url"
        assert run.facts.external_id is None
        assert "automation_id" not in run.facts.ids
        assert run.job.name == f"transformation/{real.transformation.key}"
        assert run.facts.outputs is not None
        assert run.facts.outputs[0].fields
        assert began <= poller.at(run.key, EventKind.START).at <= poller.at(run.key, EventKind.COMPLETE).at

    async def test_each_change_is_one_run(self, rig: WetransformRig) -> None:
        poller = await begun(rig)
        for _ in range(3):
            rig.start(seconds=20)
            await poller.follow(200, every=10)
        assert len(poller.runs) == 3

    @pytest.mark.parametrize("silent", ["changes_imported_at", "changes_source_file_url"])
    async def test_whichever_field_the_vendor_changes(self, rig: WetransformRig, silent: str) -> None:
        rig.simulator.state.behaviour.change({silent: False})
        poller = await begun(rig)
        rig.start(seconds=20)
        await poller.follow(200, every=10)
        assert only(poller).state is RunState.SUCCEEDED
        assert (only(poller).queued_at is None) == (silent == "changes_imported_at"), "an old import began no new run"

    async def test_where_the_list_shows_no_results_it_takes_longer(self, rig: WetransformRig) -> None:
        rig.simulator.state.behaviour.full_list_entries = False
        poller = await begun(rig)
        rig.start(seconds=20)
        await poller.follow(600, every=60)
        assert poller.runs == {}
        await poller.follow(4000, every=60)
        assert only(poller).facts.ids["synthesised_from"] == "imported_at"
        assert only(poller).ended_at is not None

    async def test_a_run_that_failed_is_not_taken_for_a_success(self, rig: WetransformRig) -> None:
        poller = await begun(rig)
        rig.start(seconds=20)
        await poller.follow(200, every=10)
        rig.start(Scenario.FAILING, 20)
        await poller.follow(5000, every=60)
        assert len(poller.runs) == 1

    async def test_signed_addresses_that_change_are_no_change(self, rig: WetransformRig) -> None:
        poller = await begun(rig)
        rig.start(seconds=20)
        await poller.follow(200, every=10)
        rig.simulator.state.behaviour.signed_files = False
        await poller.follow(200, every=10)
        assert len(poller.runs) == 1
        assert "signature" not in repr(poller.runs) + str(poller.cursor)

    async def test_after_a_restart_nothing_is_reported_twice_and_nothing_is_missed(self, rig: WetransformRig) -> None:
        poller = await begun(rig)
        rig.start(seconds=20)
        await poller.follow(200, every=10)
        rig.start(seconds=20)
        rig.clock.advance(500)
        poller.platform = rig.adapter(discover=True)
        await poller.cycle()
        assert len(poller.runs) == 2

    async def test_what_is_marked_as_read_goes_no_further_than_the_clock_of_the_service(
        self, rig: WetransformRig
    ) -> None:
        """Ours runs an hour fast: a transformation that is new to the list had its run since the last walk all the same."""
        true = rig.simulator.state.now
        rig.simulator.state.now = lambda: true() - timedelta(hours=1)
        poller = await begun(rig)
        await poller.follow(200, every=10)
        made = rig.simulator.state.add_transformation(rig.simulator.account)
        rig.start(seconds=20, transformation=made)
        await poller.follow(300, every=10)
        assert len(poller.runs) == 1

    async def test_a_walk_that_broke_off_reports_the_same_runs_again(self, rig: WetransformRig) -> None:
        poller = await begun(rig)
        for _ in range(250):
            rig.simulator.state.add_transformation(rig.simulator.account)
        rig.start(seconds=5, transformation=rig.simulator.transformations[-1])
        rig.clock.advance(100)
        found: list[str] = []

        async def walk_until_it_breaks() -> None:
            async for page in poller.platform.poll([], poller.cursor):
                found.extend(seen.key for seen in page.observations)
                rig.simulator.faults.plan(Fault(FaultKind.HTML, path="GET /transformations"))

        with pytest.raises(SourceError):
            await walk_until_it_breaks()
        rig.simulator.faults.clear()
        await poller.cycle()
        assert found
        assert set(poller.runs) == set(found)

    async def test_runs_that_are_watched_are_not_made_up_too(self, rig: WetransformRig) -> None:
        poller = await begun(rig)
        run = rig.start(seconds=200)
        await watched(poller, run)
        await poller.follow(600, every=10)
        assert set(poller.runs) == {run.key}

    async def test_nor_those_that_waited_for_long(self, rig: WetransformRig) -> None:
        poller = await begun(rig)
        run = rig.start(Scenario.REVIEW, 40_000)
        await watched(poller, run)
        await poller.follow(50_000, every=120)
        assert set(poller.runs) == {run.key}
        assert poller.runs[run.key].state is RunState.SUCCEEDED

    async def test_nor_those_that_were_watched_before_a_restart(self, rig: WetransformRig) -> None:
        poller = await begun(rig)
        run = rig.start(Scenario.REVIEW, 2_000)
        await watched(poller, run)
        await poller.follow(300, every=10)
        rig.clock.advance(3_000)
        poller.platform = rig.adapter(discover=True)
        await poller.follow(300, every=10)
        assert set(poller.runs) == {run.key}

    async def test_the_cursor_is_stored_when_there_is_something_to_store(self, rig: WetransformRig) -> None:
        poller = await begun(rig)
        gone, ends = rig.start(Scenario.VANISHING, 30), rig.start(seconds=30)
        await watched(poller, gone)
        await watched(poller, ends)
        await poller.follow(300, every=5)
        before = len(poller.pages)
        await poller.follow(30_000, every=20)
        cursors = [page.cursor for page in poller.pages[before:] if page.cursor is not None]
        assert len(cursors) <= 30_000 / 60 + 2

    async def test_pages_that_shift_while_they_are_walked(self, rig: WetransformRig) -> None:
        for _ in range(450):
            rig.simulator.state.add_transformation(rig.simulator.account)
        poller = await begun(rig)
        before = len(rig.simulator.transformations)
        for it in rig.simulator.transformations[:5]:
            rig.start(seconds=5, transformation=it)
        rig.clock.advance(100)
        rig.simulator.state.behaviour.insertions_during_walk = 2
        await poller.follow(400, every=10)
        assert len(rig.simulator.transformations) == before + 2
        assert len(poller.runs) == 5

    @pytest.mark.parametrize("total", ["whole", "of the page"])
    async def test_an_entry_that_one_walk_missed_is_not_taken_for_a_new_one(
        self, rig: WetransformRig, total: str
    ) -> None:
        """Its run ended before that walk. Where the total does not show it, the run is lost: that is what the total is for."""
        poller = await begun(rig)
        rig.start(seconds=5)
        rig.clock.advance(100)
        listed = (
            await rig.adapter()._api.get("/transformations", customer=None, params={"per_page": PER_PAGE})
        ).payload
        missed = rig.simulator.transformations[0].key
        entries = [each for each in listed["entries"] if each["transformation_id"] != missed]
        payload = {**listed, "entries": entries} | ({"total_items": len(entries)} if total == "of the page" else {})
        body = {"success": True, "payload": payload, "product": None, "template_handle": None, "source_id": None}
        rig.simulator.faults.plan(Fault(FaultKind.STATUS, path="GET /transformations$", status=200, body=body))
        await poller.cycle()
        assert len(poller.runs) == 0
        await poller.follow(300, every=10)
        assert len(poller.runs) == (1 if total == "whole" else 0)

    async def test_only_the_sources_own_customer_is_looked_at(self, rig: WetransformRig) -> None:
        it = rig.simulator.state.add_transformation(rig.simulator.account, customer="cust-1")
        mine, theirs = await begun(rig), await begun(rig, customer="cust-1")
        rig.start(seconds=20, transformation=it)
        for poller in (mine, theirs):
            await poller.follow(200, every=10)
        assert (len(mine.runs), len(theirs.runs)) == (0, 1)
        assert only(theirs).handle["customer"] == "cust-1"
        assert "cust-1" not in repr((only(theirs).facts, only(theirs).job))

    @pytest.mark.parametrize(
        ("settings", "seen"),
        [
            ({"include": ["New hires*"]}, 1),
            ({"include": ["transformation/*"]}, 1),
            ({"include": ["Prices*"]}, 0),
            ({"exclude": ["New hires*"]}, 0),
        ],
    )
    async def test_include_and_exclude(self, rig: WetransformRig, settings: dict[str, Any], seen: int) -> None:
        poller = await begun(rig, **settings)
        rig.start(seconds=20)
        await poller.follow(200, every=10)
        assert len(poller.runs) == seen
        filtered = [skip for skip in poller.skips if skip.kind is SkipKind.FILTERED]
        assert len(filtered) == 1 - seen

    async def test_a_walk_takes_a_tenth_of_the_requests_at_most(self, rig: WetransformRig) -> None:
        for _ in range(800):
            rig.simulator.state.add_transformation(rig.simulator.account)
        poller = rig.poller(discover=True, requests_per_minute=30)
        await poller.follow(995, every=5)
        lists = (await rig.requests())["GET /transformations"]
        assert lists == 10 * 5

    async def test_an_entry_that_cannot_be_read_is_reported(self, rig: WetransformRig) -> None:
        body = {
            "success": True,
            "payload": {"total_pages": 1, "entries": [None, {"transformation_id": "17"}]},
        }
        rig.simulator.faults.plan(Fault(FaultKind.STATUS, path="GET /transformations", status=200, body=body))
        poller = rig.poller(discover=True)
        await poller.cycle()
        assert [skip.kind for skip in poller.skips] == [SkipKind.ROW, SkipKind.ROW]

    @pytest.mark.parametrize("totals", [{}, {"total_pages": 10**6}])
    async def test_a_list_that_repeats_itself_ends_the_walk(self, rig: WetransformRig, totals: dict[str, int]) -> None:
        """As of a service that does not obey `page`."""
        entries = [{"transformation_id": str(uuid5(NAMESPACE_URL, str(number)))} for number in range(PER_PAGE)]
        body = {"success": True, "payload": {"entries": entries, **totals}}
        rig.simulator.faults.plan(Fault(FaultKind.STATUS, path="GET /transformations", status=200, body=body, times=50))
        with pytest.raises(BadAnswer, match="page 2 has no entry that the pages before it did not have"):
            await rig.poller(discover=True).cycle()
        assert len(rig.statuses) == 2

    async def test_a_last_page_may_hold_what_moved_there_meanwhile(self, rig: WetransformRig) -> None:
        entries = [{"transformation_id": str(uuid5(NAMESPACE_URL, str(number)))} for number in range(PER_PAGE)]
        for some in (entries, entries[-1:]):
            body = {"success": True, "payload": {"entries": some, "total_pages": 2}}
            rig.simulator.faults.plan(Fault(FaultKind.STATUS, path="GET /transformations", status=200, body=body))
        poller = rig.poller(discover=True)
        await poller.cycle()
        assert Memory.load(poller.cursor).walked_at is not None

    async def test_a_cursor_that_cannot_be_read_begins_anew(
        self, rig: WetransformRig, caplog: pytest.LogCaptureFixture
    ) -> None:
        poller = rig.poller(discover=True)
        poller.cursor = "of another adapter"
        await poller.cycle()
        assert Memory.load(poller.cursor).walked_at is not None
        [logged] = [record for record in caplog.records if record.message == "discovery.restarted"]
        assert logged.fields["source"] == "wt"  # type: ignore[attr-defined]

    async def test_without_the_wish_nothing_is_listed(self, rig: WetransformRig) -> None:
        poller = rig.poller()
        rig.simulator.start(rig.simulator.transformations[0], Plan(Scenario.INSTANT))
        await poller.follow(200, every=10)
        assert poller.runs == {}
        assert rig.statuses == []
