"""As much of Kubernetes' API as Helm asks for when a chart looks something up: which kinds there are, and single objects."""

import http.server
import json
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

_KINDS = {
    "v1": ("ConfigMap", "Pod", "Secret", "Service", "ServiceAccount"),
    "apps/v1": ("StatefulSet",),
    "batch/v1": ("CronJob", "Job"),
}


@contextmanager
def api(objects: Mapping[str, Any]) -> Iterator[str]:
    """The address of an API with these objects by path, such as /api/v1/namespaces/data/serviceaccounts/x."""
    pages = {**_discovery(), **objects}

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            page = pages.get(self.path.partition("?")[0])
            self.send_response(404 if page is None else 200)
            self.send_header("Content-Type", "application/json")
            self.end_headers()
            self.wfile.write(json.dumps(_MISSING if page is None else page).encode())

        def log_message(self, *_: Any) -> None:
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()


_MISSING = {"kind": "Status", "apiVersion": "v1", "status": "Failure", "reason": "NotFound", "code": 404}


def _discovery() -> dict[str, Any]:
    groups = [version.partition("/")[0] for version in _KINDS if "/" in version]
    versions = {group: {"groupVersion": f"{group}/v1", "version": "v1"} for group in groups}
    return {
        "/version": {"major": "1", "minor": "32", "gitVersion": "v1.32.0"},
        "/api": {"kind": "APIVersions", "versions": ["v1"]},
        "/apis": {
            "kind": "APIGroupList",
            "apiVersion": "v1",
            "groups": [
                {"name": group, "versions": [each], "preferredVersion": each} for group, each in versions.items()
            ],
        },
        **{f"/{'apis' if '/' in version else 'api'}/{version}": _resources(version) for version in _KINDS},
    }


def _resources(version: str) -> dict[str, Any]:
    names = [(kind, f"{kind.lower()}s") for kind in _KINDS[version]]
    return {
        "kind": "APIResourceList",
        "groupVersion": version,
        "resources": [
            {"name": plural, "singularName": kind.lower(), "kind": kind, "namespaced": True, "verbs": ["get"]}
            for kind, plural in names
        ],
    }
