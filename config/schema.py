"""The JSON Schema of the configuration file: `python -m config.schema` writes it to `config/schema.json`."""

import json
from pathlib import Path
from typing import Any

from config.settings import Settings

FILE = Path(__file__).with_name("schema.json")
_MODELS = {
    "sources": {"cdf": "CdfSource", "wetransform": "WetransformSource", "dataprep": "DataprepSource"},
    "sinks": {"file": "FileSink", "marquez": "MarquezSink", "openlineage": "OpenLineageSink", "kafka": "KafkaSink"},
}


def schema() -> dict[str, Any]:
    """As strict as the program: unknown keys are refused at every level."""
    made = Settings.model_json_schema()
    made["properties"]["sources"]["items"] = _by_kind("platform", _MODELS["sources"], "PluginSource")
    made["properties"]["sinks"]["items"] = _by_kind("type", _MODELS["sinks"], "PluginSink")
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **made}


def _by_kind(key: str, models: dict[str, str], plugin: str) -> dict[str, Any]:
    """One branch per kind, so that a mistake is reported in the branch that was meant (`oneOf` reports all of them)."""
    branches = [
        {"if": {"properties": {key: {"const": kind}}}, "then": {"$ref": f"#/$defs/{model}"}}
        for kind, model in models.items()
    ]
    other = {"if": {"properties": {key: {"not": {"enum": list(models)}}}}, "then": {"$ref": f"#/$defs/{plugin}"}}
    return {"type": "object", "required": [key], "allOf": [*branches, other]}


def text() -> str:
    return json.dumps(schema(), indent=2) + "\n"


if __name__ == "__main__":
    FILE.write_text(text(), encoding="utf-8")
