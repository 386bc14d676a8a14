"""The adapter against the simulator over real HTTP, with simulated time."""

import logging
from collections.abc import AsyncIterator
from dataclasses import replace
from typing import Any
from uuid import UUID

import pytest

from collector.errors import AuthFailed, BadAnswer, NotFound, SourceError, Throttled, TriggerError, Unavailable
from collector.lifecycle import VanishedPolicy
from collector.model import EventKind, Observation, RunState, SkipKind
from collector.names import namespace_fault
from collector.platforms.answers import Forbidden
from collector.platforms.wetransform import Wetransform
from collector.platforms.wetransform.automations import automation
from collector.platforms.wetransform.envelope import Envelope
from collector.platforms.wetransform.runs import RunOrigin
from collector.testing.clock import SimulatedClock
from collector.testing.faults import Fault, FaultKind
from collector.testing.poller import POLICY, SimulatedPoller
from simulators.wetransform import Plan, Scenario
from simulators.wetransform.scenarios import STEPS
from simulators.wetransform.state import Run as SimulatedRun
from tests import openlineage
from tests.wetransform_rig import NAMESPACE, TOKEN, WetransformRig, watched, wetransform_rig


@pytest.fixture
def clock() -> SimulatedClock:
    return SimulatedClock()


@pytest.fixture
async def rig(clock: SimulatedClock) -> AsyncIterator[WetransformRig]:
    async with wetransform_rig(clock) as rig:
        yield rig


ODD = ["\ud800", float("nan"), float("inf"), 10**400]
"""What Python writes as JSON and strict readers refuse."""


class TestFollowing:
    @pytest.mark.parametrize("odd", ODD, ids=["surrogate", "nan", "infinite", "endless"])
    async def test_an_odd_value_holds_up_no_end(self, rig: WetransformRig, odd: Any) -> None:
        run, poller = rig.start(Scenario.FAILING, 5), rig.poller()
        run.failure = odd
        await watched(poller, run)
        await poller.follow(30)
        assert poller.kinds(run.key)[-1] is EventKind.FAIL
        assert openlineage.all_faults(poller.events) == []

    async def test_a_run_from_its_start_to_its_end(self, rig: WetransformRig) -> None:
        run, poller = rig.start(seconds=60), rig.poller()
        await watched(poller, run)
        await poller.follow(90)

        assert poller.kinds(run.key) == [EventKind.OTHER, EventKind.START, EventKind.COMPLETE]
        known = poller.runs[run.key]
        assert known.run_id == UUID(run.key)
        assert known.state is RunState.SUCCEEDED
        assert known.queued_at == run.created_at
        assert [it["state"] for it in rig.simulator.expected_runs()] == ["succeeded"]

    async def test_the_end_lies_within_the_interval_that_is_reported(self, rig: WetransformRig) -> None:
        run, poller = rig.start(seconds=60), rig.poller()
        await watched(poller, run)
        await poller.follow(90)

        for kind, really in ((EventKind.START, run.started_at), (EventKind.COMPLETE, run.ended_at)):
            transition_at, moment = poller.at(run.key, kind), really(rig.clock.now())
            assert transition_at.within is not None
            assert transition_at.within.after is not None
            assert moment is not None
            assert transition_at.within.after <= moment <= transition_at.within.until == transition_at.at

    async def test_begun_and_ended_between_two_polls(self, rig: WetransformRig) -> None:
        run, poller = rig.start(Scenario.INSTANT, 2), rig.poller()
        await watched(poller, run)
        rig.clock.advance(5)
        await poller.cycle()
        assert poller.kinds(run.key) == [EventKind.OTHER, EventKind.START, EventKind.COMPLETE]
        assert poller.at(run.key, EventKind.START).at == run.created_at

    async def test_a_run_that_had_ended_when_it_was_handed_in(self, rig: WetransformRig) -> None:
        run, poller = rig.start(seconds=5), rig.poller()
        rig.clock.advance(100)
        await watched(poller, run)
        await poller.cycle()
        assert poller.kinds(run.key) == [EventKind.START, EventKind.COMPLETE]

    @pytest.mark.parametrize("step", [step for step in STEPS if step not in {"processed", "failed"}])
    async def test_failing_at_each_step(self, rig: WetransformRig, step: str) -> None:
        run, poller = rig.start(Scenario.FAILING, 30, at_step=step), rig.poller()
        await watched(poller, run)
        await poller.follow(700, every=30)
        assert poller.kinds(run.key)[-1] is EventKind.FAIL
        facts = poller.runs[run.key].facts
        assert facts.error == "The column 'amount' holds a value that is no number (row 12)."
        assert facts.ids["step_code"] == "source.event.failed"
        assert facts.ids["step_before"] in STEPS[: STEPS.index(step) + 1]

    async def test_a_failure_names_the_step_that_was_seen_before_it(self, rig: WetransformRig) -> None:
        run, poller = rig.start(Scenario.FAILING, 60, at_step="matching"), rig.poller(intervals={"active": "1s"})
        await watched(poller, run)
        await poller.follow(120, every=1)
        assert poller.runs[run.key].facts.ids["step_before"] == "matching"

    @pytest.mark.parametrize("scenario", [Scenario.REVIEW, Scenario.SELECT])
    async def test_waiting_for_a_person_is_an_event_and_so_is_its_end(
        self, rig: WetransformRig, scenario: Scenario
    ) -> None:
        run, poller = rig.start(scenario, 3600), rig.poller()
        await watched(poller, run)
        await poller.follow(5400, every=20)
        kinds = poller.kinds(run.key)
        assert kinds == [
            EventKind.OTHER,
            EventKind.START,
            EventKind.RUNNING,
            EventKind.RUNNING,
            EventKind.COMPLETE,
        ]

    async def test_a_step_that_does_not_move_becomes_waiting(self, rig: WetransformRig) -> None:
        run, poller = rig.start(Scenario.STUCK, 10, at_step="to_match"), rig.poller(waiting_after="3m")
        await watched(poller, run)
        await poller.follow(120)
        assert poller.runs[run.key].state is RunState.RUNNING
        await poller.follow(120)
        assert poller.runs[run.key].state is RunState.WAITING

    async def test_steps_can_be_configured_otherwise(self, rig: WetransformRig) -> None:
        run = rig.start(Scenario.STUCK, 10, at_step="to_match")
        poller = rig.poller(steps={"to_match": "waiting", "recalibrating": "running"})
        await watched(poller, run)
        await poller.follow(30)
        assert poller.runs[run.key].state is RunState.WAITING

    @pytest.mark.parametrize(
        "scenario",
        [
            Scenario.BACKWARDS,
            Scenario.NULL_STEP,
            Scenario.UNKNOWN_STEP,
            Scenario.BLINKING,
            Scenario.FULL,
            Scenario.SKIPPING,
        ],
    )
    async def test_odd_walks_end_well(self, rig: WetransformRig, scenario: Scenario) -> None:
        run, poller = rig.start(scenario, 60), rig.poller()
        await watched(poller, run)
        await poller.follow(120)
        kinds = poller.kinds(run.key)
        assert kinds[-1] is EventKind.COMPLETE
        assert kinds.count(EventKind.START) == kinds.count(EventKind.COMPLETE) == 1

    @pytest.mark.parametrize(
        ("scenario", "step"), [(Scenario.NULL_STEP, "None"), (Scenario.UNKNOWN_STEP, "recalibrating")]
    )
    async def test_an_unknown_step_is_reported_and_the_run_stays_open(
        self, rig: WetransformRig, scenario: Scenario, step: str
    ) -> None:
        run, poller = rig.start(scenario, 60), rig.poller()
        await watched(poller, run)
        await poller.follow(120, every=1)
        assert (SkipKind.STATUS, step) in {(skip.kind, skip.subject) for skip in poller.skips}

    async def test_after_its_end_nothing_of_a_run_is_believed(self, rig: WetransformRig) -> None:
        run, poller = rig.start(Scenario.REOPENED, 60), rig.poller()
        await watched(poller, run)
        while not poller.kinds(run.key)[-1].terminal:
            rig.clock.advance(1)
            await poller.cycle()
        rig.clock.advance(60)
        await watched(poller, run)
        assert poller.kinds(run.key)[-1] is EventKind.COMPLETE
        assert poller.skips[-1].kind is SkipKind.LATE

    async def test_the_language_changes_nothing_but_words(self, rig: WetransformRig) -> None:
        run = rig.start(Scenario.FAILING, 10)
        rig.url += "/fr"
        poller = rig.poller()
        await watched(poller, run)
        await poller.follow(60)
        assert poller.kinds(run.key)[-1] is EventKind.FAIL


