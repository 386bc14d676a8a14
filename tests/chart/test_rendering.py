"""The chart renders for every case, into objects that Kubernetes takes; what is generated is fresh."""

import json
import re
from collections import Counter
from pathlib import Path
from typing import Any

import jsonschema
import kubernetes_validate
import pytest
import yaml

from collector import __version__
from tests.chart import custom_kinds, generated_files
from tests.chart.conftest import Printed, Rendered
from tests.chart.generated_files import CASES
from tests.servers.helm import CHART, MIDDLE, NEWEST, OLDEST, Helm, HelmRefusedError

_FOREIGN = {"ExternalSecret"}
"""Kinds that examples bring in extraManifests."""


@pytest.mark.parametrize("kubernetes", [OLDEST, MIDDLE, NEWEST])
@pytest.mark.parametrize("case", CASES)
def test_kubernetes_takes_every_object(rendered: Rendered, case: str, kubernetes: str) -> None:
    for made in rendered(case, kubernetes):
        if custom_kinds.is_custom(made):
            custom_kinds.check(made)
        elif made["kind"] not in _FOREIGN:
            kubernetes_validate.validate(made, kubernetes, strict=True)


def test_the_versions_are_those_of_the_chart(helm: Helm, minimal: dict[str, Any]) -> None:
    assert yaml.safe_load((CHART / "Chart.yaml").read_text())["kubeVersion"] == f">={OLDEST}.0-0"
    with pytest.raises(HelmRefusedError, match=r"requires kubeVersion.*1\.26"):
        helm.template(minimal, kubernetes="1.26")


def test_strict_schemas_refuse_what_is_unknown(rendered: Rendered) -> None:
    [monitor] = [made for made in rendered("pod-monitor") if made["kind"] == "PodMonitor"]
    wrong = json.loads(json.dumps(monitor).replace("scrapeTimeout", "scrapeTimeuot"))
    with pytest.raises(jsonschema.ValidationError, match="scrapeTimeuot"):
        custom_kinds.check(wrong)


@pytest.mark.parametrize("case", CASES)
def test_the_linter_is_silent(helm: Helm, case: str) -> None:
    done = helm("lint", "--strict", CHART, "--values", generated_files.values_of(case))
    assert done.returncode == 0, done.stdout
    assert "[WARNING]" not in done.stdout
    assert "[INFO]" not in done.stdout


def test_the_linter_takes_the_defaults(helm: Helm) -> None:
    assert helm("lint", "--strict", CHART).returncode == 0


@pytest.mark.parametrize("case", CASES)
def test_the_examples_are_fresh(printed: Printed, case: str) -> None:
    assert generated_files.example_of(case).read_text() == printed(case, NEWEST), "run: make chart"


def test_there_is_no_example_without_its_case() -> None:
    assert sorted(path.name for path in (CHART / "examples").iterdir()) == CASES


def test_the_schema_has_the_program_s_own() -> None:
    present = generated_files.SCHEMA.read_text()
    assert generated_files.schema(present) == present, "run: make chart"
    assert generated_files.HELM_SCHEMA.read_text() == generated_files.helm_schema(present), "run: make chart"


def test_the_readme_is_fresh(helm_docs: Path) -> None:
    assert generated_files.README.read_text() == generated_files.readme(helm_docs), "run: make chart"


def test_no_template_is_defined_twice() -> None:
    texts = [path.read_text() for path in (CHART / "templates").rglob("*.tpl")]
    found = Counter(line.split('"')[1] for text in texts for line in text.splitlines() if "{{- define " in line)
    assert [name for name, times in found.items() if times > 1] == []


def test_the_chart_is_of_this_program() -> None:
    chart = yaml.safe_load((CHART / "Chart.yaml").read_text())
    assert chart["appVersion"] == __version__
    assert f"lineage-collector:{__version__}" in chart["annotations"]["artifacthub.io/images"]
    for part in ("links", "images", "changes"):
        assert yaml.safe_load(chart["annotations"][f"artifacthub.io/{part}"])
    assert (CHART.parents[1] / "docs" / Path(chart["icon"]).name).is_file()


def test_the_package_holds_no_tests_and_no_examples(helm: Helm, tmp_path: Path) -> None:
    import tarfile

    assert helm("package", CHART, "--destination", tmp_path).returncode == 0
    [package] = tmp_path.glob("*.tgz")
    with tarfile.open(package) as archive:
        names = {name.removeprefix("lineage-collector/") for name in archive.getnames()}
    assert not [name for name in names if name.startswith(("ci/", "examples/"))]
    assert {"Chart.yaml", "values.yaml", "values.schema.json", "README.md", "files/reads_metrics.py"} <= names
    assert "files/values.schema.json" in names
    text = generated_files.README.read_text()
    links = [*re.findall(r"\]\(([^)#]+)", text), *re.findall(r"^\[\w+\]: (\S+)", text, re.MULTILINE)]
    assert links
    assert [link for link in links if "://" not in link and link not in names] == [], "they lead nowhere in the package"
    ours = "https://github.com/lineage-collector/lineage-collector/"
    paths = [
        link.removeprefix(ours).split("/", 2)[2] for link in links if link.startswith((f"{ours}blob/", f"{ours}tree/"))
    ]
    assert [path for path in paths if not (CHART.parents[1] / path).exists()] == []
