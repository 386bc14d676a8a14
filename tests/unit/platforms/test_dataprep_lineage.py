"""What Dataprep runs read and write, how it is named, and what is reported when a run ended."""

import logging
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from collector.errors import TriggerError
from collector.lineage.custom_facets import RESOLVED
from collector.model import Dataset, EventKind, Run, RunState, SkipKind
from collector.platforms.dataprep import datasets, states
from collector.platforms.dataprep.connects import kind_of, place
from collector.platforms.dataprep.enrichment import partly_written
from collector.platforms.dataprep.rows import FileOut, OutputDefinition, Source, StageRow, TableOut
from collector.testing.faults import Fault, FaultKind
from simulators.dataprep import Feature, Level, Switches
from tests.dataprep_rig import DataprepRig, dataprep_rig

HERE = "dataprep://api.clouddataprep.com/1"
NOON = datetime(2026, 11, 21, 12, 0, tzinfo=UTC)


def named(found: Dataset | None) -> tuple[str, str] | None:
    return None if found is None else (found.namespace, found.name)


class TestFiles:
    @pytest.mark.parametrize(
        ("uri", "expected"),
        [
            ("gs://b/p/x.csv", ("gs://b", "p/x.csv")),
            ("gs://b/p/", ("gs://b", "p")),
            ("gs://b", ("gs://b", "/")),
            ("gs://b/a#1.csv", ("gs://b", "a#1.csv")),
            ("s3://b/p", ("s3://b", "p")),
            ("s3a://b/p/q", ("s3://b", "p/q")),
            ("hdfs://host:8020/p/q", ("hdfs://host:8020", "/p/q")),
            ("wasbs://c@account.blob.core.windows.net/k/x", ("wasbs://c@account.blob.core.windows.net", "k/x")),
            ("abfss://c@account.dfs.core.windows.net/k", ("abfss://c@account.dfs.core.windows.net", "k")),
            ("/mnt/data/x.csv", ("file", "/mnt/data/x.csv")),
            ("https://user:secret@host/x.csv?sig=secret#secret", ("https://host", "/x.csv")),
            ("gs://b/x.csv?X-Goog-Signature=secret", ("gs://b", "x.csv")),
            ("not a uri", None),
            ("http://[broken", None),
        ],
    )
    def test_name(self, uri: str, expected: tuple[str, str] | None) -> None:
        assert named(datasets.file(uri)) == expected

    def test_a_namespace_has_no_character_that_a_backend_would_refuse(self) -> None:
        assert named(datasets.file("gs://bücket, with/x")) == ("gs://b_cket__with", "x")


