"""The sinks: one configured target each."""

import re
from functools import cache, partial
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BeforeValidator, Discriminator, Field, Tag, ValidationInfo, WithJsonSchema
from pydantic.config import JsonDict

from config.base import Count, FilePath, Model, Name, Text, Url, no_switch
from config.network import OverHttp, Tls
from config.plugins import SINK_PLUGINS, checked_options, known, tag_of
from config.quantities import Share, Size
from config.secret import ApiKeyFile, ClientSecretFile, PasswordFile, Secret, SecretText, given

EventWord = Literal["OTHER", "START", "RUNNING", "COMPLETE", "FAIL", "ABORT"]

_TOPIC = r"[A-Za-z0-9._-]{1,249}"

SINKS = ("file", "marquez", "openlineage", "kafka")
"""The built-in ones."""


MOST_SHARDS = 32


def _bounded(value: str, info: ValidationInfo) -> str:
    if value == "park" and info.data.get("ledger_share") == 1.0:
        raise ValueError("park needs a ledger_share below 100%: otherwise the ledger is full first, and polling pauses")
    return value


class Sink(Model):
    """Keys of all sinks. `type` is the kind."""

    type: str
    name: Name
    """Your name for this sink: in metrics, logs and commands. Unique; renaming it makes a new sink."""
    shards: Annotated[int, Field(ge=1, le=MOST_SHARDS), BeforeValidator(no_switch)] = 1
    """In how many parts its runs are divided, each worked by one replica at a time. The events of a run stay in order."""
    events: tuple[EventWord, ...] | None = Field(default=None, min_length=1)
    """Event types that this sink gets. Default: all; for Marquez all but RUNNING."""
    ledger_share: Share = Field(default=1.0, json_schema_extra={"default": "100%"})
    """How much of `ledger.max_size` the events that this sink has not got yet may take."""
    on_full: Annotated[Literal["pause", "park"], AfterValidator(_bounded)] = "pause"
    """Beyond its share: `pause` stops polling, as when the ledger is full; `park` parks its oldest events, and polling goes on."""


def _one_writer(value: int) -> int:
    if value > 1:
        raise ValueError(
            "a file has one writer at a time, so that its sink cannot be divided: leave shards out, or give 1"
        )
    return value


class FileSink(Sink):
    """Events as lines of JSON in a file."""

    type: Literal["file"]
    shards: Annotated[int, Field(ge=1, le=1), BeforeValidator(_one_writer), BeforeValidator(no_switch)] = 1
    """1, as a file has one writer at a time."""
    path: FilePath
    """The file, or `-` for standard output."""
    rotate_at: Size | None = None
    """At this size the file is renamed with a number and a new one begun. Never, if left out."""
    keep: Count | None = None
    """How many of the renamed files are kept; the oldest are deleted. All, if left out."""


class _KeyedSink(Sink, OverHttp):
    api_key: SecretText | None = None
    """Sent as a bearer token: `${env:NAME}`."""
    api_key_file: ApiKeyFile = Field(default=None, validate_default=True)
    """File with the API key; read again when it changes."""

    @property
    def credential(self) -> Secret | None:
        return self.api_key or self.api_key_file


def _one_api(value: bool, info: ValidationInfo) -> bool:
    if not value and info.data.get("runs_api") is False:
        raise ValueError("runs_api and lineage_api are both off, so nothing would be sent: switch on one")
    return value


_MARQUEZ_AT_ONCE = 90


def _bearable(value: int, info: ValidationInfo) -> int:
    if value * (shards := info.data.get("shards", 1)) > _MARQUEZ_AT_ONCE:
        raise ValueError(
            f"{value} requests at a time for each of {shards} shards are more than {_MARQUEZ_AT_ONCE}, at which Marquez breaks "
            "down: lower one of both"
        )
    return value


class MarquezSink(_KeyedSink):
    """A Marquez server."""

    type: Literal["marquez"]
    url: Url
    """`http://marquez:5000`, without `/api/v1`."""
    web_url: Url | None = None
    """Address of Marquez' own web pages, such as `http://marquez-web:3000`, to which the collector's pages then have links."""
    runs_api: bool = True
    """Create jobs and runs over the namespaces API, so that queued runs show."""
    lineage_api: Annotated[bool, AfterValidator(_one_api)] = True
    """Send OpenLineage events; without it only the states of runs are sent."""
    concurrency: Annotated[
        int,
        Field(ge=1, le=_MARQUEZ_AT_ONCE, validate_default=True),
        BeforeValidator(no_switch),
        AfterValidator(_bearable),
    ] = 4
    """Requests at a time, of each shard. Marquez's pool breaks down beyond 90 and slows down long before."""


class OAuth2(Model):
    """Client credentials for an OpenLineage endpoint."""

    token_url: Url
    client_id: Text
    client_secret: SecretText | None = None
    client_secret_file: ClientSecretFile = Field(default=None, validate_default=True)
    scopes: tuple[Text, ...] = ()
    audience: Text | None = None

    @property
    def credential(self) -> Secret:
        return given(self.client_secret, self.client_secret_file)


def _one_credential(value: OAuth2 | None, info: ValidationInfo) -> OAuth2 | None:
    if value is not None and (info.data.get("api_key") or info.data.get("api_key_file")):
        raise ValueError("give either an API key or oauth2, not both")
    return value


