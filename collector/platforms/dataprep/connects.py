"""Connect strings: host, port and database are taken from them, everything else (user names, keys) is thrown away."""

import re
from dataclasses import dataclass

_DEFAULT_PORTS = {
    "postgres": 5432,
    "redshift": 5439,
    "mysql": 3306,
    "mssql": 1433,
    "sqlserver": 1433,  # OpenLineage's word for Azure Synapse
    "oracle": 1521,
    "hive": 10000,
    "db2": 50000,
    "teradata": 1025,
    "trino": 8080,
}
_HOST = r"\[[0-9A-Fa-f:]+\]|[A-Za-z0-9_.-]+"
_AUTHORITY = re.compile(rf"//(?:[^/?;@\s]*@)?(?P<host>{_HOST})(?::(?P<port>\d{{1,5}}))?(?:[/:](?P<rest>[^?;]*))?")
_THIN = re.compile(
    rf"oracle:thin:(?:[^@\s]*)@(?://)?(?P<host>{_HOST})(?::(?P<port>\d{{1,5}}))?[/:](?P<rest>[A-Za-z0-9_.$#-]+)"
)
_WORD = re.compile(r"[A-Za-z0-9_.$-]{1,128}")
_DATABASE_KEYS = ("databasename", "database", "db", "dbname", "initial catalog")


@dataclass(frozen=True, slots=True)
class Place:
    """Where a table store is. Empty `host` where the string does not say it in a form known here."""

    host: str = ""
    port: int | None = None
    database: str | None = None

    @property
    def authority(self) -> str:
        return f"{self.host}:{self.port}" if self.port is not None else self.host


def place(vendor: str, connect: str | None) -> Place:
    """What a JDBC string (or URL) of this vendor says of the place. `vendor` is a word of `kind_of`."""
    text = (connect or "")[:4096]
    found = _THIN.search(text) or _AUTHORITY.search(text) or _described(text)
    if found is None:
        return Place()
    groups = found.groupdict()
    port = int(groups["port"]) if groups.get("port") else _DEFAULT_PORTS.get(vendor)
    return Place(groups["host"].lower().strip("."), port, _database(text, groups.get("rest")))


def _described(text: str) -> re.Match[str] | None:
    """Oracle's long form: (DESCRIPTION=(ADDRESS=(HOST=h)(PORT=p))(CONNECT_DATA=(SERVICE_NAME=s)))."""
    form = (
        rf"\(\s*HOST\s*=\s*(?P<host>{_HOST})\s*\)(?:\s*\(\s*PORT\s*=\s*(?P<port>\d{{1,5}})\s*\))?"
        r"(?:.*?\(\s*(?:SERVICE_NAME|SID)\s*=\s*(?P<rest>[A-Za-z0-9_.$#-]+)\s*\))?"
    )
    return re.search(form, text, re.IGNORECASE | re.DOTALL)


def _database(text: str, rest: str | None) -> str | None:
    """The database of a path, or of a property such as `databaseName=`; only a plain word counts."""
    for key in _DATABASE_KEYS:
        found = re.search(rf"[?;&]\s*{key}\s*=\s*([^;&]*)", text, re.IGNORECASE)
        if found and _WORD.fullmatch(found[1].strip()):
            return found[1].strip()
    first = (rest or "").strip("/").split("/")[0].partition(":")[0]  # DB2 writes its properties behind a colon
    return first if _WORD.fullmatch(first) else None


_KINDS = (
    ("bigquery", "bigquery"),
    ("redshift", "redshift"),
    ("snowflake", "snowflake"),
    ("postgre", "postgres"),
    ("alloydb", "postgres"),
    ("mariadb", "mysql"),
    ("mysql", "mysql"),
    ("sqlserver", "mssql"),
    ("mssql", "mssql"),
    ("azuresql", "mssql"),
    ("sqldw", "sqlserver"),
    ("sqldatawarehouse", "sqlserver"),
    ("synapse", "sqlserver"),
    ("oracle", "oracle"),
    ("hive", "hive"),
    ("db2", "db2"),
    ("teradata", "teradata"),
    ("trino", "trino"),
)


def kind_of(vendor: str) -> str:
    """The store's name in OpenLineage's naming for the platform's word (`postgresql`, `sqlserver`, ...)."""
    word = re.sub(r"[^a-z0-9+.-]", "", vendor.lower().replace("_", "").replace(" ", ""))
    known = next((name for part, name in _KINDS if part in word), None)
    return known or (word if word[:1].isalpha() else f"db-{word}" if word else "database")
