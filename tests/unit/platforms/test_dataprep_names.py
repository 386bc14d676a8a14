"""Names of what Dataprep reads and writes are those that openlineage-python's naming classes make."""

import pytest
from openlineage.client.naming import dataset as naming

from collector.model import Dataset
from collector.platforms.dataprep import datasets

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


def _named(found: Dataset | None) -> tuple[str, str] | None:
    return None if found is None else (found.namespace, found.name)
