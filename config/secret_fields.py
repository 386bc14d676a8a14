"""Finds the secrets in the configuration, with their places."""

import re
from collections.abc import Iterator
from typing import Any

from config.base import Model
from config.mistakes import Path
from config.secret import Secret

_SECRET_HEADER = re.compile(r"auth|cookie|key|password|secret|token", re.IGNORECASE)


def secrets(part: Model) -> Iterator[tuple[Path, Secret]]:
    """Every secret in this part of the configuration. Headers and proxies are secrets if they are references or look like credentials."""
    for path, value in values(part, ()):
        if isinstance(value, Secret) and _is_confidential(path, value):
            yield path, value


def _is_confidential(path: Path, value: Secret) -> bool:
    if path[-1] == "proxy":
        return "@" in value.get()
    if len(path) > 1 and path[-2] == "headers":
        return value.origin != "literal" or _SECRET_HEADER.search(str(path[-1])) is not None
    return True


def values(value: Any, path: Path) -> Iterator[tuple[Path, Any]]:
    """Every value in the tree that is not a container, with its place."""
    match value:
        case Model():
            for name in type(value).model_fields:
                yield from values(getattr(value, name), (*path, name))
        case dict():
            for key, item in value.items():
                yield from values(item, (*path, str(key)))
        case tuple() | list():
            for index, item in enumerate(value):
                yield from values(item, (*path, index))
        case _:
            yield path, value
