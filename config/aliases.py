"""Other names for datasets: `datasets:` in the configuration."""

import re
from typing import Annotated

from pydantic import AfterValidator, WithJsonSchema, model_validator

from config.base import Model, Text

# the characters that Marquez 0.51 accepts in a dataset's namespace; it answers 400 to others
_NAMESPACE = re.compile(r"[A-Za-z*][A-Za-z0-9:/_\-.@+*]*")


def _checked_namespace(value: str) -> str:
    if _NAMESPACE.fullmatch(value) is None or len(value) > 255:
        raise ValueError(
            f"{value!r} is not a valid namespace of a dataset; use letters, digits and :/_-.@+, as in postgres://host:5432"
        )
    return value


def _printable(value: str) -> str:
    if not value.isprintable():
        raise ValueError("contains a control character, which a name must not have")
    return value


DatasetNamespace = Annotated[
    str,
    AfterValidator(_checked_namespace),
    WithJsonSchema({"type": "string", "maxLength": 255, "pattern": f"^{_NAMESPACE.pattern}$"}),
]
DatasetName = Annotated[Text, AfterValidator(_printable)]


class DatasetMatch(Model):
    """The datasets that match; `*` stands for any text."""

    namespace: DatasetName = "*"
    name: DatasetName


class DatasetReplacement(Model):
    """Their new name. The n-th `*` is the text of the n-th one of the match."""

    namespace: DatasetNamespace | None = None
    """Left out: unchanged."""
    name: DatasetName | None = None
    """Left out: unchanged."""


class DatasetAlias(Model):
    """Another name for some datasets. The name that the platform gives stays as a symlink."""

    match: DatasetMatch
    replace: DatasetReplacement

    @model_validator(mode="after")
    def _can_be_filled(self) -> "DatasetAlias":
        if self.replace.namespace is None and self.replace.name is None:
            raise ValueError("replace is empty: give a namespace or a name")
        for key in ("namespace", "name"):
            pattern, new = getattr(self.match, key), getattr(self.replace, key)
            if new is not None and new.count("*") > pattern.count("*"):
                raise ValueError(f"replace.{key} has more * than match.{key}: use no more than match has")
        return self


def _job_name(value: str) -> str:
    if len(value) > 255:
        raise ValueError(f"has {len(value)} characters; Marquez finds only names of up to 255")
    if re.match("[A-Za-z]", value) is None:
        raise ValueError(
            f"{value!r} must begin with a letter, as in transformation/*: Marquez draws no graph of a job whose name begins otherwise"
        )
    if unknown := set(re.findall(r"\{[^}]*\}?", value)) - {"{description}"}:
        raise ValueError(
            f"{min(unknown)} stands for nothing; write {{description}} for the platform's description of the job"
        )
    return value


JobName = Annotated[
    DatasetName,
    AfterValidator(_job_name),
    WithJsonSchema({"type": "string", "maxLength": 255, "pattern": r"^[A-Za-z]([^{}]|\{description\})*$"}),
]


class JobMatch(Model):
    """The jobs that match, as their platforms name them; `*` stands for any text."""

    namespace: DatasetName = "*"
    name: DatasetName


class JobReplacement(Model):
    """Their new name."""

    name: JobName
    """The n-th `*` is the text of the n-th one of the match, `{description}` what the platform says of the job."""


class JobAlias(Model):
    """Another name for some jobs of one namespace. No two jobs may get the same one."""

    match: JobMatch
    replace: JobReplacement

    @model_validator(mode="after")
    def _names_one_job_each(self) -> "JobAlias":
        stars, new = self.match.name.count("*"), self.replace.name
        if new.count("*") > stars:
            raise ValueError("replace.name has more * than match.name: use no more than match has")
        if new.count("*") < stars and "{description}" not in new:
            raise ValueError(
                f"every job that fits match.name would be called {new!r}: use as many * as match has, or {{description}}"
            )
        return self


def unambiguous(aliases: tuple[JobAlias, ...]) -> tuple[JobAlias, ...]:
    """Refuses aliases that give the jobs of one namespace the same new name."""
    found: dict[tuple[str, str], str] = {}
    for alias in aliases:
        new = alias.match.namespace, alias.replace.name
        name = found.setdefault(new, alias.match.name)
        if name != alias.match.name:
            raise ValueError(
                f"{name} and {alias.match.name} would both be called {alias.replace.name}: give each a name"
            )
    return aliases
