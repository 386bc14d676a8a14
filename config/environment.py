"""Overrides of the file by environment variables.

`LINEAGE_COLLECTOR__SOURCES__0__POLL_INTERVAL=10s` sets `sources[0].poll_interval`: two underscores between the parts,
list items by index, upper and lower case the same.

Not pydantic-settings: it sets no items of lists, and its errors do not say which variable brought the value.
"""

from collections.abc import Mapping
from typing import Any

from config.mistakes import Mistake, Path
from config.secret import FromEnvironment

PREFIX = "LINEAGE_COLLECTOR__"

Variables = dict[Path, str]
"""The variable that set the value at a place."""


def overlay(values: dict[str, Any], environ: Mapping[str, str]) -> tuple[Variables, list[Mistake]]:
    """Change `values` in place; the environment wins."""
    variables: Variables = {}
    mistakes: list[Mistake] = []
    for variable in sorted((name for name in environ if name.upper().startswith(PREFIX)), key=_order):
        steps = variable[len(PREFIX) :].lower().split("__")
        try:
            path = _set(values, steps, FromEnvironment(environ[variable]))
        except ValueError as error:
            mistakes.append(Mistake(f"environment variable {variable}", "", str(error)))
        else:
            variables[path] = variable
    return variables, mistakes


def _order(variable: str) -> list[tuple[int, str]]:
    """List items in the order of their numbers, so that each finds the one before it."""
    return [(int(step) if _is_index(step) else -1, step) for step in variable.split("__")]


def _set(values: dict[str, Any], steps: list[str], text: FromEnvironment) -> Path:
    here: Any = values
    path: Path = ()
    for step, following in zip(steps, [*steps[1:], None], strict=True):
        key = _key(here, step)
        path = (*path, key)
        if following is None:
            _put(here, key, text)
        else:
            here = _container(here, key, [] if _is_index(following) else {})
    return path


def _key(here: Any, step: str) -> str | int:
    if not step:
        raise ValueError("a part of the name is empty: write two underscores between the parts")
    if isinstance(here, list):
        if not _is_index(step) or int(step) > len(here):
            raise ValueError(f"{step!r} is not an item of the list: it has {len(here)}, so the next is {len(here)}")
        return int(step)
    return next((key for key in here if key.lower() == step), step)


def _container(here: Any, key: Any, empty: dict[str, Any] | list[Any]) -> Any:
    """The container under `key`, or a new empty one in its place."""
    present = (
        here[key] if (isinstance(here, dict) and key in here) or (isinstance(here, list) and key < len(here)) else None
    )
    if not isinstance(present, dict | list):
        _put(here, key, empty)
        return empty
    return present


def _put(here: Any, key: Any, value: Any) -> None:
    if isinstance(here, list) and key == len(here):
        here.append(value)
    else:
        here[key] = value


def _is_index(step: str) -> bool:
    return step.isascii() and step.isdecimal() and len(step) < 5
