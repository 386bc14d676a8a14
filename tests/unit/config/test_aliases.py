from typing import Annotated, Any

import pytest
from pydantic import AfterValidator, TypeAdapter, ValidationError

from config.aliases import DatasetAlias, JobAlias, unambiguous
from config.settings import Lineage

RAW = {"namespace": "cdf://h/p", "name": "raw/sap/*"}


def test_an_alias_may_leave_out_what_stays() -> None:
    read = DatasetAlias.model_validate({"match": {"name": "raw/*"}, "replace": {"name": "lake.*"}})
    assert (read.match.namespace, read.replace.namespace) == ("*", None)


@pytest.mark.parametrize(
    ("match", "replace", "words"),
    [
        (RAW, {}, "replace is empty"),
        (RAW, {"name": "*.*"}, "more * than match.name"),
        (RAW, {"namespace": "x://*"}, "more * than match.namespace"),
        (RAW, {"namespace": "two words"}, "not a valid namespace of a dataset"),
        (RAW, {"namespace": "x" * 256}, "not a valid namespace of a dataset"),
        (RAW, {"name": ""}, "is empty"),
        (RAW, {"name": "a\nb"}, "contains a control"),
        ({"namespace": "x"}, {"name": "a"}, "Field required"),
        (RAW, {"nmae": "a"}, "Extra inputs"),
    ],
)
def test_an_alias_that_cannot_be_meant_is_refused(match: Any, replace: Any, words: str) -> None:
    with pytest.raises(ValidationError, match=words.replace("*", r"\*")):
        DatasetAlias.model_validate({"match": match, "replace": replace})


@pytest.mark.parametrize("value", [99, 0, True, "many"])
def test_an_error_text_is_quoted_at_some_length(value: Any) -> None:
    with pytest.raises(ValidationError):
        Lineage.model_validate({"longest_error": value})


UUIDS = {"namespace": "wetransform://*", "name": "transformation/*"}


@pytest.mark.parametrize(
    ("match", "replace", "words"),
    [
        (UUIDS, "transformation/*-*", "more * than match.name"),
        (UUIDS, "transformation/parts", "every job that fits match.name would be called"),
        (UUIDS, "7-*", "must begin with a letter"),
        (UUIDS, "*", "must begin with a letter"),
        (UUIDS, "{description}", "must begin with a letter"),
        (UUIDS, "transformation/{template}", r"\{template\} stands for nothing"),
        (UUIDS, "transformation/{*", r"\{\* stands for nothing"),
        (UUIDS, "x" * 256, "has 256 characters"),
        (UUIDS, "a\n*", "contains a control"),
    ],
)
def test_a_name_that_no_job_can_have_is_refused(match: Any, replace: str, words: str) -> None:
    with pytest.raises(ValidationError, match=words.replace("more *", r"more \*")):
        JobAlias.model_validate({"match": match, "replace": {"name": replace}})


def test_two_jobs_of_one_namespace_cannot_be_given_one_name() -> None:
    first, second = ({"match": {"name": name}, "replace": {"name": "load"}} for name in ("recipe/a", "recipe/b"))
    aliases = TypeAdapter(Annotated[tuple[JobAlias, ...], AfterValidator(unambiguous)])
    with pytest.raises(ValidationError, match="recipe/a and recipe/b would both be called load"):
        aliases.validate_python([first, second])
    elsewhere = {**second, "match": {"name": "recipe/b", "namespace": "dataprep://*"}}
    assert len(aliases.validate_python([first, elsewhere])) == 2
