"""What the Dataprep adapter sees at each level, on good days and bad ones."""

from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any

import pytest

from collector.clock import to_ms
from collector.errors import AuthFailed, BadAnswer, SourceError, Throttled, Unavailable
from collector.ledger.resend import Window
from collector.model import EventKind, Poll, RunState, SkipKind
from collector.platforms.answers import Forbidden
from collector.platforms.base import Rereading
from collector.platforms.dataprep import cursor as cursors
from collector.platforms.dataprep import rows
from collector.platforms.dataprep.levels import Level as Found
from collector.polling.backfill import past
from collector.polling.past_runs import ended_at
from collector.testing.faults import Fault, FaultKind
from simulators.dataprep import SCENARIOS, Feature, Level, Scenario, Switches
from tests.dataprep_rig import DataprepRig, dataprep_rig

LEVELS = list(Level)
OUTCOMES = [name for name in SCENARIOS if name not in {"stuck", "long"}]


async def start(rig: DataprepRig, *scenarios: str | Scenario, **how: Any) -> list[str]:
    """Runs of these scenarios, under watch where no list shows them."""
    runs = [rig.simulator.start_run(scenario, **how) for scenario in scenarios]
    if Feature.LIST not in rig.simulator.features:
        for run in runs:
            await rig.watch(run)
    return [str(run.id) for run in runs]


async def poll(rig: DataprepRig) -> None:
    """A cycle without enrichment."""
    async for page in rig.platform.poll(rig.poller.due(), rig.poller.cursor):
        rig.poller._take(page)


def events_of(rig: DataprepRig) -> dict[str, list[tuple[EventKind, datetime, bool]]]:
    """START and terminal event of each run: kind, time, and whether the time is the platform's."""
    events: dict[str, list[tuple[EventKind, datetime, bool]]] = {}
    for key, transition in rig.poller.transitions:
        if transition.kind is not EventKind.OTHER:
            events.setdefault(key, []).append((transition.kind, transition.at, transition.within is None))
    return events


@pytest.mark.parametrize("level", LEVELS)
async def test_every_scenario_comes_out_right(level: Level) -> None:
    async with dataprep_rig(level) as rig:
        await start(rig, *SCENARIOS)
        await rig.poller.follow(1500, every=20)
        assert rig.wrong() == []
        deleted = [run for run in rig.poller.runs.values() if run.abandoned_at is not None]
        assert [run.state for run in deleted] == [RunState.UNKNOWN]


@pytest.mark.parametrize("level", LEVELS)
@pytest.mark.parametrize(
    "switches",
    [
        Switches(),
        Switches(stage_times=True, dates="seconds", string_ids=True, details="object"),
        Switches(late_publish_reopens=True, stages_touch_group=True, failed_validation_has_stages=True),
        Switches(flow_embed=False, null_embedded_jobs=True, error_text="embed", outputs="planned"),
        Switches(spec="empty", missing_status=400, deleted_status=400, fields_strip_creator=True),
        Switches(spec="missing", absent_status=403, sort="none", order="shuffled", strict_query=False),
    ],
)
async def test_the_scenario_does_not_depend_on_when_the_polls_came(level: Level, switches: Switches) -> None:
    seen = []
    for every in (7.0, 60.0, 700.0):
        async with dataprep_rig(level, switches) as rig:
            await start(rig, *[scenario for scenario in OUTCOMES if scenario not in {"deleted", "deleted_later"}])
            rig.clock.advance(every / 7)
            await rig.poller.follow(800, every=every)
            assert rig.wrong() == []
            seen.append(events_of(rig))
    assert seen[0] == seen[1] == seen[2]
    assert all(exact for events in seen[0].values() for _, _, exact in events)


@pytest.mark.parametrize("level", LEVELS)
async def test_the_times_are_those_of_the_stages(level: Level) -> None:
    async with dataprep_rig(level) as rig:
        [key] = await start(rig, "complete")
        await rig.poller.follow(600)
        run = rig.simulator.workspace.runs[int(key)]
        start_event, end = rig.poller.at(key, EventKind.START), rig.poller.at(key, EventKind.COMPLETE)
        assert start_event.at == min(stage.created_at for stage in run.stages)
        assert end.at == max(stage.timeline.changes[-1].at for stage in run.stages)
        assert end.at < run.group.changes[-1].at, "the group's own time comes after its stages'"


async def test_a_later_edit_does_not_move_the_end() -> None:
    async with dataprep_rig() as rig:
        [key] = await start(rig, "complete")
        rig.clock.advance(600)
        rig.simulator.workspace.rename(rig.simulator.workspace.runs[int(key)], "renamed after the end")
        rig.clock.advance(60)
        await rig.poller.cycle()
        run = rig.simulator.workspace.runs[int(key)]
        assert rig.poller.at(key, EventKind.COMPLETE).at == max(stage.timeline.changes[-1].at for stage in run.stages)


