"""What only the simulated Marquez can be asked: outages, death in the middle, lost answers, and poison."""

import asyncio
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx
import pytest

from collector.testing.faults import Fault, FaultKind
from simulators.marquez import MarquezSimulator
from simulators.server import Served
from tests.contract.marquez_client import END, LATE, START, Marquez, dataset, facet, new_run


class Hand:
    """A clock that is moved by hand."""

    def __init__(self) -> None:
        self.at = datetime(2026, 3, 1, 12, 0, 0, tzinfo=UTC)

    def __call__(self) -> datetime:
        return self.at


@pytest.fixture
def hand() -> Hand:
    return Hand()


@pytest.fixture
def simulator(hand: Hand) -> MarquezSimulator:
    made = MarquezSimulator(now=hand, seed=7)
    made.database.connect_timeout = 0.01
    made.database.spread = 0.01
    made.database.luck = 0.0
    return made


@pytest.fixture
async def marquez(simulator: MarquezSimulator) -> AsyncIterator[Marquez]:
    async with Served(simulator) as served, httpx.AsyncClient(timeout=10, verify=False) as http:
        yield Marquez(served.url, http)


async def until(condition: Any) -> None:
    async with asyncio.timeout(5):
        while not condition():
            await asyncio.sleep(0.002)


async def order(marquez: Marquez, do: str, **given: Any) -> Any:
    answer = await marquez.call("POST", "/_control/marquez", {"do": do, **given})
    assert answer.status_code == 200
    return answer.json()


async def test_a_stopped_database_is_a_500_at_once_in_both_forms(marquez: Marquez, simulator: MarquezSimulator) -> None:
    assert (await order(marquez, "stop"))["healthy"] is False
    page = await marquez.post(marquez.event("START", new_run()))
    assert (page.status_code, page.headers["content-type"]) == (500, "text/html;charset=iso-8859-1")
    for answer in (await marquez.api("GET", "namespaces/default"), await marquez.create(new_run())):
        assert (answer.status_code, answer.json()["code"]) == (500, 500)
        assert "PSQLException" in answer.json()["message"]
    assert simulator.expected_runs() == []
    assert simulator.tables.events == []


async def test_what_is_refused_before_the_database_is_asked_is_refused_without_it_too(marquez: Marquez) -> None:
    await order(marquez, "stop")
    assert (await marquez.post({})).status_code == 422
    assert (await marquez.call("POST", "/api/v1/lineage", {}, {})).status_code == 415


async def test_after_an_outage_it_goes_on_failing_for_a_while(marquez: Marquez, hand: Hand) -> None:
    await order(marquez, "stop")
    await order(marquez, "start")
    for _ in range(5):
        assert (await marquez.api("GET", "namespaces/default")).status_code == 500
    hand.at += timedelta(seconds=19)
    assert (await marquez.post(marquez.event("START", new_run()))).status_code == 500
    hand.at += timedelta(seconds=2)
    assert (await marquez.post(marquez.event("START", new_run()))).status_code == 201


async def test_now_and_then_a_live_connection_is_found_among_the_dead(
    marquez: Marquez, simulator: MarquezSimulator
) -> None:
    simulator.database.luck = 0.5
    await order(marquez, "stop")
    await order(marquez, "start")
    codes = {(await marquez.api("GET", "namespaces/default")).status_code for _ in range(30)}
    assert codes == {200, 500}


async def test_the_admin_port_reports_on_the_database(marquez: Marquez) -> None:
    assert (await marquez.call("GET", "/_admin/ping")).text == "pong\n"
    assert (await marquez.call("GET", "/_admin/healthcheck")).status_code == 200
    await order(marquez, "stop")
    assert (await marquez.call("GET", "/_admin/healthcheck")).status_code == 500
    assert (await marquez.call("GET", "/_admin/ping")).status_code == 200


async def test_a_request_that_timed_out_is_applied_later(marquez: Marquez, simulator: MarquezSimulator) -> None:
    run = new_run()
    await order(marquez, "freeze")
    async with httpx.AsyncClient(timeout=0.2, verify=False) as hasty:
        with pytest.raises(httpx.ReadTimeout):
            await Marquez(marquez.url, hasty).post(marquez.event("START", run))
    assert simulator.expected_runs() == []
    await order(marquez, "thaw")
    await until(simulator.expected_runs)
    assert (await marquez.run(run))["state"] == "RUNNING"


