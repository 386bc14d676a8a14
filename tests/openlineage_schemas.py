"""JSON Schemas (2020-12) of OpenLineage events, made of the classes of the installed openlineage-python.

So they are always those of its version. Our own facets have theirs in `docs/facets`. Stricter than the specification
where we can be: no unknown facet, no unknown field.
"""

import json
import types
from collections.abc import Sequence
from enum import Enum
from functools import cache
from pathlib import Path
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints
from urllib.parse import urldefrag

import attr
from jsonschema import Draft202012Validator
from openlineage.client import event_v2, facet_v2
from referencing import Registry, Resource
from referencing.jsonschema import DRAFT202012

from collector.lineage import custom_facets

FACETS = Path(__file__).parents[1] / "docs" / "facets"
_HOME = urldefrag(facet_v2.RunFacet._get_schema()).url

_ENTITIES: dict[str, type[facet_v2.BaseFacet]] = {
    "run": facet_v2.RunFacet,
    "job": facet_v2.JobFacet,
    "input": facet_v2.InputDatasetFacet,
    "output": facet_v2.OutputDatasetFacet,
    "dataset": facet_v2.DatasetFacet,
}
_ODD_KEYS = {
    "ProcessingEngineRunFacet": "processing_engine",
    "DatasourceDatasetFacet": "dataSource",
    "DatasetVersionDatasetFacet": "version",
    "SQLJobFacet": "sql",
    "InputSubsetInputDatasetFacet": "subset",
    "OutputSubsetOutputDatasetFacet": "subset",
}
"""Keys of the specification that do not follow from the names of the classes."""
_FORMATS = {"UUID": "uuid", "isoparse": "date-time", "urlparse": "uri"}
"""What a validator of the library calls, and the format that it means by it."""


@cache
def standard_facets(entity: str) -> dict[str, type[facet_v2.BaseFacet]]:
    """The library's facets of "run", "job", "dataset", "input" or "output", by their keys."""
    modules = [getattr(facet_v2, name) for name in facet_v2.__all__]
    found: list[type[facet_v2.BaseFacet]] = [
        made
        for module in modules
        if isinstance(module, types.ModuleType)
        for made in vars(module).values()
        if isinstance(made, type) and made.__module__ == module.__name__ and issubclass(made, _ENTITIES[entity])
    ]
    return {_key(made.__name__): made for made in found}


def _key(name: str) -> str:
    if name in _ODD_KEYS:
        return _ODD_KEYS[name]
    ends = ("RunFacet", "JobFacet", "InputDatasetFacet", "OutputDatasetFacet", "DatasetFacet")
    stem = next(name.removesuffix(end) for end in ends if name.endswith(end))
    return stem[0].lower() + stem[1:]


class _Schemas:
    """JSON Schemas of the library's classes, each once under `$defs`."""

    def __init__(self) -> None:
        self.definitions: dict[str, Any] = {}

    def of_class(self, made: type) -> dict[str, Any]:
        name = f"{made.__module__.rpartition('.')[2]}.{made.__name__}"
        if name not in self.definitions:
            self.definitions[name] = {}
            self.definitions[name] = self._object(made)
        return {"$ref": f"#/$defs/{name}"}

    def _object(self, made: type) -> dict[str, Any]:
        hints = get_type_hints(made)
        fields = attr.fields(made)
        properties = {field.name: {**self._of(hints[field.name]), **_format(field)} for field in fields}
        required = {field.name for field in fields if field.default is attr.NOTHING}
        if issubclass(made, facet_v2.BaseFacet):
            required |= {"_producer", "_schemaURL"}
            properties["_schemaURL"] = {"const": made._get_schema()}
        return {
            "type": "object",
            "properties": properties,
            "required": sorted(required),
            "additionalProperties": False,
        }

    def _of(self, hint: Any) -> dict[str, Any]:
        if hint is Any:
            return {}
        if (plain := _PLAIN.get(hint)) is not None:
            return {"type": plain}
        if isinstance(hint, type) and issubclass(hint, Enum):
            return {"enum": [member.value for member in hint]}
        if isinstance(hint, type) and attr.has(hint):
            return self.of_class(hint)
        return self._of_generic(get_origin(hint), get_args(hint))

    def _of_generic(self, origin: Any, arguments: Sequence[Any]) -> dict[str, Any]:
        if origin in {Union, types.UnionType}:
            # what is not there is left out, never null
            choices = [self._of(each) for each in arguments if each is not type(None)]
            return choices[0] if len(choices) == 1 else {"anyOf": choices}
        if origin is Literal:
            return {"enum": list(arguments)}
        if origin is list:
            return {"type": "array", "items": self._of(arguments[0])}
        if origin is dict:
            return {"type": "object", "additionalProperties": self._of(arguments[1])}
        raise TypeError(f"no schema is known for {origin} of {arguments}")


