"""Other names for datasets: `datasets:` in the configuration."""

import re
from typing import Annotated

from pydantic import AfterValidator, WithJsonSchema, model_validator

from config.base import Model, Text

# what Marquez 0.51 keeps of a dataset's namespace; it answers 400 to other characters
_NAMESPACE = re.compile(r"[A-Za-z*][A-Za-z0-9:/_\-.@+*]*")


def _checked_namespace(value: str) -> str:
    if _NAMESPACE.fullmatch(value) is None or len(value) > 255:
        raise ValueError(
            f"{value!r} is not a valid namespace of a dataset; use letters, digits and :/_-.@+, as in postgres://host:5432"
        )
    return value


def _printable(value: str) -> str:
    if not value.isprintable():
        raise ValueError("holds a character that no name may have")
    return value


DatasetNamespace = Annotated[
    str,
    AfterValidator(_checked_namespace),
    WithJsonSchema({"type": "string", "maxLength": 255, "pattern": f"^{_NAMESPACE.pattern}$"}),
]
DatasetName = Annotated[Text, AfterValidator(_printable)]


class DatasetMatch(Model):
    """Which datasets are meant; `*` stands for any text."""

    namespace: DatasetName = "*"
    name: DatasetName


class DatasetReplacement(Model):
    """What they are called instead. The n-th `*` is what the n-th one of the match stood for."""

    namespace: DatasetNamespace | None = None
    """Left out: as it is."""
    name: DatasetName | None = None
    """Left out: as it is."""


class DatasetAlias(Model):
    """Another name for some datasets. The name that the platform gives stays as a symlink."""

    match: DatasetMatch
    replace: DatasetReplacement

    @model_validator(mode="after")
    def _can_be_filled(self) -> "DatasetAlias":
        if self.replace.namespace is None and self.replace.name is None:
            raise ValueError("replace says nothing: give a namespace or a name")
        for key in ("namespace", "name"):
            pattern, new = getattr(self.match, key), getattr(self.replace, key)
            if new is not None and new.count("*") > pattern.count("*"):
                raise ValueError(f"replace.{key} has more * than match.{key}, so there is nothing to put there")
        return self
