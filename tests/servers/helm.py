"""The real Helm for the tests, built by `go install` where it is missing."""

import json
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.servers import gotools
from tests.servers.processes import unavailable

CHART = Path(__file__).parents[2] / "helm" / "lineage-collector"
OLDEST, MIDDLE, NEWEST = "1.27", "1.32", "1.37"
"""Versions of Kubernetes: the lowest that the chart supports, one between, the newest whose schemas the tests have."""

_FIXTURES = {"helm", "helm_docs"}


class HelmRefusedError(AssertionError):
    """Helm ended with an error; the text is what it said."""


class Helm:
    """Helm as a command; nothing here needs a cluster."""

    def __init__(self, program: Path, home: Path) -> None:
        self._program = program
        # It ends before its garbage matters: without a collector it takes three quarters of the time.
        self._environment = {
            "HOME": str(home), "PATH": "/usr/bin:/bin", "KUBECONFIG": str(home / "none"), "GOGC": "off",
        }  # fmt: skip

    def __call__(self, *arguments: str | Path, stdin: str = "") -> subprocess.CompletedProcess[str]:
        """The caller looks at `returncode`, `stdout`, `stderr`."""
        command = [str(part) for part in (self._program, *arguments)]
        return subprocess.run(
            command, input=stdin, capture_output=True, text=True, timeout=180, check=False, env=self._environment
        )

    def template(
        self,
        values: Path | dict[str, Any] | Sequence[Path] = (),
        *arguments: str,
        kubernetes: str = NEWEST,
        release: str = "lineage",
        chart: Path = CHART,
    ) -> str:
        """What `helm template` prints for files of values or the values themselves; `HelmRefusedError` with its words."""
        files = [values] if isinstance(values, Path) else [] if isinstance(values, dict) else list(values)
        given = [word for file in files for word in ("--values", str(file))]
        stdin = ""
        if isinstance(values, dict):
            given, stdin = ["--values", "-"], json.dumps(values, ensure_ascii=False)
        version = ["--kube-version", kubernetes, "--namespace", "data"]
        done = self("template", release, chart, *given, *version, *arguments, stdin=stdin)
        if done.returncode:
            raise HelmRefusedError(done.stderr)
        return done.stdout

    def objects(
        self, values: Path | dict[str, Any] | Sequence[Path] = (), *arguments: str, **options: Any
    ) -> list[dict[str, Any]]:
        """The same as Kubernetes' objects."""
        return parsed(self.template(values, *arguments, **options))


def parsed(text: str) -> list[dict[str, Any]]:
    """The objects in what Helm prints. By the C library: dashboards are long."""
    return [each for each in yaml.load_all(text, yaml.CSafeLoader) if each]


@pytest.fixture(scope="session")
def helm(tmp_path_factory: pytest.TempPathFactory) -> Helm:
    return Helm(_program(gotools.HELM), tmp_path_factory.mktemp("helm"))


@pytest.fixture(scope="session")
def helm_docs() -> Path:
    """The program that makes the chart's README."""
    return _program(gotools.HELM_DOCS)


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Tests with Helm go last, when it has long been built beside the others."""
    with_helm = [item for item in items if _FIXTURES & set(getattr(item, "fixturenames", ()))]
    for item in with_helm:
        if item.get_closest_marker("timeout") is None:
            item.add_marker(pytest.mark.timeout(900))  # the first one may have to wait for the build
    items[:] = [item for item in items if item not in set(with_helm)] + with_helm


def _program(tool: gotools.Tool) -> Path:
    try:
        return gotools.program(tool)
    except gotools.NoToolError as error:
        unavailable(str(error))
