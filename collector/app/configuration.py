"""Reads the configuration; mistakes become `ConfigurationError`."""

from collections.abc import Collection
from pathlib import Path

from collector.errors import ConfigurationError
from config.loader import ConfigurationMistakes
from config.loader import load as read
from config.mistakes import did_you_mean
from config.settings import Settings
from config.web import AccessFile


def load(path: Path) -> Settings:
    """The checked configuration. Raises `ConfigurationError` with a message per mistake."""
    try:
        return read(path)
    except ConfigurationMistakes as error:
        raise ConfigurationError([str(mistake) for mistake in error.mistakes]) from error


def refuse_unknown(kind: str, name: str, known: Collection[str]) -> None:
    """Raises `ConfigurationError` unless a source or sink, the kind, has this name."""
    if name not in known:
        names = ", ".join(sorted(known)) or "none"
        hint = did_you_mean(name, known)
        raise ConfigurationError(
            [f"there is no {kind} named {name!r} in the configuration; configured are {names}{hint}"]
        )


def access(settings: Settings) -> AccessFile | None:
    """TLS and passwords of the pages, None without any. Raises `ConfigurationError` with a message per mistake."""
    path = settings.http.web_config_file
    try:
        return AccessFile(path) if path is not None else None
    except ConfigurationMistakes as error:
        raise ConfigurationError([str(mistake) for mistake in error.mistakes]) from error
