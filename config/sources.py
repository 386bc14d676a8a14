"""The sources: one configured account on a platform each."""

from datetime import datetime, timedelta
from functools import cache, partial
from typing import Annotated, Any, ClassVar, Literal

from pydantic import AfterValidator, Discriminator, Field, Tag, ValidationInfo, WithJsonSchema, model_validator

from config.base import Count, Model, Name, Namespace, NamespacePart, Text, Url, address, authority, checked_namespace
from config.network import OverHttp
from config.plugins import PLATFORM_PLUGINS, checked_options, known, tag_of
from config.quantities import Duration, Lookback
from config.secret import ClientSecretFile, HintSecretFile, Secret, SecretText, TokenFile, WebhookSecretFile, given

RunStateWord = Literal["queued", "running", "waiting", "succeeded", "failed", "canceled", "unknown"]

PLATFORMS = ("cdf", "wetransform", "dataprep")
"""The built-in ones."""


class Source(OverHttp):
    """Keys of all sources. `platform` is the kind. `lists_past_runs` says whether the platform lists runs that ended long ago."""

    lists_past_runs: ClassVar[bool] = True
    platform: str
    name: Name
    """Your name for this source: in metrics, logs and commands. Unique. A renamed source keeps its cursor and runs, by its account."""
    former_name: Name | None = None
    """The former name, needed only if the account (platform, address, project) changed together with the name."""
    namespace: Namespace | None = None
    """Namespace of its jobs and datasets. Default: `{platform}://{host}/{project}`."""
    poll_interval: Duration = timedelta(seconds=30)
    """From the start of one poll to the start of the next."""
    poll_within: Duration = timedelta(minutes=5)
    """How long a poll may go on without another page; what was read is kept. A long list takes as long as it takes."""
    initial_lookback: Lookback = timedelta(hours=1)
    """How far the first start looks back: a duration, a date, or `none` for runs from now on only."""
    requests_per_minute: Count | None = None
    """The collector's limit for this source. Without one only the limits in the platform's answers apply."""
    burst: Count = 10
    """How many requests may go at once under `requests_per_minute`."""
    include: tuple[Text, ...] = ()
    """Globs over job names, ids and external ids. Without any, all jobs are watched."""
    exclude: tuple[Text, ...] = ()
    """Globs of jobs to leave out; wins over `include`."""
    on_vanished: Literal["leave_open", "abort"] = "leave_open"
    """For a run that the platform no longer has: emit nothing (`leave_open`), or one ABORT (`abort`)."""
    enrich_within: Duration = timedelta(seconds=60)
    """How long a terminal event waits for inputs, outputs and counts before it is sent without them."""
    stale_after: Duration = timedelta(hours=24)
    """A run that runs for longer counts as stale in the metrics; waiting for a person does not count."""
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
        """Identity of the account on the platform, independent of the source's name. No two sources have the same."""
        raise NotImplementedError

    def first_look(self, now: datetime) -> datetime:
        """The time from which the first start reads runs."""
        if isinstance(self.initial_lookback, datetime):
            return min(self.initial_lookback, now)
        return now - (self.initial_lookback or timedelta())


class BuiltInSource(Source):
    base_url: Url

    @property
    def project_part(self) -> str:
        """The part of the namespace that distinguishes two accounts on one host."""
        raise NotImplementedError

    @property
    def job_namespace(self) -> str:
        return self.namespace or f"{self.platform}://{authority(self.base_url)}/{self.project_part}"

    @property
    def address(self) -> str:
        """`base_url` in a canonical form: run ids are derived from it."""
        return address(self.base_url)

    @property
    def account(self) -> str:
        return f"{self.platform} {self.address.partition('://')[2]} {self.project_part}"

    @model_validator(mode="after")
    def _namespace_is_good(self) -> "BuiltInSource":
        try:
            checked_namespace(self.job_namespace)
        except ValueError as error:
            raise ValueError(f"the namespace of its jobs is not valid, so set `namespace`: {error}") from None
        return self


def _without(suffix: str) -> AfterValidator:
    def check(value: str) -> str:
        if suffix in f"{value}/":
            raise ValueError(f"leave out {suffix.rstrip('/')} and what follows: the program adds it")
        return value

    return AfterValidator(check)


class TokenRequest(Model):
    """The request for a token by client credentials; `scope` and `audience` are left out when None."""

    url: str
    scope: str | None
    audience: str | None


def _tenant_given(value: str | None, info: ValidationInfo) -> str | None:
    if value is None and info.data.get("token_url", "") is None and info.data.get("provider") in {"entra", "auth0"}:
        raise ValueError(f"the provider {info.data['provider']} needs the tenant (or a token_url)")
    return value


