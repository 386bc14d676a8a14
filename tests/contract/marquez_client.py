"""A Marquez to talk to: the simulator, or the real server at `MARQUEZ_URL`. Every test has its own namespaces and ids."""

import json
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any
from urllib.parse import quote
from uuid import uuid4

import httpx

from simulators.marquez import MarquezSimulator
from simulators.server import Served

JSON = {"Content-Type": "application/json"}
BASE = {"_producer": "https://example.com/producer", "_schemaURL": "https://example.com/facet.json"}
SPEC = "https://openlineage.io/spec/2-0-2/OpenLineage.json#/$defs/"
START, MIDDLE, END, LATE = (f"2026-03-01T10:00:{second}Z" for second in ("00", "05", "10.500", "20"))


def part(text: str) -> str:
    return quote(text, safe="").replace(".", "%2E") if text in {".", ".."} else quote(text, safe="")


def facet(**fields: Any) -> dict[str, Any]:
    return {**BASE, **fields}


def dataset(namespace: str, name: str, *columns: str, **facets: Any) -> dict[str, Any]:
    if columns:
        facets["schema"] = facet(fields=[{"name": column, "type": "STRING"} for column in columns])
    return {"namespace": namespace, "name": name, "facets": facets}


def columns(**edges: tuple[str, str, str]) -> dict[str, Any]:
    """A columnLineage facet: output column to (namespace, dataset, column)."""
    return facet(
        fields={
            column: {
                "inputFields": [dict(zip(("namespace", "name", "field"), source, strict=True))],
                "transformationType": "IDENTITY",
                "transformationDescription": "as it is",
            }
            for column, source in edges.items()
        }
    )


class Marquez:
    """One test's view: `namespace` is its own, `event` makes run events in it."""

    def __init__(self, url: str, http: httpx.AsyncClient) -> None:
        self.url = url
        self._http = http
        self.namespace = f"cdf://host.example/{uuid4().hex[:12]}"

    async def call(
        self, method: str, path: str, body: Any = None, headers: dict[str, str] | None = None
    ) -> httpx.Response:
        """`body` is sent as it is where it is bytes, else as JSON."""
        content = body if body is None or isinstance(body, bytes) else json.dumps(body).encode()
        sent_headers = (JSON if content is not None else {}) if headers is None else headers
        return await self._http.request(method, f"{self.url}{path}", content=content, headers=sent_headers)

    async def api(self, method: str, path: str, body: Any = None) -> httpx.Response:
        return await self.call(method, f"/api/v1/{path}", body)

    async def get(self, path: str) -> Any:
        answer = await self.api("GET", path)
        assert answer.status_code == 200, (path, answer.status_code, answer.text)
        return answer.json()

    async def post(self, event: dict[str, Any]) -> httpx.Response:
        return await self.api("POST", "lineage", event)

    async def posted(self, *events: dict[str, Any]) -> None:
        for event in events:
            answer = await self.post(event)
            assert (answer.status_code, answer.content) == (201, b""), answer.text

    def event(
        self, kind: str | None, run: str, job: str = "transformation/1", at: str = START, **given: Any
    ) -> dict[str, Any]:
        """`inputs`, `outputs`, `run_facets`, `job_facets`, `namespace`; anything else goes to the top level."""
        made = {
            "eventTime": at,
            "producer": "https://example.com/producer",
            "schemaURL": f"{SPEC}RunEvent",
            "run": {"runId": run, "facets": given.pop("run_facets", {})},
            "job": {
                "namespace": given.pop("namespace", self.namespace),
                "name": job,
                "facets": given.pop("job_facets", {}),
            },
            "inputs": given.pop("inputs", []),
            "outputs": given.pop("outputs", []),
            **given,
        }
        return made if kind is None else {"eventType": kind, **made}

    def at_job(self, job: str = "transformation/1", namespace: str | None = None) -> str:
        return f"namespaces/{part(namespace or self.namespace)}/jobs/{part(job)}"

    def at_dataset(self, name: str, namespace: str | None = None) -> str:
        return f"namespaces/{part(namespace or self.namespace)}/datasets/{part(name)}"

    def node(self, kind: str, *names: str, namespace: str | None = None) -> str:
        return part(":".join((kind, namespace or self.namespace, *names)))

    async def make_job(self, job: str = "transformation/1", namespace: str | None = None) -> None:
        space = part(namespace or self.namespace)
        assert (await self.api("PUT", f"namespaces/{space}", {"ownerName": "tests"})).status_code == 200
        body = {"type": "BATCH", "inputs": [], "outputs": []}
        assert (await self.api("PUT", self.at_job(job, namespace), body)).status_code == 200

    async def create(self, run: str, job: str = "transformation/1", **body: Any) -> httpx.Response:
        return await self.api("POST", f"{self.at_job(job)}/runs", {"id": run, **body})

    async def run(self, run: str) -> Any:
        return await self.get(f"jobs/runs/{run}")

    async def graph(self, kind: str, *names: str, depth: int = 20, namespace: str | None = None) -> dict[str, set[str]]:
        """Node id to the ids that its out-edges lead to."""
        found = await self.get(f"lineage?nodeId={self.node(kind, *names, namespace=namespace)}&depth={depth}")
        return {node["id"]: {edge["destination"] for edge in node["outEdges"]} for node in found["graph"]}


@asynccontextmanager
async def marquez_url() -> AsyncIterator[str]:
    if url := os.environ.get("MARQUEZ_URL"):
        yield url.rstrip("/")
        return
    async with Served(MarquezSimulator()) as served:
        yield served.url


@asynccontextmanager
async def a_marquez() -> AsyncIterator[Marquez]:
    async with marquez_url() as url, httpx.AsyncClient(timeout=60, verify=False) as http:
        yield Marquez(url, http)


def new_run() -> str:
    return str(uuid4())
