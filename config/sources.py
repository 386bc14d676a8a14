"""The sources: one configured account on a platform each."""

from datetime import datetime, timedelta
from functools import cache, partial
from importlib.metadata import entry_points
from typing import Annotated, Any, Literal

from pydantic import (
    AfterValidator,
    Discriminator,
    Field,
    Tag,
    ValidationInfo,
    WithJsonSchema,
    model_validator,
)

from config.base import (
    Count,
    Model,
    Name,
    Namespace,
    NamespacePart,
    Text,
    Url,
    address,
    authority,
    checked_namespace,
)
from config.network import OverHttp
from config.plugins import PLATFORM_PLUGINS, checked_options
from config.quantities import Duration, Lookback
from config.secret import (
    ClientSecretFile,
    FileSecret,
    HintSecretFile,
    Secret,
    SecretText,
    TokenFile,
    WebhookSecretFile,
)

RunStateWord = Literal["queued", "running", "waiting", "succeeded", "failed", "canceled", "unknown"]

PLATFORMS = ("cdf", "wetransform", "dataprep")


class Source(OverHttp):
    """What all sources have in common. `platform` says which kind it is."""

    platform: str
    name: Name
    """Your name for this source: in metrics, logs and commands. Unique. A renamed source keeps its past, by its account."""
    former_name: Name | None = None
    """The name that it had, when the ledger cannot know: its account (platform, address, project) got another name, too."""
    namespace: Namespace | None = None
    """Namespace of its jobs and datasets, when `{platform}://{host}/{project}` is not what you want."""
    poll_interval: Duration = timedelta(seconds=30)
    """From the start of one poll to the start of the next."""
    poll_within: Duration = timedelta(minutes=5)
    """Deadline of one poll with all its pages; what is read by then is kept."""
    initial_lookback: Lookback = timedelta(hours=1)
    """How far the first start looks back: a duration, a date, or `none` for runs from now on only."""
    requests_per_minute: Count | None = None
    """Limit that this source sets itself. Without one it obeys what the platform answers."""
    burst: Count = 10
    """How many requests may go at once under `requests_per_minute`."""
    include: tuple[Text, ...] = ()
    """Globs over job names, ids and external ids. Without any, all jobs are watched."""
    exclude: tuple[Text, ...] = ()
    """Globs of what is left out; wins over `include`."""
    on_vanished: Literal["leave_open", "abort"] = "leave_open"
    """What happens to a run that the platform no longer has: nothing is emitted, or one ABORT."""
    enrich_within: Duration = timedelta(seconds=60)
    """How long a terminal event waits for inputs, outputs and counts before it goes without them."""
    stale_after: Duration = timedelta(hours=24)
    """A run that runs for longer counts as stale in the metrics; what waits for a person does not run."""
    hint_secret: SecretText | None = None
    """Secret by which messages to `POST /hints/{name}` are signed: they say that something changed, and a poll comes at once."""
    hint_secret_file: HintSecretFile = Field(default=None, validate_default=True)

    @property
    def hint_credential(self) -> Secret | None:
        return self.hint_secret or self.hint_secret_file

    @property
    def job_namespace(self) -> str:
        """The namespace of this source's jobs, valid for Marquez."""
        raise NotImplementedError

    @property
    def account(self) -> str:
        """Which account on which platform this is, whatever the source is called. No two sources have the same."""
        raise NotImplementedError

    def first_look(self, now: datetime) -> datetime:
        """From which moment on the first start wants to see runs."""
        if isinstance(self.initial_lookback, datetime):
            return min(self.initial_lookback, now)
        return now - (self.initial_lookback or timedelta())


class BuiltInSource(Source):
    base_url: Url

    @property
    def project_part(self) -> str:
        """What tells two accounts on one host apart in the namespace."""
        raise NotImplementedError

    @property
    def job_namespace(self) -> str:
        return self.namespace or f"{self.platform}://{authority(self.base_url)}/{self.project_part}"

    @property
    def address(self) -> str:
        """`base_url` however it is spelled: what run ids are derived from."""
        return address(self.base_url)

    @property
    def account(self) -> str:
        return f"{self.platform} {self.address.partition('://')[2]} {self.project_part}"

    @model_validator(mode="after")
    def _namespace_is_good(self) -> "BuiltInSource":
        try:
            checked_namespace(self.job_namespace)
        except ValueError as error:
            raise ValueError(f"its namespace is not usable, so set `namespace`: {error}") from None
        return self


