"""Loads `Settings` from a file and the environment, or returns a list of all mistakes."""

import os
from collections.abc import Hashable, Mapping, Sequence
from pathlib import Path as FilePath
from typing import Any

from pydantic import ValidationError

from config.environment import Variables, overlay
from config.explanations import explain
from config.mistakes import ConfigurationMistakes, Mistake, Path, dotted
from config.plugins import PLATFORM_PLUGINS, SINK_PLUGINS, options_model
from config.settings import Settings
from config.sources import Source, WetransformSource
from config.yaml_document import Document, read

__all__ = ["ConfigurationMistakes", "Mistake", "load"]


def load(path: FilePath) -> Settings:
    """The configuration in `path` with the environment on top; raises `ConfigurationMistakes` with all mistakes."""
    return checked(read(path), os.environ)


def checked(document: Document, environ: Mapping[str, str]) -> Settings:
    """The second part of `load`, for a file that was read. Changes the document's values to those of the environment."""
    variables, mistakes = overlay(document.values, environ)
    mistakes = [*document.mistakes, *mistakes, *_same_names(document, variables)]
    settings = None
    try:
        settings = Settings.model_validate(document.values)
    except ValidationError as error:
        mistakes += _invalid(document, variables, error)
    if settings is not None and not mistakes:
        mistakes = _one_past_for_two(document, variables, settings)
    if mistakes or settings is None:
        raise ConfigurationMistakes(mistakes)
    return settings


def _invalid(document: Document, variables: Variables, error: ValidationError) -> list[Mistake]:
    """What the models refuse, without what reading the file has already reported."""
    reported = {(mistake.key, mistake.line) for mistake in document.mistakes}
    found = (_mistake(document, variables, *_explained(document, each)) for each in error.errors() if not _idle(each))
    return [mistake for mistake in found if (mistake.key, mistake.line) not in reported]


def _explained(document: Document, error: Mapping[str, Any]) -> tuple[Path, str, str | None]:
    """The keys of a plug-in's options are those of its model."""
    loc: Path = error["loc"]
    if loc[2:4] != ("plugin", "options") or len(loc) == 4:
        return explain(error)
    section, index = str(loc[0]), loc[1]
    part = document.values[section][index]
    group, kind = (PLATFORM_PLUGINS, "platform") if section == "sources" else (SINK_PLUGINS, "type")
    model = options_model(group, part[kind])
    assert model is not None  # without a model nothing is checked
    path, problem, suggestion = explain({**error, "loc": loc[4:]}, model)
    return (section, index, "options", *path), problem, suggestion


def _idle(error: Mapping[str, Any]) -> bool:
    """Whether pydantic reports a list as too short only because its items are invalid."""
    return error["type"] == "too_short" and bool(error["input"])


def _mistake(document: Document, variables: Variables, path: Path, problem: str, suggestion: str | None) -> Mistake:
    if path in variables:
        return Mistake(f"environment variable {variables[path]}", dotted(path), problem, suggestion)
    return Mistake(document.file, dotted(path), problem, suggestion, document.line(path))


def _same_names(document: Document, variables: Variables) -> list[Mistake]:
    mistakes = []
    for section in ("sources", "sinks"):
        first: dict[str, int] = {}
        for index, name in _names(document.values.get(section)):
            if name in first:
                path = (section, index, "name")
                problem = f"{section}[{first[name]}] has the name {name!r} too; names are unique"
                mistakes.append(_mistake(document, variables, path, problem, None))
            first.setdefault(name, index)
    return mistakes


def _one_past_for_two(document: Document, variables: Variables, settings: Settings) -> list[Mistake]:
    """Sources that would watch the same runs, or continue with the same stored state."""
    found = _same_accounts(settings.sources) + _same_former_names(settings.sources)
    return [_mistake(document, variables, ("sources", index, key), problem, None) for index, key, problem in found]


def _same_accounts(sources: Sequence[Source]) -> list[tuple[int, str, str]]:
    """Sources of one account, which would report every run twice. A wetransform `tenant` is chosen by the user, the token is not."""
    mistakes = []
    first: dict[Hashable, int] = {}
    for index, source in enumerate(sources):
        identities: list[Hashable] = [source.account]
        if isinstance(source, WetransformSource):
            identities.append((source.address, source.credential.get(), source.customer))
        same = next((first[each] for each in identities if each in first), None)
        if same is not None:
            names = f"{sources[same].name!r} (sources[{same}]) and {source.name!r} watch the same account"
            problem = (
                f"{names} of {source.platform}, so each run would be reported twice: keep one of the two sources, "
                "and choose its jobs with include and exclude"
            )
            mistakes.append((index, "name", problem))
        for each in identities:
            first.setdefault(each, index)
    return mistakes


def _same_former_names(sources: Sequence[Source]) -> list[tuple[int, str, str]]:
    mistakes = []
    names, first = {source.name for source in sources}, dict[str, str]()
    for index, source in enumerate(sources):
        former = source.former_name
        if former is None:
            continue
        if former != source.name and former in names:
            mistakes.append(
                (index, "former_name", f"a source {former!r} is still configured; a former name must not be in use")
            )
        elif former in first:
            mistakes.append(
                (
                    index,
                    "former_name",
                    f"source {first[former]!r} has the former name {former!r} too; only one source can have it",
                )
            )
        first.setdefault(former, source.name)
    return mistakes


def _names(items: Any) -> list[tuple[int, str]]:
    entries = items if isinstance(items, list) else []
    return [
        (index, str(entry["name"]))
        for index, entry in enumerate(entries)
        if isinstance(entry, dict) and isinstance(entry.get("name"), str)
    ]