async def test_the_end_is_never_after_the_poll_by_the_platforms_clock() -> None:
    """It shows what it dates half a minute ahead of itself."""
    async with dataprep_rig() as rig:
        [key] = await start(rig, "complete", lag=-30.0)
        await rig.poller.follow(300, every=2)
        assert rig.poller.at(key, EventKind.START).at < rig.poller.at(key, EventKind.COMPLETE).at
        end = max(stage.timeline.changes[-1].at for stage in rig.simulator.workspace.runs[int(key)].stages)
        assert rig.poller.at(key, EventKind.COMPLETE).at < end - timedelta(seconds=20)


@pytest.mark.parametrize("level", [Level.L1, Level.L2])
@pytest.mark.parametrize(
    "switches",
    [
        Switches(),
        Switches(max_limit=40),
        Switches(sort="none"),
        Switches(sort="none", order="oldest"),
        Switches(sort="none", order="shuffled"),
        Switches(sort="descending"),
        Switches(dates="seconds"),
    ],
)
async def test_no_page_is_lost(level: Level, switches: Switches) -> None:
    async with dataprep_rig(level, switches) as rig:
        for _ in range(26):
            await start(rig, *["quick"] * 10)
            rig.clock.advance(0.7)
        rig.clock.advance(60)
        for _ in range(16 if switches.order == "shuffled" else 1):
            await poll(rig)
        assert len(rig.poller.runs) == 260
        assert all(run.state is RunState.SUCCEEDED for run in rig.poller.runs.values())


@pytest.mark.parametrize("level", [Level.L1, Level.L2])
@pytest.mark.parametrize("switches", [Switches(), Switches(sort="none", order="oldest"), Switches(sort="none")])
async def test_rows_that_change_during_a_walk_are_not_lost(level: Level, switches: Switches) -> None:
    """Each request takes time in which runs begin, change and end, so offsets shift all the while."""
    async with dataprep_rig(level, switches) as rig:
        rig.seconds_each = 0.4
        for _ in range(20):
            await start(rig, *["complete"] * 10, pace=0.3)
            rig.clock.advance(0.5)
        for _ in range(10):
            await start(rig, *["quick"] * 3)
            await poll(rig)
        rig.clock.advance(600)
        await poll(rig)
        assert len(rig.poller.runs) == len(rig.simulator.workspace.runs)
        assert all(run.state is RunState.SUCCEEDED for run in rig.poller.runs.values())


async def test_many_rows_of_one_moment_fill_more_than_a_page() -> None:
    async with dataprep_rig() as rig:
        await start(rig, *["stuck"] * 230)
        await rig.poller.cycle()
        assert len(rig.poller.runs) == 230


async def test_an_order_that_only_seems_to_be_kept_hides_nothing() -> None:
    """The first page happens to be in order of change, the older changes come after it."""
    async with dataprep_rig(Level.L2, Switches(sort="none", order="oldest"), initial_lookback="3h") as rig:
        begin = rig.clock.now()
        for number in range(100):
            await start(rig, "quick", at=begin - timedelta(seconds=1000 - number * 9))
        for number in range(50):
            await start(rig, "quick", at=begin - timedelta(seconds=7200 - number))
        rig.clock.advance(60)
        await poll(rig)
        assert len(rig.poller.runs) == 150


@pytest.mark.parametrize("level", LEVELS)
async def test_a_start_is_reported_as_soon_as_it_is_seen(level: Level) -> None:
    async with dataprep_rig(level) as rig:
        keys = await start(rig, *["long"] * 3)
        rig.clock.advance(30)
        await rig.poller.cycle()
        assert all(rig.poller.kinds(key)[-1] is EventKind.START for key in keys)


@pytest.mark.parametrize("level", [Level.L1, Level.L2])
async def test_a_change_that_shows_late_is_found_by_the_overlap(level: Level) -> None:
    async with dataprep_rig(level) as rig:
        [late] = await start(rig, "quick", lag=60.0)
        rig.clock.advance(5)
        await start(rig, "quick")
        await rig.poller.follow(120, every=10)
        assert late in rig.poller.runs
        assert rig.wrong() == []


@pytest.mark.parametrize("level", LEVELS)
async def test_a_new_process_goes_on_where_the_old_one_stopped(level: Level) -> None:
    async with dataprep_rig(level) as rig:
        for _ in range(12):
            await start(rig, "complete", "quick", "failed", "canceled")
            rig.restart()
            rig.clock.advance(25)
            await rig.poller.cycle()
        rig.restart()
        await rig.poller.follow(600, every=60)
        assert rig.wrong() == []


@pytest.mark.parametrize("lookback", ["none", "10m", "3h"])
@pytest.mark.parametrize("level", [Level.L1, Level.L2])
async def test_how_far_the_first_start_looks_back(level: Level, lookback: str) -> None:
    async with dataprep_rig(level, initial_lookback=lookback) as rig:
        [old, under_way] = await start(rig, "quick", "stuck")
        rig.clock.advance(3600)
        [recent] = await start(rig, "quick")
        rig.clock.advance(60)
        await rig.poller.cycle()
        [new] = await start(rig, "quick")
        await rig.poller.follow(60, every=10)
        expected = (
            {under_way, new} | ({recent} if lookback != "none" else set()) | ({old} if lookback == "3h" else set())
        )
        assert set(rig.poller.runs) == expected