class TestTables:
    @pytest.mark.parametrize(
        ("vendor", "connect", "path", "expected"),
        [
            ("bigquery", "https://www.googleapis.com/bigquery/v2", ["p", "d"], ("bigquery", "p.d.t")),
            ("postgres", "jdbc:postgresql://h:5433/shop", ["public"], ("postgres://h:5433", "shop.public.t")),
            ("postgresql", "jdbc:postgresql://h/shop", ["shop", "public"], ("postgres://h:5432", "shop.public.t")),
            (
                "redshift",
                "jdbc:redshift://c1.abc123.eu-west-1.redshift.amazonaws.com:5439/dev",
                ["public"],
                ("redshift://c1.eu-west-1:5439", "dev.public.t"),
            ),
            ("mysql", "jdbc:mysql://h:3307/shop?user=u&password=secret", ["shop"], ("mysql://h:3307", "shop.t")),
            ("mysql", "jdbc:mysql://h/shop", [], ("mysql://h:3306", "shop.t")),
            (
                "sqlserver",
                "jdbc:sqlserver://h:1434;databaseName=Shop;user=sa;password=secret",
                ["dbo"],
                ("mssql://h:1434", "Shop.dbo.t"),
            ),
            ("oracle", "jdbc:oracle:thin:scott/tiger@//h:1522/ORCL", ["HR"], ("oracle://h:1522", "ORCL.HR.t")),
            ("oracle", "jdbc:oracle:thin:@h:1521:XE", ["HR"], ("oracle://h:1521", "XE.HR.t")),
            (
                "oracle",
                "jdbc:oracle:thin:@(DESCRIPTION=(ADDRESS=(PROTOCOL=TCP)(HOST=h)(PORT=1523))(CONNECT_DATA=(SERVICE_NAME=S)))",
                ["HR"],
                ("oracle://h:1523", "S.HR.t"),
            ),
            (
                "snowflake",
                "jdbc:snowflake://org-acc.snowflakecomputing.com/?db=DB&warehouse=W&user=u",
                ["DB", "PUBLIC"],
                ("snowflake://org-acc", "DB.PUBLIC.t"),
            ),
            ("hive", "jdbc:hive2://h:10001/default", ["default"], ("hive://h:10001", "default.t")),
            ("teradata", "jdbc:teradata://h/DATABASE=x", ["sales"], ("teradata://h:1025", "sales.t")),
            ("Exotic DB", "jdbc:exotic://h:99/x", ["a", "b"], ("exoticdb://h:99", "a.b.t")),
            (
                "postgres",
                "jdbc:postgresql://[2001:db8::1]:5432/x",
                ["x", "s"],
                ("postgres://2001-db8--1:5432", "x.s.t"),
            ),
        ],
    )
    def test_name(self, vendor: str, connect: str, path: list[str], expected: tuple[str, str]) -> None:
        row = {"vendor": vendor, "databaseConnectString": connect, "relationalPath": path, "table": "t", "action": "x"}
        assert named(datasets.table(row, HERE)) == expected

    @pytest.mark.parametrize(
        "connect",
        [
            "jdbc:postgresql://admin:hunter2@h:5432/shop?password=hunter2",
            "jdbc:sqlserver://h;user=hunter2;password=hunter2",
            "jdbc:oracle:thin:hunter2/hunter2@//h:1521/S",
            "jdbc:mysql://hunter2:hunter2@h/db?sslKey=hunter2",
            "jdbc:snowflake://acc.snowflakecomputing.com/?private_key=hunter2&user=hunter2",
            "Server=h;User Id=hunter2;Password=hunter2",
            "hunter2",
        ],
    )
    @pytest.mark.parametrize("vendor", ["postgres", "sqlserver", "oracle", "mysql", "snowflake", "other"])
    def test_nothing_secret_of_a_connect_string_remains(self, vendor: str, connect: str) -> None:
        row = {"vendor": vendor, "databaseConnectString": connect, "relationalPath": ["a"], "table": "t"}
        assert "hunter2" not in repr((datasets.table(row, HERE), place(kind_of(vendor), connect)))

    @pytest.mark.parametrize("connect", [None, "", "nonsense", "jdbc:", "x" * 100_000, 7, {"a": 1}])
    def test_a_table_nobody_can_place_gets_a_name_of_ours(self, connect: Any) -> None:
        row = {"vendor": "postgres", "databaseConnectString": connect, "relationalPath": ["s"], "table": "t"}
        assert named(datasets.table(row, HERE)) == (HERE, "tables/postgres/s.t")


