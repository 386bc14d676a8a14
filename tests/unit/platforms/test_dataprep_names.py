"""Names of what Dataprep reads and writes are those that openlineage-python's naming classes make."""

import pytest
from openlineage.client.naming import dataset as naming

from collector.model import Dataset
from collector.platforms.dataprep import datasets, rows

HERE = "dataprep://api.clouddataprep.com/1"


@pytest.mark.parametrize(
    ("vendor", "connect", "path", "named"),
    [
        (
            "postgresql",
            "jdbc:postgresql://h:5433/shop",
            ["public"],
            naming.Postgres("h", "5433", "shop", "public", "t"),
        ),
        ("mysql", "jdbc:mysql://h:3307/shop", ["shop"], naming.MySQL("h", "3307", "shop", "t")),
        ("oracle", "jdbc:oracle:thin:u/p@//h:1522/ORCL", ["HR"], naming.Oracle("h", "1522", "ORCL", "HR", "t")),
        ("db2", "jdbc:db2://h:50001/sample:user=u;", ["S"], naming.DB2("h", "50001", "sample", "S", "t")),
        ("teradata", "jdbc:teradata://h/DBS_PORT=1025", ["sales"], naming.Teradata("h", "1025", "sales", "t")),
        ("hive", "jdbc:hive2://h:10001/default", ["sales"], naming.Hive("h", "10001", "sales", "t")),
        ("trino", "jdbc:trino://h:8443/lake/raw", ["lake", "raw"], naming.Trino("h", "8443", "lake", "raw", "t")),
        ("bigquery", "https://www.googleapis.com/bigquery/v2", ["p", "d"], naming.BigQuery("p", "d", "t")),
        (
            "snowflake",
            "jdbc:snowflake://org-acc.snowflakecomputing.com/?db=DB",
            ["DB", "PUBLIC"],
            naming.Snowflake("org", "acc", "DB", "PUBLIC", "t"),
        ),
        (
            "redshift",
            "jdbc:redshift://c1.abc.eu-west-1.redshift.amazonaws.com:5439/dev",
            ["public"],
            naming.Redshift("c1", "eu-west-1", "5439", "dev", "public", "t"),
        ),
        (
            "sqldatawarehouse",
            "jdbc:sqlserver://w.sql.azuresynapse.net:1433;database=pool",
            ["dbo"],
            naming.AzureSynapse("w.sql.azuresynapse.net", "1433", "dbo", "t"),
        ),
    ],
)
def test_tables(vendor: str, connect: str, path: list[str], named: naming.DatasetNaming) -> None:
    row = {"vendor": vendor, "databaseConnectString": connect, "relationalPath": path, "table": "t", "action": "load"}
    assert _named(datasets.table(row, HERE)) == (named.get_namespace(), named.get_name())


@pytest.mark.parametrize(
    ("uri", "named"),
    [
        ("gs://b/p/x.csv", naming.GCS("b", "p/x.csv")),
        ("s3://b/p/x.csv", naming.S3("b", "p/x.csv")),
        ("hdfs://h:8020/p/x", naming.HDFS("h", "8020", "/p/x")),
        ("abfss://c@a.dfs.core.windows.net/p/x", naming.ABFSS("c", "a", "p/x")),
        ("wasbs://c@a.dfs.core.windows.net/p/x", naming.WASBS("c", "a", "p/x")),
        ("/mnt/x.csv", naming.LocalFileSystem("/mnt/x.csv")),
        ("file://h/x.csv", naming.RemoteFileSystem("h", "/x.csv")),
    ],
)
def test_files(uri: str, named: naming.DatasetNaming) -> None:
    assert _named(datasets.file(uri)) == (named.get_namespace(), named.get_name())