def _token_url_given(value: str | None, info: ValidationInfo) -> str | None:
    if value is None and info.data.get("provider") == "oidc":
        raise ValueError("is missing: the provider oidc has no default address")
    return value


class CdfAuth(Model):
    """OIDC client credentials. A preset fills in what you leave out."""

    provider: Literal["entra", "cognite", "auth0", "oidc"] = "oidc"
    """Microsoft Entra ID, Cognite, Auth0, or any other OIDC provider."""
    token_url: Annotated[Url | None, AfterValidator(_token_url_given)] = Field(default=None, validate_default=True)
    """Address of the token endpoint. Needed for `oidc`."""
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
        return given(self.client_secret, self.client_secret_file)

    def token_request(self, base_url: str, project: str) -> TokenRequest:
        """The preset of the provider, overridden by the configuration."""
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
    """Error texts that mean that a failed job was canceled; case and outer spaces do not count."""
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
    """Intervals between two reads of one run, which grow with time."""

    active: Duration = timedelta(seconds=5)
    """While it is queued or running, in its first minute."""
    active_most: Annotated[Duration, _not_below("active")] = Field(default=timedelta(seconds=60), validate_default=True)
    """The longest interval while it is queued or running."""
    waiting: Duration = timedelta(minutes=10)
    """While it waits for a person."""
    waiting_most: Annotated[Duration, _not_below("waiting")] = Field(default=timedelta(hours=1), validate_default=True)
    """The longest interval while it waits, reached after a day."""


class TokenSource(BuiltInSource):
    token: SecretText | None = None
    """Access token: `${env:NAME}`."""
    token_file: TokenFile = Field(default=None, validate_default=True)
    """File with the access token; read again when it changes."""

    @property
    def credential(self) -> Secret:
        return given(self.token, self.token_file)


class WetransformSource(TokenSource):
    """A company or sender at wetransform."""

    lists_past_runs: ClassVar[bool] = False
    platform: Literal["wetransform"]
    base_url: Url = "https://api.wetransform.com"
    tenant: NamespacePart
    """Your name for the account: the last part of the namespace."""
    customer: Text | None = Field(default=None, exclude=True)
    """E-mail or internal id of the customer to act for (`X-Customer`)."""
    steps: dict[str, RunStateWord] = Field(default_factory=dict)
    """Steps whose run state differs from the built-in table."""
    waiting_after: Duration = timedelta(minutes=10)
    """After this long unchanged in `to_match` or `to_submit`, a run counts as waiting for a person."""
    discover: bool = False
    """Derive runs that others started from changes in the list of transformations."""
    webhook_secret: SecretText | None = None
    """Secret of the webhook `file:ready-for-download`, which makes polls happen sooner."""
    webhook_secret_file: WebhookSecretFile = Field(default=None, validate_default=True)
    intervals: WetransformIntervals = WetransformIntervals()
    requests_per_minute: Count | None = 300
    """The collector's limit for this source: the platform publishes none."""

    @property
    def account(self) -> str:
        """The customer is part of the account: a token sees different runs for each customer."""
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
    """The collector's limit for this source, shared by all its requests."""

    @property
    def project_part(self) -> str:
        return self.workspace


class PluginSource(Source):
    """A source of a platform that another package brings (entry point group `lineage_collector.platforms`)."""

    platform: Annotated[str, WithJsonSchema({"type": "string", "not": {"enum": list(PLATFORMS)}})]
    namespace: Namespace
    """Namespace of its jobs and datasets. It identifies the account: no other source of the platform has the same."""
    options: Annotated[
        Any,
        AfterValidator(partial(checked_options, group=PLATFORM_PLUGINS, kind="platform")),
        WithJsonSchema({"type": "object", "additionalProperties": True}),
    ] = Field(default={}, validate_default=True)
    """The options of the platform's package, as in its `Options` model (`config.plugins`)."""

    @property
    def job_namespace(self) -> str:
        return self.namespace

    @property
    def account(self) -> str:
        return f"{self.platform} {self.namespace}"


@cache
def known_platforms() -> tuple[str, ...]:
    """The built-in and the installed ones."""
    return known(PLATFORM_PLUGINS, PLATFORMS)


AnySource = Annotated[
    Annotated[CdfSource, Tag("cdf")]
    | Annotated[WetransformSource, Tag("wetransform")]
    | Annotated[DataprepSource, Tag("dataprep")]
    | Annotated[PluginSource, Tag("plugin")],
    Discriminator(lambda value: tag_of(value, "platform", PLATFORMS, known_platforms)),
]