class TestBackOff:
    async def test_a_run_that_cannot_be_read_is_left_alone_ever_longer(self, rig: WetransformRig) -> None:
        bad, good, poller = rig.start(seconds=3000), rig.start(seconds=3000), rig.poller()
        await watched(poller, bad)
        await watched(poller, good)
        path = f"/transformation/automation/{bad.key}"
        rig.simulator.faults.plan(Fault(FaultKind.STATUS, path=path, status=400, times=-1))
        before = (await rig.requests())[f"GET {path}"]
        looks = []
        for _ in range(5):
            await poller.follow(60, every=1)
            now = (await rig.requests())[f"GET {path}"]
            looks.append(now - before)
            before = now
        assert sum(looks) == 5, "after 10, 20, 40, 80 and 160 seconds"
        assert looks == sorted(looks, reverse=True)


class TestVanishing:
    @pytest.mark.parametrize("status", [404, 410])
    async def test_three_misses_and_then_unknown(self, rig: WetransformRig, status: int) -> None:
        rig.simulator.state.behaviour.missing_status = status
        run, poller = rig.start(Scenario.VANISHING, 10), rig.poller()
        await watched(poller, run)
        await poller.follow(15)
        assert poller.runs[run.key].misses in {1, 2}
        await poller.follow(60)
        assert poller.runs[run.key].state is RunState.UNKNOWN
        assert not poller.runs[run.key].open
        assert not any(kind.terminal for kind in poller.kinds(run.key))
        assert poller.skips[-1].kind is SkipKind.VANISHED

    @pytest.mark.parametrize("policy", list(VanishedPolicy))
    async def test_a_run_that_the_token_may_not_see_is_not_gone(
        self, rig: WetransformRig, policy: VanishedPolicy
    ) -> None:
        run, poller = rig.start(seconds=3000), rig.poller()
        poller.policy = replace(POLICY, on_vanished=policy)
        await watched(poller, run)
        rig.simulator.faults.plan(Fault(FaultKind.STATUS, path="/transformation/automation", status=403, times=-1))
        errors = []
        for _ in range(20):
            rig.clock.advance(60)
            try:
                await poller.cycle()
            except SourceError as error:
                errors.append(error)
        assert len(errors) == 20, "a matter of rights, and said so each time"
        assert {type(error) for error in errors} == {Forbidden}
        assert (poller.runs[run.key].open, poller.runs[run.key].misses) == (True, 0)
        rig.simulator.faults.clear()
        rig.clock.advance(600)
        await poller.follow(3600, every=60)
        assert poller.kinds(run.key)[-1] is EventKind.COMPLETE

    async def test_nor_does_it_hold_up_others(self, rig: WetransformRig) -> None:
        hidden, own, poller = rig.start(Scenario.STUCK), rig.start(seconds=20), rig.poller()
        await watched(poller, hidden)
        await watched(poller, own)
        path = f"/transformation/automation/{hidden.key}"
        rig.simulator.faults.plan(Fault(FaultKind.STATUS, path=path, status=403, times=-1))
        with pytest.raises(Forbidden):  # once nothing is left that may be seen
            await poller.follow(60)
        assert poller.kinds(own.key)[-1] is EventKind.COMPLETE
        assert poller.runs[hidden.key].misses == 0
        assert (SkipKind.ROW, hidden.key) in {(skip.kind, skip.subject) for skip in poller.skips}

    async def test_three_misses_take_a_while(self, rig: WetransformRig) -> None:
        run, poller = rig.start(Scenario.VANISHING, 1), rig.poller()
        await watched(poller, run)
        await poller.follow(20, every=1)
        assert poller.runs[run.key].open

    async def test_or_an_abort_where_configuration_says_so(self, rig: WetransformRig) -> None:
        run, poller = rig.start(Scenario.VANISHING, 10), rig.poller()
        poller.policy = replace(POLICY, on_vanished=VanishedPolicy.ABORT)
        await watched(poller, run)
        await poller.follow(90)
        assert poller.kinds(run.key)[-1] is EventKind.ABORT

    async def test_the_trash_may_hide_runs(self, rig: WetransformRig) -> None:
        rig.simulator.state.behaviour.trashed_runs_stay = False
        run, poller = rig.start(Scenario.STUCK, 10), rig.poller()
        await watched(poller, run)
        run.transformation.deleted_at = rig.clock.now()
        await poller.follow(90)
        assert poller.runs[run.key].state is RunState.UNKNOWN

    @pytest.mark.parametrize("status", [404, 403, 410])
    async def test_a_service_that_is_broken_is_no_run_that_is_gone(self, rig: WetransformRig, status: int) -> None:
        run, poller = rig.start(Scenario.STUCK, 10), rig.poller()
        await watched(poller, run)
        rig.simulator.faults.plan(Fault(FaultKind.STATUS, times=-1, status=status))
        for _ in range(5):
            rig.clock.advance(60)
            with pytest.raises(SourceError):
                await poller.cycle()
        assert poller.runs[run.key].misses == 0
        rig.simulator.faults.clear()
        await poller.follow(60)
        assert poller.runs[run.key].raw_state == "matching"


