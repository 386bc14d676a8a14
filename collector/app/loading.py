"""Reads the configuration and turns its mistakes into the program's own error."""

from pathlib import Path

from collector.errors import ConfigurationError
from config.loading import ConfigurationMistakes
from config.loading import load as read
from config.settings import Settings


def load(path: Path) -> Settings:
    """The checked configuration. Raises `ConfigurationError` with a message per mistake."""
    try:
        return read(path)
    except ConfigurationMistakes as error:
        raise ConfigurationError([str(mistake) for mistake in error.mistakes]) from error