def _checked_endpoint(value: str) -> str:
    if "?" in value or "#" in value or "://" in value:
        raise ValueError("must be a path below url, without a query, which could contain a secret")
    return value.lstrip("/")


def _switch(value: Any) -> Any:
    """`true` is the mapping with defaults; from the environment it comes as text."""
    return {"true": {}, "false": None}.get(str(value).lower(), value) if isinstance(value, bool | str) else value


def _or_switch(schema: JsonDict) -> None:
    choices = schema["anyOf"]
    assert isinstance(choices, list)
    schema["anyOf"] = [*choices, {"type": "boolean"}]


class Batch(Model):
    """Several events in one request, each with its own outcome."""

    form: Literal["array", "events"] = "array"
    """`array`: a bare array, as in OpenLineage's specification. `events`: an object with the list `events`, for OpenMetadata."""
    size: Annotated[int, Field(ge=2, le=1000), BeforeValidator(no_switch)] = 100
    """Events in one request, at most."""


class OpenLineageSink(_KeyedSink):
    """Any backend that accepts OpenLineage events over HTTP."""

    type: Literal["openlineage"]
    url: Url
    endpoint: Annotated[Text, AfterValidator(_checked_endpoint)] = "api/v1/lineage"
    """Path of the endpoint below `url`."""
    oauth2: Annotated[OAuth2 | None, AfterValidator(_one_credential)] = None
    compression: Literal["gzip", "none"] = "none"
    batch: Annotated[Batch | None, BeforeValidator(_switch)] = Field(default=None, json_schema_extra=_or_switch)
    """`true`, or a mapping: send several events in one request, to `batch` below `endpoint`. For backends that have it."""
    concurrency: Annotated[int, Field(ge=1, le=256), BeforeValidator(no_switch)] = 8
    """Requests at a time."""

    @property
    def address(self) -> str:
        return f"{self.url}/{self.endpoint}"


class Sasl(Model):
    """User and password for Kafka."""

    mechanism: Literal["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"]
    username: Text
    password: SecretText | None = None
    password_file: PasswordFile = Field(default=None, validate_default=True)

    @property
    def credential(self) -> Secret:
        return given(self.password, self.password_file)


def _or_text(schema: JsonDict) -> None:
    """The list, or all of it in one text."""
    array = {key: schema.pop(key) for key in ("type", "items", "minItems")}
    schema["anyOf"] = [array, {"type": "string", "minLength": 1}]


def _several(value: Any) -> Any:
    return [part.strip() for part in value.split(",")] if isinstance(value, str) else value


def _checked_server(value: str) -> str:
    host, colon, port = value.rpartition(":")
    if not colon or not host or not port.isdecimal() or "/" in value or "@" in value:
        raise ValueError("is not a valid server; use host:port")
    return value


def _checked_topic(value: str) -> str:
    if re.fullmatch(_TOPIC, value) is None or value in {".", ".."}:
        raise ValueError(f"{value!r} is not a valid topic; use up to 249 letters, digits, dots, _ and -")
    return value


Topic = Annotated[str, AfterValidator(_checked_topic), WithJsonSchema({"type": "string", "pattern": f"^{_TOPIC}$"})]
Server = Annotated[str, AfterValidator(_checked_server)]


class KafkaServers(Model):
    """How to reach a Kafka cluster."""

    bootstrap_servers: Annotated[tuple[Server, ...], BeforeValidator(_several)] = Field(
        min_length=1, json_schema_extra=_or_text
    )
    """`host:port` of some brokers, as a list or separated by commas."""
    tls: Annotated[Tls | None, BeforeValidator(_switch)] = Field(default=None, json_schema_extra=_or_switch)
    """`true` for TLS with the system's certificate authorities, or a mapping with files."""
    sasl: Sasl | None = None


class KafkaSink(Sink, KafkaServers):
    """A Kafka topic."""

    type: Literal["kafka"]
    topic: Topic = "openlineage.events"
    key: Text | None = None
    """One key for all messages, in place of the OpenLineage clients' rule (by job, of the root for children)."""
    compression: Literal["none", "gzip"] = "none"


class HintTopic(KafkaServers):
    """A Kafka topic whose messages say that something changed on a platform, so that a poll comes at once."""

    topic: Topic = "lineage.hints"
    group: Text = "lineage-collector"
    """The consumer group: one for all replicas of a ledger, so that each message is taken once."""


class PluginSink(Sink):
    """A sink that another package brings (entry point group `lineage_collector.sinks`)."""

    type: Annotated[str, WithJsonSchema({"type": "string", "not": {"enum": list(SINKS)}})]
    options: Annotated[
        Any,
        AfterValidator(partial(checked_options, group=SINK_PLUGINS, kind="type")),
        WithJsonSchema({"type": "object", "additionalProperties": True}),
    ] = Field(default={}, validate_default=True)
    """The options of the sink's package, as in its `Options` model (`config.plugins`)."""


@cache
def known_sinks() -> tuple[str, ...]:
    """The built-in and the installed ones."""
    return known(SINK_PLUGINS, SINKS)


AnySink = Annotated[
    Annotated[FileSink, Tag("file")]
    | Annotated[MarquezSink, Tag("marquez")]
    | Annotated[OpenLineageSink, Tag("openlineage")]
    | Annotated[KafkaSink, Tag("kafka")]
    | Annotated[PluginSink, Tag("plugin")],
    Discriminator(lambda value: tag_of(value, "type", SINKS, known_sinks)),
]