class TestCustomers:
    @pytest.mark.parametrize("who", ["cust-1", "ann@acme.example"])
    async def test_of_the_source(self, rig: WetransformRig, who: str) -> None:
        it = rig.simulator.state.add_transformation(rig.simulator.account, customer="cust-1")
        run, poller = rig.start(seconds=20, transformation=it), rig.poller(customer=who)
        await watched(poller, run)
        await poller.follow(60)
        assert poller.kinds(run.key)[-1] is EventKind.COMPLETE

    async def test_of_each_watched_run(self, rig: WetransformRig) -> None:
        account = rig.simulator.account
        whose = {who: rig.simulator.state.add_transformation(account, customer=who) for who in account.customers}
        runs = {who: rig.start(seconds=20, transformation=it) for who, it in whose.items()}
        own, poller = rig.start(seconds=20), rig.poller()
        for who, run in runs.items():
            await watched(poller, run, customer=who)
        await watched(poller, own)
        await poller.follow(60)
        assert {poller.kinds(run.key)[-1] for run in (*runs.values(), own)} == {EventKind.COMPLETE}

    async def test_one_customer_who_is_refused_stops_no_other(self, rig: WetransformRig) -> None:
        it = rig.simulator.state.add_transformation(rig.simulator.account, customer="cust-1")
        theirs, own, poller = rig.start(seconds=20, transformation=it), rig.start(seconds=20), rig.poller()
        await watched(poller, theirs, customer="cust-1")
        await watched(poller, own)
        del rig.simulator.account.customers["cust-1"]
        await poller.follow(60)
        assert poller.kinds(own.key)[-1] is EventKind.COMPLETE
        assert poller.runs[theirs.key].open
        assert poller.runs[theirs.key].misses == 0
        assert (SkipKind.ROW, theirs.key) in {(skip.kind, skip.subject) for skip in poller.skips}

    async def test_no_customer_is_named_in_what_leaves(self, rig: WetransformRig) -> None:
        it = rig.simulator.state.add_transformation(rig.simulator.account, customer="cust-1")
        run, poller = rig.start(Scenario.FAILING, 20, transformation=it), rig.poller(customer="ann@acme.example")
        await watched(poller, run)
        await poller.follow(60)
        known = poller.runs[run.key]
        assert "ann" not in repr((known.facts, known.job, known.parent))
        assert known.facts.outputs is not None
        assert known.facts.outputs[0].name.startswith("customers/")
        assert known.facts.outputs[0].name.endswith("/templates/new-hires")


