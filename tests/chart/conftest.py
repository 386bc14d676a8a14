"""Renders of the chart that several tests look at."""

from collections.abc import Callable
from functools import cache
from typing import Any

import pytest
import yaml

from tests.chart.generated_files import values_of
from tests.servers.helm import NEWEST, Helm, parsed

Rendered = Callable[..., list[dict[str, Any]]]
Printed = Callable[[str, str], str]


@pytest.fixture(scope="session")
def printed(helm: Helm) -> Printed:
    """A function: what Helm prints for a case and a version of Kubernetes."""
    return cache(lambda case, kubernetes: helm.template(values_of(case), kubernetes=kubernetes))


@pytest.fixture(scope="session")
def rendered(printed: Printed) -> Rendered:
    """A function: the objects of `rendered("minimal", "1.32")`. They are shared: do not change them."""

    @cache
    def render(case: str, kubernetes: str = NEWEST) -> list[dict[str, Any]]:
        return parsed(printed(case, kubernetes))

    return render


@pytest.fixture
def minimal() -> dict[str, Any]:
    """The least values that render, for a test to change."""
    values: dict[str, Any] = yaml.safe_load(values_of("minimal").read_text())
    return values
