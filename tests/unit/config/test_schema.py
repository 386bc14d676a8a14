import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml
from jsonschema import Draft202012Validator

import config
from config.loader import load
from tests.config_schema import FILE, text

EXAMPLE = Path(config.__file__).with_name("example.yaml")
SCHEMA: dict[str, Any] = json.loads(text())
VALIDATOR = Draft202012Validator(SCHEMA)


def problems(document: Any) -> list[str]:
    return [f"{error.json_path}: {error.message}" for error in VALIDATOR.iter_errors(document)]


def test_the_schema_in_the_package_is_fresh() -> None:
    assert FILE.read_text(encoding="utf-8") == text(), "run python -m tests.config_schema"


def test_the_schema_is_one() -> None:
    Draft202012Validator.check_schema(SCHEMA)


def test_every_object_in_the_schema_is_closed() -> None:
    for name, definition in SCHEMA["$defs"].items():
        assert definition["type"] == "string" or definition["additionalProperties"] is False, name
    assert SCHEMA["additionalProperties"] is False


def test_patterns_have_nothing_that_go_cannot_read() -> None:
    assert not re.search(r"\(\?[=!<]", text())


def test_defaults_are_valid_themselves() -> None:
    def walk(node: Any) -> None:
        if isinstance(node, dict):
            if "default" in node:
                found = list(VALIDATOR.evolve(schema=node).iter_errors(node["default"]))
                assert not found, (node, found)
            for value in node.values():
                walk(value)
        elif isinstance(node, list):
            for value in node:
                walk(value)

    walk(SCHEMA)


@pytest.mark.parametrize(
    ("change", "where"),
    [
        ({"sourcs": []}, "$"),
        ({"log": {"levle": "info"}}, "$.log"),
        ({"stop_within": "-5s"}, "$.stop_within"),
        ({"stop_within": 30}, "$.stop_within"),
        ({"sources": []}, "$.sources"),
        ({"sources": [{"platform": "dataprep", "name": "a", "workspace": 1, "tokn": "x"}]}, "$.sources[0]"),
        ({"sources": [{"platform": "cdf", "name": "a"}]}, "$.sources[0]"),
        ({"sources": [{"name": "a"}]}, "$.sources[0]"),
        ({"sinks": [{"type": "marquez", "name": "a", "url": "http://u:p@h"}]}, "$.sinks[0].url"),
        ({"sinks": [{"type": "marquez", "name": "a", "url": "http://h", "concurrency": 91}]}, "$.sinks[0].concurrency"),
    ],
)
def test_a_typo_is_found_where_it_is(change: dict[str, Any], where: str) -> None:
    base = {"sources": [{"platform": "dataprep", "name": "a", "workspace": "w", "token": "${env:T}"}]}
    assert problems(base) == []
    assert where in {problem.partition(":")[0] for problem in problems({**base, **change})}


def test_the_example_loads(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in os.environ if name.startswith("LINEAGE_COLLECTOR__")]:
        monkeypatch.delenv(name)
    for name in re.findall(r"^[^#\n]*\$\{env:(\w+)\}", EXAMPLE.read_text(encoding="utf-8"), re.MULTILINE):
        monkeypatch.setenv(name, "a-secret")
    settings = load(EXAMPLE)
    assert [source.platform for source in settings.sources] == ["cdf", "wetransform", "dataprep"]
    assert [sink.type for sink in settings.sinks] == ["file", "marquez", "openlineage", "kafka"]


def test_the_example_is_valid_by_the_schema() -> None:
    assert problems(yaml.safe_load(EXAMPLE.read_text(encoding="utf-8"))) == []


def uncommented() -> str:
    """The example with every commented key in place."""
    example = EXAMPLE.read_text(encoding="utf-8")
    example = re.sub(r"^    tls: false.*\n", "", example, flags=re.MULTILINE)
    return re.sub(
        r"^( *)#( *)([a-z_0-9]+:)", r"\1\2\3", re.sub(r"^# .*$", "", example, flags=re.MULTILINE), flags=re.MULTILINE
    )


def test_what_the_example_has_in_comments_is_valid_too() -> None:
    assert problems(yaml.safe_load(uncommented())) == []


def test_the_example_shows_every_key() -> None:
    keys = {key for node in SCHEMA["$defs"].values() for key in node.get("properties", ())}
    shown = set(re.findall(r"(\w+):", uncommented()))
    assert keys - shown == set()


def test_values_of_the_example_are_the_defaults() -> None:
    """Of keys that have a default and whose line does not say otherwise."""
    document = yaml.safe_load(EXAMPLE.read_text(encoding="utf-8"))
    definitions = SCHEMA["$defs"]
    parts = [(document[key], definitions[key.capitalize()]) for key in ("ledger", "http", "log", "lineage")]
    kinds = {"cdf": "CdfSource", "wetransform": "WetransformSource", "dataprep": "DataprepSource"}
    kinds |= {"file": "FileSink", "marquez": "MarquezSink", "openlineage": "OpenLineageSink", "kafka": "KafkaSink"}
    items = [*document["sources"], *document["sinks"]]
    parts += [(item, definitions[kinds[item.get("platform") or item["type"]]]) for item in items]
    same = {"1GiB": 1024**3, "60s": "1m"}
    for values, definition in parts:
        for key, value in values.items():
            default = definition["properties"][key].get("default")
            if default is not None:
                assert (same.get(value, value) if isinstance(value, str) else value) == default, key


def test_importing_the_package_alone_is_cheap() -> None:
    code = "import sys, config; print(sorted({'pydantic', 'yaml'} & set(sys.modules)))"
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=EXAMPLE.parent.parent
    )
    assert done.stdout == "[]\n"