class TestLineage:
    async def test_names_ids_and_columns(self, rig: WetransformRig) -> None:
        run, poller = rig.start(seconds=20), rig.poller()
        await watched(poller, run)
        await poller.follow(60)
        known, it = poller.runs[run.key], run.transformation
        assert known.facts.inputs is not None
        assert known.facts.outputs is not None
        assert (known.job.namespace, known.job.name) == (NAMESPACE, f"transformation/{it.key}")
        assert known.job.description == "New hires upload to New hires"
        assert namespace_fault(known.job.namespace) is None
        [source], [target] = known.facts.inputs, known.facts.outputs
        assert (source.name, source.description) == (f"sources/{it.source_id}", "New hires upload")
        assert (target.name, target.description) == ("templates/new-hires", "New hires")
        assert [column.name for column in target.fields] == [*it.columns, *it.custom_fields]
        assert known.facts.ids["step_code"] == "source.event.processed"
        assert known.facts.external_id == run.key

    @pytest.mark.parametrize("full", [True, False])
    @pytest.mark.parametrize("names_columns", [True, False])
    async def test_columns_are_known_from_the_first_look_on(
        self, rig: WetransformRig, names_columns: bool, full: bool
    ) -> None:
        """Or START would have an output without columns, the end one with them: two versions of it in Marquez."""
        rig.simulator.state.behaviour.full_list_entries = full
        it = rig.simulator.transformations[0]
        run = rig.start(seconds=20, transformation=it)
        rig.clock.advance(10)
        seen = await rig.adapter().watch(run.key, {"transformation": it.key} if names_columns else {})
        assert seen.state is RunState.RUNNING
        [output] = seen.facts.outputs or ()
        assert [column.name for column in output.fields] == [*it.columns, *it.custom_fields]

    async def test_addresses_of_files_only_as_hashes(self, rig: WetransformRig) -> None:
        run, poller = rig.start(seconds=20), rig.poller()
        await watched(poller, run)
        await poller.follow(60)
        known = poller.runs[run.key]
        assert known.facts.inputs is not None
        assert known.facts.outputs is not None
        shown = repr(known)
        assert "signature" not in shown
        assert "/files/" not in shown
        assert known.facts.inputs[0].version
        assert known.facts.outputs[0].version
        assert known.facts.inputs[0].version != known.facts.outputs[0].version

    async def test_a_definition_is_read_once(self, rig: WetransformRig) -> None:
        poller, it = rig.poller(), rig.simulator.transformations[0]
        for _ in range(5):
            await watched(poller, rig.start(seconds=20))
        await poller.follow(60)
        seen = await rig.requests()
        assert seen[f"GET /transformation/{it.key}"] == 1
        assert len(poller.runs) == 5

    async def test_names_and_columns_are_found_once_more_at_the_end(self, rig: WetransformRig) -> None:
        run, platform = rig.start(seconds=5), rig.adapter()
        poller = SimulatedPoller(platform, rig.clock)
        rig.simulator.faults.plan(Fault(FaultKind.HTML, path=r"GET /transformation/[^/]+$", times=1))
        seen = await platform.trigger(run.transformation.key, {}, "t")
        poller.adopt(seen)
        await poller.follow(60)
        known = poller.runs[seen.key]
        assert known.ended_at is not None
        assert known.facts.outputs is not None
        assert known.facts.outputs[0].fields

    async def test_a_transformation_that_is_gone_is_a_problem_of_the_event_alone(self, rig: WetransformRig) -> None:
        run, poller = rig.start(seconds=20), rig.poller()
        await watched(poller, run)
        poller.platform = rig.adapter()
        rig.simulator.faults.plan(Fault(FaultKind.STATUS, path=r"GET /transformation/[^/]+$", times=-1, status=404))
        await poller.follow(60)
        assert poller.kinds(run.key)[-1] is EventKind.COMPLETE
        assert "names and columns are not known" in poller.runs[run.key].facts.problems[0]

    async def test_null_handle_and_source_are_filled_in_from_the_definition(self, rig: WetransformRig) -> None:
        run, poller = rig.start(seconds=20), rig.poller()
        await watched(poller, run)
        it = run.transformation
        body = {
            "success": True,
            "payload": {"automation_id": run.key, "step": "processed"},
            "template_handle": None,
            "source_id": None,
        }
        rig.simulator.faults.plan(Fault(FaultKind.STATUS, path="GET /transformation/automation", status=200, body=body))
        rig.clock.advance(10)
        await poller.cycle()
        known = poller.runs[run.key]
        assert known.facts.inputs is not None
        assert known.facts.inputs[0].name == f"sources/{it.source_id}"
        assert known.ended_at is not None


