"""The compose file, read as Docker's compose reads it: no engine is needed for that. What runs here is the collector's
part: the simulated platforms and the collector with its configuration, of which only addresses change.
"""

import asyncio
import json
import re
import shutil
import subprocess
import time
from collections.abc import Mapping
from datetime import timedelta
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
import yaml

from config import loader
from config.settings import Settings
from simulators.demo.scenario import ALIASES
from simulators.marquez import MarquezSimulator
from simulators.server import Served
from tests.deployment import now
from tests.program import program
from tests.servers import gotools
from tests.servers.ports import free_port
from tests.servers.processes import unavailable
from tests.servers.prometheus import Promtool

ROOT = Path(__file__).parents[2]
FOLDER = ROOT / "compose"
FILE = ROOT / "compose.yaml"
CONFIG = FOLDER / "collector.yaml"

Model = Mapping[str, Any]


@pytest.fixture(scope="module")
def model() -> Model:
    """The file as compose understands it; it refuses keys that it does not know, and services that are not there."""
    try:
        program = gotools.program(gotools.COMPOSE)
    except gotools.NoToolError as error:
        unavailable(str(error))
    command = [str(program), "-format", "json", str(FILE)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    rendered: Model = json.loads(done.stdout)
    return rendered


@pytest.fixture(scope="module")
def settings() -> Settings:
    return loader.load(CONFIG)


def test_every_image_is_pinned_or_built_here(model: Model) -> None:
    for name, service in model["services"].items():
        if "build" in service:
            assert (Path(service["build"]["context"]) / service["build"]["dockerfile"]).is_file()
        else:
            assert re.search(r":v?\d+\.\d+(\.\d+)?$", service["image"]), f"{name}: {service['image']}"


def test_every_mounted_file_is_there(model: Model) -> None:
    for service in model["services"].values():
        for volume in service.get("volumes", []):
            if volume["type"] == "bind":
                assert Path(volume["source"]).exists(), volume["source"]
            else:
                assert volume["source"] in model["volumes"]


def test_ports_are_open_to_this_machine_alone(model: Model) -> None:
    ports = [port for service in model["services"].values() for port in service.get("ports", [])]
    assert {port["host_ip"] for port in ports} == {"127.0.0.1"}
    assert len({port["published"] for port in ports}) == len(ports)


def test_every_address_in_the_configuration_is_one_of_a_service(model: Model, settings: Settings) -> None:
    first = 8081
    assert model["services"]["platforms"]["command"] == ["simulate", "all", "--host", "0.0.0.0", "--port", str(first)]
    known = {("platforms", first + number) for number in range(3)} | {("marquez", 5000), ("kafka", 19092)}
    document = CONFIG.read_text()
    addresses = {urlsplit(url) for url in re.findall(r"https?://\w+:\d+", document)}
    addresses |= {
        urlsplit(f"kafka://{address}") for address in yaml.safe_load(document)["sinks"][1]["bootstrap_servers"]
    }
    assert {(url.hostname, url.port) for url in addresses} == known
    assert all(host in model["services"] for host, _ in known)
    assert [source.platform for source in settings.sources] == ["cdf", "wetransform", "dataprep"]


def test_marquez_has_its_database_and_its_pages(model: Model) -> None:
    services = model["services"]
    marquez, web = services["marquez"]["environment"], services["marquez-web"]["environment"]
    assert marquez["POSTGRES_HOST"] in services
    assert (web["MARQUEZ_HOST"], web["MARQUEZ_PORT"]) == ("marquez", marquez["MARQUEZ_PORT"])
    assert set(services["postgres"]["environment"].values()) == {"marquez"}, "Marquez's own configuration has these"


def test_kafka_listens_where_it_says(model: Model) -> None:
    variables = model["services"]["kafka"]["environment"]
    listeners = dict(each.split("://:") for each in variables["KAFKA_LISTENERS"].split(","))
    advertised = dict(each.split("://") for each in variables["KAFKA_ADVERTISED_LISTENERS"].split(","))
    protocols = dict(each.split(":") for each in variables["KAFKA_LISTENER_SECURITY_PROTOCOL_MAP"].split(","))
    assert protocols.keys() == listeners.keys() == {*advertised, variables["KAFKA_CONTROLLER_LISTENER_NAMES"]}
    assert all(address.split(":")[1] == listeners[name] for name, address in advertised.items())
    voter = variables["KAFKA_CONTROLLER_QUORUM_VOTERS"]
    assert voter == f"{variables['KAFKA_NODE_ID']}@kafka:{listeners['CONTROLLER']}"


def test_the_collector_has_the_rights_that_it_has_in_the_chart(model: Model, settings: Settings) -> None:
    service = model["services"]["collector"]
    assert service["read_only"]
    assert service["cap_drop"] == ["ALL"]
    assert service["security_opt"] == ["no-new-privileges:true"]
    mounted = {volume["target"] for volume in service["volumes"]}
    assert mounted == {"/etc/lineage-collector/config.yaml", "/var/lib/lineage-collector"}
    assert timedelta(seconds=int(service["stop_grace_period"].rstrip("s"))) > settings.stop_within
    assert settings.http.listen == f"0.0.0.0:{service['ports'][0]['target']}"


def test_the_platforms_show_as_one_chain(settings: Settings) -> None:
    assert [alias.model_dump(exclude_unset=True) for alias in settings.datasets] == ALIASES


def test_prometheus_loads_the_rules(model: Model, promtool: Promtool, tmp_path: Path) -> None:
    for volume in model["services"]["prometheus"]["volumes"]:
        shutil.copy(volume["source"], tmp_path / Path(volume["target"]).name)
    done = promtool("check", "config", str(tmp_path / "prometheus.yml"))
    assert done.returncode == 0, done.stdout + done.stderr
    [job] = yaml.safe_load((tmp_path / "prometheus.yml").read_text())["scrape_configs"]
    assert f'job="{job["job_name"]}"' in (tmp_path / "lineage-collector.rules.yml").read_text()
    [[host, port]] = [target.split(":") for each in job["static_configs"] for target in each["targets"]]
    assert int(port) == model["services"][host]["ports"][0]["target"]


def test_grafana_finds_prometheus_and_the_dashboards(model: Model) -> None:
    service = model["services"]["grafana"]
    [source] = yaml.safe_load((FOLDER / "grafana" / "datasources.yaml").read_text())["datasources"]
    assert source["url"] == "http://prometheus:9090"
    assert source["isDefault"]
    [provider] = yaml.safe_load((FOLDER / "grafana" / "dashboards.yaml").read_text())["providers"]
    places = {volume["target"]: Path(volume["source"]) for volume in service["volumes"]}
    folder = places[provider["options"]["path"]]
    home = Path(service["environment"]["GF_DASHBOARDS_DEFAULT_HOME_DASHBOARD_PATH"])
    assert str(home.parent) == provider["options"]["path"]
    assert (folder / home.name).is_file()


async def test_something_shows_at_once(tmp_path: Path) -> None:
    """Without the seconds in which images are pulled."""
    marquez = MarquezSimulator(now=now, seed=1)
    async with Served(marquez) as served, program("simulate", "all") as platforms:
        addresses = [await _address(platforms) for _ in range(3)]
        environment = {
            "HTTP__LISTEN": f"127.0.0.1:{free_port()}",
            "LEDGER__PATH": str(tmp_path / "lineage.db"),
            **{f"SOURCES__{number}__BASE_URL": address for number, address in enumerate(addresses)},
            "SOURCES__0__AUTH__TOKEN_URL": f"{addresses[0]}/oauth2/token",
            "SINKS__0__URL": served.url,
            "SINKS__1__BOOTSTRAP_SERVERS__0": f"127.0.0.1:{free_port()}",
        }
        async with program("run", "--config", str(CONFIG), settings=environment):
            end = time.monotonic() + 120
            while "COMPLETED" not in {str(run["raw_state"]) for run in marquez.expected_runs()}:
                assert time.monotonic() < end, marquez.expected_runs()
                await asyncio.sleep(0.2)


async def _address(platforms: asyncio.subprocess.Process) -> str:
    """Of the next simulator that says where it is."""
    assert platforms.stdout is not None
    line = await asyncio.wait_for(platforms.stdout.readline(), 90)
    return line.decode().split()[4]
