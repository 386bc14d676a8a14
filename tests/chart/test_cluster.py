"""What the chart asks a cluster, where there is one to ask: a stand-in that knows secrets and what it is asked by Helm."""

import http.server
import json
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.chart.generated_files import values_of
from tests.chart.manifests import only
from tests.servers.helm import CHART, Helm, parsed

_KINDS = {
    "/api/v1": ("v1", ["ServiceAccount", "ConfigMap", "Service", "Pod", "Secret"]),
    "/apis/apps/v1": ("apps/v1", ["StatefulSet"]),
    "/apis/batch/v1": ("batch/v1", ["CronJob", "Job"]),
}


class Cluster:
    """Its secrets by name, as resource versions."""

    def __init__(self) -> None:
        self.secrets: dict[str, int] = {}

    def answer(self, path: str) -> dict[str, Any] | None:
        versions = [{"groupVersion": f"{group}/v1", "version": "v1"} for group in ("apps", "batch")]
        groups = [
            {"name": each["groupVersion"][:-3], "versions": [each], "preferredVersion": each} for each in versions
        ]
        match path:
            case "/version":
                return {"major": "1", "minor": "37", "gitVersion": "v1.37.0"}
            case "/api":
                return {"kind": "APIVersions", "versions": ["v1"]}
            case "/apis":
                return {"kind": "APIGroupList", "apiVersion": "v1", "groups": groups}
            case path if path in _KINDS:
                version, kinds = _KINDS[path]
                known = [
                    {"name": f"{kind.lower()}s", "kind": kind, "namespaced": True, "verbs": ["get"]} for kind in kinds
                ]
                return {"kind": "APIResourceList", "groupVersion": version, "resources": known}
        name = path.removeprefix("/api/v1/namespaces/data/secrets/")
        if name not in self.secrets:
            return None
        about = {"name": name, "resourceVersion": str(self.secrets[name])}
        return {"apiVersion": "v1", "kind": "Secret", "metadata": about, "data": {"token": "aHVudGVyMg=="}}


@pytest.fixture
def cluster(tmp_path: Path) -> Iterator[Cluster]:
    """Reached by the file `kubeconfig` in the test's folder."""
    stand_in = Cluster()

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            found = stand_in.answer(self.path.partition("?")[0])
            missing = {"kind": "Status", "apiVersion": "v1", "status": "Failure", "reason": "NotFound", "code": 404}
            self.send_response(200 if found else 404)
            self.send_header("Content-Type", "application/json")
            self.end_headers()
            self.wfile.write(json.dumps(found or missing).encode())

        def log_message(self, *_: Any) -> None:
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    where = {
        "clusters": [{"name": "c", "cluster": {"server": f"http://127.0.0.1:{server.server_port}"}}],
        "contexts": [{"name": "c", "context": {"cluster": "c", "user": "u"}}],
        "users": [{"name": "u", "user": {}}],
        "current-context": "c",
    }
    (tmp_path / "kubeconfig").write_text(yaml.safe_dump(where))
    yield stand_in
    server.shutdown()
    server.server_close()


def _annotations(helm: Helm, folder: Path, *arguments: str) -> dict[str, str]:
    asking: list[str | Path] = [
        "--dry-run=server",
        "--disable-openapi-validation",
        "--kubeconfig",
        folder / "kubeconfig",
    ]
    given: list[str | Path] = ["--namespace", "data", "--values", values_of("all-kinds"), *arguments]
    done = helm("template", "lineage", CHART, *given, *asking)
    assert done.returncode == 0, done.stderr
    pod = only(parsed(done.stdout), "StatefulSet")["spec"]["template"]
    return dict(pod["metadata"]["annotations"])


def test_a_secret_that_changed_makes_a_new_pod_where_it_is_a_variable(
    helm: Helm, cluster: Cluster, tmp_path: Path
) -> None:
    assert "checksum/secrets" not in _annotations(helm, tmp_path)
    cluster.secrets = {"marquez": 1, "wetransform": 1, "cdf-credentials": 1}
    before = _annotations(helm, tmp_path)["checksum/secrets"]
    cluster.secrets["cdf-credentials"] = 2
    assert _annotations(helm, tmp_path)["checksum/secrets"] == before, "a file rotates without a new pod"
    cluster.secrets["marquez"] = 2
    assert _annotations(helm, tmp_path)["checksum/secrets"] != before
