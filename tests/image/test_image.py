"""What is in the image, and what it says of itself."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from collector import __version__
from tests.servers.podman import BASE, REVISION, ROOT, Image

MOST_ADDED = 125_000_000
"""Bytes that the program and its libraries may add to the base image; they were 112 million."""

INSIDE = """\
id -u; id -g
command -v pip pip3 cc gcc g++ make || true
find / -xdev \\( -name ensurepip -o -name 'pip-*' -o -path '*/site-packages/pip' -o -path '*/dist-packages/pip' \\) 2>/dev/null
ls -A /var/lib/apt /var/cache/apt 2>/dev/null
find / -xdev -perm -4000 -user lineage 2>/dev/null
touch /opt/lineage-collector/x /usr/x 2>/dev/null && echo writable
true
"""

CONFIG = """\
sources:
  - {name: prep, platform: dataprep, base_url: "https://dataprep.example.com", workspace: "1", token: "${env:TOKEN}"}
sinks:
  - {name: out, type: file, path: "-"}
"""
IMPORTS = """\
import importlib, pkgutil
for package in ("collector", "exporters", "config"):
    for module in pkgutil.walk_packages(importlib.import_module(package).__path__, f"{package}."):
        if not any(part in module.name for part in (".testing", ".migrations", "__main__")):
            importlib.import_module(module.name)
import faststream.kafka, openlineage.client.facet_v2, psycopg, rich.syntax, rich.traceback, sqlglot.dialects.spark
"""
UNCOMPILED = """\
import importlib.util, os, sys
import collector.app.service
files = [module.__file__ for module in sys.modules.values() if getattr(module, "__file__", None)]
print([file for file in files if file.endswith(".py") and not os.path.exists(importlib.util.cache_from_source(file))])
"""


def test_the_linter_has_nothing_against_the_dockerfile() -> None:
    command = [str(Path(sys.executable).parent / "hadolint"), str(ROOT / "Dockerfile")]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout


def test_nobody_s_rights_and_nothing_that_installs(image: Image) -> None:
    done = image.run("-c", INSIDE, options=["--entrypoint", "sh"])
    assert done.stdout.split() == ["10001", "10001"], done.stderr


def test_what_was_taken_out_of_libraries_is_not_imported(image: Image) -> None:
    done = image.run("-c", IMPORTS, options=["--entrypoint", "/opt/lineage-collector/bin/python3"])
    assert done.returncode == 0, done.stderr


def test_size(image: Image, capsys: pytest.CaptureFixture[str]) -> None:
    added = image.size - image.base_size
    with capsys.disabled():
        size = f"\nimage: {image.size / 1e6:.0f} MB, of which the base {image.base_size / 1e6:.0f} MB"
        print(size, file=sys.stderr)  # which pytest-xdist lets through
    assert added < MOST_ADDED


def test_how_it_starts_and_ends(image: Image) -> None:
    config = image.details["Config"]
    assert config["Entrypoint"] == ["lineage-collector"]
    assert config["Cmd"] == ["run"]
    assert config["User"] == "10001:10001"
    assert config.get("StopSignal", "SIGTERM") in {"", "SIGTERM", "15"}
    assert list(config["ExposedPorts"]) == ["17817/tcp"]
    assert not image.details.get("HealthCheck")
    assert "Healthcheck" not in config
    assert "LINEAGE_COLLECTOR_CONFIG=/etc/lineage-collector/config.yaml" in config["Env"]


def test_labels(image: Image) -> None:
    labels = {key.removeprefix("org.opencontainers.image."): value for key, value in image.labels.items()}
    assert labels["version"] == __version__, "ARG VERSION of the Dockerfile is not the program's version"
    assert labels["revision"] == REVISION
    assert labels["licenses"] == "Apache-2.0"
    assert labels["source"] == "https://github.com/lineage-collector/lineage-collector"
    assert {"title", "description", "documentation"} <= labels.keys()


def test_help_and_version(image: Image) -> None:
    done = image.run("--help")
    assert done.returncode == 0, done.stderr
    assert "Usage: lineage-collector" in done.stdout
    assert image.run("--version").stdout.strip() == f"lineage-collector {__version__}"


def test_check_offline_by_default_path(image: Image, tmp_path: Path) -> None:
    folder = tmp_path / "etc"
    folder.mkdir(mode=0o755)
    (folder / "config.yaml").write_text(CONFIG)
    mounted = ["--volume", f"{folder}:/etc/lineage-collector:ro", "--env", "TOKEN=simulated"]
    done = image.run("check", "--offline", options=mounted)
    assert done.returncode == 0, done.stdout + done.stderr
    (folder / "config.yaml").write_text("sinkz: []\n")
    done = image.run("check", "--offline", options=mounted)
    assert done.returncode == 2
    assert "sinks" in done.stderr


def test_all_bytecode_is_there(image: Image) -> None:
    """The root file system is read-only: what is missing would be compiled at every start."""
    done = image.run("-c", UNCOMPILED, options=["--entrypoint", "/opt/lineage-collector/bin/python3"])
    assert done.stdout.strip() == "[]", done.stderr


def test_the_build_compiles_python_s_own_modules_though_the_image_writes_none(tmp_path: Path) -> None:
    """The base of the tests has its bytecode already, so that its image would not show it."""
    words = (ROOT / "Dockerfile").read_text()
    [code] = re.findall(r'^RUN \["/opt/lineage-collector/bin/python3", "-c", "(.*)"\]$', words, re.MULTILINE)
    environment = {**os.environ, "PYTHONDONTWRITEBYTECODE": "1", "PYTHONPYCACHEPREFIX": str(tmp_path)}
    subprocess.run([sys.executable, "-c", code], env=environment, cwd=ROOT, check=True)
    assert len([*tmp_path.rglob("asyncio/*.pyc")]) > 20


def test_the_base_is_the_one_that_the_tests_stand_in_for() -> None:
    assert f"ARG BASE={BASE}\n" in (ROOT / "Dockerfile").read_text()
