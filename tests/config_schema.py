"""The JSON Schema of the configuration file: `python -m tests.config_schema` writes it to `config/schema.json`."""

import ast
import json
from collections.abc import Mapping
from datetime import timedelta
from inspect import cleandoc, getsource
from itertools import pairwise
from pathlib import Path
from textwrap import dedent
from typing import Any

from pydantic.json_schema import GenerateJsonSchema, JsonSchemaValue
from pydantic_core import core_schema

import config
from config.base import Model
from config.explanations import MODELS
from config.quantities import DURATION_SCHEMA, format_duration
from config.settings import Settings

FILE = Path(config.__file__).with_name("schema.json")
_SHARED = {"Duration": DURATION_SCHEMA}


class _Generator(GenerateJsonSchema):
    """Writes defaults as a person would write them in the file."""

    def encode_default(self, dft: Any) -> Any:
        return format_duration(dft) if isinstance(dft, timedelta) else super().encode_default(dft)

    def model_schema(self, schema: core_schema.ModelSchema) -> JsonSchemaValue:
        """Each key with the text below it. Pydantic can read it, too, but at each start of the program: 0.1 s."""
        made = super().model_schema(schema)
        for key, text in _texts(schema["cls"]).items():
            made["properties"][key]["description"] = text
        return made


def _texts(model: type[Any]) -> dict[str, str]:
    found: dict[str, str] = {}
    for owner in reversed(model.__mro__):
        if issubclass(owner, Model):
            found |= _texts_in(dedent(getsource(owner)))
    return found


def _texts_in(source: str) -> dict[str, str]:
    """The texts below the annotated names of a class."""
    found: dict[str, str] = {}
    made = ast.parse(source).body[0]
    assert isinstance(made, ast.ClassDef)
    for key, below in pairwise(made.body):
        match key, below:
            case ast.AnnAssign(target=ast.Name(name)), ast.Expr(ast.Constant(str(text))):
                found[name] = cleandoc(text)
    return found


def schema() -> dict[str, Any]:
    """As strict as the program: unknown keys are refused at every level."""
    made = _tidy(Settings.model_json_schema(schema_generator=_Generator))
    made["properties"]["sources"]["items"] = _by_kind("platform", MODELS["sources"])
    made["properties"]["sinks"]["items"] = _by_kind("type", MODELS["sinks"])
    made["$defs"] = dict(sorted((made["$defs"] | _SHARED).items()))
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **made}


def _tidy(node: Any) -> Any:
    """Without titles, and without defaults that only mean that a key can be left out; what many keys have is a reference."""
    if isinstance(node, list):
        return [_tidy(item) for item in node]
    if not isinstance(node, dict):
        return node
    tidy = {key: _tidy(value) for key, value in node.items() if not _is_noise(key, value)}
    for name, shared in _SHARED.items():
        if shared.items() <= tidy.items():
            return {"$ref": f"#/$defs/{name}"} | {key: value for key, value in tidy.items() if key not in shared}
    return _with_null(tidy)


def _with_null(node: dict[str, Any]) -> dict[str, Any]:
    """`anyOf` of one plain type and null as a list of the two types."""
    match node.get("anyOf"):
        case [{"type": str() as plain, **rest}, {"type": "null"}] if not rest.keys() & {"enum", "const"}:
            others = {key: value for key, value in node.items() if key != "anyOf"}
            return {**{str(key): value for key, value in rest.items()}, "type": [plain, "null"], **others}
    return node


def _is_noise(key: str, value: Any) -> bool:
    if key == "title":
        return isinstance(value, str)
    return key == "default" and (value is None or isinstance(value, dict))


def _by_kind(key: str, models: Mapping[str, type[Model]]) -> dict[str, Any]:
    """One branch per kind, so that a mistake is reported in the right branch (`oneOf` reports all of them)."""
    built_in = [kind for kind in models if kind != "plugin"]
    conditions = {kind: {"const": kind} if kind in built_in else {"not": {"enum": built_in}} for kind in models}
    branches = [
        {"if": {"properties": {key: conditions[kind]}}, "then": {"$ref": f"#/$defs/{model.__name__}"}}
        for kind, model in models.items()
    ]
    return {"type": "object", "required": [key], "allOf": branches}


def text() -> str:
    return json.dumps(schema(), indent=2) + "\n"


if __name__ == "__main__":
    FILE.write_text(text(), encoding="utf-8")