@pytest.mark.parametrize("status", [410, 404, 400])
@pytest.mark.parametrize("level", LEVELS)
async def test_a_deleted_run_is_missed_and_given_up_never_failed(level: Level, status: int) -> None:
    async with dataprep_rig(level, Switches(deleted_status=status)) as rig:
        [key] = await start(rig, "stuck")
        await rig.poller.follow(30)
        rig.simulator.workspace.delete(rig.simulator.workspace.runs[int(key)])
        await rig.poller.follow(900, every=15)
        assert rig.poller.runs[key].state is RunState.UNKNOWN
        assert rig.poller.kinds(key) == [EventKind.OTHER, EventKind.START]
        assert [skip.subject for skip in rig.poller.skips if skip.kind is SkipKind.VANISHED] == [key]


async def test_a_run_that_is_not_found_any_more_is_missed_too() -> None:
    async with dataprep_rig(Level.L0, Switches(hidden_status=404)) as rig:
        [key] = await start(rig, "stuck")
        rig.simulator.workspace.runs[int(key)].hidden = True
        await rig.poller.follow(60)
        assert rig.poller.runs[key].abandoned_at is not None


async def test_runs_that_the_token_may_not_see_are_not_gone_and_hold_up_no_others() -> None:
    async with dataprep_rig(Level.L0, Switches(hidden_status=403)) as rig:
        hidden = [key for _ in range(5) for key in await start(rig, "stuck")]
        [own] = await start(rig, "quick")
        for key in hidden:
            rig.simulator.workspace.runs[int(key)].hidden = True
        with pytest.raises(Forbidden):  # once nothing is left that may be seen
            await rig.poller.follow(900)
        assert rig.poller.kinds(own)[-1] is EventKind.COMPLETE
        assert {(rig.poller.runs[key].open, rig.poller.runs[key].misses) for key in hidden} == {(True, 0)}


@pytest.mark.parametrize("status", [401, 403])
@pytest.mark.parametrize("level", LEVELS)
async def test_a_refused_token_never_looks_like_removed_runs(level: Level, status: int) -> None:
    async with dataprep_rig(level, Switches(expired_status=status)) as rig:
        [key] = await start(rig, "stuck")
        await rig.poller.cycle()
        rig.simulator.tokens.clear()
        for _ in range(5):
            rig.clock.advance(601)
            with pytest.raises(AuthFailed):
                await rig.poller.cycle()
        assert rig.poller.runs[key].misses == 0


@pytest.mark.parametrize("level", LEVELS)
@pytest.mark.parametrize(
    ("fault", "error"),
    [
        (Fault(FaultKind.HTML, times=-1), Unavailable),
        (Fault(FaultKind.STATUS, status=500, times=-1), Unavailable),
        (Fault(FaultKind.RESET, times=-1), Unavailable),
        (Fault(FaultKind.TRUNCATED, times=-1), SourceError),
        (Fault(FaultKind.STATUS, status=404, body="gone", times=-1), BadAnswer),
        (Fault(FaultKind.HTML, status=404, times=-1), BadAnswer),
    ],
)
async def test_an_outage_is_an_error_and_costs_nothing(level: Level, fault: Fault, error: type[SourceError]) -> None:
    async with dataprep_rig(level) as rig:
        await start(rig, "complete", "failed")
        await rig.poller.cycle()
        await start(rig, "quick")
        rig.simulator.faults.plan(replace(fault))
        for _ in range(4):
            rig.clock.advance(30)
            with pytest.raises(error):
                await rig.poller.cycle()
        rig.simulator.faults.clear()
        await rig.poller.follow(600, every=60)
        assert rig.wrong() == []
        assert not [run for run in rig.poller.runs.values() if run.misses]


@pytest.mark.parametrize("path", ["/jobs", "jobGroups/3", "wrangledDatasets", "status$"])
@pytest.mark.parametrize("level", LEVELS)
async def test_trouble_with_single_requests_holds_nothing_up(level: Level, path: str) -> None:
    async with dataprep_rig(level) as rig:
        await start(rig, *["complete"] * 6)
        rig.simulator.faults.plan(Fault(FaultKind.STATUS, path=path, status=500, times=4))
        for _ in range(40):
            rig.clock.advance(20)
            try:
                await rig.poller.cycle()
            except SourceError:
                continue
        assert rig.wrong() == []


async def test_throttling_is_reported_with_its_time_and_obeyed() -> None:
    async with dataprep_rig(Level.L2, Switches(read_quota=5)) as rig:
        await start(rig, "complete")
        with pytest.raises(Throttled) as refused:
            await rig.poller.follow(0.1, every=0.01)
        assert refused.value.after is not None
        assert 59 < refused.value.after <= 60
        before = rig.requests()
        with pytest.raises(Throttled):
            await rig.poller.cycle()
        assert rig.requests() == before, "nobody asks while the platform wants quiet"
        rig.clock.advance(61)
        await rig.poller.cycle()


