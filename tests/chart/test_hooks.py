"""What Helm says after an installation, and what `helm test` does."""

import http.server
import subprocess
import sys
import threading
from base64 import b64encode
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from tests.chart.conftest import Rendered
from tests.chart.generated_files import values_of
from tests.chart.manifests import of_kind, pods
from tests.servers.helm import CHART, Helm
from tests.servers.kubernetes import api

Pages = dict[str, tuple[int, str]]
Served = Callable[[Pages], str]
_GOOD: Pages = {"/readyz": (200, "ok\n"), "/metrics": (200, '# TYPE x gauge\nlineage_build_info{version="1"} 1.0\n')}


@pytest.fixture
def served() -> Iterator[Served]:
    """A function: pages by path, at the address that it returns. A page that is empty asks for alice's password."""
    servers: list[http.server.ThreadingHTTPServer] = []

    def serve(pages: Pages) -> str:
        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                status, text = pages[self.path]
                login = f"Basic {b64encode(b'alice:wonderland').decode()}"
                if not text and self.headers.get("Authorization") == login:
                    status, text = _GOOD[self.path]
                self.send_response(status)
                self.end_headers()
                self.wfile.write(text.encode())

            def log_message(self, *_: Any) -> None:
                pass

        server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        threading.Thread(target=server.serve_forever, daemon=True).start()
        servers.append(server)
        return f"http://127.0.0.1:{server.server_port}"

    yield serve
    for server in servers:
        server.shutdown()
        server.server_close()