def _without(suffix: str) -> AfterValidator:
    def check(value: str) -> str:
        if suffix in f"{value}/":
            raise ValueError(f"leave out {suffix.rstrip('/')} and what follows: it is added by the program")
        return value

    return AfterValidator(check)


class TokenRequest(Model):
    """How a token is asked for by client credentials; `scope` and `audience` are left out when None."""

    url: str
    scope: str | None
    audience: str | None


def _tenant_given(value: str | None, info: ValidationInfo) -> str | None:
    if value is None and info.data.get("token_url", "") is None and info.data.get("provider") in {"entra", "auth0"}:
        raise ValueError(f"the provider {info.data['provider']} needs the tenant (or a token_url)")
    return value


def _token_url_given(value: str | None, info: ValidationInfo) -> str | None:
    if value is None and info.data.get("provider") == "oidc":
        raise ValueError("is missing: the provider oidc has no address of its own")
    return value


class CdfAuth(Model):
    """OIDC client credentials. A preset fills in what you leave out."""

    provider: Literal["entra", "cognite", "auth0", "oidc"] = "oidc"
    """Microsoft Entra ID, Cognite's own, Auth0, or any other OIDC provider."""
    token_url: Annotated[Url | None, AfterValidator(_token_url_given)] = Field(default=None, validate_default=True)
    """Where tokens are asked for. Needed for `oidc`."""
    tenant: Annotated[Text | None, AfterValidator(_tenant_given)] = Field(default=None, validate_default=True)
    """Entra: the tenant's id or domain. Auth0: the tenant's domain."""
    client_id: Text
    client_secret: SecretText | None = None
    client_secret_file: ClientSecretFile = Field(default=None, validate_default=True)
    scopes: tuple[Text, ...] | None = None
    """Entra: `{base_url}/.default`. Auth0: `IDENTITY`, `user_impersonation`. Else none."""
    audience: Text | None = None
    """Auth0: `https://{project}.fusion.cognite.com/{project}`. Else none."""

    @property
    def credential(self) -> Secret:
        return _given(self.client_secret, self.client_secret_file)

    def token_request(self, base_url: str, project: str) -> TokenRequest:
        """The preset of the provider with what the configuration says on top."""
        url, scope, audience = self._preset(base_url, project)
        scopes = " ".join(self.scopes) if self.scopes is not None else scope
        return TokenRequest(url=self.token_url or url, scope=scopes or None, audience=self.audience or audience)

    def _preset(self, base_url: str, project: str) -> tuple[str, str | None, str | None]:
        match self.provider:
            case "entra":
                url = f"https://login.microsoftonline.com/{self.tenant}/oauth2/v2.0/token"
                return url, f"{base_url}/.default", None
            case "cognite":
                return "https://auth.cognite.com/oauth2/token", None, None
            case "auth0":
                audience = f"https://{project}.fusion.cognite.com/{project}"
                return f"https://{self.tenant}/oauth/token", "IDENTITY user_impersonation", audience
            case "oidc":
                return "", None, None


class CdfSource(BuiltInSource):
    """A project in Cognite Data Fusion."""

    platform: Literal["cdf"]
    base_url: Annotated[Url, _without("/api/v1/")]
    """`https://{cluster}.cognitedata.com`."""
    project: NamespacePart
    """The project's URL name."""
    auth: CdfAuth
    workflows: bool = False
    """Report workflow executions as parent runs; needs `workflowOrchestrationAcl:READ`."""
    canceled_errors: tuple[Text, ...] = ("Job cancelled by the user.",)
    """Error texts by which a failed job is known to have been canceled; case and outer spaces do not count."""
    backfill_metrics: bool = True
    """Read the metrics (row counts) of runs that ended before they were first seen."""

    @property
    def project_part(self) -> str:
        return self.project


def _not_below(first: str) -> AfterValidator:
    def check(value: timedelta, info: ValidationInfo) -> timedelta:
        if first in info.data and value < info.data[first]:
            raise ValueError(f"must not be shorter than {first}")
        return value

    return AfterValidator(check)


class WetransformIntervals(Model):
    """How often one run is read: often at first, then more and more rarely."""

    active: Duration = timedelta(seconds=5)
    """While it is queued or running, in its first minute."""
    active_most: Annotated[Duration, _not_below("active")] = Field(default=timedelta(seconds=60), validate_default=True)
    """The longest while it is queued or running."""
    waiting: Duration = timedelta(minutes=10)
    """While it waits for a person."""
    waiting_most: Annotated[Duration, _not_below("waiting")] = Field(default=timedelta(hours=1), validate_default=True)
    """The longest while it waits, reached after a day."""