class TestLevels:
    @pytest.mark.parametrize(
        ("spec", "absent"), [("true", 404), ("empty", 404), ("missing", 403), ("missing", 400), ("all", 403)]
    )
    @pytest.mark.parametrize("level", LEVELS)
    async def test_found_by_trial_whatever_the_document_says(self, level: Level, spec: str, absent: int) -> None:
        async with dataprep_rig(level, Switches(spec=spec, absent_status=absent)) as rig:
            await rig.poller.cycle()
            assert await rig.platform._deployment.level() == Found(level.value)
            await start(rig, "quick", "failed")
            await rig.poller.follow(600, every=60)
            assert rig.wrong() == []

    async def test_an_edition_that_shrinks_is_noticed_at_once(self) -> None:
        async with dataprep_rig(Level.L2) as rig:
            await start(rig, "complete")
            await rig.poller.cycle()
            for level in (Level.L1, Level.L0):
                rig.simulator.set_level(level)
                rig.clock.advance(20)
                await rig.poller.cycle()
                assert await rig.platform._deployment.level() == Found(level.value)
            await rig.poller.follow(600, every=30)
            assert rig.wrong() == []

    async def test_an_edition_that_grows_is_noticed_within_a_day(self) -> None:
        async with dataprep_rig(Level.L0, initial_lookback="2d") as rig:
            await rig.poller.cycle()
            rig.simulator.set_level(Level.L2)
            key = str(rig.simulator.start_run("complete").id)
            await rig.poller.follow(86_400, every=3600)
            assert rig.poller.kinds(key)[-1] is EventKind.COMPLETE

    async def test_a_boasting_document_costs_one_trial_a_day(self) -> None:
        async with dataprep_rig(Level.L0, Switches(spec="all")) as rig:
            await start(rig, *["quick"] * 5)
            await rig.poller.follow(120)
            refused = rig.statuses[404]
            await start(rig, *["quick"] * 5)
            await rig.poller.follow(120)
            assert rig.statuses[404] <= refused + 4
            assert rig.wrong() == []


class TestCost:
    async def test_a_quiet_cycle_is_one_request(self) -> None:
        async with dataprep_rig(Level.L2) as rig:
            for _ in range(10):
                await start(rig, *["stuck"] * 100)
                rig.clock.advance(7)
            await rig.poller.cycle()
            rig.clock.advance(10)
            before = rig.requests()
            await rig.poller.cycle()
            assert rig.requests() - before <= 12 + 14, "the pages of the changes, and once those with all stages"
            await rig.poller.follow(180, every=60)
            assert not [run for run in rig.poller.runs.values() if run.started_at is None]
            before = rig.requests()
            await rig.poller.cycle()
            assert rig.requests() - before == 1

    @pytest.mark.parametrize(("count", "most"), [(10, 1), (100, 2), (300, 4)])
    async def test_a_list_costs_a_request_per_hundred_runs(self, count: int, most: int) -> None:
        async with dataprep_rig(Level.L1) as rig:
            await start(rig, *["stuck"] * count)
            rig.clock.advance(60)
            await rig.poller.cycle()
            rig.clock.advance(300)
            before = rig.requests()
            await rig.poller.cycle()
            assert rig.requests() - before <= most

    async def test_a_run_costs_few_requests(self) -> None:
        async with dataprep_rig(Level.L2) as rig:
            await rig.poller.cycle()
            await start(rig, *["complete"] * 40)
            before = rig.requests()
            rig.clock.advance(900)
            await rig.poller.cycle()
            assert rig.requests() - before <= 40 * 3 + 40, "three each, and definitions once"

    async def test_single_runs_are_read_less_often_as_they_age(self) -> None:
        async with dataprep_rig(Level.L0) as rig:
            [key] = await start(rig, "stuck")
            await rig.poller.follow(60, every=1)
            looks = []
            for age in (120, 900):
                rig.clock.advance(age)
                await rig.poller.cycle()
                run = rig.poller.runs[key]
                assert run.due_at is not None
                looks.append((run.due_at - rig.clock.now()).total_seconds())
            assert looks == [15, 60]

    async def test_no_single_run_starves_the_others(self) -> None:
        async with dataprep_rig(Level.L0, poll_interval="10s", requests_per_minute=60, burst=5) as rig:
            keys = await start(rig, *["stuck"] * 100)
            first = {key: rig.poller.runs[key].seen_at for key in keys}
            await rig.poller.follow(300, every=10)
            assert all(rig.poller.runs[key].seen_at > first[key] for key in keys)


