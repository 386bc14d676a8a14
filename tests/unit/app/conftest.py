import pytest


@pytest.fixture(autouse=True)
def _logging(logging_as_it_was: None) -> None:
    """Commands set logging up for their process."""
