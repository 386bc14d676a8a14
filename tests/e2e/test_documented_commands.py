"""What docs/operations.md and docs/quickstart.md have people type: the commands exist, and those for the ledger are run
as they are written, beside a service that works.
"""

import asyncio
import configparser
import os
import re
import shlex
import sqlite3
import subprocess
import sys
import tempfile
from collections.abc import AsyncIterator, Iterator
from contextlib import closing
from datetime import timedelta
from pathlib import Path

import pytest
import typer
import yaml

from collector.app.cli import app
from collector.ledger.schema import REVISIONS
from config.settings import Settings
from simulators.cdf import Ending, Scenario
from tests.deployment import Deployment
from tests.documented_pods import OPERATIONS, ROOT, pod_of
from tests.servers.helm import Helm

UNIT = ROOT / "docs" / "lineage-collector.service"
QUICKSTART = ROOT / "docs" / "quickstart.md"
LEDGERS, CONFIGS, BACKUPS, ELSEWHERE = (
    "/var/lib/lineage-collector",
    "/etc/lineage-collector",
    "/var/backups",
    "/srv/lineage",
)

SYSTEMCTL = """\
#!/bin/sh -e
# systemctl stop|start: the service is a process whose number is in a file
cd "$FOLDER"
if [ "$1" = stop ]; then
  kill -TERM "$(cat pid)"
  while kill -0 "$(cat pid)" 2>/dev/null; do sleep 0.05; done
else
  lineage-collector run --config "$FOLDER$CONFIGS/config.yaml" >>collector.log 2>&1 &
  echo $! >pid
fi
"""


def console(page: Path) -> Iterator[str]:
    """The commands of a page."""
    for block in re.findall(r"```console\n(.*?)```", page.read_text(), re.DOTALL):
        yield from (line.removeprefix("$ ") for line in block.splitlines() if line.startswith("$ "))


def script_of(name: str) -> str:
    """The commands of a block that says that it is run, as a script."""
    [block] = re.findall(rf"<!-- tested: {name} -->\n```console\n(.*?)```", OPERATIONS.read_text(), re.DOTALL)
    return "\n".join(line.removeprefix("$ ") for line in block.splitlines() if line.startswith("$ "))