@pytest.mark.parametrize(
    ("vendor", "connect", "path", "namespace", "name"),
    [
        ("postgresql", "jdbc:postgresql://h1:5433,h2:5434/shop", ["public"], "postgres://h1:5433", "shop.public.t"),
        ("postgresql", "jdbc:postgresql://h/my%20shop", ["public"], "postgres://h:5432", "my shop.public.t"),
        ("postgresql", "jdbc:postgresql://u:p@ss@h:5432/shop", ["public"], "postgres://h:5432", "shop.public.t"),
        ("postgresql", "jdbc:postgresql://u:p/ss@h/shop?user=a@b", ["public"], "postgres://h:5432", "shop.public.t"),
        (
            "postgresql",
            "jdbc:postgresql://[2001:db8::1]/shop",
            ["public"],
            "postgres://2001-db8--1:5432",
            "shop.public.t",
        ),
        ("mysql", "jdbc:mysql:loadbalance://h1,h2:3307/shop", ["shop"], "mysql://h1:3306", "shop.t"),
        ("mysql", "jdbc:mysql://address=(host=h)(port=3307)(password=p)/shop", [], "mysql://h:3307", "shop.t"),
        ("mysql", "jdbc:mysql://(host=h,port=3307,user=u)/shop", ["shop"], "mysql://h:3307", "shop.t"),
        (
            "sqlserver",
            "jdbc:sqlserver://h:1434;user=u;password=a@b//c;databaseName=db",
            ["dbo"],
            "mssql://h:1434",
            "db.dbo.t",
        ),
        (
            "sqlserver",
            "jdbc:sqlserver://;serverName=h;portNumber=1444;database=db",
            ["dbo"],
            "mssql://h:1444",
            "db.dbo.t",
        ),
        ("sqlserver", "jdbc:sqlserver://h;databaseName={my db};password=p", ["dbo"], "mssql://h:1433", "my db.dbo.t"),
        ("sqlserver", "jdbc:sqlserver://h\\one:1434;databaseName=db", ["dbo"], "mssql://h:1434", "db.dbo.t"),
        ("sqlserver", "jdbc:sqlserver://h\\one;databaseName=db", ["dbo"], "mssql://h/one", "db.dbo.t"),
        ("oracle", "jdbc:oracle:thin:u/p@ss@h:1521/svc", ["HR"], "oracle://h:1521", "svc.HR.t"),
        (
            "oracle",
            "jdbc:oracle:thin:@(description=(address=(port=1522)(host=h))(connect_data=(service_name=svc)))",
            ["HR"],
            "oracle://h:1522",
            "svc.HR.t",
        ),
        (
            "snowflake",
            "jdbc:snowflake://org-acc.privatelink.snowflakecomputing.com/?db=DB",
            ["S"],
            "snowflake://org-acc",
            "DB.S.t",
        ),
        (
            "redshift",
            "jdbc:redshift:iam://c1:eu-west-1/dev",
            ["public"],
            "redshift://c1.eu-west-1:5439",
            "dev.public.t",
        ),
        (
            "redshift",
            "jdbc:redshift://wg.1234.eu-west-1.redshift-serverless.amazonaws.com/dev",
            ["public"],
            "redshift://wg.eu-west-1:5439",
            "dev.public.t",
        ),
        (
            "redshift",
            "jdbc:redshift://c1.abc.cn-north-1.redshift.amazonaws.com.cn/dev",
            ["public"],
            "redshift://c1.cn-north-1:5439",
            "dev.public.t",
        ),
        (
            "bigquery",
            "jdbc:bigquery://https://h/bigquery/v2:443;ProjectId=p-1;OAuthType=0",
            ["ds"],
            "bigquery",
            "p-1.ds.t",
        ),
        ("teradata", "jdbc:teradata://h/DATABASE=sales,DBS_PORT=1026,PASSWORD=p", [], "teradata://h:1026", "sales.t"),
        (
            "hive",
            "jdbc:hive2://h1:10001,h2:1/default;principal=hive/_HOST@REALM",
            ["sales"],
            "hive://h1:10001",
            "sales.t",
        ),
        (
            "athena",
            "jdbc:awsathena://AwsRegion=eu-west-1;UID=u",
            ["Aws", "db"],
            "awsathena://athena.eu-west-1.amazonaws.com",
            "Aws.db.t",
        ),
        (
            "databricks",
            "jdbc:spark://adb-1.net:443/default;PWD=dapi1",
            ["cat", "s"],
            "databricks://adb-1.net:443",
            "cat.s.t",
        ),
        ("databricks", "jdbc:spark://adb-1.net:443/default;PWD=dapi1", ["s"], "databricks://adb-1.net:443", "s.t"),
        ("hana", "jdbc:sap://h:30015/?databaseName=HDB", ["S"], "hana://h:30015", "S.t"),
        ("postgresql", "jdbc:postgresql:shop", ["public"], HERE, "tables/postgres/public.t"),
        ("oracle", "jdbc:oracle:thin:@tnsname", ["HR"], HERE, "tables/oracle/HR.t"),
    ],
)
def test_connect_strings(vendor: str, connect: str, path: list[str], namespace: str, name: str) -> None:
    """As they come in an answer, credentials and all."""
    row = {"vendor": vendor, "databaseConnectString": connect, "relationalPath": path, "table": "t", "action": "load"}
    assert _named(datasets.table(row, HERE)) == (namespace, name)


