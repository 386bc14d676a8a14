"""What is made from something else in the chart: `python -m tests.chart.generated_files` (or `make chart`) writes all of it.

- in files/values.schema.json the part for `config`, from the program's own schema;
- values.schema.json, which Helm itself checks, from that: without what the chart's templates say in better words;
- examples/{name}/rendered.yaml, from ci/{name}-values.yaml;
- README.md, from the comments in values.yaml;
- docs/prometheus/lineage-collector.rules.yml, the alert rules as they are by default.
"""

import json
import subprocess
import tempfile
from pathlib import Path
from typing import Any

from tests.config_schema import schema as program_schema
from tests.rules import alert_rules
from tests.servers import gotools
from tests.servers.helm import CHART, Helm

SCHEMA = CHART / "files" / "values.schema.json"
"""All that values must be. The chart's templates look at unknown keys and patterns, and name the nearest key or an example."""
HELM_SCHEMA = CHART / "values.schema.json"
README = CHART / "README.md"
CASES = sorted(path.name.removesuffix("-values.yaml") for path in (CHART / "ci").glob("*-values.yaml"))
_PREFIX = "Config"


def values_of(case: str) -> Path:
    return CHART / "ci" / f"{case}-values.yaml"


def example_of(case: str) -> Path:
    return CHART / "examples" / case / "rendered.yaml"


def schema(present: str) -> str:
    """`present` with the program's schema, as it is now, under `config`."""
    made = json.loads(present)
    program = _moved(program_schema())
    definitions = {f"{_PREFIX}{name}": body for name, body in program.pop("$defs").items()}
    del program["$schema"]
    # That a source is missing is said in words, by the template.
    del program["required"]
    del program["properties"]["sources"]["minItems"]
    definitions = _without_credentials(definitions)
    own = {name: body for name, body in made["$defs"].items() if not name.startswith(_PREFIX)}
    made["properties"]["config"] = program
    made["$defs"] = {**own, **definitions}
    return json.dumps(made, indent=2) + "\n"


def helm_schema(whole: str) -> str:
    """The part of it that Helm checks before any template: types, ranges, choices, and what templates cannot do without."""
    made = _without_words(json.loads(whole))
    for name, body in made["$defs"].items():
        if name.startswith(_PREFIX):
            body.pop("required", None)
    return json.dumps(made, indent=2) + "\n"


def _without_words(node: Any) -> Any:
    """Without patterns, and with any key allowed. Lists of properties are looked into, not taken for a schema."""
    if isinstance(node, list):
        return [_without_words(item) for item in node]
    if not isinstance(node, dict):
        return node
    made = {key: _without_words(value) for key, value in node.items() if key not in {"pattern", "propertyNames"}}
    if made.get("additionalProperties") is False:
        made["additionalProperties"] = next(iter(made.pop("patternProperties", {}).values()), True)
    return made


def _without_credentials(node: Any) -> Any:
    """A URL with a credential is refused by the template: a schema would show it."""
    strict = json.dumps(r"^https?://[^@?#\s$]+$")
    return json.loads(json.dumps(node).replace(strict, json.dumps("^https?://")))


def _moved(node: Any) -> Any:
    """With references to where the definitions will be."""
    if isinstance(node, list):
        return [_moved(item) for item in node]
    if not isinstance(node, dict):
        return node
    return {
        key: value.replace("#/$defs/", f"#/$defs/{_PREFIX}") if key == "$ref" else _moved(value)
        for key, value in node.items()
    }


def rendered(helm: Helm, case: str) -> str:
    return helm.template(values_of(case))


def readme(helm_docs: Path) -> str:
    with tempfile.TemporaryDirectory() as folder:
        done = subprocess.run(
            [str(helm_docs), "--chart-search-root", str(CHART), "--dry-run", "--sort-values-order=file"],
            capture_output=True,
            text=True,
            check=False,
            cwd=folder,
        )
    if done.returncode or not done.stdout:
        raise AssertionError(done.stderr)
    return done.stdout


def main() -> None:
    SCHEMA.write_text(schema(SCHEMA.read_text()))
    HELM_SCHEMA.write_text(helm_schema(SCHEMA.read_text()))
    with tempfile.TemporaryDirectory() as home:
        helm = Helm(gotools.program(gotools.HELM), Path(home))
        for case in CASES:
            example_of(case).parent.mkdir(parents=True, exist_ok=True)
            example_of(case).write_text(rendered(helm, case))
        alert_rules.PLAIN.write_text(alert_rules.plain(helm))
    README.write_text(readme(gotools.program(gotools.HELM_DOCS)))


if __name__ == "__main__":
    main()