class TestInputs:
    def test_files_of_a_pattern_are_one_dataset_with_its_files_beside(self) -> None:
        files = [{"uri": f"gs://b/in/{day}.csv", "fileType": "FILE"} for day in range(3)]
        body = {"data": [{"name": "by day", "inputs": files}]}
        [found] = datasets.inputs(body, [Source("4", "by day", pattern="gs://b/in/*.csv")], HERE).datasets or ()
        assert named(found) == ("gs://b", "in/*.csv")
        assert found.files == 3
        assert found.facets[RESOLVED]["names"] == [f"gs://b/in/{day}.csv" for day in range(3)]

    def test_a_pattern_without_its_bucket_takes_that_of_the_files(self) -> None:
        body = {"data": [{"name": "by day", "inputs": [{"uri": "gs://b/in/1.csv"}]}]}
        [found] = datasets.inputs(body, [Source("4", "by day", pattern="/in/*.csv")], HERE).datasets or ()
        assert named(found) == ("gs://b", "in/*.csv")

    def test_very_many_files_are_named_by_their_folder(self) -> None:
        files = [{"uri": f"s3://b/lake/day={day}/part.csv"} for day in range(50)]
        [found] = datasets.inputs({"data": [{"name": "lake", "inputs": files}]}, (), HERE).datasets or ()
        assert named(found) == ("s3://b", "lake")
        assert found.facets[RESOLVED]["count"] == 50

    def test_a_query_is_a_problem_and_an_input_by_its_id(self) -> None:
        body = {
            "data": [{"name": "q", "inputs": [{"vendor": "postgres", "query": ["SELECT 1"], "relationalPath": []}]}]
        }
        found = datasets.inputs(body, [Source("7", "q")], HERE)
        assert [named(one) for one in found.datasets or ()] == [(HERE, "importedDatasets/7")]
        assert "read by a query" in found.problems[0]

    @pytest.mark.parametrize("body", [None, [], {}, {"data": None}, {"data": {}}, "x"])
    def test_an_answer_that_says_nothing_is_not_an_answer_that_says_none(self, body: Any) -> None:
        assert datasets.inputs(body, (), HERE).datasets is None
        assert datasets.outputs(body, None, HERE).datasets is None

    def test_none(self) -> None:
        assert datasets.inputs({"data": []}, (), HERE).datasets == ()
        assert datasets.outputs({"files": [], "tables": []}, None, HERE).datasets == ()

    def test_the_same_file_twice_is_one_input(self) -> None:
        body = {"data": [{"name": name, "inputs": [{"uri": "gs://b/x"}]} for name in "ab"]}
        assert len(datasets.inputs(body, (), HERE).datasets or ()) == 1


class TestOutputs:
    DEFINED = OutputDefinition(
        "1",
        "7",
        adhoc=True,
        files=(FileOut("gs://b/out/daily.csv", "create", "csv"),),
        tables=(TableOut("daily", ("p", "d"), "bigquery", "create"),),
    )

    @pytest.mark.parametrize(
        "uri", ["gs://b/out/daily.csv", "gs://b/out/daily_20261121.csv", "gs://b/out/daily.csv/part-0.csv"]
    )
    def test_a_stamped_file_is_named_as_defined(self, uri: str) -> None:
        [found] = datasets.outputs({"files": [{"uri": uri}], "tables": []}, self.DEFINED, HERE).datasets or ()
        assert named(found) == ("gs://b", "out/daily.csv")
        assert found.change == "CREATE"
        assert (RESOLVED in found.facets) == (uri != "gs://b/out/daily.csv")

    @pytest.mark.parametrize("uri", ["gs://b/out/daily_summary.csv", "gs://other/out/daily.csv"])
    def test_another_file_keeps_its_own_name(self, uri: str) -> None:
        [found] = datasets.outputs({"files": [{"uri": uri}], "tables": []}, self.DEFINED, HERE).datasets or ()
        assert f"{found.namespace}/{found.name}" == uri

    @pytest.mark.parametrize(
        ("table", "name"), [("daily_20261121_120000", "daily"), ("daily", "daily"), ("dailies", "dailies")]
    )
    def test_a_stamped_table_is_named_as_defined(self, table: str, name: str) -> None:
        row = {"vendor": "bigquery", "relationalPath": ["p", "d"], "table": table, "action": "create"}
        [found] = datasets.outputs({"files": [], "tables": [row]}, self.DEFINED, HERE).datasets or ()
        assert named(found) == ("bigquery", f"p.d.{name}")
        assert found.change == "CREATE"

    def test_by_definition(self) -> None:
        found = datasets.defined_outputs(self.DEFINED, HERE)
        assert [named(one) for one in found.datasets or ()] == [("gs://b", "out/daily.csv"), ("bigquery", "p.d.daily")]


def stage(kind: str, status: str, begin: float = 0, end: float = 60, **more: Any) -> StageRow:
    created, updated = NOON + timedelta(seconds=begin), NOON + timedelta(seconds=end)
    return StageRow(f"{kind}-{begin}", kind, status, created_at=created, updated_at=updated, **more)