@pytest.mark.parametrize(
    ("uri", "named"),
    [
        ("abfss://one@a.dfs.core.windows.net/p#1/x y.csv?sig=s", ("abfss://one@a.dfs.core.windows.net", "p#1/x y.csv")),
        ("wasbs://two@a.blob.core.windows.net/p/", ("wasbs://two@a.blob.core.windows.net", "p")),
        ("abfss://a.dfs.core.windows.net/one/p", None),
        ("s3a://key:secret@bucket/p", ("s3://bucket", "p")),
        ("s3://KEY:12/34@bucket/p", None),
        ("s3:///p", None),
        ("dbfs:/mnt/x", ("dbfs", "/mnt/x")),
        ("dbfs://workspace/mnt/x", ("dbfs://workspace", "/mnt/x")),
        ("file:/tmp/x", ("file", "/tmp/x")),
        ("hdfs://nameservice/p", ("hdfs://nameservice", "/p")),
        ("sftp://u:p@ss@h:2222/in/größe.csv", ("sftp://h:2222", "/in/größe.csv")),
        ("https://a.blob.core.windows.net/c/p.csv?sig=s#f", ("https://a.blob.core.windows.net", "/c/p.csv")),
        ("C:\\x.csv", None),
    ],
)
def test_addresses_of_files_as_they_come(uri: str, named: tuple[str, str] | None) -> None:
    found = datasets.inputs({"data": [{"name": "x", "inputs": [{"uri": uri}]}]}, (), HERE)
    assert [_named(one) for one in found.datasets or ()] == ([named] if named else [])
    written = datasets.outputs({"files": [{"uri": uri}], "tables": []}, None, HERE)
    assert [_named(one) for one in written.datasets or ()] == ([named] if named else [])


def test_containers_stay_apart_in_definitions_too() -> None:
    paths = [f"abfss://{container}@a.dfs.core.windows.net/out.csv" for container in ("one", "two")]
    definition = rows.output_definition({"id": 1, "writeSettings": [{"path": path} for path in paths]})
    assert definition is not None
    found = datasets.defined_outputs(definition, HERE).datasets or ()
    assert [one.namespace for one in found] == [path.removesuffix("/out.csv") for path in paths]


def test_secrets_and_people_in_paths_are_hidden() -> None:
    uri = "gs://b/jane.doe@example.com/token=abcdefgh"
    [found] = datasets.inputs({"data": [{"name": "x", "inputs": [{"uri": uri}]}]}, (), HERE).datasets or ()
    assert "jane" not in found.name
    assert "abcdefgh" not in found.name


def _named(found: Dataset | None) -> tuple[str, str] | None:
    return None if found is None else (found.namespace, found.name)


def test_what_is_written_under_its_defined_name_is_no_stamped_other() -> None:
    settings = [{"path": f"gs://b/out/{name}.csv", "action": "overwrite"} for name in ("daily", "daily2", "daily2_eu")]
    tables = [{"tableName": name, "path": ["p", "d"], "targetType": "bigquery"} for name in ("t", "t_2")]
    definition = rows.output_definition({"id": 1, "writeSettings": settings, "publications": tables})
    written = {
        "files": [{"uri": f"gs://b/out/{name}.csv"} for name in ("daily2", "daily2_eu_20261121", "daily_20261121")],
        "tables": [
            {
                "vendor": "bigquery",
                "databaseConnectString": "",
                "relationalPath": ["p", "d"],
                "table": name,
                "action": "load",
            }
            for name in ("t_2", "t_20261121_060441")
        ],
    }
    found = datasets.outputs(written, definition, HERE).datasets or ()
    assert [one.name for one in found] == ["out/daily2.csv", "out/daily2_eu.csv", "out/daily.csv", "p.d.t_2", "p.d.t"]


def test_many_files_of_two_buckets_are_two_folders() -> None:
    uris = [f"gs://{bucket}/in/{day}/x.csv" for bucket in ("one", "two") for day in range(15)]
    found = (
        datasets.inputs({"data": [{"name": "x", "inputs": [{"uri": uri} for uri in uris]}]}, (), HERE).datasets or ()
    )
    assert [(_named(one), one.files) for one in found] == [(("gs://one", "in"), 15), (("gs://two", "in"), 15)]