class TestWhatIsKept:
    async def test_no_personal_data(self) -> None:
        async with dataprep_rig(Level.L2) as rig:
            await start(rig, *OUTCOMES)
            await rig.poller.follow(900, every=60)
            assert "planted" not in repr((rig.poller.pages, rig.poller.runs, rig.poller.cursor)).lower()

    async def test_previews_are_no_runs(self) -> None:
        async with dataprep_rig(Level.L2) as rig:
            kept = [rig.simulator.start_run("quick", ranfor=kind) for kind in ("recipe", "plan", "something new")]
            for kind in ("sampling", "profile", "publish"):
                rig.simulator.start_run("quick", ranfor=kind)
            rig.clock.advance(30)
            await rig.poller.follow(60, every=20)
            assert set(rig.poller.runs) == {str(run.id) for run in kept}
            filtered = [skip.subject for skip in rig.poller.skips if skip.kind is SkipKind.FILTERED]
            assert len(filtered) == len(set(filtered)) == 3, "each counted once, however often it is read again"

    @pytest.mark.parametrize("level", [Level.L1, Level.L2])
    async def test_include_and_exclude_by_name_and_id(self, level: Level) -> None:
        async with dataprep_rig(level, include=("orders.*", "recipe/customers.*"), exclude=("2",)) as rig:
            for recipe in rig.simulator.workspace.recipes:
                rig.simulator.start_run("quick", recipe)
            rig.clock.advance(60)
            await rig.poller.cycle()
            recipes = {run.job.key for run in rig.poller.runs.values()}
            assert recipes == {"1", "3", "4", "5", "6"}

    async def test_an_unknown_status_keeps_a_run_open_and_is_counted(self) -> None:
        async with dataprep_rig(Level.L2) as rig:
            [key] = await start(rig, "long")
            await rig.poller.follow(60)
            for status in ("undefined", None, "Exploded"):
                rig.simulator.workspace.set_state(rig.simulator.workspace.runs[int(key)], status)
                rig.clock.advance(5)
                await rig.poller.cycle()
                assert rig.poller.runs[key].open
            assert {skip.subject for skip in rig.poller.skips if skip.kind is SkipKind.STATUS} == {
                "undefined",
                "None",
                "Exploded",
            }
            rig.simulator.workspace.set_state(rig.simulator.workspace.runs[int(key)], "Canceled")
            rig.clock.advance(5)
            await rig.poller.cycle()
            assert rig.poller.kinds(key)[-1] is EventKind.ABORT

    async def test_publishing_late_is_noted_and_not_emitted(self) -> None:
        async with dataprep_rig(Level.L2, Switches(late_publish_reopens=True)) as rig:
            [key] = await start(rig, "late_publish")
            await rig.poller.follow(600)
            assert rig.poller.kinds(key).count(EventKind.COMPLETE) == 1
            assert {skip.kind for skip in rig.poller.skips} == {SkipKind.LATE}

    async def test_ids_stay_and_differ_by_workspace(self) -> None:
        async with dataprep_rig(Level.L2) as rig:
            [key] = await start(rig, "quick")
            first = await rig.platform.watch(key, {})
            again = await rig.adapter().watch(key, {})
            other = await rig.adapter(workspace="2").watch(key, {})
            assert first.run_id == again.run_id != other.run_id
            assert first.run_id.version == 5

    async def test_a_broken_cursor_starts_the_look_back_again(self) -> None:
        async with dataprep_rig(Level.L2) as rig:
            await start(rig, "quick")
            rig.poller.cursor = "not json"
            rig.clock.advance(30)
            await rig.poller.cycle()
            assert rig.wrong() == []

    async def test_a_date_in_the_far_future_does_not_move_the_cursor(self) -> None:
        async with dataprep_rig(Level.L2) as rig:
            [key] = await start(rig, "complete")
            rig.simulator.workspace.runs[int(key)].touched.append(rig.clock.now() - timedelta(days=1))
            await start(rig, "complete", at=rig.clock.now() - timedelta(seconds=30))
            await rig.poller.cycle()
            mark = cursors.read(rig.poller.cursor)
            assert mark is not None
            assert mark.since <= to_ms(rig.clock.now())

    async def test_a_run_that_was_forgotten_since_has_no_second_life_when_it_is_edited(self) -> None:
        async with dataprep_rig(Level.L2) as rig:
            old, lately = await start(rig, "quick", "quick")
            await rig.poller.follow(60)
            rig.clock.advance(8 * 86_400)
            [newer] = await start(rig, "quick")
            await rig.poller.follow(60)
            del rig.poller.runs[old]
            rig.simulator.workspace.runs[int(old)].touched.append(rig.clock.now())
            await rig.poller.follow(60)
            assert rig.poller.runs.keys() == {lately, newer}
            assert (SkipKind.FILTERED, f"job group {old}") in {(skip.kind, skip.subject) for skip in rig.poller.skips}

    async def test_a_run_of_the_last_days_that_was_seen_by_nobody_is_reported_when_it_is_edited(self) -> None:
        async with dataprep_rig(Level.L2) as rig:
            [old] = await start(rig, "quick")
            await rig.poller.follow(60)
            rig.clock.advance(3 * 86_400)
            await rig.poller.follow(60)
            del rig.poller.runs[old]
            rig.simulator.workspace.runs[int(old)].touched.append(rig.clock.now())
            await rig.poller.follow(60)
            assert list(rig.poller.runs) == [old]

    async def test_a_workspace_at_rest_is_asked_for_its_last_change_alone(self) -> None:
        async with dataprep_rig(Level.L2) as rig:
            await start(rig, "quick")
            rig.clock.advance(60)
            [last] = await start(rig, "quick")
            await rig.poller.follow(600)
            pages = [page async for page in rig.platform.poll([], rig.poller.cursor)]
            assert [seen.key for page in pages for seen in page.observations] == [last]

    async def test_the_first_look_at_a_list_by_creation_ends_a_day_before_it(self) -> None:
        async with dataprep_rig(Level.L1) as rig:
            for _ in range(250):
                rig.simulator.start_run("quick", at=rig.clock.now() - timedelta(days=3))
            await rig.poller.cycle()
            before = rig.requests()
            rig.poller.cursor = None
            await rig.poller.cycle()
            assert rig.requests() - before == 1
            assert rig.poller.runs == {}

    @pytest.mark.parametrize("level", [Level.L1, Level.L2])
    async def test_a_first_start_by_a_clock_that_ran_ahead_leaves_nobody_blind(self, level: Level) -> None:
        async with dataprep_rig(level) as rig:
            ahead = to_ms(rig.clock.now() + timedelta(days=1))
            rig.poller.cursor = cursors.Cursor(ahead, reached=ahead, first=ahead).text()
            [key] = await start(rig, "quick")
            await rig.poller.follow(60)
            assert rig.poller.kinds(key)[-2:] == [EventKind.START, EventKind.COMPLETE]


