"""Validates an event against the classes of the installed openlineage-python: fields, types, formats, facets by key.

For run time, where it costs some 60 µs an event. The library itself checks next to nothing when its objects are made.
"""

import types
from collections.abc import Mapping
from enum import Enum
from functools import cache
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

import attr
from openlineage.client import event_v2, facet_v2
from pydantic_core import CoreSchema, SchemaValidator, ValidationError, core_schema

_ODD_KEYS = {
    "ProcessingEngineRunFacet": "processing_engine",
    "DatasourceDatasetFacet": "dataSource",
    "DatasetVersionDatasetFacet": "version",
    "SQLJobFacet": "sql",
    "InputSubsetInputDatasetFacet": "subset",
    "OutputSubsetOutputDatasetFacet": "subset",
}
"""Keys of the specification that do not follow from the names of the classes."""
_ENDS = ("InputDatasetFacet", "OutputDatasetFacet", "DatasetFacet", "RunFacet", "JobFacet")
_URI = core_schema.str_schema(pattern=r"^[A-Za-z][A-Za-z0-9+.\-]*:\S+$")
_UUID = core_schema.str_schema(pattern=r"^[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}$")
_TIME = core_schema.str_schema(
    pattern=r"^\d{4}-[01]\d-[0-3]\dT[0-2]\d:[0-5]\d:[0-6]\d(\.\d+)?(Z|[+\-][0-2]\d:[0-5]\d)$"
)
_FORMATS = {"UUID": _UUID, "isoparse": _TIME, "urlparse": _URI}
"""What a validator of the library calls, and the format that it means by it."""
_PLAIN: Mapping[Any, CoreSchema] = {
    str: core_schema.str_schema(),
    int: core_schema.int_schema(strict=True),
    float: core_schema.float_schema(strict=True),
    bool: core_schema.bool_schema(strict=True),
    Any: core_schema.any_schema(),
}
_NAMESPACE = core_schema.str_schema(min_length=1)
_NAME = core_schema.str_schema(min_length=1, max_length=255)
_JOB = core_schema.str_schema(pattern="^[A-Za-z]", max_length=255)


def fault(body: bytes) -> str | None:
    """The first faults of an event, with place and cause; None if it is valid."""
    try:
        _validator().validate_json(body)
    except ValidationError as error:
        found = [f"{'.'.join(map(str, each['loc']))}: {each['msg']}" for each in error.errors(include_url=False)]
        more = f"; and {len(found) - 3} more" if len(found) > 3 else ""
        return f"not a valid OpenLineage event: {'; '.join(found[:3])}{more}"
    return None


@cache
def _validator() -> SchemaValidator:
    made = _Schemas()
    event = made.event()
    return SchemaValidator(core_schema.definitions_schema(event, list(made.definitions.values())))


