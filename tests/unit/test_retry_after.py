from datetime import UTC, datetime

import pytest

from collector.http import retry_after

NOW = datetime(2026, 11, 21, 9, 0, 0, tzinfo=UTC)


@pytest.mark.parametrize(
    ("header", "seconds"),
    [
        ("7", 7.0),
        ("1.5", 1.5),
        ("0", 0.0),
        ("86400", 3600.0),
        ("9" * 400, 3600.0),
        ("Sat, 21 Nov 2026 09:00:30 GMT", 30.0),
        ("Sat, 21 Nov 2026 08:59:00 GMT", 0.0),
        ("Sat, 21 Nov 2026 09:00:30", None),
        ("-5", None),
        ("nan", None),
        ("7 seconds", None),
        ("soon", None),
        ("", None),
    ],
)
def test_what_the_header_asks_for(header: str, seconds: float | None) -> None:
    assert retry_after({"Retry-After": header}, NOW) == seconds


def test_without_the_header() -> None:
    assert retry_after({}, NOW) is None
