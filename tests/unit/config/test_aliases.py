from typing import Any

import pytest
from pydantic import ValidationError

from config.settings import DatasetAlias, Lineage

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