class TestSchedule:
    async def test_a_run_is_read_when_it_is_due_and_not_before(self, rig: WetransformRig) -> None:
        run, poller = rig.start(Scenario.STUCK, 10, at_step="to_review"), rig.poller()
        await watched(poller, run)
        await poller.follow(3600, every=5)
        reads = (await rig.requests())[f"GET /transformation/automation/{run.key}"]
        assert reads < 12

    async def test_a_thousand_runs_under_a_limit_each_get_their_turn(self, rig: WetransformRig) -> None:
        poller = rig.poller(requests_per_minute=300)
        runs = [rig.start(Scenario.STUCK, 10) for _ in range(1000)]
        platform = poller.platform
        assert isinstance(platform, Wetransform)
        for run in runs:
            poller.adopt(seen_at_start(platform, run, rig.clock))
        rig.clock.advance(10)
        began = rig.clock.monotonic()
        for _ in range(7):
            await poller.cycle()
        assert [run.raw_state for run in poller.runs.values()] == ["matching"] * len(runs)
        assert len(rig.statuses) / (rig.clock.monotonic() - began) < 5.5

    async def test_oldest_due_first_and_the_rest_is_reported(self, rig: WetransformRig) -> None:
        poller = rig.poller(requests_per_minute=60, burst=1)
        platform = poller.platform
        assert isinstance(platform, Wetransform)
        runs = [rig.start(Scenario.STUCK, 10) for _ in range(60)]
        for run in runs:
            poller.adopt(seen_at_start(platform, run, rig.clock))
        rig.clock.advance(10)
        pages = await poller.cycle()
        read = [seen.key for page in pages for seen in page.observations]
        assert read == [run.key for run in runs[: len(read)]]
        assert 20 < len(read) < 40
        assert set(pages[-1].unread) == {run.key for run in runs} - set(read)

    async def test_two_sources_of_one_token_share_its_limit(self, rig: WetransformRig) -> None:
        one, two = rig.poller(requests_per_minute=60, burst=1), rig.poller(requests_per_minute=60, burst=1)
        for poller in (one, two):
            await watched(poller, rig.start(Scenario.STUCK, 10))
        began, asked = rig.clock.monotonic(), len(rig.statuses)
        for _ in range(10):
            for poller in (one, two):
                poller.make_due(poller.runs)
                await poller.cycle()
        assert rig.clock.monotonic() - began >= len(rig.statuses) - asked - 1

    @pytest.mark.parametrize("per_minute", [1, 6, 20])
    async def test_a_small_budget_is_no_failure(self, rig: WetransformRig, per_minute: int) -> None:
        poller = rig.poller(requests_per_minute=per_minute, burst=1)
        platform = poller.platform
        assert isinstance(platform, Wetransform)
        runs = [rig.start(seconds=20) for _ in range(4)]
        for run in runs:
            poller.adopt(seen_at_start(platform, run, rig.clock))
        began = rig.clock.monotonic()
        await poller.follow(700, every=30)
        assert {poller.kinds(run.key)[-1] for run in runs} == {EventKind.COMPLETE}
        assert len(rig.statuses) <= 1 + (rig.clock.monotonic() - began) * per_minute / 60

    async def test_a_hint_makes_the_next_look_sooner(self, rig: WetransformRig) -> None:
        run, poller = rig.start(Scenario.STUCK, 10, at_step="to_review"), rig.poller()
        await watched(poller, run)
        await poller.follow(60)
        rig.simulator.set_step(run, "processed")
        await poller.cycle()
        assert poller.runs[run.key].state is RunState.WAITING
        poller.make_due([run.key])
        await poller.cycle()
        assert poller.runs[run.key].state is RunState.SUCCEEDED


def seen_at_start(platform: Wetransform, run: SimulatedRun, clock: SimulatedClock) -> Observation:
    """As the answer of the start put it, without the request."""
    payload = {"automation_id": run.key, "step": "pending", "created_at": run.created_at.isoformat()}
    it = run.transformation
    seen = automation(Envelope(payload, it.template_handle, it.source_id))
    return platform._runs.observation(seen, RunOrigin(it.key, it.customer))


