"""Creates adapters and sinks from the configuration, by entry point, each with its own HTTP client."""

import logging
import random
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import datetime
from functools import partial
from importlib.metadata import EntryPoint, entry_points
from typing import Any, TypeVar

from collector import __version__, api_version, oldest_api_version
from collector.app.hint_topic import HintSubscriber, Take
from collector.clock import Clock
from collector.errors import ConfigurationError
from collector.http import HttpClient, HttpOptions, RequestListener, clock_ahead
from collector.ledger.configured_sources import Configured
from collector.lineage.aliases import Alias, Aliases
from collector.lineage.job_aliases import JobAlias, JobAliases
from collector.logs import fields
from collector.platforms import base as platforms
from collector.redaction import redacted
from collector.reports import RequestReport
from collector.secret_registry import secret_registry
from collector.tls import tls_context
from config.aliases import DatasetAlias
from config.aliases import JobAlias as JobAliasSettings
from config.mistakes import dotted
from config.plugins import PLATFORM_PLUGINS, SINK_PLUGINS
from config.secret_fields import secrets
from config.settings import Settings
from config.sinks import HintTopic, MarquezSink
from config.sinks import Sink as SinkSettings
from config.sources import Source as SourceSettings
from exporters.sinks import base as sinks
from exporters.sinks.marquez.stored import web_address
from exporters.web.responses import BackendLink

log = logging.getLogger("lineage.service")

T = TypeVar("T")
Requested = Callable[[RequestReport], None]

_PLATFORM = ("poll", "enrich", "trigger", "watch", "check", "close")
_SINK = ("wants", "capacity", "rechecks", "longest_attempt", "send", "recheck", "check", "close")


def platform(settings: SourceSettings, clock: Clock, requested: Requested) -> platforms.Platform:
    """The adapter of one source, or a `BrokenPlatform`. Raises `ConfigurationError` for TLS files that cannot be used."""
    _hide_secrets(f"source {settings.name}", settings)
    context = platforms.Context(
        source=settings.name,
        namespace=settings.job_namespace,
        http=HttpClient(_options(settings.http_options()), _counting(settings, clock, requested)),
        clock=clock,
        random=random.random,
    )
    made: platforms.Platform = _made(
        (PLATFORM_PLUGINS, settings.platform), settings, context, _PLATFORM, platforms.BrokenPlatform
    )
    return made


def history(settings: SourceSettings, clock: Clock, requested: Requested, since: datetime) -> platforms.Platform:
    """Another adapter of the source, which reads the past back to `since` at its first poll."""
    return platform(settings.model_copy(update={"initial_lookback": since}), clock, requested)


def hint_subscriber(settings: HintTopic, take: Take, clock: Clock, reachable: Callable[[bool], None]) -> HintSubscriber:
    """What reads the topic of hints. Raises `ConfigurationError` for TLS files that cannot be used."""
    _hide_secrets("hints", settings)
    try:
        return HintSubscriber(settings, take, clock, reachable)
    except (OSError, ValueError) as error:
        raise ConfigurationError([f"hints.tls: cannot be used: {error}"]) from error


def configured(settings: Settings, clock: Clock) -> list[Configured]:
    """The sources in the form that the ledger compares with its own."""
    now = clock.now()
    return [
        Configured(
            source.name,
            source.account,
            source.former_name,
            lookback_ms=int((now - source.first_look(now)).total_seconds() * 1000),
        )
        for source in settings.sources
    ]


def aliases(settings: Iterable[DatasetAlias]) -> Aliases:
    """The aliases of datasets in the configuration."""
    return Aliases(
        tuple(
            Alias(each.match.namespace, each.match.name, each.replace.namespace, each.replace.name) for each in settings
        )
    )


def job_aliases(settings: Iterable[JobAliasSettings]) -> JobAliases:
    """The aliases of jobs in the configuration."""
    return JobAliases(tuple(JobAlias(each.match.namespace, each.match.name, each.replace.name) for each in settings))


def sink(settings: SinkSettings, clock: Clock) -> sinks.Sink:
    """The sink of one target, or a `BrokenSink`. Raises `ConfigurationError` for TLS files that cannot be used."""
    _hide_secrets(f"sink {settings.name}", settings)
    options: dict[str, Any] = getattr(settings, "http_options", dict)()
    concurrency = getattr(settings, "concurrency", 8)
    http = HttpClient(_options({**options, "connections": concurrency}))
    context = sinks.Context(sink=settings.name, http=http, clock=clock, random=random.random)
    made: sinks.Sink = _made((SINK_PLUGINS, settings.type), settings, context, _SINK, sinks.BrokenSink)
    if settings.shards > 1 and not sinks.is_parallel(made):
        why = f"a sink of type {settings.type} has one writer at a time and cannot be divided: leave shards out, or give 1"
        raise ConfigurationError([f"sink {settings.name}: shards: {why}"])
    return made


