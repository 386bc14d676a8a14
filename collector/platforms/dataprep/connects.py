"""Connect strings: host, port and database are taken from them, everything else (user names, keys) is thrown away."""

import re
from dataclasses import dataclass
from urllib.parse import unquote

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
_LONGEST = 4096
_HOST = r"\[[0-9A-Fa-f:]+\]|[A-Za-z0-9_.-]+"
_AUTHORITY = re.compile(
    rf"(?P<host>{_HOST})(?:\\(?P<instance>[\w$-]+))?(?::(?P<port>\d{{1,5}})?)?(?::(?P<region>[a-z0-9-]+))?"
)
_SLASH_IN_PASSWORD = re.compile(r"[^@/?;]*:(?!\d{0,5}[/?;,])[^@?;]*@")
_THIN = re.compile(
    rf"oracle:(?:thin|oci8?):(?:[^?\s]*)@(?:tcps?:)?(?://)?"
    rf"(?P<host>{_HOST})(?::(?P<port>\d{{1,5}}))?[/:](?P<database>[A-Za-z0-9_.$#-]+)"
)
_WORD = re.compile(r"[\w .$-]{1,128}")
_DATABASE_KEYS = ("databasename", "database", "db", "dbname", "initial catalog", "projectid")


@dataclass(frozen=True, slots=True)
class Place:
    """Where a table store is. Empty `host` where the string does not say it in a form known here."""

    host: str = ""
    port: int | None = None
    database: str | None = None
    instance: str | None = None
    """SQL Server's; only where there is no port, which would say the same."""

    @property
    def authority(self) -> str:
        if self.instance is not None:
            return f"{self.host}/{self.instance}"
        return f"{self.host}:{self.port}" if self.port is not None else self.host


def place(kind: str, connect: str | None) -> Place:
    """What a JDBC string (or URL) says of the place. `kind` is a word of `kind_of`."""
    text = (connect or "")[:_LONGEST]
    if kind == "awsathena":
        return _athena(text)
    found = _found(text)
    host = (found.get("host") or "").lower().strip(".[]").replace(":", "-")
    if not host:
        return Place()
    if region := found.get("region"):
        host = f"{host}.{region}"
    given = found.get("port") or _property(text, "dbs_port")
    port = int(given) if given and given.isdecimal() else _DEFAULT_PORTS.get(kind)
    instance = found.get("instance") if not found.get("port") else None
    return Place(host, port, _database(text, found.get("database")), instance)


_Found = dict[str, str | None]


def _found(text: str) -> _Found:
    """Host, port, database and so on, by the first form that fits."""
    return _thin(text) or _after_slashes(text) or _in_brackets(text) or _in_properties(text) or {}


def _thin(text: str) -> _Found | None:
    found = _THIN.search(text)
    return found.groupdict() if found else None


def _after_slashes(text: str) -> _Found | None:
    """`//user:password@host:port,other:port/database?...`: the first host. A password may hold `@` and `/` as they are."""
    _, slashes, rest = text.partition("//")
    if not slashes:
        return None
    if (odd := _SLASH_IN_PASSWORD.match(rest)) is not None:
        rest = rest[odd.end() :]
    hosts, _, path = re.split(r"[?;]", rest, maxsplit=1)[0].partition("/")
    first = hosts.rpartition("@")[2].partition(",")[0]
    if "(" in hosts or "=" in hosts:
        return _in_brackets(text)
    found = _AUTHORITY.fullmatch(first)
    return found.groupdict() | {"database": path} if found else None


def _in_brackets(text: str) -> _Found | None:
    """Oracle's `(ADDRESS=(HOST=h)(PORT=p))(CONNECT_DATA=(SERVICE_NAME=s))`, MySQL's `(host=h,port=p)`: the first of each."""
    if (host := _bracketed(text, "host")) is None:
        return None
    database = _bracketed(text, "service_name", "sid") or text.partition(")/")[2].partition("?")[0]
    return {"host": host, "port": _bracketed(text, "port"), "database": database}


def _bracketed(text: str, *keys: str) -> str | None:
    found = re.search(rf"[(,]\s*(?:{'|'.join(keys)})\s*=\s*({_HOST}|[\w.$#-]+)\s*[),]", text, re.IGNORECASE)
    return found[1] if found else None


def _in_properties(text: str) -> _Found | None:
    """SQL Server's `//;serverName=h;portNumber=p`."""
    host = _property(text, "servername", "server")
    if host is None or re.fullmatch(_HOST, host) is None:
        return None
    return {"host": host, "port": _property(text, "portnumber", "port")}


def _athena(text: str) -> Place:
    """Athena has no host but its region's."""
    found = re.search(r"athena\.([a-z0-9-]+)\.amazonaws\.com", text)
    region = found[1] if found else _property(text, "awsregion", "region")
    return Place(f"athena.{region}.amazonaws.com") if region and re.fullmatch(r"[a-z0-9-]+", region) else Place()


def _property(text: str, *keys: str) -> str | None:
    for key in keys:
        found = re.search(rf"[/?;&,]\s*{key}\s*=\s*(\{{[^}}]*\}}|[^;&,]*)", text, re.IGNORECASE)
        if found and (value := found[1].strip().strip("{}")):
            return value
    return None


def _database(text: str, path: str | None) -> str | None:
    """The database of a path, or of a property such as `databaseName=`; only a plain word counts."""
    for key in _DATABASE_KEYS:
        if (value := _property(text, key)) is not None and _WORD.fullmatch(value):
            return value
    first = unquote((path or "").strip("/").split("/")[0].partition(":")[0])  # DB2 writes its properties behind a colon
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
    ("athena", "awsathena"),
)


def kind_of(vendor: str) -> str:
    """The store's name in OpenLineage's naming for the platform's word (`postgresql`, `sqlserver`, ...)."""
    word = re.sub(r"[^a-z0-9+.-]", "", vendor.lower().replace("_", "").replace(" ", ""))
    known = next((name for part, name in _KINDS if part in word), None)
    return known or (word if word[:1].isalpha() else f"db-{word}" if word else "database")