class TokenSource(BuiltInSource):
    token: SecretText | None = None
    """Access token: `${env:NAME}`."""
    token_file: TokenFile = Field(default=None, validate_default=True)
    """File with the access token; read again when it changes."""

    @property
    def credential(self) -> Secret:
        return _given(self.token, self.token_file)


class WetransformSource(TokenSource):
    """A company or sender at wetransform."""

    platform: Literal["wetransform"]
    base_url: Url = "https://api.wetransform.com"
    tenant: NamespacePart
    """Your word for the account: the last part of the namespace."""
    customer: Text | None = Field(default=None, exclude=True)
    """E-mail or internal id of the customer to act for (`X-Customer`)."""
    steps: dict[str, RunStateWord] = Field(default_factory=dict)
    """Steps whose run state differs from the built-in table."""
    waiting_after: Duration = timedelta(minutes=10)
    """After this long unchanged in `to_match` or `to_submit`, a run is taken to wait for a person."""
    discover: bool = False
    """Make up runs that others started from changes in the list of transformations."""
    webhook_secret: SecretText | None = None
    """Secret of the webhook `file:ready-for-download`, which makes polls happen sooner."""
    webhook_secret_file: WebhookSecretFile = Field(default=None, validate_default=True)
    intervals: WetransformIntervals = WetransformIntervals()
    requests_per_minute: Count | None = 300
    """Limit that this source sets itself: the platform publishes none."""

    @property
    def account(self) -> str:
        """A token sees other runs for each customer that it acts for."""
        return f"{super().account} {self.customer}" if self.customer else super().account

    @property
    def webhook_credential(self) -> Secret | None:
        return self.webhook_secret or self.webhook_secret_file

    @property
    def project_part(self) -> str:
        return self.tenant


class DataprepSource(TokenSource):
    """A workspace (project) in Dataprep by Trifacta."""

    platform: Literal["dataprep"]
    base_url: Annotated[Url, _without("/v4/")] = "https://api.clouddataprep.com"
    workspace: NamespacePart
    """The workspace's id or name: the last part of the namespace and part of every run id."""
    stages: Literal["facet", "runs"] = "facet"
    """Show the jobs inside a job group in a facet of the run, or as child runs."""
    requests_per_minute: Count | None = 60
    """Limit that this source sets itself, shared by all that it does."""

    @property
    def project_part(self) -> str:
        return self.workspace


class PluginSource(Source):
    """A source of a platform that another package brings (entry point group `lineage_collector.platforms`)."""

    platform: Annotated[str, WithJsonSchema({"type": "string", "not": {"enum": list(PLATFORMS)}})]
    namespace: Namespace
    """Namespace of its jobs and datasets. It stands for the account: no other source of the platform has the same."""
    options: Annotated[
        Any,
        AfterValidator(partial(checked_options, group=PLATFORM_PLUGINS, kind="platform")),
        WithJsonSchema({"type": "object", "additionalProperties": True}),
    ] = Field(default={}, validate_default=True)
    """What the platform's package asks for, as its `Options` model says (`config.plugins`)."""

    @property
    def job_namespace(self) -> str:
        return self.namespace

    @property
    def account(self) -> str:
        return f"{self.platform} {self.namespace}"


@cache
def known_platforms() -> tuple[str, ...]:
    """Built in and installed."""
    installed = (point.name for point in entry_points(group=PLATFORM_PLUGINS))
    return (*PLATFORMS, *sorted(set(installed) - set(PLATFORMS)))


def _kind(value: Any) -> str | None:
    platform = value.get("platform") if isinstance(value, dict) else getattr(value, "platform", None)
    if platform in PLATFORMS:
        return str(platform)
    return "plugin" if isinstance(platform, str) and platform in known_platforms() else None


AnySource = Annotated[
    Annotated[CdfSource, Tag("cdf")]
    | Annotated[WetransformSource, Tag("wetransform")]
    | Annotated[DataprepSource, Tag("dataprep")]
    | Annotated[PluginSource, Tag("plugin")],
    Discriminator(_kind),
]


def _given(secret: Secret | None, file: FileSecret | None) -> Secret:
    given = secret or file
    assert given is not None  # the models refuse to be made without one
    return given
