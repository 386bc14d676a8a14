"""From the configuration to living parts: adapters and sinks by entry point, each with its own HTTP client."""

import random
from collections.abc import Callable, Iterable, Mapping
from functools import partial
from importlib.metadata import entry_points
from typing import Any

from collector.clock import Clock
from collector.errors import ConfigurationError
from collector.http import Heard, HttpClient, HttpOptions, clock_ahead, tls_context
from collector.lineage.aliases import Alias, Aliases
from collector.own_secrets import own_secrets
from collector.platforms import base as platforms
from collector.reports import RequestReport
from config.confidential import secrets
from config.mistakes import dotted
from config.settings import DatasetAlias
from config.settings import Sink as SinkSettings
from config.settings import Source as SourceSettings
from exporters import sink as sinks

Requested = Callable[[RequestReport], None]


def platform(settings: SourceSettings, clock: Clock, requested: Requested) -> platforms.Platform:
    """The adapter of one source. Raises `ConfigurationError` for TLS files that cannot be used."""
    _hide_secrets(f"source {settings.name}", settings)
    create: platforms.Create = _loaded("lineage_collector.platforms", settings.platform)
    context = platforms.Context(
        source=settings.name,
        namespace=settings.job_namespace,
        http=HttpClient(_options(settings.http_options()), _counting(settings, clock, requested)),
        clock=clock,
        random=random.random,
    )
    return create(settings, context)


def aliases(settings: Iterable[DatasetAlias]) -> Aliases:
    """The other names for datasets that the configuration gives."""
    return Aliases(
        tuple(
            Alias(each.match.namespace, each.match.name, each.replace.namespace, each.replace.name) for each in settings
        )
    )


def sink(settings: SinkSettings, clock: Clock) -> sinks.Sink:
    """The sink of one target. Raises `ConfigurationError` for TLS files that cannot be used."""
    _hide_secrets(f"sink {settings.name}", settings)
    create: sinks.Create = _loaded("lineage_collector.sinks", settings.type)
    options: dict[str, Any] = getattr(settings, "http_options", dict)()
    concurrency = getattr(settings, "concurrency", 8)
    http = HttpClient(_options({**options, "connections": concurrency}))
    return create(settings, sinks.Context(sink=settings.name, http=http, clock=clock, random=random.random))


def _hide_secrets(whose: str, settings: SourceSettings | SinkSettings) -> None:
    """From now on no text shows them, nor what they change to."""
    for path, secret in secrets(settings):
        secret.tell(partial(own_secrets.learn, f"{whose} {dotted(path)}"))


def _options(plain: Mapping[str, Any]) -> HttpOptions:
    options = HttpOptions(**plain)
    tls_context(options)
    return options


def _counting(settings: SourceSettings, clock: Clock, requested: Requested) -> Heard:
    base_url: str = getattr(settings, "base_url", "")

    def heard(url: str, status: int | None, seconds: float, headers: Mapping[str, str]) -> None:
        told = headers.get("x-rate-limit-user-remaining", "")
        remaining = int(told) if told.isdecimal() else None
        # tokens come from somebody else, whose clock does not matter
        ahead = clock_ahead(headers, clock.now(), seconds) if url.startswith(base_url) else None
        requested(RequestReport(settings.name, status, seconds, remaining, ahead))

    return heard


def _loaded(group: str, name: str) -> Any:
    points = entry_points(group=group)
    try:
        return points[name].load()
    except KeyError:
        known = ", ".join(sorted(points.names))
        raise ConfigurationError([f"nothing named {name!r} is installed for {group}; there is {known}"]) from None
