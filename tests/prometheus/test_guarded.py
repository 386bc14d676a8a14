"""The real Prometheus and its tools against pages with TLS and a password."""

import asyncio
import re
from pathlib import Path

import bcrypt
import yaml

from config.web import read_access
from tests.deployment import PATIENCE, Deployment
from tests.servers.certificates import make_certificates
from tests.servers.prometheus import Promtool, StartPrometheus

DOCS = Path(__file__).parents[2] / "docs" / "http.md"


async def test_prometheus_comes_in_by_tls_and_password(tmp_path: Path, start_prometheus: StartPrometheus) -> None:
    certificates = make_certificates(tmp_path)
    hashed = bcrypt.hashpw(b"wonderland", bcrypt.gensalt(4)).decode()
    web = {
        "tls_server_config": {"cert_file": "server.pem", "key_file": "server.pem", "min_version": "TLS13"},
        "basic_auth_users": {"prometheus": hashed},
    }
    (tmp_path / "web.yaml").write_text(yaml.safe_dump(web))
    tls = f"scheme: https\n    tls_config: {{ca_file: {certificates.ca}}}\n    basic_auth: "
    async with Deployment(tmp_path) as deployment:
        deployment.settings["http"]["web_config_file"] = str(tmp_path / "web.yaml")
        await deployment.start()
        target = (await deployment.pages()).partition("//")[2]
        known = start_prometheus(target, more=tls + "{username: prometheus, password: wonderland}")
        stranger = start_prometheus(target, more=tls + "{username: prometheus, password: guess}")
        await known.wait_for("up == 1 and on (instance) lineage_build_info")
        await stranger.wait_for("up == 0")
        async with asyncio.timeout(PATIENCE):  # a busy machine may fail a scrape for want of time
            while "401" not in (await stranger.targets())[0]["lastError"]:
                await asyncio.sleep(0.2)
        deployment.terminate()
        assert await deployment.ended() == 0


def test_the_example_in_the_documentation_is_one_for_prometheus_too(tmp_path: Path, promtool: Promtool) -> None:
    [example] = re.findall(r"```yaml\n(# /etc/lineage-collector/web\.yaml\n.*?)```", DOCS.read_text(), re.DOTALL)
    with_all = re.sub(r"^(\s*)#(?! /etc)", r"\1", example, flags=re.MULTILINE)
    make_certificates(tmp_path)
    for name, source in (("tls.crt", "server.crt"), ("tls.key", "server.key"), ("scrapers-ca.crt", "ca.crt")):
        (tmp_path / name).write_bytes((tmp_path / source).read_bytes())
    for text in (example, with_all):
        (tmp_path / "web.yaml").write_text(text)
        checked = promtool("check", "web-config", str(tmp_path / "web.yaml"))
        assert (checked.returncode, "SUCCESS" in checked.stdout + checked.stderr) == (0, True), checked
        assert read_access(tmp_path / "web.yaml").users
    assert "client_auth_type" in yaml.safe_load(with_all)["tls_server_config"]
