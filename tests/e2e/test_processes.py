"""The command line as a separate process: what it loads, how it ends, what a shell sees."""

import json
import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from collector import __version__
from tests.deployment import CDF, Deployment

CONFIG = """
sources:
  - platform: dataprep
    name: prep
    workspace: 12345
    token: geheim-4711
"""
_MODULES = """
import sys
before = set(sys.modules)
sys.argv = ["lineage-collector", *{words!r}]
from collector.app.cli import main
try:
    main()
except SystemExit:
    print(sorted(set(sys.modules) - before), file=sys.stderr)
"""


@pytest.mark.parametrize("words", [["--help"], ["-h"], ["--version"]])
def test_help_and_version_import_only_the_command_line(words: list[str]) -> None:
    done = subprocess.run(
        [sys.executable, "-c", _MODULES.format(words=words)], capture_output=True, text=True, timeout=120, check=True
    )
    loaded = set(json.loads(done.stderr.replace("'", '"')))
    ours = {name for name in loaded if name.startswith(("collector", "exporters", "config", "simulators"))}
    commands = {"simulators", "simulators.commands"}  # by entry point: `demo` and `simulate`
    assert ours == {"collector", "collector.app", "collector.app.cli", "collector.errors"} | commands
    foreign = {name.partition(".")[0] for name in loaded - ours} - sys.stdlib_module_names
    assert foreign == {"typer", "annotated_doc", "shellingham"}, "typer and what it is made of"
    assert not loaded & {"asyncio", "ssl", "logging", "typing_extensions"}


NOT_AT_START = {
    "aiokafka",
    "alembic",
    "faststream",
    "jinja2",
    "openlineage",
    "pygments",
    "requests",
    "rich",
    "sqlalchemy.dialects.postgresql",
    "sqlalchemy.orm",
    "sqlglot",
}


async def test_a_ready_service_has_loaded_only_what_it_needs(tmp_path: Path) -> None:
    """What each start would pay for in time and memory."""
    async with Deployment(tmp_path) as deployment:
        deployment.settings["sources"] = [each for each in deployment.settings["sources"] if each["name"] == CDF]
        deployment.settings["sinks"] = [each for each in deployment.settings["sinks"] if each["type"] == "marquez"]
        await deployment.start(PYTHONPROFILEIMPORTTIME="1")
        await deployment.until_ready()
        loaded = set(re.findall(r"^import time: .*\| +(\S+)$", deployment.log.read_text(), re.MULTILINE))
    assert "collector.app.service" in loaded
    assert loaded & NOT_AT_START == set()


def test_the_installed_command_answers() -> None:
    command = Path(sys.executable).with_name("lineage-collector")
    done = subprocess.run([command, "--version"], capture_output=True, text=True, timeout=120, check=True)
    assert done.stdout == f"lineage-collector {__version__}\n"


def test_ctrl_c_while_it_loads_is_one_plain_line(tmp_path: Path) -> None:
    (tmp_path / "typer.py").write_text("import os, signal; os.kill(os.getpid(), signal.SIGINT)")
    environment = {**os.environ, "PYTHONPATH": str(tmp_path)}
    command = [sys.executable, "-m", "collector", "status"]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=120, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (130, "", "interrupted\n")


@pytest.mark.parametrize(("words", "code"), [(["run"], 0), (["check"], -signal.SIGTERM)])
def test_a_service_that_is_asked_to_end_while_it_loads_ends_well(tmp_path: Path, words: list[str], code: int) -> None:
    """The signal comes with the first import that takes long."""
    (tmp_path / "typer.py").write_text("import os, signal; os.kill(os.getpid(), signal.SIGTERM)")
    environment = {**os.environ, "PYTHONPATH": str(tmp_path)}
    command = [sys.executable, "-m", "collector", *words]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=120, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (code, "", "")


def test_a_mistake_ends_the_process_with_code_2_and_no_traceback(tmp_path: Path) -> None:
    config = tmp_path / "c.yaml"
    config.write_text(f"{CONFIG}    burst: many\n")
    words = [sys.executable, "-m", "collector", "run", "--config", str(config)]
    done = subprocess.run(words, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 2
    assert re.fullmatch(r"error: \S+c\.yaml:7: sources\[0\]\.burst: must be a whole number, not 'many'\n", done.stderr)


def test_a_reader_that_leaves_early_sees_no_traceback(tmp_path: Path) -> None:
    """`lineage-collector check --json | head -1`."""
    config = tmp_path / "c.yaml"
    config.write_text(CONFIG)
    words = [sys.executable, "-m", "collector", "check", "--offline", "--json", "--config", str(config)]
    reading, writing = os.pipe()
    os.close(reading)
    with os.fdopen(writing, "wb") as out:
        done = subprocess.run(words, stdout=out, stderr=subprocess.PIPE, text=True, timeout=120, check=False)
    assert done.stderr == ""
