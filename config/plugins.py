"""The options of plug-ins: the model that a plug-in's package may name for them.

It is the class `Options`, a `config.base.Model`, in the module of the plug-in's entry point. With it, options are checked
as all of the configuration is, and its secrets (`config.secret.SecretText`, `SecretFile`) are resolved and hidden. Without
it, the plug-in gets them unchanged.
"""

import sys
from collections.abc import Callable, Mapping
from importlib.metadata import entry_points
from typing import Any

from pydantic import ValidationInfo

from config.base import Model

PLATFORM_PLUGINS = "lineage_collector.platforms"
SINK_PLUGINS = "lineage_collector.sinks"


def known(group: str, built_in: tuple[str, ...]) -> tuple[str, ...]:
    """The built-in and the installed ones."""
    return (*built_in, *sorted(entry_points(group=group).names - set(built_in)))


def tag_of(value: Any, key: str, built_in: tuple[str, ...], all_known: Callable[[], tuple[str, ...]]) -> str | None:
    """Which model a source or a sink has, by the `key` that names its kind; None for an unknown one."""
    kind = value.get(key) if isinstance(value, dict) else getattr(value, key, None)
    if kind in built_in:
        return str(kind)
    return "plugin" if isinstance(kind, str) and kind in all_known() else None


def options_model(group: str, name: str) -> type[Model] | None:
    """The model that the plug-in of this name brings; None if it has none or cannot be imported. The program reports an import
    error when it calls `create`. Raises `ValueError` for a model that cannot be used.
    """
    try:
        point = entry_points(group=group)[name]
        point.load()
    except Exception:  # noqa: BLE001 - the boundary of a foreign package
        return None
    model = getattr(sys.modules[point.module], "Options", None)
    if model is None:
        return None
    if not isinstance(model, type) or not issubclass(model, Model):
        raise ValueError(f"cannot be checked: {point.module}.Options is not a subclass of config.base.Model")  # noqa: TRY004
    return model


def checked_options(value: Any, info: ValidationInfo, *, group: str, kind: str) -> Any:
    """An instance of the plug-in's model, or the mapping unchanged; `kind` is the key that names the plug-in."""
    if not isinstance(value, Mapping):
        raise ValueError("must be a mapping (key: value)")  # noqa: TRY004 -- pydantic collects ValueError
    model = options_model(group, info.data[kind]) if kind in info.data else None
    return dict(value) if model is None else model.model_validate(value)