class Machine:
    """A folder with the places that the page names, and a service."""

    def __init__(self, folder: Path, deployment: Deployment) -> None:
        self.folder, self.deployment = folder, deployment
        for place in (LEDGERS, CONFIGS, BACKUPS, "/srv", "/bin"):
            (folder / place[1:]).mkdir(parents=True)
        (folder / "bin" / "systemctl").write_text(SYSTEMCTL)
        (folder / "bin" / "systemctl").chmod(0o755)
        deployment.config = folder / CONFIGS[1:] / "config.yaml"
        deployment.settings["ledger"]["path"] = f"{folder}{LEDGERS}/lineage.db"
        deployment.log = folder / "collector.log"
        deployment.configure()

    def ledger(self, place: str = LEDGERS) -> Path:
        return self.folder / place[1:] / "lineage.db"

    def run(self, script: str) -> str:
        """As somebody would who types it, with this folder in the place of /; its output."""
        for place in (LEDGERS, CONFIGS, BACKUPS, ELSEWHERE):
            script = script.replace(place, f"{self.folder}{place}")
        path = f"{self.folder}/bin:{Path(sys.executable).parent}:{os.environ['PATH']}"
        environment = {**os.environ, "PATH": path, "FOLDER": str(self.folder), "CONFIGS": CONFIGS}
        done = subprocess.run(
            ["bash", "-e", "-c", script], env=environment, capture_output=True, text=True, timeout=240, check=False
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    async def do(self, script: str) -> str:
        return await asyncio.to_thread(self.run, script)


@pytest.fixture
def folder() -> Iterator[Path]:
    """With a short name: that of a socket in it may not be long."""
    with tempfile.TemporaryDirectory() as name:
        yield Path(name)


@pytest.fixture
async def machine(folder: Path, tmp_path: Path) -> AsyncIterator[Machine]:
    async with Deployment(tmp_path) as deployment:
        made = Machine(folder, deployment)
        for transformation in deployment.cdf.transformations.values():
            # A START waits 5 s for its query to be read: on a busy machine the one after a restore has less than the first.
            transformation.query = ""
        for job, ending in zip(deployment.cdf.transformations, (Ending.COMPLETED, Ending.FAILED), strict=False):
            deployment.cdf.start_run(job, Scenario(0.1, 0.2, ending))
        await made.do("systemctl start lineage-collector")
        await deployment.settle()
        yield made
        await made.do("systemctl stop lineage-collector")


@pytest.mark.crash
async def test_a_backup_of_a_running_ledger_can_be_restored(machine: Machine) -> None:
    assert (await machine.do(script_of("backup"))).strip().endswith("lineage.db and checked")
    before = set(machine.deployment.events.read_bytes().splitlines())
    for job in machine.deployment.cdf.transformations:
        machine.deployment.cdf.start_run(job, Scenario(0.1, 0.1))
    await machine.deployment.settle()
    await machine.do(script_of("restore"))
    for job in machine.deployment.cdf.transformations:
        machine.deployment.cdf.start_run(job, Scenario(0.1, 0.1))
    await machine.deployment.settle()
    assert before < set(machine.deployment.events.read_bytes().splitlines())


@pytest.mark.crash
async def test_the_pod_that_restores_does_so(machine: Machine) -> None:
    [container] = pod_of("restore")["spec"]["containers"]
    await machine.do(script_of("backup"))
    before = set(machine.deployment.events.read_bytes().splitlines())
    machine.deployment.cdf.start_run(next(iter(machine.deployment.cdf.transformations)), Scenario(0.1, 0.1))
    await machine.deployment.settle()
    await machine.do("systemctl stop lineage-collector")
    await machine.do(shlex.join([*container["command"], *container["args"]]))
    assert (machine.ledger().parent / "before" / "lineage.db").exists()
    await machine.do("systemctl start lineage-collector")
    machine.deployment.cdf.start_run(next(iter(machine.deployment.cdf.transformations)), Scenario(0.1, 0.1))
    await machine.deployment.settle()
    assert before < set(machine.deployment.events.read_bytes().splitlines())
    assert machine.deployment.logged("ledger.set_aside") == []


@pytest.mark.parametrize("name", ["restore", "copy"])
def test_a_pod_of_the_page_is_as_those_of_the_chart(helm: Helm, name: str) -> None:
    """Who it is, what it mounts where, and which secret."""
    spec = pod_of(name)["spec"]
    [container] = spec["containers"]
    objects = helm.objects(ROOT / "helm" / "lineage-collector" / "ci" / "minimal-values.yaml")
    [ours] = [each["spec"]["template"]["spec"] for each in objects if each["kind"] == "StatefulSet"]
    main = next(each for each in ours["containers"] if each["name"] == "lineage-collector")
    assert spec["securityContext"] == {key: ours["securityContext"][key] for key in spec["securityContext"]}
    assert {"runAsNonRoot": True, **container["securityContext"]} == main["securityContext"]
    assert {each["name"] for each in container["volumeMounts"]} == {each["name"] for each in spec["volumes"]}
    [data] = [each["mountPath"] for each in main["volumeMounts"] if each["name"] == "data"]
    assert {"name": "data", "mountPath": data} in container["volumeMounts"]
    paths = re.findall(r"(?<![\w/:.])/(?:var|run)/[\w/-]+", " ".join(container["args"]))
    mounts = tuple(each["mountPath"] for each in container["volumeMounts"])
    assert paths
    assert [path for path in paths if not path.startswith(mounts)] == []


@pytest.mark.crash
async def test_a_ledger_can_move(machine: Machine) -> None:
    moving, _, status = script_of("move").rpartition("\n")
    await machine.do(moving)
    while len(machine.deployment.logged("service.started")) < 2:  # the test's own time limit ends this
        await asyncio.sleep(0.1)
    assert "plant-a" in await machine.do(status)
    assert sorted(path.name for path in machine.ledger().parent.iterdir()) == ["lineage.db", "lineage.db.lock"]
    machine.deployment.cdf.start_run(next(iter(machine.deployment.cdf.transformations)), Scenario(0.1, 0.1))
    await machine.deployment.settle()
    assert machine.ledger(ELSEWHERE).exists()


@pytest.mark.crash
async def test_an_older_version_refuses_the_ledger_in_the_words_of_the_page(machine: Machine) -> None:
    await machine.do("systemctl stop lineage-collector")
    with closing(sqlite3.connect(machine.ledger())) as ledger, ledger:
        ledger.execute("UPDATE alembic_version SET version_num = '9999', compatible_from = '9999'")
    was = content(machine.ledger())
    code, _, err = await machine.deployment.command("run")
    [words] = re.findall(r"^    (ledger .* has schema .*)$", OPERATIONS.read_text(), re.MULTILINE)
    words = re.sub(r"schema \d+", "schema 9999", words).replace(f"{LEDGERS}/lineage.db", str(machine.ledger()))
    assert re.sub(r"knows \d+", f"knows {REVISIONS[-1]}", words) in err
    assert code == 1
    assert content(machine.ledger()) == was
    with closing(sqlite3.connect(machine.ledger())) as ledger, ledger:
        ledger.execute("UPDATE alembic_version SET version_num = ?, compatible_from = '0012'", [REVISIONS[-1]])
    await machine.do("systemctl start lineage-collector")


def content(path: Path) -> list[str]:
    with closing(sqlite3.connect(path)) as ledger:
        return list(ledger.iterdump())


@pytest.mark.parametrize("page", [OPERATIONS, QUICKSTART], ids=lambda page: page.stem)
def test_every_command_of_the_program_is_one(page: Path) -> None:
    documented = [
        found[1] for line in console(page) if (found := re.search(r"(?:^|collector )lineage-collector (.+)", line))
    ]
    assert documented
    for words in documented:
        parse(shlex.split(words))


def parse(words: list[str]) -> None:
    """Raises what the command line would say about an unknown command or option."""
    command = typer.main.get_command(app)
    context = command.make_context("lineage-collector", list(words))
    while hasattr(command, "resolve_command") and words and not words[0].startswith("-"):
        name, command, words = command.resolve_command(context, words)
        context = command.make_context(name, list(words), parent=context)


def test_the_unit_of_systemd_runs_the_command_and_lets_it_end() -> None:
    unit = configparser.ConfigParser(interpolation=None)
    unit.optionxform = str  # type: ignore[assignment, method-assign]
    unit.read(UNIT)
    service = unit["Service"]
    program, *words = shlex.split(service["ExecStart"])
    assert f"{Path(program).parent}/pip install ." in list(console(OPERATIONS))
    parse(words)
    assert f"/var/lib/{service['StateDirectory']}" == LEDGERS
    stop_within = Settings.model_fields["stop_within"].default
    assert timedelta(seconds=int(service["TimeoutStopSec"])) >= stop_within + timedelta(seconds=5)
    assert service["RestartPreventExitStatus"] == "2"


def test_every_service_of_compose_that_is_named_is_there() -> None:
    services = yaml.safe_load((ROOT / "compose.yaml").read_text())["services"]
    verbs = {"exec", "stop", "start", "run"}
    named = [words for line in console(QUICKSTART) if (words := shlex.split(line))[:2] == ["docker", "compose"]]
    for words in named:
        if words[2] in verbs:
            assert next(word for word in words[3:] if not word.startswith("-")) in services, words
    assert {words[2] for words in named} >= verbs


def test_every_port_that_is_named_is_open() -> None:
    services = yaml.safe_load((ROOT / "compose.yaml").read_text())["services"].values()
    ports = {port.split(":")[1] for service in services for port in service.get("ports", [])}
    assert set(re.findall(r"http://localhost:(\d+)", QUICKSTART.read_text())) <= ports


def test_the_values_of_the_page_install(helm: Helm) -> None:
    [values] = re.findall(r"```yaml\n# my-values.yaml\n(.*?)```", QUICKSTART.read_text(), re.DOTALL)
    kinds = {each["kind"] for each in helm.objects(yaml.safe_load(values))}
    assert {"StatefulSet", "ConfigMap"} <= kinds


@pytest.mark.parametrize("page", [OPERATIONS, QUICKSTART], ids=lambda page: page.stem)
def test_every_link_leads_somewhere(page: Path) -> None:
    links = re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", page.read_text())
    assert links
    assert [link for link in links if not (page.parent / link).exists()] == []
