"""The oracle of the replicas' test finds what it is for."""

from tests.crash.tenures import Request, Tenure, foreign_requests

TAKEN = [Tenure("source:a", "one", 10.0), Tenure("source:b", "two", 10.0), Tenure("source:a", "two", 20.0)]


def test_requests_under_a_lease_are_right() -> None:
    asked = [Request("a", "one", 10.1), Request("b", "two", 15.0), Request("a", "two", 20.0), Request("a", "one", 20.5)]
    assert foreign_requests(asked, TAKEN, {}) == []


def test_requests_under_the_lease_of_another_are_found() -> None:
    asked = [Request("a", "one", 9.9), Request("a", "two", 19.9), Request("a", "one", 21.1)]
    assert [line.partition(" at ")[0] for line in foreign_requests(asked, TAKEN, {})] == [
        "one asked a", "two asked a", "one asked a",
    ]  # fmt: skip


def test_what_was_begun_before_a_freeze_may_come_after_it() -> None:
    late = [Request("a", "one", 31.0)]
    assert foreign_requests(late, TAKEN, {"one": [30.0]}) == []
    assert len(foreign_requests(late, TAKEN, {"one": [25.0], "two": [30.0]})) == 1