class TestStages:
    def test_a_kind_of_output_that_was_written_or_not_as_a_whole_is_no_problem(self) -> None:
        rows = [stage("wrangle", "Complete"), stage("filewriter", "Complete"), stage("publish", "Failed")]
        assert partly_written(rows, RunState.FAILED) == ()

    def test_a_writer_among_several_that_failed_is_a_problem(self) -> None:
        rows = [stage("publish", "Failed"), stage("publish", "Complete", 1), stage("filewriter", "Canceled")]
        [problem] = partly_written(rows, RunState.FAILED)
        assert "1 of 2 publish stages" in problem

    def test_a_run_that_succeeded_wrote_all_whatever_its_stages_say(self) -> None:
        rows = [stage("filewriter", "Complete"), stage("filewriter", "InProgress"), stage("publish", "Created")]
        assert partly_written(rows, RunState.SUCCEEDED) == ()

    def test_a_publication_long_after_the_end_is_another_life(self) -> None:
        rows = [
            stage("wrangle", "Complete"),
            stage("publish", "Complete", 60.2, 90),
            stage("publish", "Complete", 300, 400),
        ]
        assert len(states.first_life(rows, NOON + timedelta(seconds=400))) == 2
        assert len(states.first_life(rows[:2], NOON + timedelta(seconds=91))) == 2
        assert len(states.first_life(rows[:2], NOON + timedelta(seconds=60.1))) == 1

    def test_beginning(self) -> None:
        rows = [stage("wrangle", "Created", 5), stage("ingest", "Created", 3)]
        assert states.beginning(rows) == NOON + timedelta(seconds=3)
        assert states.beginning([]) is None
        stages = [stage("wrangle", "InProgress", 5, reports_start=True, started_at=NOON + timedelta(seconds=9))]
        assert states.beginning(stages) == NOON + timedelta(seconds=9)
        assert states.beginning([stage("wrangle", "Canceled", reports_start=True)]) is None

    def test_end(self) -> None:
        rows = [stage("wrangle", "Complete", 0, 60), stage("publish", "Failed", 0, 90)]
        assert states.ending(rows, NOON + timedelta(hours=9), NOON + timedelta(hours=10)) == NOON + timedelta(
            seconds=90
        )
        assert states.ending(rows, None, NOON + timedelta(seconds=70)) == NOON + timedelta(seconds=70)
        assert states.ending([], NOON, NOON + timedelta(hours=1)) == NOON

    def test_words_for_a_failure(self) -> None:
        assert states.why_failed("Boom", []) == "Boom"
        assert states.why_failed(None, [stage("publish", "Failed")]) == "stage publish publish-0 failed"
        assert "validation" in states.why_failed(None, [])


async def ended(rig: DataprepRig, scenario: str, **how: Any) -> Run:
    simulated = rig.simulator.start_run(scenario, **how)
    if Feature.LIST not in rig.simulator.features:
        await rig.watch(simulated)
    rig.clock.advance(900)
    await rig.poller.cycle()
    return rig.poller.runs[str(simulated.id)]


def busy_recipe(rig: DataprepRig, *kinds: str) -> int:
    """A recipe that reads sources of these kinds and writes a file and a table."""
    workspace = rig.simulator.workspace
    sources = [source for source in workspace.sources.values() if source.name in kinds]
    recipe = workspace.add_recipe(workspace.flows[1], "busy", sources)
    publication = {"path": ["project", "sales"], "tableName": "daily", "targetType": "bigquery", "action": "create"}
    settings = [{"path": "gs://b/x.csv", "action": "overwrite", "format": "csv"}]
    workspace.add_output(recipe.id, write_settings=settings, publications=[publication])
    return recipe.id