class TestNames:
    async def test_flow_and_recipe(self) -> None:
        async with dataprep_rig(Level.L2) as rig:
            flow = rig.simulator.workspace.add_flow("Sales: EMEA/2026")
            recipe = rig.simulator.workspace.add_recipe(flow, "50% join #2", [])
            rig.simulator.start_run("quick", recipe.id)
            rig.clock.advance(60)
            await rig.poller.cycle()
            [run] = rig.poller.runs.values()
            assert run.job.name == "recipe/Sales%3A EMEA%2F2026.50%25 join %232"
            assert run.job.namespace.startswith("dataprep://127.0.0.1:")
            assert run.job.key == str(recipe.id)

    @pytest.mark.parametrize("level", LEVELS)
    async def test_by_id_where_the_names_are_not_given(self, level: Level) -> None:
        async with dataprep_rig(level, Switches(flow_embed=False)) as rig:
            rig.simulator.features -= {Feature.DEFINITIONS, Feature.FLOWS}
            [key] = await start(rig, "quick")
            await rig.poller.follow(60)
            assert rig.poller.runs[key].job.name == f"recipe/{rig.simulator.workspace.runs[int(key)].recipe}"

    async def test_a_renamed_recipe_does_not_split_a_run(self) -> None:
        async with dataprep_rig(Level.L2) as rig:
            [key] = await start(rig, "complete")
            await rig.poller.follow(30)
            before = rig.poller.runs[key].job
            rig.simulator.workspace.recipes[rig.simulator.workspace.runs[int(key)].recipe].name = "renamed"
            rig.restart()
            await rig.poller.follow(600, every=60)
            assert rig.poller.runs[key].job == before