def backend_links(settings: Iterable[SinkSettings]) -> dict[str, BackendLink]:
    """What makes addresses on the web pages of backends, by the names of their sinks."""
    return {
        sink.name: partial(web_address, sink.web_url)
        for sink in settings
        if isinstance(sink, MarquezSink) and sink.web_url is not None
    }


def _made(
    which: tuple[str, str],
    settings: SourceSettings | SinkSettings,
    context: Any,
    needed: Sequence[str],
    broken: Callable[[str], T],
) -> T:
    """The product of the entry point; `broken` of the cause if that fails, so that one package cannot stop the others."""
    point = _point(*which)
    try:
        create = point.load()
        if (refusal := _refusal(point)) is not None:
            log.error("plugin.refused", extra=fields(part=settings.name, cause=refusal, then="everything else runs"))
            return broken(refusal)
        made: T = create(settings, context)
        if missing := [name for name in needed if not hasattr(made, name)]:
            raise TypeError(f"the object that it returned has no {', '.join(missing)}")  # noqa: TRY301
    except ConfigurationError:
        raise
    except Exception as error:
        cause = f"{point.value} could not create {settings.name}: {type(error).__name__}: {redacted(str(error))}"
        log.exception("plugin.broken", extra=fields(part=settings.name, cause=cause, then="everything else runs"))
        return broken(secret_registry.hidden(cause))
    return made


def unusable(settings: Settings) -> list[tuple[str, str]]:
    """The sources and sinks whose plug-ins cannot be used whatever their options, each with the cause; makes no request."""
    points = {f"source {each.name}": _point(PLATFORM_PLUGINS, each.platform) for each in settings.sources}
    points |= {f"sink {each.name}": _point(SINK_PLUGINS, each.type) for each in settings.sinks}
    return [(part, cause) for part, point in points.items() if (cause := _fault(point)) is not None]


def _fault(point: EntryPoint) -> str | None:
    try:
        point.load()
    except Exception as error:  # noqa: BLE001 - the boundary of another package
        return f"{point.value} cannot be loaded: {type(error).__name__}: {redacted(str(error))}"
    return _refusal(point)


def _refusal(point: EntryPoint) -> str | None:
    """Why this collector cannot use the plug-in, by the API version of its module; None if it can."""
    version = getattr(sys.modules[point.module], "api_version", oldest_api_version)
    if type(version) is not int:
        example = f"an integer such as {api_version}"
        return f"{point.value} cannot be used: {point.module}.api_version must be {example}, not {version!r}"
    written = f"{point.value} is written for version {version} of the plug-in API, this collector {__version__}"
    if version > api_version:
        return f"{written} has version {api_version}: update the collector, or use an older version of that package"
    if version < oldest_api_version:
        return f"{written} takes {oldest_api_version} to {api_version}: update that package"
    return None


def _hide_secrets(whose: str, settings: SourceSettings | SinkSettings | HintTopic) -> None:
    """From now on no text shows them, nor what they change to."""
    for path, secret in secrets(settings):
        secret.on_change(partial(secret_registry.learn, f"{whose} {dotted(path)}"))


def _options(plain: Mapping[str, Any]) -> HttpOptions:
    options = HttpOptions(**plain)
    tls_context(options)
    return options


def _counting(settings: SourceSettings, clock: Clock, requested: Requested) -> RequestListener:
    base_url: str = getattr(settings, "base_url", "")

    def on_request(url: str, status: int | None, seconds: float, headers: Mapping[str, str]) -> None:
        quota = headers.get("x-rate-limit-user-remaining", "")
        remaining = int(quota) if quota.isdecimal() else None
        # tokens come from another server, whose clock does not matter
        ahead = clock_ahead(headers, clock.now(), seconds) if url.startswith(base_url) else None
        requested(RequestReport(settings.name, status, seconds, remaining, ahead))

    return on_request


def _point(group: str, name: str) -> EntryPoint:
    points = entry_points(group=group)
    try:
        return points[name]
    except KeyError:
        known = ", ".join(sorted(points.names))
        raise ConfigurationError(
            [f"no entry point {name!r} is installed in the group {group}; installed are {known}"]
        ) from None