class TestEnrichment:
    async def test_inputs_outputs_engine_and_stages(self) -> None:
        async with dataprep_rig(Level.L2) as rig:
            recipe = busy_recipe(rig, "orders.csv", "orders by day", "orders table")
            facts = (await ended(rig, "complete", recipe=recipe)).facts
            assert [named(one) for one in facts.inputs or ()] == [
                ("gs://example-in", "orders/orders.csv"),
                ("gs://example-in", "orders/*.csv"),
                ("postgres://db.example.test:5432", "shop.public.orders"),
            ]
            assert [named(one) for one in facts.outputs or ()] == [
                ("gs://b", "x.csv"),
                ("bigquery", "project.sales.daily"),
            ]
            assert facts.engine == "photon"
            assert [stage.kind for stage in facts.stages] == ["ingest", "wrangle", "filewriter", "publish"]
            assert facts.problems == ()
            assert facts.ids["recipe"] == str(recipe)

    @pytest.mark.parametrize("level", [Level.L0, Level.L1])
    async def test_by_definition_where_the_run_does_not_say(self, level: Level) -> None:
        async with dataprep_rig(level) as rig:
            run = await ended(rig, "complete", recipe=busy_recipe(rig, "orders.csv", "orders by day"))
            assert [named(one) for one in run.facts.inputs or ()] == [
                (run.job.namespace, "importedDatasets/1"),
                ("gs://example-in", "orders/*.csv"),
            ]
            assert len(run.facts.outputs or ()) == 2
            assert "orders.csv" in run.facts.problems[0]

    @pytest.mark.parametrize("level", [Level.L0, Level.L2])
    @pytest.mark.parametrize("outputs", ["written", "planned"])
    @pytest.mark.parametrize("scenario", ["partial", "failed", "canceled", "canceled_queued", "validation_failed"])
    async def test_a_run_that_did_not_succeed_names_what_its_recipe_defines(
        self, level: Level, outputs: str, scenario: str
    ) -> None:
        async with dataprep_rig(level, Switches(outputs=outputs)) as rig:
            run = await ended(rig, scenario, recipe=busy_recipe(rig, "orders.csv"))
            assert [named(one) for one in run.facts.outputs or ()] == [
                ("gs://b", "x.csv"),
                ("bigquery", "project.sales.daily"),
            ]
            assert (run.facts.error is None) == scenario.startswith("canceled")

    async def test_a_table_of_which_only_the_run_would_name_the_place_gets_no_other_name(self) -> None:
        async with dataprep_rig(Level.L2) as rig:
            recipe = busy_recipe(rig, "orders.csv")
            publication = {"path": ["public"], "tableName": "t", "targetType": "postgres", "action": "load"}
            rig.simulator.workspace.add_output(recipe, write_settings=[], publications=[publication], adhoc=False)
            run = await ended(rig, "failed", recipe=recipe, ranfrom="schedule")
            assert run.facts.outputs == ()

    @pytest.mark.parametrize(
        ("switch", "words"),
        [("none", "stage wrangle"), ("workloadError", "could not be parsed"), ("embed", "could not be parsed")],
    )
    async def test_the_best_words_for_a_failure(self, switch: str, words: str) -> None:
        async with dataprep_rig(Level.L2, Switches(error_text=switch)) as rig:
            run = await ended(rig, "failed")
            assert words in (run.facts.error or "")

    @pytest.mark.parametrize("level", [Level.L1, Level.L2])
    @pytest.mark.parametrize("stages", ["facet", "runs"])
    async def test_a_job_is_described_as_its_recipe_is(self, level: Level, stages: str) -> None:
        async with dataprep_rig(level, stages=stages) as rig:
            recipe = busy_recipe(rig, "orders.csv")
            rig.simulator.workspace.recipes[recipe].description = "Orders of the day, password=planted"
            run = await ended(rig, "complete", recipe=recipe)
            assert run.job.description is not None
            assert run.job.description.startswith("Orders of the day")
            assert "planted" not in run.job.description
            below = [child.job for child in rig.poller.runs.values() if child.parent is not None]
            assert {job.description for job in below} <= {None}
            assert bool(below) == (stages == "runs")

    async def test_inputs_that_are_refused_do_not_fail_the_run(self) -> None:
        async with dataprep_rig(Level.L2, Switches(mixed_inputs_refused=True)) as rig:
            run = await ended(rig, "complete", recipe=busy_recipe(rig, "orders.csv", "orders table"))
            assert rig.poller.kinds(run.key)[-1] is EventKind.COMPLETE
            assert any("DataServiceInvalidRequest" in problem for problem in run.facts.problems)
            assert len(run.facts.inputs or ()) == 2, "by definition then"

    async def test_a_scheduled_run_has_its_own_outputs_and_nominal_time(self) -> None:
        async with dataprep_rig(Level.L2) as rig:
            due = rig.clock.now() - timedelta(minutes=1)
            run = await ended(rig, "complete", recipe=1, ranfrom="schedule", reference_date=due)
            assert run.facts.nominal_start == due
            assert all("daily" in one.name for one in run.facts.outputs or ())

    async def test_a_run_deleted_before_it_was_read_ends_all_the_same(self) -> None:
        async with dataprep_rig(Level.L2) as rig:
            simulated = rig.simulator.start_run("complete")
            rig.clock.advance(900)
            async for page in rig.platform.poll([], None):
                rig.poller._take(page)
            rig.simulator.workspace.delete(simulated)
            rig.clock.advance(1)
            await rig.poller._enrich()
            assert rig.poller.kinds(str(simulated.id)) == [EventKind.START, EventKind.COMPLETE]
            assert "can no longer be read" in rig.poller.runs[str(simulated.id)].facts.problems[0]

    async def test_definitions_are_read_once_an_hour(self) -> None:
        async with dataprep_rig(Level.L2) as rig:
            for _ in range(2):
                await ended(rig, "complete", recipe=1)
            before = rig.requests()
            await ended(rig, "complete", recipe=1)
            assert rig.requests() - before <= 6