async def test_a_late_start_overtakes_an_end_that_was_answered(marquez: Marquez, simulator: MarquezSimulator) -> None:
    run = new_run()
    await order(marquez, "freeze")
    start = asyncio.create_task(marquez.post(marquez.event("START", run)))
    await until(lambda: simulator.database.hanging)
    await order(marquez, "thaw", hold=True)
    await marquez.posted(marquez.event("COMPLETE", run, at=END))
    assert (await marquez.run(run))["state"] == "COMPLETED"
    await order(marquez, "release")
    assert (await start).status_code == 201
    found = await marquez.run(run)
    assert [found[key] for key in ("state", "startedAt", "endedAt")] == ["RUNNING", START, END]


async def test_what_hung_is_applied_in_no_fixed_order(marquez: Marquez, simulator: MarquezSimulator) -> None:
    runs = [new_run() for _ in range(20)]
    simulator.database.pool = 100
    await order(marquez, "freeze")
    waiting = []
    for run in runs:
        for kind, at in (("START", START), ("COMPLETE", END)):
            waiting.append(asyncio.create_task(marquez.post(marquez.event(kind, run, at=at))))
            await asyncio.sleep(0)
    await until(lambda: simulator.database.hanging == 80)
    await order(marquez, "thaw")
    assert {answer.status_code for answer in await asyncio.gather(*waiting)} == {201}
    assert {found["raw_state"] for found in simulator.expected_runs()} == {"RUNNING", "COMPLETED"}


async def test_beyond_the_pool_calls_fail_while_frozen(marquez: Marquez, simulator: MarquezSimulator) -> None:
    await order(marquez, "freeze")
    hanging = [asyncio.create_task(marquez.api("GET", "namespaces/default")) for _ in range(10)]
    await until(lambda: simulator.database.hanging == 10)
    answer = await marquez.api("GET", "namespaces/default")
    assert (answer.status_code, answer.json()["code"]) == (500, 500)
    assert (await marquez.post(marquez.event("START", new_run()))).status_code == 500
    await order(marquez, "thaw")
    assert {answer.status_code for answer in await asyncio.gather(*hanging)} == {200}


async def test_killed_in_the_middle_of_a_complete(marquez: Marquez, simulator: MarquezSimulator) -> None:
    run = new_run()
    outputs = [dataset(marquez.namespace, "out", "a")]
    await marquez.posted(marquez.event("START", run))
    await order(marquez, "kill", during="COMPLETE")
    end = marquez.event("COMPLETE", run, at=END, outputs=outputs)
    with pytest.raises(httpx.RemoteProtocolError):
        await marquez.post(end)
    with pytest.raises(httpx.RemoteProtocolError):
        await marquez.api("GET", f"jobs/runs/{run}")
    await order(marquez, "restart")
    found = await marquez.run(run)
    assert (found["state"], found["endedAt"]) == ("COMPLETED", END)
    assert (found["jobVersion"], found["outputDatasetVersions"]) == (None, [])
    await marquez.posted(end)
    assert (await marquez.run(run))["outputDatasetVersions"][0]["datasetVersionId"]["name"] == "out"
    assert (await marquez.get(marquez.at_dataset("out")))["currentVersion"] is not None


async def test_what_hung_when_it_was_killed_is_never_applied(marquez: Marquez, simulator: MarquezSimulator) -> None:
    await order(marquez, "freeze")
    waiting = asyncio.create_task(marquez.post(marquez.event("START", new_run())))
    await until(lambda: simulator.database.hanging)
    await order(marquez, "kill")
    with pytest.raises(httpx.RemoteProtocolError):
        await waiting
    await order(marquez, "restart")
    await order(marquez, "thaw")
    assert (await marquez.api("GET", "namespaces/default")).status_code == 200
    assert simulator.expected_runs() == []


async def test_a_lost_answer_was_work_all_the_same(marquez: Marquez, simulator: MarquezSimulator) -> None:
    run = new_run()
    simulator.faults.plan(Fault(FaultKind.LOST, path="POST /api/v1/lineage"))
    with pytest.raises(httpx.RemoteProtocolError):
        await marquez.post(marquez.event("START", run))
    assert (await marquez.run(run))["state"] == "RUNNING"


async def test_two_first_events_of_a_dataset_may_clash(marquez: Marquez, simulator: MarquezSimulator) -> None:
    simulator.database.clash_chance = 1.0
    outputs = [dataset(marquez.namespace, "new", "a")]
    events = [marquez.event("COMPLETE", new_run(), f"job/{number}", outputs=outputs) for number in range(8)]
    answers = await asyncio.gather(*(marquez.post(event) for event in events))
    assert {answer.status_code for answer in answers} == {201, 500}
    await marquez.posted(*events)


