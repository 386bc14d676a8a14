"""Whatever stands in the file, the user gets settings or a list of mistakes, never a traceback."""

import copy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import HealthCheck, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

import config
from config.advice import advice
from config.loader import ConfigurationMistakes, checked, load
from config.settings import Settings
from config.yaml_document import Document

SECRET = "geheim-4711"
EXAMPLE = yaml.safe_load(Path(config.__file__).with_name("example.yaml").read_text(encoding="utf-8"))

SCALARS = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.floats(),
    st.text(max_size=20),
    st.sampled_from(
        ["${env:A_TOKEN}", "${env:NONE}", "${", "-5s", "1h", "10MiB", "http://u:geheim@h", "http://[", "//", ":", "-"]
    ),
    st.sampled_from(
        ["cdf", "wetransform", "file", "kafka", "/", "\x00", "\ud800", "http://a..b", "2026-01-31", "9" * 30 + "d"]
    ),
)
VALUES = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=5,
)
FUZZ = hypothesis_settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


@pytest.fixture(autouse=True)
def _secrets(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("A_TOKEN", "CDF_CLIENT_SECRET", "WETRANSFORM_TOKEN", "DATAPREP_TOKEN", "LINEAGE_API_KEY"):
        monkeypatch.setenv(name, SECRET)


@pytest.fixture
def outcome(tmp_path: Path) -> Callable[[bytes], None]:
    def act(content: bytes) -> None:
        path = tmp_path / "c.yaml"
        path.write_bytes(content)
        holds(lambda: load(path))

    return act


def holds(make: Callable[[], Settings]) -> None:
    made, mistakes = None, None
    try:
        made = make()
    except ConfigurationMistakes as error:
        mistakes = error
    if made is not None:
        assert SECRET not in f"{made!r} {made.public()} {advice(made)}"
        return
    assert mistakes is not None
    assert mistakes.mistakes
    assert all(mistake.problem for mistake in mistakes.mistakes)
    assert SECRET not in str(mistakes)
    str(mistakes).encode()


def document_holds(values: dict[str, Any]) -> None:
    holds(lambda: checked(Document("c.yaml", values), {}))


def places(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    entries = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    return [path, *(place for key, inner in entries for place in places(inner, (*path, key)))]


def replaced(path: tuple[Any, ...], value: Any) -> Any:
    document = copy.deepcopy(EXAMPLE)
    here = document
    for step in path[:-1]:
        here = here[step]
    here[path[-1]] = value
    return document


@FUZZ
@given(st.binary(max_size=200))
def test_any_bytes(outcome: Callable[[bytes], None], content: bytes) -> None:
    outcome(content)


@FUZZ
@given(st.text(alphabet="ab:-[]{}&*<>!|#%@`'\"\n\t ?,~${}", max_size=60))
def test_any_marks_of_yaml(outcome: Callable[[bytes], None], text: str) -> None:
    outcome(text.encode())


@FUZZ
@given(st.dictionaries(st.sampled_from(["sources", "sinks", "http", "ledger", "x"]), VALUES))
def test_any_document(values: dict[str, Any]) -> None:
    document_holds(values)


@FUZZ
@given(st.sampled_from(places(EXAMPLE)[1:]), VALUES)
def test_any_value_at_any_place(path: tuple[Any, ...], value: Any) -> None:
    document_holds(replaced(path, value))


@FUZZ
@given(
    st.sampled_from([path for path in places(EXAMPLE) if path and isinstance(path[-1], str)]),
    st.text(min_size=1, max_size=12),
)
def test_any_key_at_any_place(path: tuple[Any, ...], key: str) -> None:
    document_holds(replaced((*path[:-1], key), "x"))
