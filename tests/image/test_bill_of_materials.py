"""The list of what is in the image, for scanners."""

import json
import os
import re
import subprocess
from pathlib import Path

import pytest
from cyclonedx.schema import SchemaVersion
from cyclonedx.validation.json import JsonStrictValidator

from tests.servers.podman import ROOT, Image

BILL = ROOT / "dist" / "lineage-collector.cdx.json"
INSTALLED = "from importlib.metadata import distributions\nfor d in distributions(): print(d.name + '==' + d.version)"


def made() -> str:
    """By the target, with the tools that are there."""
    command = ["make", "--silent", "--old-file", ".venv/.installed-dev", "sbom"]
    done = subprocess.run(command, cwd=ROOT, env=dict(os.environ), capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return BILL.read_text()


@pytest.fixture(scope="module")
def bill() -> str:
    return made()


def normal(requirement: str) -> str:
    name, version = requirement.split("==")
    return f"{re.sub('[-_.]+', '-', name).lower()}=={version}"


def listed(bill: str) -> set[str]:
    return {normal(f"{each['name']}=={each['version']}") for each in json.loads(bill)["components"]}


def test_it_is_valid_and_every_time_the_same(bill: str) -> None:
    assert JsonStrictValidator(SchemaVersion.V1_6).validate_str(bill) is None
    assert made() == bill


def test_it_names_the_licence_and_a_hash_for_each(bill: str) -> None:
    document = json.loads(bill)
    component = document["metadata"]["component"]
    assert component["name"] == "lineage-collector"
    assert component["licenses"][0]["license"]["id"] == "Apache-2.0"
    unhashed = [each["name"] for each in document["components"] if not each["externalReferences"][0]["hashes"]]
    assert unhashed == []


def test_it_lists_what_the_image_holds(bill: str, image: Image) -> None:
    done = image.run("-c", INSTALLED, options=["--entrypoint", "/opt/lineage-collector/bin/python3"])
    inside = {normal(line) for line in done.stdout.split()}
    [own] = {name for name in inside if name.startswith("lineage-collector==")}
    assert listed(bill) == inside - {own}


def test_every_source_of_the_image_is_locked() -> None:
    """What builds the wheel is held to its hash too."""
    for file in ("requirements.txt", "requirements-build.txt"):
        lines = (ROOT / file).read_text().splitlines()
        assert all("==" in line or line.lstrip().startswith("--hash=sha256:") for line in lines)
    assert Path(ROOT / "Dockerfile").read_text().count("--require-hashes") == 2
