"""The configuration as a whole. `config.loader.load` makes one from a file and the environment."""

import re
import warnings
from collections.abc import Mapping
from datetime import timedelta
from pathlib import Path
from typing import Annotated, Any, Literal
from urllib.parse import parse_qsl, urlsplit

from pydantic import AfterValidator, BeforeValidator, Field, ValidationInfo, model_validator

from config.aliases import DatasetAlias, JobAlias, unambiguous
from config.base import FilePath, Model, is_loopback, no_reference, no_switch
from config.mistakes import did_you_mean
from config.quantities import Duration, Size, format_size
from config.secret import SecretFile, SecretText, either
from config.sinks import AnySink, HintTopic, Sink
from config.sources import AnySource, Source

SMALLEST_LEDGER = 4 * 1024**2


def _large_enough(value: int) -> int:
    if value < SMALLEST_LEDGER:
        raise ValueError(
            f"{format_size(value)} is too small: use at least 4MiB, a smaller ledger is full within an hour"
        )
    return value


def _checked_database(value: str | None) -> str | None:
    """Messages of `ValueError` do not repeat the address, since it may contain a password."""
    if value is None:
        return value
    try:
        parts = urlsplit(no_reference(value))
        parameters = dict(parse_qsl(parts.query, strict_parsing=bool(parts.query)))
    except ValueError:
        raise ValueError("cannot be read: write postgresql://user@host:5432/database") from None
    if parts.scheme not in {"postgresql", "postgres"} or not parts.netloc:
        raise ValueError("is not an address of PostgreSQL: write postgresql://user@host:5432/database")
    if ":" in parts.netloc.rpartition("@")[0] or "password" in parameters:
        raise ValueError("contains a password: remove it and set ledger.password_file or ledger.password")
    if len(parts.path) < 2:
        raise ValueError("names no database: write postgresql://user@host:5432/database")
    if parameters:
        _refuse_unknown(parameters)
    return value


_SSL_MODES = ("disable", "allow", "prefer", "require", "verify-ca", "verify-full")


def _refuse_unknown(parameters: Mapping[str, str]) -> None:
    """What libpq would refuse at the first connection only."""
    try:
        from psycopg.pq import Conninfo  # noqa: PLC0415 - only for an address with parameters
    except ImportError:  # the start says how to install it
        return
    known = sorted(option.keyword.decode() for option in Conninfo.get_defaults())
    if unknown := [name for name in parameters if name not in known]:
        raise ValueError(f"{unknown[0]} is not a parameter of libpq{did_you_mean(unknown[0], known)}")
    if (mode := parameters.get("sslmode", "prefer")) not in _SSL_MODES:
        raise ValueError(f"sslmode {mode} is none of {', '.join(_SSL_MODES)}{did_you_mean(mode, _SSL_MODES)}")


def _checked_schema(value: str) -> str:
    if re.fullmatch(r"[a-z_][a-z0-9_]{0,62}", value) is None or value.startswith("pg_"):
        raise ValueError(
            f"{value!r} is not a valid name of a schema: use up to 63 small letters, digits and _, and do not begin with pg_"
        )
    return value


with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # pydantic has a deprecated method of the name `schema`

    class Ledger(Model):
        """The durable store of runs, events and undelivered events. A file, or a schema in PostgreSQL."""

        path: FilePath = Path("lineage.db")
        """The file; beside it lie its lock and the control socket. On a disk of this machine, never on NFS."""
        url: Annotated[str | None, AfterValidator(_checked_database)] = None
        """Instead of `path`: postgresql://user@host:5432/database, with libpq's parameters (sslmode, sslrootcert, ...)
        and without a password."""
        password: SecretText | None = None
        """Password of the user in `url`."""
        password_file: Annotated[SecretFile | None, either("password", required=False)] = None
        """File with the password of the user in `url`; read again when it changes."""
        schema: Annotated[str, AfterValidator(_checked_schema)] = "lineage"  # type: ignore[assignment]
        """Schema in the database of `url`, for the ledger alone; created at the first start."""
        notify: bool = False
        """In PostgreSQL: whether each commit wakes the other replicas at once, by NOTIFY, in place of a look twice a second. All that
        commit then wait in one line, so it is for few hundred commits a second at most, and not for a pooler."""
        max_size: Annotated[Size, AfterValidator(_large_enough)] = 1024**3
        """At this size polling pauses until the sinks have caught up; 4MiB at least."""
        retention: Duration = timedelta(days=7)
        """How long delivered events and ended runs are kept."""
        parked_retention: Duration = timedelta(days=30)
        """How long parked events (refused for good by a sink) are kept."""

        @model_validator(mode="after")
        def _in_one_place(self) -> "Ledger":
            given = self.model_fields_set
            if self.url is not None and "path" in given:
                raise ValueError("give either path (a file) or url (PostgreSQL), not both")
            if self.url is None and (alone := sorted(given & {"password", "password_file", "schema", "notify"})):
                raise ValueError(f"{', '.join(alone)}: only used with url (PostgreSQL)")
            return self

        @property
        def file(self) -> Path | None:
            """None in PostgreSQL."""
            return self.path if self.url is None else None

        @property
        def place(self) -> str:
            """For people: the file, or the address without its parameters."""
            return str(self.path.absolute()) if self.url is None else self.url.partition("?")[0]

        @property
        def current_password(self) -> str | None:
            secret = self.password_file or self.password
            return None if secret is None else secret.get()


