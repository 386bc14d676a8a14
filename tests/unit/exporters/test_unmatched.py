"""Addresses that lead nowhere, and methods that an address does not take: answered for people and for scripts."""

from pathlib import Path

import pytest

from tests.unit.exporters.test_run_pages import served


@pytest.mark.parametrize(
    ("path", "near"),
    [
        ("/run", "/runs"),
        ("/job/source/transformation%2F1", "/jobs"),
        ("/sources/plant-a/", "/sources"),
        ("/Sinks", "/sinks"),
        ("/health", "/healthz"),
        ("/status", "/status.json"),
        ("/x/y/z", None),
        ("/%3Cscript%3E", None),
    ],
)
async def test_a_page_that_does_not_exist_names_the_nearest(tmp_path: Path, path: str, near: str | None) -> None:
    async with served(tmp_path) as client, client.get(path) as answer:
        assert (answer.status, answer.content_type) == (404, "text/html")
        text = await answer.text()
    main = text[text.index("<main>") :]
    assert "There is no page /" in main
    assert "<script>" not in main
    assert 'aria-label="Pages"' in text, "people can go on from here"
    if near is None:
        assert "Did you mean" not in main
    else:
        assert f'Did you mean <a href="{near}">' in main


@pytest.mark.parametrize(
    ("path", "words"),
    [
        ("/api/v1/job/source/x", "There is no page /api/v1/job/source/x; did you mean /api/v1/jobs?"),
        ("/api/sinks", "There is no page /api/sinks; did you mean /api/v1/sinks?"),
        ("/api/v1", "There is no page /api/v1"),
    ],
)
async def test_an_address_for_scripts_that_does_not_exist_is_answered_by_json(
    tmp_path: Path, path: str, words: str
) -> None:
    async with served(tmp_path) as client, client.get(path) as answer:
        assert (answer.status, await answer.json()) == (404, {"error": words})


async def test_a_wrong_method_is_answered_in_words_with_those_that_are_allowed(tmp_path: Path) -> None:
    async with served(tmp_path) as client:
        async with client.delete("/api/v1/runs") as answer:
            assert (answer.status, answer.headers["Allow"]) == (405, "GET, HEAD")
            assert await answer.json() == {"error": "/api/v1/runs cannot be reached by DELETE, only by GET, HEAD"}
        async with client.post("/runs") as answer:
            assert (answer.status, answer.headers["Allow"]) == (405, "GET, HEAD")
            assert "/runs cannot be reached by POST, only by GET, HEAD." in await answer.text()
