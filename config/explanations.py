"""Explains pydantic's errors to people, with the nearest valid key."""

import re
from collections.abc import Iterable, Mapping, Sequence
from difflib import get_close_matches
from typing import Any, get_args

from config.base import Model
from config.mistakes import Path
from config.settings import Settings
from config.sinks import FileSink, KafkaSink, MarquezSink, OpenLineageSink, PluginSink, known_sinks
from config.sources import CdfSource, DataprepSource, PluginSource, Source, WetransformSource, known_platforms

MODELS: Mapping[Any, Mapping[Any, type[Model]]] = {
    "sources": {
        "cdf": CdfSource,
        "wetransform": WetransformSource,
        "dataprep": DataprepSource,
        "plugin": PluginSource,
    },
    "sinks": {
        "file": FileSink,
        "marquez": MarquezSink,
        "openlineage": OpenLineageSink,
        "kafka": KafkaSink,
        "plugin": PluginSink,
    },
}
_CONSTANTS: Mapping[tuple[type[Model], str], str] = {
    (Source, "jitter"): "polls are moved at random by a tenth of poll_interval",
    (CdfSource, "page_size"): "a page of the list has 50 jobs",
    (KafkaSink, "connect_within"): "connecting to Kafka may take 15 s",
    (KafkaSink, "send_within"): "an attempt waits 5 s for Kafka's answer, then asks again",
}
"""Keys that there were, and what holds now."""
_WANTED = {
    "string": "must be text",
    "path": "must be the path of a file",
    "int": "must be a whole number",
    "float": "must be a number",
    "bool": "must be true or false",
    "model": "must be a mapping (key: value)",
    "dict": "must be a mapping (key: value)",
    "tuple": "must be a list",
}


def explain(error: Mapping[str, Any], root: type[Model] = Settings) -> tuple[Path, str, str | None]:
    """Place, problem and suggestion of one entry of `ValidationError.errors()` of the model `root`."""
    loc: Path = error["loc"]
    path = _without_tag(loc)
    match error["type"]:
        case "missing":
            return path, "is missing", None
        case "extra_forbidden":
            return path, *_unknown_key(str(path[-1]), _model_at(loc[:-1], root))
        case "union_tag_not_found":
            return _unknown_kind(path, error["input"])
        case "literal_error":
            return path, *_not_one_of(error["input"], re.findall(r"'([^']*)'", error["ctx"]["expected"]))
        case "value_error":
            return path, str(error["ctx"]["error"]), None
        case "too_short":
            return path, "needs at least one item", None
        case "greater_than_equal":
            return path, f"must be at least {error['ctx']['ge']}, not {_shown(error['input'])}", None
        case "less_than_equal":
            return path, f"must be at most {error['ctx']['le']}, not {_shown(error['input'])}", None
        case "greater_than":
            return path, f"must be more than {error['ctx']['gt']}, not {_shown(error['input'])}", None
    return path, _type_error(error), None


def _without_tag(loc: Path) -> Path:
    return loc[:2] + loc[3:] if _tagged(loc) else loc


def _tagged(loc: Path) -> type[Model] | None:
    """The member of the union that pydantic tried, which is a part of the place: ("sources", 0, "cdf", "name")."""
    return MODELS.get(loc[0], {}).get(loc[2]) if len(loc) > 2 else None


def _model_at(loc: Path, root: type[Model]) -> type[Model] | None:
    """The model whose keys stand at this place; None where keys are free."""
    model: type[Model] | None = root
    rest = loc
    if (tagged := _tagged(loc)) is not None:
        model, rest = tagged, loc[3:]
    for step in (each for each in rest if isinstance(each, str)):  # items of a list have the model of the list
        fields = model.model_fields if model else {}
        model = _model_in(fields[step].annotation) if step in fields else None
    return model


def _model_in(annotation: Any) -> type[Model] | None:
    if isinstance(annotation, type) and issubclass(annotation, Model):
        return annotation
    return next((model for part in get_args(annotation) if (model := _model_in(part))), None)


def _unknown_key(key: str, model: type[Model] | None) -> tuple[str, str | None]:
    known = list(model.model_fields) if model else []
    if instead := _constant(key, model):
        return f"is no longer a setting ({instead}); remove it", None
    if near := _nearest(key, known):
        return "unknown key", near
    homes = (f"{name}.{key}" for name in known if model and key in _keys_in(model.model_fields[name].annotation))
    if home := next(homes, None):
        return f"unknown key here; it belongs to {home}", None
    return f"unknown key; known keys are {', '.join(sorted(known))}", None


def _constant(key: str, model: type[Model] | None) -> str | None:
    """What stands in the place of a setting that became a constant."""
    for (owner, former), instead in _CONSTANTS.items():
        if former == key and model is not None and issubclass(model, owner):
            return instead
    return None


def _keys_in(annotation: Any) -> Iterable[str]:
    model = _model_in(annotation)
    return model.model_fields if model else ()


def _unknown_kind(path: Path, value: Any) -> tuple[Path, str, str | None]:
    key, known = ("platform", known_platforms()) if path[0] == "sources" else ("type", known_sinks())
    if not isinstance(value, dict):
        return path, f"must be a mapping with {key} and name, not {_shown(value)}", None
    if key not in value:
        if misspelt := _nearest(key, list(value)):
            return (*path, misspelt), "unknown key", key
        return (*path, key), f"is missing: give one of {', '.join(known)}", None
    return (*path, key), *_not_one_of(value[key], known)


def _not_one_of(value: Any, words: Sequence[str]) -> tuple[str, str | None]:
    return f"must be one of {', '.join(words)}, not {_shown(value)}", _nearest(str(value), words)


def _type_error(error: Mapping[str, Any]) -> str:
    wanted = _WANTED.get(error["type"].partition("_")[0])
    if wanted is None:
        return str(error["msg"])
    value = error["input"]
    if wanted in {_WANTED["dict"], _WANTED["tuple"]}:  # where a mapping or a list belongs, a text could be a secret
        return f"{wanted}, not {'text' if isinstance(value, str) else _shown(value)}"
    in_quotes = wanted == _WANTED["string"] and isinstance(value, bool | int | float)
    return f"{wanted}, not {_shown(value)}{': put it in quotes' if in_quotes else ''}"


def _shown(value: Any) -> str:
    """The present value as text. Only called for keys that hold no secret."""
    match value:
        case None:
            return "nothing"
        case bool():
            return str(value).lower()
        case dict():
            return "a mapping"
        case list() | tuple():
            return "a list"
    text = repr(str(value)) if isinstance(value, str) else str(value)
    return text if len(text) <= 60 else f"{text[:57]}..."


def _nearest(word: str, words: Sequence[str]) -> str | None:
    spelt = {each.lower(): each for each in words}
    return next((spelt[near] for near in get_close_matches(word.lower(), spelt, n=1, cutoff=0.6)), None)