class TestOddValues:
    @pytest.mark.parametrize("level", [Level.L1, Level.L2])
    @pytest.mark.parametrize("field", ["name", "ranfrom", "workloadError", "status", "updatedAt", "id"])
    @pytest.mark.parametrize(
        "odd", ["\ud800", float("nan"), float("inf"), 10**400], ids=["half", "nan", "inf", "endless"]
    )
    async def test_one_in_one_row_costs_no_other_run(self, level: Level, field: str, odd: Any) -> None:
        async with dataprep_rig(level) as rig:
            when = rig.clock.now().isoformat()
            row = {"status": "InProgress", "createdAt": when, "updatedAt": when, "wrangledDataset": {"id": 1}}
            stages = {"data": [{"id": 21, "status": "InProgress", "createdAt": when}]}
            rows = [{**row, "id": 9, "jobs": stages, field: odd}, {**row, "id": 10, "jobs": stages}]
            listed = {"data": rows, "count": 2}
            for path, body in (
                ("jobLibrary$|jobGroups$", listed),
                ("jobGroups/9$", rows[0]),
                ("jobGroups/10$", rows[1]),
            ):
                rig.simulator.faults.plan(Fault(FaultKind.STATUS, path=path, status=200, body=body, times=-1))
            await rig.poller.cycle()
            assert rig.poller.kinds("10") == [EventKind.START]
            kinds = {skip.kind for skip in rig.poller.skips}
            assert ("9" in rig.poller.runs) == (field != "id")
            unread_time = {SkipKind.ROW} if odd == "\ud800" else set()  # what JSON cannot hold counts as null
            expected = {"id": {SkipKind.ROW}, "status": {SkipKind.STATUS}, "updatedAt": unread_time}
            assert kinds == expected.get(field, set())


