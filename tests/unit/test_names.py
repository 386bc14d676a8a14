import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from collector import names
from collector.redaction import redacted_name


@pytest.mark.parametrize(
    ("platform", "url", "parts", "expected"),
    [
        ("cdf", "https://westeurope-1.cognitedata.com", ("plant-a",), "cdf://westeurope-1.cognitedata.com/plant-a"),
        ("dataprep", "https://api.clouddataprep.com/v4", ("12345:6",), "dataprep://api.clouddataprep.com/12345_6"),
        ("cdf", "http://h:8443", ("p",), "cdf://h:8443/p"),
        ("cdf", "http://h", (), "cdf://h"),
    ],
)
def test_a_namespace_is_made_of_platform_host_and_project(
    platform: str, url: str, parts: tuple[str, ...], expected: str
) -> None:
    made = names.namespace(platform, url, *parts)
    assert made == expected
    assert names.namespace_fault(made) is None


@pytest.mark.parametrize(
    "name", ["", "cdf:proj", "a b", "a=b", "a;b", ":a", "1:2", "é", "x" * 256, "arn:aws:glue:eu:1"]
)
def test_namespaces_that_marquez_would_rewrite_or_lose_are_named(name: str) -> None:
    assert names.namespace_fault(name)


@pytest.mark.parametrize("name", ["cdf", "cdf/p", "x:1", "cdf://h:8443/p", "https://host/p", "cdf:///p", "cdf://h/9p"])
def test_namespaces_that_marquez_keeps_are_good(name: str) -> None:
    assert names.namespace_fault(name) is None


def test_dataset_names_begin_with_a_word_and_encode_what_separates() -> None:
    assert names.dataset("raw", "my/db", "a:b#c") == "raw/my%2Fdb/a%3Ab%23c"
    assert names.dataset("raw", "Ünï", "x\x00y") == "raw/Ünï/x%00y"


@given(st.text(), st.text())
@example("a", "a\n")
@example("a\x9f", "a%9F")
@example("a\ud800", "a\ud801")
@example("a\ud800", "a%D800")
@example("a\x00b", "a\x01b")
def test_two_names_meet_only_where_their_parts_are_the_same(one: str, other: str) -> None:
    """But for what is taken out because it may be a secret or a person."""
    made = names.dataset("raw", one), names.dataset("raw", other)
    assert (made[0] == made[1]) is (one == other) or any(
        redacted_name(names.clean(text)) != names.clean(text) for text in (one, other)
    )
    assert all(names.clean(name) == name for name in made), "no backend sees a control character"


@given(st.text(max_size=600))
def test_names_are_at_most_255_characters(text: str) -> None:
    assert len(names.dataset("raw", text)) <= 255


def test_text_keeps_its_lines_and_loses_what_breaks_a_database() -> None:
    assert names.clean_text("a\tb\nc\x00\x1bd\ud800") == "a\tb\ncd"