def _checked_listen(value: str) -> str:
    host, colon, port = value.rpartition(":")
    bare = host.strip("[]")
    if not colon or not port.isdecimal() or int(port) > 65535 or (":" in bare and not host.startswith("[")):
        raise ValueError(f"invalid address {value!r}; use host:port, such as 127.0.0.1:17817 or 0.0.0.0:17817")
    return value


class Http(Model):
    """The pages of the program: metrics, health, status."""

    listen: Annotated[str, AfterValidator(_checked_listen)] = "127.0.0.1:17817"
    """host:port. Without a host, all addresses; port 0 chooses a free one."""
    web_config_file: FilePath | None = None
    """TLS and passwords of the pages: a file in the format of Prometheus' exporter toolkit; read again when it changes."""

    host_names: tuple[str, ...] = ()
    """Names by which others reach the pages while `listen` is a loopback address, as a proxy beside them passes them on."""

    @property
    def names(self) -> frozenset[str]:
        """The host names that are answered; none where all are."""
        ours = {"localhost", "127.0.0.1", "::1", self.host}
        return frozenset(name.lower() for name in {*ours, *self.host_names}) if is_loopback(self.host) else frozenset()

    @property
    def host(self) -> str:
        """Empty for all addresses."""
        return self.listen.rpartition(":")[0].strip("[]")

    @property
    def port(self) -> int:
        return int(self.listen.rpartition(":")[2])


class Log(Model):
    """What is logged to standard error."""

    level: Literal["debug", "info", "warning", "error"] = "info"
    format: Literal["auto", "json", "text"] = "auto"
    """`auto`: text on a terminal, JSON elsewhere."""


class Lineage(Model):
    """The content of events."""

    validate_events: bool = False
    """Validate every event against OpenLineage's classes before it is stored. One that is not valid is parked for every sink."""
    longest_error: Annotated[int, Field(ge=100), BeforeValidator(no_switch)] = 8192
    """Longest error text in events, in characters; a cut is marked."""


def _short_enough(value: Path | None, info: ValidationInfo) -> Path | None:
    path = value or ("ledger" in info.data and _beside(info.data["ledger"]))
    if path and len(str(path).encode()) > 100:
        raise ValueError(
            f"{path} is longer than the 100 bytes that a socket's name may have: set a shorter control_socket"
        )
    return value


def _beside(ledger: Ledger) -> Path:
    return ledger.path.with_name(f"{ledger.path.name}.sock")


class Settings(Model):
    """Configuration of the lineage collector."""

    ledger: Ledger = Ledger()
    http: Http = Http()
    log: Log = Log()
    control_socket: Annotated[FilePath | None, AfterValidator(_short_enough)] = Field(
        default=None, validate_default=True
    )
    """Socket through which commands reach the running service. Beside the ledger, if left out."""
    stop_within: Duration = timedelta(seconds=25)
    """After SIGTERM: how long sends in flight may take to settle. Keep it below the grace period before SIGKILL."""
    sources: tuple[AnySource, ...] = Field(min_length=1)
    """The accounts whose runs are watched."""
    hints: HintTopic | None = None
    """A Kafka topic whose messages have sources polled at once. Without it there is none."""
    lineage: Lineage = Lineage()
    datasets: tuple[DatasetAlias, ...] = ()
    """Other names for datasets, so that a table is the same node whichever source reports it. The first match counts."""
    jobs: Annotated[tuple[JobAlias, ...], AfterValidator(unambiguous)] = ()
    """Other names for jobs, in place of a platform's ids. The first match counts."""
    sinks: tuple[AnySink, ...] = ()
    """The targets of the events. Without any, there are only metrics."""

    @property
    def control_path(self) -> Path:
        return self.control_socket or _beside(self.ledger)

    def source(self, name: str) -> Source | None:
        return next((source for source in self.sources if source.name == name), None)

    def sink(self, name: str) -> Sink | None:
        return next((sink for sink in self.sinks if sink.name == name), None)

    def public(self) -> dict[str, Any]:
        """As JSON values, with references in place of secrets: for pages and `check`."""
        return self.model_dump(mode="json", exclude_none=True)
