"""What every test may ask for: the real servers, started when the first test needs one."""

import logging
import signal
import sys
from collections.abc import Iterator

import pytest
from hypothesis import HealthCheck, settings

from collector.secret_registry import secret_registry

collect_ignore = ["plugin"]  # a separate distribution, see contract/test_plugin.py
pytest.register_assert_rewrite("collector.testing")
settings.register_profile("busy machine", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("busy machine")
# A run begun in the background ignores Ctrl-C, and the programs under test would inherit that.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

pytest_plugins = [
    "tests.servers.alertmanager",
    "tests.servers.helm",
    "tests.servers.kafka",
    "tests.servers.podman",
    "tests.servers.postgres",
    "tests.servers.prometheus",
    "tests.servers.toxiproxy",
]


@pytest.fixture(autouse=True)
def _no_secrets_of_other_tests() -> Iterator[None]:
    """The registry is one for the process."""
    yield
    secret_registry.forget_all()


@pytest.fixture
def logging_as_it_was() -> Iterator[None]:
    """What `collector.logs.set_up` changes in the process."""
    root = logging.getLogger()
    handlers, level, hook = root.handlers[:], root.level, sys.excepthook
    yield
    sys.excepthook = hook
    root.handlers[:] = handlers
    root.setLevel(level)