class TestParents:
    async def test_a_flow_run_is_the_parent_of_its_runs(self) -> None:
        async with dataprep_rig(Level.L2) as rig:
            number, runs = rig.simulator.workspace.run_flow(1)
            await rig.poller.follow(1200, every=15)
            key = f"flowRuns/{number}"
            parent = rig.poller.runs[key]
            order = [
                (of, transition.kind)
                for of, transition in rig.poller.transitions
                if transition.kind is not EventKind.OTHER
            ]
            assert order[0] == (key, EventKind.START)
            assert order[-1] == (key, EventKind.COMPLETE)
            for run in runs:
                child = rig.poller.runs[str(run.id)]
                assert child.parent is not None
                assert (child.parent.run_id, child.parent.key) == (parent.run_id, key)
                assert child.job.name.startswith(parent.job.name + ".")
            assert rig.poller.at(key, EventKind.START).at <= min(
                rig.poller.at(str(r.id), EventKind.START).at for r in runs
            )
            assert rig.poller.at(key, EventKind.COMPLETE).at >= max(
                rig.poller.at(str(r.id), EventKind.COMPLETE).at for r in runs
            )
            assert rig.wrong() == []

    async def test_its_end_waits_for_the_enrichment_of_its_runs(self) -> None:
        async with dataprep_rig(Level.L2) as rig:
            key = f"flowRuns/{rig.simulator.workspace.run_flow(1)[0]}"
            rig.clock.advance(900)
            await poll(rig)
            rig.clock.advance(60)
            await poll(rig)
            assert rig.poller.runs[key].open
            while not rig.poller.runs[key].state.terminal:
                rig.clock.advance(30)
                await poll(rig)
            assert rig.poller.kinds(key) == [EventKind.START]
            await rig.poller.cycle()
            assert rig.poller.kinds(key) == [EventKind.START, EventKind.COMPLETE]
            assert rig.poller.transitions[-1][0] == key

    async def test_it_fails_with_one_of_its_runs(self) -> None:
        async with dataprep_rig(Level.L2) as rig:
            number, runs = rig.simulator.workspace.run_flow(1)
            rig.clock.advance(10)
            rig.simulator.workspace.set_state(runs[1], "Failed")
            await rig.poller.follow(1200, every=30)
            assert rig.poller.kinds(f"flowRuns/{number}") == [EventKind.START, EventKind.FAIL]

    async def test_seen_only_when_all_is_over(self) -> None:
        async with dataprep_rig(Level.L2) as rig:
            number, runs = rig.simulator.workspace.run_flow(1)
            rig.clock.advance(900)
            await rig.poller.follow(400, every=30)
            assert rig.poller.kinds(f"flowRuns/{number}") == [EventKind.START, EventKind.COMPLETE]
            assert rig.poller.transitions[0][0] == f"flowRuns/{number}"
            assert len(rig.poller.runs) == len(runs) + 1

    async def test_none_where_flow_runs_cannot_be_read(self) -> None:
        async with dataprep_rig(Level.L2) as rig:
            rig.simulator.features -= {Feature.FLOW_RUNS}
            rig.simulator.workspace.run_flow(1)
            await rig.poller.follow(600, every=60)
            assert all(run.parent is None for run in rig.poller.runs.values())
            assert rig.wrong() == []


class TestOddNames:
    @pytest.mark.parametrize("level", [Level.L1, Level.L2])
    @pytest.mark.parametrize("flow", [False, True])
    async def test_those_that_differ_in_a_control_character_are_two_jobs(self, level: Level, flow: bool) -> None:
        """Most often one that a paste left behind."""
        async with dataprep_rig(level) as rig:
            workspace = rig.simulator.workspace
            first, second = workspace.recipes[1], workspace.recipes[2]
            first.name = "clean"
            second.name = "clean" if flow else "cl\x07ean"
            workspace.flows[first.flow].name = "orders"
            if flow:
                second.flow = workspace.add_flow("or\x07ders").id
            else:
                second.flow = first.flow
            rig.simulator.start_run("complete", 1)
            rig.simulator.start_run("complete", 2)
            await rig.poller.follow(900, every=30)
            odd = "recipe/or%07ders.clean" if flow else "recipe/orders.cl%07ean"
            assert {run.job.name for run in rig.poller.runs.values()} == {"recipe/orders.clean", odd}

    def test_a_name_with_a_secret_is_not_kept(self) -> None:
        row = {"id": 1, "wrangledDataset": {"id": 2, "name": "password=hunter2\x07"}}
        assert rows.group(row).recipe_name == "password=***"


class TestStagesAsRuns:
    @pytest.mark.parametrize("level", LEVELS)
    async def test_children_of_their_run_within_its_time(self, level: Level) -> None:
        async with dataprep_rig(level, stages="runs") as rig:
            keys = await start(rig, "complete", "partial", "canceled", "quick")
            await rig.poller.follow(900, every=20)
            assert rig.wrong() == []
            for key in keys:
                stages = [run for run in rig.poller.runs.values() if run.handle.get("group") == key]
                mine = {key, *(stage.key for stage in stages)}
                order = [of for of, event in rig.poller.transitions if of in mine and event.kind is not EventKind.OTHER]
                assert order[0] == order[-1] == key, "the parent's START first, its end last"
                assert stages
                for stage in stages:
                    assert stage.parent is not None
                    assert stage.parent.run_id == rig.poller.runs[key].run_id
                    assert stage.ended_at is not None
                    assert stage.job.name.startswith(rig.poller.runs[key].job.name + ".")

    async def test_seen_when_all_is_over(self) -> None:
        async with dataprep_rig(Level.L2, stages="runs") as rig:
            [key] = await start(rig, "complete")
            rig.clock.advance(900)
            await rig.poller.cycle()
            stages = [run for run in rig.poller.runs.values() if run.handle.get("group") == key]
            assert len(stages) == len(rig.simulator.workspace.runs[int(key)].stages)
            assert rig.wrong() == []

    @pytest.mark.parametrize("sort", ["both", "descending", "none"])
    async def test_short_pages_bring_no_contradictions(self, sort: str) -> None:
        """A walk that begins again shows runs twice."""
        async with dataprep_rig(Level.L2, Switches(max_limit=25, sort=sort), stages="runs") as rig:
            await rig.poller.cycle()
            await start(rig, *["complete", "partial", "quick"] * 12)
            rig.clock.advance(900)
            await rig.poller.follow(90, every=30)
            assert rig.poller.skips == []
            assert rig.wrong() == []