async def test_the_check_for_an_id_and_the_insert_are_two_steps(marquez: Marquez, simulator: MarquezSimulator) -> None:
    simulator.database.pause = 0.1
    await marquez.make_job()
    run = new_run()
    answers = await asyncio.gather(*(marquez.create(run) for _ in range(8)))
    assert sum(answer.status_code == 201 for answer in answers) > 1


LISTS = ("namespaces", "jobs", "search?q=t")


async def broken(marquez: Marquez) -> set[str]:
    return {path for path in LISTS if (await marquez.api("GET", path)).status_code == 500}


async def test_an_empty_job_namespace_breaks_the_lists_for_everybody(marquez: Marquez) -> None:
    assert await broken(marquez) == set()
    assert (await marquez.post(marquez.event("START", new_run(), namespace=""))).status_code == 201
    assert await broken(marquez) >= {"namespaces", "jobs"}


async def test_a_namespace_that_is_too_long_breaks_the_lists_for_everybody(marquez: Marquez) -> None:
    assert (await marquez.post(marquez.event("START", new_run(), namespace="x" * 1025))).status_code == 201
    assert await broken(marquez) >= {"namespaces", "jobs"}


async def test_a_blank_job_name_breaks_the_job_lists(marquez: Marquez) -> None:
    assert (await marquez.post(marquez.event("START", new_run(), " "))).status_code == 201
    assert await broken(marquez) >= {"jobs"}


async def test_a_refused_output_breaks_the_lists_all_the_same(marquez: Marquez) -> None:
    answer = await marquez.post(marquez.event("COMPLETE", new_run(), outputs=[dataset("a b", "t")]))
    assert answer.status_code == 400
    assert await broken(marquez) == set(LISTS)


async def test_a_symlink_in_a_forbidden_namespace_breaks_the_namespaces(marquez: Marquez) -> None:
    alias = facet(identifiers=[{"namespace": "bad name", "name": "t", "type": "TABLE"}])
    outputs = [dataset(marquez.namespace, "out", symlinks=alias)]
    assert (await marquez.post(marquez.event("COMPLETE", new_run(), outputs=outputs))).status_code == 201
    assert "namespaces" in await broken(marquez)


async def test_the_sources_are_broken_by_a_dataset_without_one(marquez: Marquez) -> None:
    source = facet(name="s", uri="https://a/b")
    outputs = [dataset(marquez.namespace, "out", dataSource=source)]
    await marquez.posted(marquez.event("COMPLETE", new_run(), outputs=outputs))
    [shown] = (await marquez.get("sources"))["sources"]
    assert (shown["name"], shown["connectionUrl"], shown["description"]) == ("s", "https://a/b", None)
    assert shown["createdAt"] <= shown["updatedAt"]
    await marquez.posted(marquez.event("COMPLETE", new_run(), outputs=[dataset(marquez.namespace, "other")]))
    assert (await marquez.api("GET", "sources")).status_code == 500


async def test_expected_runs_list_every_run_and_its_history(marquez: Marquez, simulator: MarquezSimulator) -> None:
    run = new_run()
    await marquez.posted(marquez.event("START", run), marquez.event("FAIL", run, at=LATE))
    [found] = (await marquez.call("GET", "/_control/expected")).json()["runs"]
    assert (found["key"], found["job"], found["namespace"]) == (run, "transformation/1", marquez.namespace)
    assert (found["state"], found["raw_state"]) == ("failed", "FAILED")
    assert (found["started_at"], found["ended_at"]) == (START, LATE)
    assert found["history"] == [["RUNNING", START], ["FAILED", LATE]]


async def test_the_same_seed_makes_the_same_ids(hand: Hand) -> None:
    async def versions() -> list[str]:
        async with Served(MarquezSimulator(now=hand, seed=3)) as served, httpx.AsyncClient(verify=False) as http:
            marquez = Marquez(served.url, http)
            marquez.namespace = "cdf://host/p"
            await marquez.make_job()
            return [(await marquez.api("POST", f"{marquez.at_job()}/runs", {})).json()["id"] for _ in range(3)]

    assert await versions() == await versions()


async def test_an_unknown_order_is_refused(marquez: Marquez) -> None:
    assert (await marquez.call("POST", "/_control/marquez", {"do": "dance"})).status_code == 400