class _Schemas:
    """Schemas of the library's classes, each once."""

    def __init__(self) -> None:
        self.definitions: dict[str, CoreSchema] = {}

    def event(self) -> CoreSchema:
        changed = {
            "eventType": core_schema.literal_schema([kind.value for kind in event_v2.RunState]),
            "schemaURL": core_schema.literal_schema([event_v2.RunEvent._get_schema()]),  # noqa: SLF001 - as in events
            "run": self._fields(event_v2.Run, {"facets": self._facets(facet_v2.RunFacet)}, needed={"facets"}),
            "job": self._job(),
            "inputs": self._datasets(event_v2.InputDataset, "inputFacets", facet_v2.InputDatasetFacet),
            "outputs": self._datasets(event_v2.OutputDataset, "outputFacets", facet_v2.OutputDatasetFacet),
        }
        return self._fields(event_v2.RunEvent, changed, needed={"eventType", "producer", "schemaURL"})

    def _job(self) -> CoreSchema:
        facets = self._facets(facet_v2.JobFacet, needed="jobType")
        named = {"namespace": _NAMESPACE, "name": _JOB, "facets": facets}
        return self._fields(event_v2.Job, named, needed={"facets"})

    def _datasets(self, of: type, key: str, base: type[facet_v2.BaseFacet]) -> CoreSchema:
        facets = self._facets(facet_v2.DatasetFacet, needed="dataSource")
        named = {"namespace": _NAMESPACE, "name": _NAME, "facets": facets, key: self._facets(base)}
        return core_schema.list_schema(self._fields(of, named, needed={"facets"}))

    def _facets(self, base: type[facet_v2.BaseFacet], *, needed: str | None = None) -> CoreSchema:
        """Known facets by key, as their classes are; any other one with the two fields that every facet has. `needed` is
        one without which Marquez answers 422, or 500 to each attempt.
        """
        known = {
            (key := _key(made.__name__)): core_schema.typed_dict_field(self._of_class(made), required=key == needed)
            for name in facet_v2.__all__
            if isinstance(module := getattr(facet_v2, name), types.ModuleType)
            for made in vars(module).values()
            if isinstance(made, type) and made.__module__ == module.__name__ and issubclass(made, base)
        }
        other = {key: core_schema.typed_dict_field(_URI) for key in ("_producer", "_schemaURL")}
        return core_schema.typed_dict_schema(
            known,
            extras_schema=core_schema.typed_dict_schema(other, extra_behavior="allow"),
            extra_behavior="allow",
        )

    def _of_class(self, made: type) -> CoreSchema:
        name = f"{made.__module__}.{made.__name__}"
        if name not in self.definitions:
            self.definitions[name] = core_schema.any_schema(ref=name)
            self.definitions[name] = self._fields(made, {}, ref=name)
        return core_schema.definition_reference_schema(name)

    def _fields(
        self, made: type, changed: Mapping[str, CoreSchema], *, needed: set[str] | None = None, ref: str | None = None
    ) -> CoreSchema:
        """`changed` are fields of which more is known than the class says, `needed` those that must be there all the same."""
        hints, needed = get_type_hints(made), set(needed or ())
        if issubclass(made, facet_v2.BaseFacet):
            needed |= {"_producer", "_schemaURL"}
            schema_url = core_schema.literal_schema([made._get_schema()])  # noqa: SLF001 - as in events
            changed = {"_producer": _URI, "_schemaURL": schema_url}
        fields = {
            field.name: core_schema.typed_dict_field(
                changed.get(field.name) or _format(field) or self._of(hints[field.name]),
                required=field.default is attr.NOTHING or field.name in needed,
            )
            for field in attr.fields(made)
        }
        return core_schema.typed_dict_schema(fields, extra_behavior="forbid", ref=ref)

    # one table of cases: the schema of each kind of type hint
    def _of(self, hint: Any) -> CoreSchema:
        if (plain := _PLAIN.get(hint)) is not None:
            return plain
        if isinstance(hint, type) and issubclass(hint, Enum):
            return core_schema.literal_schema([member.value for member in hint])
        if isinstance(hint, type) and attr.has(hint):
            return self._of_class(hint)
        origin, arguments = get_origin(hint), get_args(hint)
        if origin in {Union, types.UnionType}:
            # what is not there is left out, never null
            choices = [self._of(each) for each in arguments if each is not type(None)]
            return choices[0] if len(choices) == 1 else core_schema.union_schema(list(choices))
        if origin is Literal:
            return core_schema.literal_schema(list(arguments))
        if origin is list:
            return core_schema.list_schema(self._of(arguments[0]))
        if origin is dict:
            return core_schema.dict_schema(core_schema.str_schema(), self._of(arguments[1]))
        return core_schema.any_schema()  # a type that came with a later version


def _key(name: str) -> str:
    stem = next((name.removesuffix(end) for end in _ENDS if name.endswith(end)), name)
    return _ODD_KEYS.get(name, stem[0].lower() + stem[1:])


def _format(field: "attr.Attribute[Any]") -> CoreSchema | None:
    if field.name == "producer":
        return _URI
    called = getattr(field.validator, "__code__", None)
    return next((of for name, of in _FORMATS.items() if called is not None and name in called.co_names), None)
