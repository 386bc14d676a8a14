"""The plug-in of CONTRIBUTING.md: a separate distribution, installed, tested by its own tests from outside of the tree."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PLUGIN = ROOT / "tests" / "plugin"
SHOWN = ("pyproject.toml", "src/taskbox/platform.py", "src/taskbox/sink.py")


@pytest.fixture
def installed(tmp_path: Path) -> Path:
    """The folder into which it was installed, by pip, from the package that is built of it."""
    site = tmp_path / "site"
    options = ["--quiet", "--no-deps", "--no-build-isolation", "--no-index", "--disable-pip-version-check"]
    subprocess.run([sys.executable, "-m", "pip", "install", *options, "--target", site, PLUGIN], check=True)
    return site


def test_its_own_tests_pass_with_the_installed_collector(installed: Path, tmp_path: Path) -> None:
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", str(PLUGIN / "tests")]
    done = subprocess.run(
        command,
        cwd=elsewhere,
        env=os.environ | {"PYTHONPATH": str(installed)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("name", SHOWN)
def test_the_text_for_contributors_shows_it_as_it_is(name: str) -> None:
    text = (ROOT / "CONTRIBUTING.md").read_text()
    assert f"\n{(PLUGIN / name).read_text()}```\n" in text
