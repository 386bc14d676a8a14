"""The workflow that publishes image and chart: what it may do, and those of its steps that run without a registry."""

import os
import re
import shutil
import subprocess
import tarfile
from pathlib import Path
from typing import Any

import pytest
import yaml

from collector import __version__
from tests.servers.helm import Helm

ROOT = Path(__file__).parents[2]
WORKFLOWS = sorted((ROOT / ".github" / "workflows").glob("*.yaml"))
RELEASE = ROOT / ".github" / "workflows" / "release.yaml"


def release() -> dict[Any, Any]:
    read: dict[Any, Any] = yaml.safe_load(RELEASE.read_text())
    return read


def steps() -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = release()["jobs"]["publish"]["steps"]
    return found


def script(name: str) -> str:
    [text] = [step["run"] for step in steps() if step.get("name") == name]
    return str(text)


def run(text: str, folder: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    """As GitHub runs a step."""
    words = ["bash", "--noprofile", "--norc", "-eo", "pipefail", "-c", text]
    given = {**os.environ, **environment}
    return subprocess.run(words, cwd=folder, env=given, capture_output=True, text=True, timeout=60, check=False)


def test_it_runs_on_version_tags_alone_and_may_do_the_least() -> None:
    assert release()[True] == {"push": {"tags": ["v[0-9]+.[0-9]+.[0-9]+"]}}  # YAML reads `on` as true
    assert release()["permissions"] == {}
    [job] = release()["jobs"].values()
    assert job["permissions"] == {"contents": "read", "packages": "write", "id-token": "write"}


@pytest.mark.parametrize("workflow", WORKFLOWS, ids=lambda path: path.stem)
def test_actions_are_named_by_commit_with_their_version_and_no_registry_is_written_down(workflow: Path) -> None:
    text = workflow.read_text()
    used = re.findall(r"uses: *(.+)", text)
    assert used
    assert all(re.fullmatch(r"[\w-]+/[\w-]+@[0-9a-f]{40} # v\d+\.\d+\.\d+", action) for action in used)
    assert not re.search(r"ghcr\.io|docker\.io|quay\.io|pkg\.dev|azurecr|amazonaws", text)


def test_no_script_takes_text_of_a_ref_or_of_people_in_by_expression() -> None:
    """What stands in an expression becomes a part of the script: only the environment is safe."""
    assert not [step["run"] for step in steps() if "${{" in step.get("run", "")]


def test_the_image_is_signed_and_has_its_bill_of_materials() -> None:
    [build] = [step["with"] for step in steps() if step.get("id") == "image"]
    assert (build["push"], build["sbom"]) == (True, True)
    signing = script("sign the image and its bill of materials")
    assert 'cosign sign --yes "$IMAGE"' in signing
    assert "cosign attest --yes --type cyclonedx --predicate dist/lineage-collector.cdx.json" in signing
    assert "cosign sign" in script("push and sign the chart")


def test_a_tag_that_is_not_the_version_publishes_nothing(tmp_path: Path) -> None:
    step_output = tmp_path / "output"
    given = {"GITHUB_REPOSITORY": "Some-Org/Collector", "GITHUB_OUTPUT": str(step_output)}
    done = run(script("versions"), ROOT, GITHUB_REF_NAME=f"v{__version__}", **given)
    assert (done.returncode, done.stderr) == (0, "")
    about = dict(line.split("=", 1) for line in step_output.read_text().splitlines())
    values = yaml.safe_load((ROOT / "helm" / "lineage-collector" / "values.yaml").read_text())
    assert about["registry"] == values["image"]["registry"]
    assert about["image"] == f"{about['registry']}/some-org/collector"
    done = run(script("versions"), ROOT, GITHUB_REF_NAME="v99.0.0", **given)
    assert done.returncode == 1
    assert "the tag is v99.0.0, but the program has version" in done.stderr


def test_the_chart_that_is_packaged_takes_the_image_that_was_pushed(tmp_path: Path, helm: Helm) -> None:
    shutil.copytree(ROOT / "helm" / "lineage-collector", tmp_path / "helm" / "lineage-collector")
    change, package = script("package the chart").strip().splitlines()
    assert run(change, tmp_path, REPOSITORY="some-org/collector").returncode == 0
    chart = tmp_path / "helm" / "lineage-collector"
    assert package == "helm package helm/lineage-collector --destination dist"
    done = helm("package", chart, "--destination", tmp_path / "dist")
    assert done.returncode == 0, done.stderr
    with tarfile.open(tmp_path / "dist" / f"lineage-collector-{__version__}.tgz") as packed:
        member = packed.extractfile("lineage-collector/values.yaml")
        assert member is not None
        assert yaml.safe_load(member.read())["image"]["repository"] == "some-org/collector"