class TestTrouble:
    @pytest.mark.parametrize(
        ("fault", "error"),
        [
            (Fault(FaultKind.STATUS, status=401), AuthFailed),
            (Fault(FaultKind.STATUS, status=429, headers={"Retry-After": "7"}), Throttled),
            (Fault(FaultKind.STATUS, status=500), Unavailable),
            (Fault(FaultKind.HTML), Unavailable),
            (Fault(FaultKind.HTML, status=200), BadAnswer),
            (Fault(FaultKind.LOST), Unavailable),
            (Fault(FaultKind.RESET), Unavailable),
            (Fault(FaultKind.TRUNCATED), BadAnswer),
        ],
    )
    async def test_what_is_wrong_with_the_source_is_reported_and_passes(
        self, rig: WetransformRig, fault: Fault, error: type[SourceError]
    ) -> None:
        run, poller = rig.start(seconds=20), rig.poller()
        await watched(poller, run)
        rig.simulator.faults.plan(replace(fault, times=-1))
        rig.clock.advance(10)
        with pytest.raises(error) as caught:
            await poller.cycle()
        assert TOKEN not in str(caught.value)
        if isinstance(caught.value, Throttled):
            assert caught.value.after == 7
        rig.simulator.faults.clear()
        await poller.follow(60)
        assert poller.kinds(run.key)[-1] is EventKind.COMPLETE

    async def test_one_run_that_cannot_be_read_stops_no_other(self, rig: WetransformRig) -> None:
        bad, good, poller = rig.start(seconds=20), rig.start(seconds=20), rig.poller()
        await watched(poller, bad)
        await watched(poller, good)
        rig.simulator.faults.plan(Fault(FaultKind.HTML, path=f"automation/{bad.key}", times=-1))
        await poller.follow(60)
        assert poller.kinds(good.key)[-1] is EventKind.COMPLETE
        assert poller.runs[bad.key].open
        cause = next(skip.cause for skip in poller.skips if skip.subject == bad.key)
        assert "status 502" in cause
        assert "tried again from" in cause
        rig.simulator.faults.clear()
        await poller.follow(700, every=60)
        assert poller.kinds(bad.key)[-1] is EventKind.COMPLETE

    async def test_while_patience_is_asked_for_nothing_is_asked(self, rig: WetransformRig) -> None:
        run, poller = rig.start(seconds=20), rig.poller()
        await watched(poller, run)
        rig.simulator.faults.plan(Fault(FaultKind.STATUS, status=429, headers={"Retry-After": "120"}))
        rig.clock.advance(10)
        for _ in range(3):
            with pytest.raises(Throttled):
                await poller.cycle()
        assert rig.statuses.count(429) == 1
        rig.clock.advance(121)
        await poller.cycle()
        assert poller.kinds(run.key)[-1] is EventKind.COMPLETE

    async def test_a_token_that_rotates(self, rig: WetransformRig, tmp_path: Any) -> None:
        file = tmp_path / "token"
        file.write_text(TOKEN)
        run, poller = rig.start(seconds=20), rig.poller(token=None, token_file=str(file))
        await watched(poller, run)
        rig.simulator.account.tokens = {"a-newer-token"}
        rig.clock.advance(10)
        with pytest.raises(AuthFailed):
            await poller.cycle()
        file.write_text("a-newer-token")
        await poller.follow(60)
        assert poller.kinds(run.key)[-1] is EventKind.COMPLETE

    async def test_nothing_watched_is_one_page_and_no_request(self, rig: WetransformRig) -> None:
        assert len(await rig.poller().cycle()) == 1
        assert rig.statuses == []