_PLAIN = {str: "string", int: "integer", float: "number", bool: "boolean"}


def _format(field: "attr.Attribute[Any]") -> dict[str, str]:
    if field.name in {"_producer", "_schemaURL", "schemaURL"}:
        return {"format": "uri"}
    called = getattr(field.validator, "__code__", None)
    meant = [of for name, of in _FORMATS.items() if called is not None and name in called.co_names]
    return {"format": meant[0]} if meant else {}


def own_facets() -> dict[str, tuple[str, dict[str, Any]]]:
    """Key of each facet of ours, with its name and the content of its file."""
    found = {}
    for path in sorted(FACETS.glob("*.json")):
        content = json.loads(path.read_text(encoding="utf-8"))
        [key] = content["properties"]
        found[key] = (path.stem, content)
    return found


def _map(schemas: _Schemas, entity: str) -> dict[str, Any]:
    """Facets by key, and no others."""
    properties = {key: schemas.of_class(made) for key, made in standard_facets(entity).items()}
    for key, (name, _) in own_facets().items():
        if name.endswith({"run": "RunFacet", "job": "JobFacet", "dataset": "DatasetFacet"}.get(entity, "-")):
            properties[key] = {"$ref": f"{custom_facets.SCHEMAS}/{name}.json#/$defs/{name}"}
    return {"type": "object", "properties": properties, "additionalProperties": False}


def _dataset(schemas: _Schemas, side: str) -> dict[str, Any]:
    return {
        "type": "object",
        "properties": {
            "namespace": {"type": "string", "minLength": 1},
            "name": {"type": "string", "minLength": 1, "maxLength": 255},
            "facets": {**_map(schemas, "dataset"), "required": ["dataSource"]},
            f"{side}Facets": {**_map(schemas, side), "minProperties": 1},
        },
        "required": ["namespace", "name", "facets"],
        "additionalProperties": False,
    }


@cache
def validator() -> Draft202012Validator:
    """For one event. What the library's classes say of facets and formats, and what we promise on top."""
    schemas = _Schemas()
    event = schemas._object(event_v2.RunEvent)
    event["properties"]["schemaURL"] = {"const": event_v2.RunEvent._get_schema()}
    event["required"] = ["eventTime", "eventType", "job", "producer", "run", "schemaURL"]
    run = schemas._object(event_v2.Run)
    run["properties"]["facets"] = {**_map(schemas, "run"), "required": [custom_facets.PLATFORM]}
    job = schemas._object(event_v2.Job)
    job["properties"]["facets"] = {**_map(schemas, "job"), "required": ["jobType"]}
    job["properties"]["name"] = {"type": "string", "pattern": "^[A-Za-z]", "maxLength": 255}
    for part in (run, job):
        part["required"] = [*part["required"], "facets"]
    event["properties"] |= {"run": run, "job": job}
    for side in ("input", "output"):
        event["properties"][f"{side}s"] = {"type": "array", "items": _dataset(schemas, side)}
    made = {"$schema": "https://json-schema.org/draft/2020-12/schema", **event, "$defs": schemas.definitions}
    Draft202012Validator.check_schema(made)
    return Draft202012Validator(made, registry=_registry(), format_checker=Draft202012Validator.FORMAT_CHECKER)


def _registry() -> "Registry[Any]":
    """Our own facets by the URL that events name, and the three definitions of the specification that they build on."""
    bases = {
        urldefrag(base._get_schema()).fragment.rpartition("/")[2]: {
            "type": "object",
            "properties": {"_producer": _URI, "_schemaURL": _URI},
            "required": ["_producer", "_schemaURL"],
        }
        for base in _ENTITIES.values()
    }
    resources = {_HOME: {"$defs": bases}}
    resources |= {f"{custom_facets.SCHEMAS}/{name}.json": content for name, content in own_facets().values()}
    return Registry().with_resources(
        (url, Resource.from_contents(content, default_specification=DRAFT202012)) for url, content in resources.items()
    )


_URI = {"type": "string", "format": "uri"}