@pytest.mark.parametrize("level", [level for level in LEVELS if level is not Level.L0])
async def test_a_backfill_makes_the_runs_that_ended_in_its_window(level: Level) -> None:
    async with dataprep_rig(level) as rig:
        ended, day = list[str](), timedelta(days=1)
        for scenario in ("quick", "failed", "quick", "complete"):
            ended.append(str(rig.simulator.start_run(scenario).id))
            rig.clock.advance(day.total_seconds())
        under_way = str(rig.simulator.start_run("long").id)
        now = rig.clock.now()
        rig.clock.advance(60)
        window = Window(to_ms(now - 3.5 * day), to_ms(now - 1.5 * day))
        reads_back = rig.adapter(initial_lookback=now - 3.5 * day)
        seen = [one async for page in reads_back.poll((), None) for one in past(page, window)]
    assert sorted({one.key for one in seen}) == sorted(ended[1:3]), f"not {ended[0]}, {ended[3]} or {under_way}"
    assert {one.state for one in seen} == {RunState.SUCCEEDED, RunState.FAILED}
    assert all(window.has(to_ms(ended_at(one))) for one in seen)


async def test_each_page_of_a_long_sweep_shows_that_the_poll_goes_on() -> None:
    """Pages of runs in flight that are known: with a minute for each the sweep took too long without a sign."""
    async with dataprep_rig(Level.L2) as rig:
        await start(rig, *["stuck"] * 251)
        await rig.poller.follow(1200, every=300)
        rig.clock.advance(600)
        pages = await rig.poller.cycle()
        assert len([page for page in pages if page == Poll()]) >= 2


@pytest.mark.parametrize("stages", ["facet", "runs"])
@pytest.mark.parametrize("level", [level for level in LEVELS if level is not Level.L0])
async def test_an_end_has_the_platforms_time_where_its_clock_is_ahead_of_ours(level: Level, stages: str) -> None:
    async with dataprep_rig(level, stages=stages) as rig:
        rig.server.ahead = 3600
        await rig.poller.cycle()
        keys = await start(rig, "complete", "failed", "canceled", "canceled_queued")
        await rig.poller.follow(900, every=30)
    ends = {row["key"]: datetime.fromisoformat(row["ended_at"]) for row in rig.simulator.expected_runs()}
    for key in keys:
        run = rig.poller.runs[key]
        assert run.ended_at is not None
        assert abs(run.ended_at - ends[key]) < timedelta(milliseconds=1)
        assert run.ended_within is None


@pytest.mark.parametrize(("ahead", "latest"), [(3600, 3600), (0, 0), (-3600, 0)])
async def test_an_end_is_at_most_that_of_the_look_by_the_clock_that_is_ahead(ahead: float, latest: float) -> None:
    async with dataprep_rig() as rig:
        rig.server.ahead = ahead
        await rig.poller.cycle()
        now = rig.clock.now()
        assert latest <= (rig.platform._api.latest(now) - now).total_seconds() < latest + 1


async def test_an_end_without_its_stages_is_bounded_by_the_last_change() -> None:
    async with dataprep_rig() as rig:
        await rig.poller.cycle()
        [key] = await start(rig, "complete")
        simulated = rig.simulator.workspace.runs[int(key)]
        await rig.poller.follow(30, every=5)
        rig.clock.advance(900)
        rig.simulator.workspace.rename(simulated, "quarterly")
        edited = rig.clock.now()
        rig.clock.advance(100)
        rig.poller.is_unread = True
        await rig.poller.cycle()
    [(_, start_), (_, end)] = [each for each in rig.poller.transitions if each[1].kind is not EventKind.OTHER]
    assert (start_.kind, start_.within) == (EventKind.START, None)
    assert end.kind is EventKind.COMPLETE
    assert end.within is not None
    assert end.within.after is not None
    ended = simulated.ended()
    assert ended is not None
    assert end.within.after < ended.at <= end.within.until
    assert abs(end.within.until - edited) < timedelta(milliseconds=1)
    assert end.at == end.within.until


@pytest.mark.parametrize(("beyond", "again"), [(-3600, True), (3600, False)])
async def test_an_ended_run_that_changes_is_read_again_for_as_long_as_it_is_said(beyond: float, again: bool) -> None:
    """The ledger remembers runs for twice that time, or they would begin a second life."""
    async with dataprep_rig(Level.L2) as rig:
        assert isinstance(rig.platform, Rereading)
        [key] = await start(rig, "complete")
        await rig.poller.follow(600)
        rig.clock.advance(rig.platform.reads_again.total_seconds() - 600 + beyond)
        await rig.poller.cycle()
        rig.simulator.workspace.rename(rig.simulator.workspace.runs[int(key)], "renamed long after the end")
        pages = await rig.poller.cycle()
        assert (key in [seen.key for page in pages for seen in page.observations]) is again