class TestTrigger:
    async def test_a_run_is_started_and_followed(self, rig: WetransformRig) -> None:
        it, poller = rig.simulator.transformations[0], rig.poller()
        poller.adopt(await poller.platform.trigger(f"transformation/{it.key}", {}, "t"))
        await poller.follow(60)
        [row] = rig.simulator.expected_runs()
        assert row["job"] == it.key
        assert poller.kinds(row["key"])[-1] is EventKind.COMPLETE

    async def test_for_a_customer(self, rig: WetransformRig) -> None:
        it = rig.simulator.state.add_transformation(rig.simulator.account, customer="cust-1")
        poller = rig.poller()
        poller.adopt(await poller.platform.trigger(it.key, {"customer": "cust-1"}, "t"))
        await poller.follow(60)
        assert poller.kinds(rig.simulator.expected_runs()[0]["key"])[-1] is EventKind.COMPLETE

    @pytest.mark.parametrize(
        "fault",
        [
            Fault(FaultKind.LOST, path="POST"),
            Fault(FaultKind.TRUNCATED, path="POST"),
            Fault(FaultKind.HTML, path="POST"),
            Fault(FaultKind.HTML, path="POST", status=200),
            Fault(FaultKind.STATUS, path="POST", status=503),
        ],
    )
    async def test_a_lost_answer_is_doubtful_and_never_asked_for_again(self, rig: WetransformRig, fault: Fault) -> None:
        rig.simulator.faults.plan(replace(fault))
        with pytest.raises(TriggerError) as caught:
            await rig.adapter().trigger(rig.simulator.transformations[0].key, {}, "t")
        assert caught.value.doubtful
        assert "not started again" in str(caught.value)
        assert "have it watched" in str(caught.value)
        assert sum((await rig.requests()).values()) == 1

    @pytest.mark.parametrize(
        "fault",
        [
            Fault(FaultKind.STATUS, path="POST", status=401),
            Fault(FaultKind.STATUS, path="POST", status=403),
            Fault(FaultKind.STATUS, path="POST", status=404),
            Fault(FaultKind.STATUS, path="POST", status=400),
            Fault(FaultKind.STATUS, path="POST", status=429),
        ],
    )
    async def test_a_refusal_is_certain(self, rig: WetransformRig, fault: Fault) -> None:
        rig.simulator.faults.plan(replace(fault))
        with pytest.raises(TriggerError, match="Nothing was started") as caught:
            await rig.adapter().trigger(rig.simulator.transformations[0].key, {}, "t")
        assert not caught.value.doubtful

    async def test_what_the_account_lacks_is_reported(self, rig: WetransformRig) -> None:
        rig.simulator.state.behaviour.may_run = False
        with pytest.raises(TriggerError, match="missing permission X_API_RUN"):
            await rig.adapter().trigger(rig.simulator.transformations[0].key, {}, "t")

    async def test_nobody_there_means_that_nothing_was_started(self, rig: WetransformRig) -> None:
        platform = rig.adapter(base_url="http://127.0.0.1:9")
        with pytest.raises(TriggerError, match="Nothing was started") as caught:
            await platform.trigger(rig.simulator.transformations[0].key, {}, "t")
        assert not caught.value.doubtful

    async def test_no_id_is_an_error_with_the_vendors_words(self, rig: WetransformRig) -> None:
        rig.simulator.next_starts([Plan(Scenario.UNTRACKED)])
        with pytest.raises(TriggerError, match="the remote server closed the connection") as caught:
            await rig.adapter().trigger(rig.simulator.transformations[0].key, {}, "t")
        assert "without an id" in str(caught.value)

    @pytest.mark.parametrize(
        ("status", "to_do"),
        [
            (400, "the source must have been uploaded"),
            (401, "make a new token"),
            (404, "check the transformation's UUID"),
            (410, "check the transformation's UUID"),
            (422, "the source must have been uploaded"),
            (429, "wait a minute"),
        ],
    )
    async def test_a_refusal_says_what_to_do(self, rig: WetransformRig, status: int, to_do: str) -> None:
        rig.simulator.faults.plan(Fault(FaultKind.STATUS, path="POST", times=-1, status=status))
        with pytest.raises(TriggerError, match=rf"{status}.*Nothing was started.*{to_do}") as caught:
            await rig.adapter().trigger(rig.simulator.transformations[0].key, {}, "t")
        assert not caught.value.doubtful

    async def test_product_on_a_success_is_no_refusal(self, rig: WetransformRig) -> None:
        rig.simulator.state.behaviour.product_on_success = True
        rig.simulator.state.behaviour.start_status = 201
        seen = await rig.adapter().trigger(rig.simulator.transformations[0].key, {}, "t")
        assert seen.state is RunState.QUEUED

    @pytest.mark.parametrize(
        ("job", "parameters", "words"),
        [
            ("new hires", {}, "is not the id of a transformation"),
            (str(UUID(int=3)), {"rows": "7"}, "no run parameters but `customer`, so not rows"),
            (str(UUID(int=3)), {"customer": "ann\r\nX-Evil: 1"}, "holds a control character"),
        ],
    )
    async def test_mistakes_of_the_caller(
        self, rig: WetransformRig, job: str, parameters: dict[str, str], words: str
    ) -> None:
        with pytest.raises(TriggerError, match=words):
            await rig.adapter().trigger(job, parameters, "t")
        assert rig.statuses == []


class TestWatch:
    async def test_the_transformation_is_found_by_source_and_template(self, rig: WetransformRig) -> None:
        run = rig.start(seconds=20, transformation=rig.simulator.transformations[1])
        seen = await rig.adapter().watch(run.key, {})
        assert seen.job.name == f"transformation/{run.transformation.key}"

    async def test_many_runs_of_one_transformation_search_once(self, rig: WetransformRig) -> None:
        platform = rig.adapter()
        for _ in range(5):
            await platform.watch(rig.start(seconds=20).key, {})
        assert (await rig.requests())["GET /transformations"] == 1

    @pytest.mark.parametrize("listed", ["twice", "never"])
    async def test_where_it_is_not_known_the_source_names_the_job(self, rig: WetransformRig, listed: str) -> None:
        first = rig.simulator.transformations[0]
        run, poller = rig.start(seconds=20), rig.poller()
        if listed == "twice":
            rig.simulator.state.add_transformation(rig.simulator.account, source_id=first.source_id)
        else:
            first.deleted_at = rig.clock.now()
        poller.adopt(await poller.platform.watch(run.key, {}))
        await poller.follow(60)
        assert poller.runs[run.key].job.name == f"transformation/source-{first.source_id}"
        assert poller.kinds(run.key)[-1] is EventKind.COMPLETE

    async def test_the_wrong_transformation_is_noticed(self, rig: WetransformRig) -> None:
        run, other = rig.start(seconds=20), rig.simulator.transformations[1]
        with pytest.raises(NotFound, match="on another"):
            await rig.adapter().watch(run.key, {"transformation": other.key})

    @pytest.mark.parametrize(
        ("key", "options", "words"),
        [
            (str(UUID(int=3)), {}, "not that of its transformation"),
            ("17", {}, "an automation id is a UUID"),
            (str(UUID(int=3)), {"colour": "red"}, "no option colour"),
        ],
    )
    async def test_what_is_not_there(self, rig: WetransformRig, key: str, options: dict[str, str], words: str) -> None:
        with pytest.raises(NotFound, match=words):
            await rig.adapter().watch(key, options)

    async def test_the_id_of_a_transformation_is_not_that_of_a_run(self, rig: WetransformRig) -> None:
        with pytest.raises(NotFound, match="not that of its transformation"):
            await rig.adapter().watch(rig.simulator.transformations[0].key, {})