def _tested(rendered: Rendered, address: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """The test pod's own words, run by this Python."""
    [pod] = of_kind(rendered("minimal"), "Pod")
    [container] = pod["spec"]["containers"]
    assert container["command"] == ["python3", "-c"]
    script, _ = container["args"]
    command = [sys.executable, "-c", script.replace("PATIENCE = 120.0", "PATIENCE = 0.0"), address]
    return subprocess.run(command, capture_output=True, text=True, check=False, env=environment, timeout=30)


def test_helm_test_is_content_with_a_collector(rendered: Rendered, served: Served) -> None:
    done = _tested(rendered, served(_GOOD))
    assert done.returncode == 0, done.stderr
    assert "is ready and has 1 series" in done.stdout


@pytest.mark.parametrize(
    ("pages", "words"),
    [
        ({**_GOOD, "/readyz": (503, "the first tick is not done\n")}, "answered 503: the first tick is not done"),
        ({**_GOOD, "/metrics": (200, "up 1\n")}, "/metrics belongs to another program"),
        ({**_GOOD, "/metrics": (401, "")}, "check web.credentialsSecret"),
    ],
)
def test_helm_test_says_what_is_wrong(rendered: Rendered, served: Served, pages: Pages, words: str) -> None:
    done = _tested(rendered, served(pages))
    assert done.returncode == 1
    assert words in done.stdout


def test_helm_test_logs_in(rendered: Rendered, served: Served) -> None:
    address = served({**_GOOD, "/metrics": (401, "")})
    assert _tested(rendered, address, PAGES_USER="alice", PAGES_PASSWORD="wonderland").returncode == 0
    assert _tested(rendered, address, PAGES_USER="alice", PAGES_PASSWORD="jabberwock").returncode == 1
    [pod] = of_kind(rendered("tls-certificate"), "Pod")
    env = {each["name"]: each["valueFrom"]["secretKeyRef"] for each in pod["spec"]["containers"][0]["env"]}
    assert env == {
        "PAGES_USER": {"name": "lineage-scraper", "key": "username"},
        "PAGES_PASSWORD": {"name": "lineage-scraper", "key": "password"},
    }


def test_helm_test_says_when_nobody_is_there(rendered: Rendered) -> None:
    done = _tested(rendered, "http://127.0.0.1:9")
    assert done.returncode == 1
    assert "cannot be reached" in done.stdout


_ACCOUNT = [
    "--set",
    "serviceAccount.name=watcher",
    "--set-json",
    'podAnnotations={"vault.hashicorp.com/role":"lineage"}',
]


def _accounts(objects: list[dict[str, Any]]) -> dict[str, str]:
    return {name.partition(" ")[0]: pod["spec"]["serviceAccountName"] for name, pod in pods(objects)}


def test_hooks_run_as_the_collector_does(helm: Helm) -> None:
    """Secrets of Vault or a CSI driver, and the right to pull, hang on the account and on annotations."""
    objects = helm.objects(values_of("minimal"), *_ACCOUNT, "--set", "serviceAccount.create=false")
    assert _accounts(objects) == {"StatefulSet": "watcher", "Job": "watcher", "Pod": "watcher"}
    for _, pod in pods(objects):
        assert pod["metadata"]["annotations"]["vault.hashicorp.com/role"] == "lineage"


@pytest.mark.parametrize(("there", "account"), [("watcher", "watcher"), ("another", "default")])
def test_a_hook_does_not_wait_for_an_account_that_is_still_to_be_made(helm: Helm, there: str, account: str) -> None:
    owner = {"meta.helm.sh/release-name": "lineage", "meta.helm.sh/release-namespace": "data"}
    labels = {"app.kubernetes.io/managed-by": "Helm"}
    named = {"name": there, "namespace": "data", "labels": labels, "annotations": owner}
    known = {"kind": "ServiceAccount", "apiVersion": "v1", "metadata": named}
    with api({f"/api/v1/namespaces/data/serviceaccounts/{there}": known}) as address:
        arguments = ["--dry-run=server", "--disable-openapi-validation", "--kube-apiserver", address]
        objects = helm.objects(values_of("minimal"), *_ACCOUNT, *arguments)
    assert _accounts(objects) == {"StatefulSet": "watcher", "Job": account, "Pod": "watcher"}


def _notes(helm: Helm, case: str, *arguments: str) -> str:
    done = helm("install", "lineage", CHART, "-n", "data", "-f", values_of(case), "--dry-run=client", *arguments)
    assert done.returncode == 0, done.stderr
    notes = done.stdout.partition("NOTES:")[2]
    assert "<no value>" not in notes
    return notes


def test_the_notes_speak_of_the_deployment(helm: Helm) -> None:
    notes = _notes(helm, "postgres")
    for words in (
        "kubectl -n data rollout status deployment/lineage-lineage-collector",
        "kubectl -n data logs deployment/lineage-lineage-collector -c check-config",
        "kubectl -n data exec deployment/lineage-lineage-collector -- lineage-collector check",
    ):
        assert words in notes
    assert "Note:" not in notes


def test_the_notes_say_what_to_do_next(helm: Helm) -> None:
    notes = _notes(helm, "minimal")
    for words in (
        "watches 1 source(s) and feeds 1 sink(s)",
        "kubectl -n data rollout status statefulset/lineage-lineage-collector",
        "kubectl -n data logs lineage-lineage-collector-0 -c check-config",
        "kubectl -n data exec lineage-lineage-collector-0 -- lineage-collector check",
        "helm -n data test lineage",
        "kubectl -n data port-forward service/lineage-lineage-collector 17817:17817",
    ):
        assert words in notes
    assert "kubectl -n lineage exec lineage-prod-0" in _notes(helm, "company")


_RISKS = {
    "no volume": ("no-volume", [], "WITHOUT A VOLUME"),
    "volume that goes": ("storage", [], "Uninstalling deletes the ledger"),
    "volume that goes with its pod": (
        "minimal",
        ["--set", "persistence.retentionPolicy.whenScaled=Delete"],
        "Scaling the StatefulSet to 0, as docs/operations.md does",
    ),
    "network drive": ("minimal", ["--set", "persistence.accessModes={ReadWriteMany}"], "SQLite's locks do not hold"),
    "one replica": ("postgres-env", [], "There is one replica"),
    "open connection": (
        "postgres", ["--set", "config.ledger.url=postgresql://h/d"], "The connection to PostgreSQL may go unencrypted"
    ),
    "no sinks": ("minimal", ["--set-json", "config.sinks=[]"], "There are no sinks"),
    "files": ("minimal", ["--set-json", 'config.sinks=[{"name":"f","type":"file","path":"e"}]'], "only sinks are files"),
    "header": (
        "minimal",
        ["--set", "config.sources[0].network.headers.X-Api-Key=abc"],
        "config.sources[0].network.headers.X-Api-Key looks like a secret",
    ),
    "variables": ("all-kinds", [], "MARQUEZ_API_KEY, WETRANSFORM_TOKEN, WETRANSFORM_WEBHOOK_SECRET"),
    "no scrape": ("minimal", [], "Its metrics are not scraped"),
    "no rules": ("pod-monitor", [], "There are no alerts when it fails"),
    "nobody in": ("company", [], "blocks all incoming connections"),
    "proxy's port": ("company-secrets", ["--set", "networkPolicy.enabled=true"], "cannot know the proxy's port"),
    "webhook for nobody": ("minimal", ["--set", "ingress.enabled=true,ingress.hosts={a.b}"], "every message is answered 404"),
    "no password": ("tls-certificate", ["--set", "web.credentialsSecret="], "need web.credentialsSecret"),
}  # fmt: skip


@pytest.mark.parametrize("risk", _RISKS)
def test_the_notes_warn_of(helm: Helm, risk: str) -> None:
    case, arguments, words = _RISKS[risk]
    assert words in _notes(helm, case, *arguments)


def test_the_notes_warn_of_nothing_where_all_is_well(helm: Helm) -> None:
    assert "Note:" in _notes(helm, "minimal")
    well = ["--set", "resources.requests.memory=192Mi"]
    assert "Note:" not in _notes(helm, "prometheus-operator", *well)