class TestSecrets:
    SECRET = "s3cr3t-th4t-n0b0dy-m4y-s33"
    SHAPES = (
        "https://bob:{}@files.example.test/x.csv",
        "https://files.example.test/x.csv?signature={}&expires=1",
        "failed with password={} at row 7",
        "Authorization: Bearer {}",
        '{{"api_key": "{}"}}',
        "jdbc:sqlserver://h:1433;databaseName=d;user=sa;password={}",
    )

    @pytest.mark.parametrize("shape", SHAPES)
    @pytest.mark.parametrize("status", ["InProgress", "Complete", "Failed", "planted"])
    async def test_whatever_field_they_are_planted_in(
        self, caplog: pytest.LogCaptureFixture, shape: str, status: str
    ) -> None:
        caplog.set_level(logging.DEBUG, "lineage")
        planted = shape.format(self.SECRET)
        async with dataprep_rig(Level.L2) as rig:
            when = rig.clock.now().isoformat()
            state = planted if status == "planted" else status
            person = {"id": 1, "email": planted, "name": planted}
            recipe = {"id": 1, "name": planted, "flow": {"id": 1, "name": planted}}
            stage = dict.fromkeys(("jobType", "executionLanguage", "cpJobId", "lastHeartbeatAt"), planted)
            stage |= {"id": 21, "status": state, "createdAt": when, "errorMessage": {"id": 1, "message": planted}}  # type: ignore[dict-item]
            row: dict[str, Any] = dict.fromkeys(("name", "description", "ranfor", "runParameterReferenceDate"), planted)
            row |= {
                "id": 9,
                "status": state,
                "createdAt": when,
                "updatedAt": when,
                "ranfrom": planted,
                "creator": person,
            }
            row |= {"wrangledDataset": recipe, "workloadError": {"message": planted, "details": planted}}
            table = dict.fromkeys(("vendor", "databaseConnectString", "table", "action"), planted)
            tables = [{**table, "relationalPath": [planted]}, {**table, "table": None, "query": [planted]}]
            output = {"id": 1, "flownode": {"id": 1}, "isAdhoc": False, "name": planted}
            output |= {"writeSettings": {"data": [{"path": planted, "action": planted, "format": planted}]}}
            output |= {"publications": {"data": [{"path": [planted], "tableName": planted, "targetType": planted}]}}
            source = {"id": 4, "name": planted, "dynamicPath": planted, "isDynamic": True, "jdbcTable": planted}
            answers: dict[str, Any] = {
                "jobLibrary": {"data": [row], "count": 1},
                "jobGroups/9$": {**row, "jobs": {"data": [stage]}},
                "jobGroups/9/inputs": {"data": [{"name": planted, "inputs": [{"uri": planted}, *tables]}]},
                "jobGroups/9/outputs": {"files": [{"uri": planted}], "tables": tables},
                "outputObjects$": {"data": [output], "count": 1},
                "outputObjects/1/inputs": {"data": [source]},
                "wrangledDatasets/1": recipe,
            }
            for path, body in answers.items():
                rig.simulator.faults.plan(Fault(FaultKind.STATUS, path=path, status=200, body=body, times=-1))
            await rig.poller.cycle()
            run = rig.poller.runs["9"]
            logged = [vars(record) for record in caplog.records]
            assert self.SECRET not in repr((run, rig.poller.pages, rig.poller.skips, rig.poller.cursor, logged))
            assert run.state.terminal == (status in {"Complete", "Failed"})

    @pytest.mark.parametrize("shape", SHAPES)
    async def test_or_in_refusals(self, shape: str) -> None:
        planted = shape.format(self.SECRET)
        body = {"exception": {"name": planted, "message": planted, "details": {"text": planted}}}
        async with dataprep_rig(Level.L2) as rig:
            rig.simulator.faults.plan(Fault(FaultKind.STATUS, status=400, body=body, times=-1))
            with pytest.raises(TriggerError) as caught:
                await rig.platform.trigger("1", {}, "t")
            assert self.SECRET not in str(caught.value) + repr(await rig.platform.check())


class TestWhatIsDone:
    @pytest.mark.parametrize(
        ("action", "change"),
        [
            ("create", "CREATE"),
            ("createAndLoad", "CREATE"),
            ("overwrite", "OVERWRITE"),
            ("dropAndLoad", "OVERWRITE"),
            ("truncateAndLoad", "TRUNCATE"),
            ("append", None),
            ("load", None),
            ("upsert", None),
            (None, None),
        ],
    )
    def test_only_what_happens_to_the_whole_dataset_is_a_change_of_its_life(
        self, action: str | None, change: str | None
    ) -> None:
        defined = OutputDefinition(
            "1",
            "2",
            adhoc=True,
            files=(FileOut("gs://b/o.csv", action),),
            tables=(TableOut("t", ("p", "d"), "bigquery", action),),
        )
        assert [found.change for found in datasets.defined_outputs(defined, HERE).datasets or ()] == [change, change]
        written = {"tables": [{"vendor": "bigquery", "relationalPath": ["p", "d"], "table": "t", "action": action}]}
        [table] = datasets.outputs(written, None, HERE).datasets or ()
        assert table.change == change

    @pytest.mark.parametrize(
        ("form", "storage"), [("csv", ("file", "csv")), ("pqt", ("file", "parquet")), (None, None)]
    )
    def test_the_format_of_a_file_is_named(self, form: str | None, storage: tuple[str, str] | None) -> None:
        defined = OutputDefinition("1", "2", adhoc=True, files=(FileOut("gs://b/o.csv", "overwrite", form),))
        for found in (
            datasets.defined_outputs(defined, HERE),
            datasets.outputs({"files": [{"uri": "gs://b/o.csv"}]}, defined, HERE),
        ):
            assert [dataset.storage for dataset in found.datasets or ()] == [storage]