class TestCheck:
    async def test_all_is_well(self, rig: WetransformRig) -> None:
        found = await rig.adapter().check()
        assert [finding.ok for finding in found] == [True, True]

    @pytest.mark.parametrize("body", ["Hello!", {"success": True, "payload": "hello"}, {"message": "gone"}])
    @pytest.mark.parametrize("status", [200, 404])
    async def test_a_greeting_of_another_shape_is_no_trouble(self, rig: WetransformRig, status: int, body: Any) -> None:
        """It is a demonstration endpoint, and no page says what it answers."""
        rig.simulator.faults.plan(Fault(FaultKind.STATUS, path="/hello", times=-1, status=status, body=body))
        assert [finding.ok for finding in await rig.adapter().check()] == [True, True]

    @pytest.mark.parametrize(
        ("settings", "remedy"),
        [
            ({"token": "wrong"}, "make a new token"),
            ({"customer": "nobody@no.example"}, "one of your customers"),
            ({"base_url": "http://127.0.0.1:9"}, "network.ca_file"),
        ],
    )
    async def test_what_to_do(self, rig: WetransformRig, settings: dict[str, Any], remedy: str) -> None:
        found = await rig.adapter(**settings).check()
        assert any(not finding.ok and remedy in str(finding.remedy) for finding in found)
        assert "wrong" not in repr(found)

    @pytest.mark.parametrize(
        ("settings", "fits"),
        [
            ({"include": ["transformation/*"]}, True),
            ({"include": ["nothing-*"]}, False),
            ({"include": ["*"], "exclude": ["*"]}, False),
            ({"exclude": ["*"]}, True),
        ],
    )
    async def test_include_that_fits_nothing_is_reported(
        self, rig: WetransformRig, settings: dict[str, Any], fits: bool
    ) -> None:
        found = [each for each in await rig.adapter(discover=True, **settings).check() if each.subject == "include"]
        assert [each.ok for each in found] == ([] if fits else [False])
        assert all("none of the" in each.detail and each.remedy for each in found)

    async def test_a_wrong_address(self, rig: WetransformRig) -> None:
        found = await rig.adapter(base_url=f"{rig.url}/no/such/place").check()
        assert [(finding.ok, "base_url" in str(finding.remedy)) for finding in found] == [(False, True)] * 2


class TestSecrets:
    SHAPES = (
        "https://bob:{}@files.example.test/x.csv",
        "https://files.example.test/x.csv?signature={}&expires=1",
        "failed with password={} at row 7",
        "Authorization: Bearer {}",
        '{{"api_key": "{}"}}',
    )

    @pytest.mark.parametrize("shape", SHAPES)
    @pytest.mark.parametrize("step", ["matching", "failed", "processed", "planted"])
    async def test_whatever_field_they_are_planted_in(
        self, rig: WetransformRig, caplog: pytest.LogCaptureFixture, shape: str, step: str
    ) -> None:
        caplog.set_level(logging.DEBUG, "lineage")
        secret = "s3cr3t-th4t-n0b0dy-m4y-s33"
        planted = shape.format(secret)
        run, poller = rig.start(Scenario.STUCK, 20), rig.poller()
        await watched(poller, run)
        poller.platform = rig.adapter()
        payload = dict.fromkeys(("type", "details", "original_file", "transformed_file", "error_report_file"), planted)
        human = {"code": planted, "message": planted}
        shown = planted if step == "planted" else step
        payload |= {"automation_id": run.key, "step": shown, "step_for_humans": human, "created_at": planted}  # type: ignore[dict-item]
        definition: dict[str, Any] = dict.fromkeys(
            ("source_name", "source_file_url", "template_name", "template_handle", "download_url", "imported_at"),
            planted,
        )
        definition |= {"column_names": [planted], "custom_field_names": [planted]}
        outside = {"success": True, "template_handle": planted, "source_id": run.transformation.source_id}
        for path, body in (("automation", payload), (r"GET /transformation/[^/]+$", definition)):
            answer = outside | {"payload": body}
            rig.simulator.faults.plan(Fault(FaultKind.STATUS, path=path, status=200, body=answer, times=-1))
        rig.clock.advance(10)
        await poller.cycle()
        known = poller.runs[run.key]
        assert known.raw_state is not None
        logged = [vars(record) for record in caplog.records]
        assert secret not in repr((known.raw_state, known.facts, known.job, known.handle, poller.skips, logged))

    @pytest.mark.parametrize("shape", SHAPES)
    async def test_or_in_refusals(self, rig: WetransformRig, shape: str) -> None:
        planted = shape.format("s3cr3t-th4t-n0b0dy-m4y-s33")
        body = {
            "success": False,
            "payload": {"why": planted},
            "product": {"permission": {"name": planted, "description": planted}, "limitation_type": planted},
        }
        rig.simulator.faults.plan(Fault(FaultKind.STATUS, status=403, body=body, times=-1))
        platform = rig.adapter()
        with pytest.raises(TriggerError) as caught:
            await platform.trigger(rig.simulator.transformations[0].key, {}, "t")
        assert "s3cr3t" not in str(caught.value) + repr(await platform.check())
