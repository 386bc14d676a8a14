"""Requests to the JSON under `/api/v1` that nobody means: each answer is one that docs/openapi.yaml describes."""

import random
from pathlib import Path
from urllib.parse import quote, urlencode

from yarl import URL

from tests.unit.exporters.test_run_pages import complaints, described, served

ODD = (
    "", " ", "x", "0", "-1", "7", "9" * 30, "1e9", "0x10", "٣", "NaN", "true", "null", "failed", "FAILED", "source", "marquez",
    "transformation/1", "gs://in", "a.csv", "..", "../..", "/", "//", "%", "%00", "\0", "\n", "😀",
    "é", "\u202e", "'", '"', "';--", "<script>", "{}", "[]", "a" * 300, "*", "_", "\\", "+", "&", "#", "?",
)  # fmt: skip
ASKED = 150


async def test_odd_requests_get_answers_as_the_openapi_file_says(tmp_path: Path) -> None:
    paths = {path: of["get"] for path, of in described()["paths"].items() if "get" in of}
    drawn, wrong = random.Random(20261129), list[str]()
    async with served(tmp_path) as client:
        for _ in range(ASKED):
            path = drawn.choice([*paths])
            filled, query = path, list[tuple[str, str]]()
            for parameter in paths[path].get("parameters", ()):
                value = drawn.choice(ODD)
                if parameter["in"] == "path" and set(value) <= {".", "/"}:
                    value = "x"  # clients take dots and empty parts out of a path
                if parameter["in"] == "path":
                    filled = filled.replace(f"{{{parameter['name']}}}", quote(value, safe=""))
                elif drawn.random() < 0.6:
                    query.append((parameter["name"], value))
            url = f"{filled}?{urlencode(query)}" if query else filled
            async with client.get(URL(url, encoded=True)) as answer:
                status, expected = answer.status, paths[path]["responses"]
                if str(status) not in expected or answer.content_type != "application/json":
                    wrong.append(f"{url}: {status} {answer.content_type} {(await answer.text())[:80]}")
                elif found := complaints(path, status, await answer.json()):
                    wrong.append(f"{url}: {found}")
    assert wrong == []
