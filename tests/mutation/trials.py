"""Tries mutants by tests: each in a process that is forked with everything but our own modules loaded."""

import importlib
import importlib.util
import io
import os
import resource
import signal
import sys
import time
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, redirect_stderr, redirect_stdout, suppress
from dataclasses import dataclass
from importlib.machinery import ModuleSpec, SourceFileLoader
from types import CodeType

import pytest

from tests.mutation.mutants import ROOT, Mutant

_OURS = ("collector", "exporters", "config", "simulators", "tests", "conftest", "__main__")
_OPTIONS = (
    *("-x", "-q", "--tb=line", "-p", "no:cacheprovider", "-p", "no:xdist", "-o", "timeout=0", "--hypothesis-seed=0"),
    *("-W", "ignore:Module already imported:pytest.PytestAssertRewriteWarning", "-k", "not postgres"),
)
_NOT_COLLECTED = (pytest.ExitCode.INTERRUPTED, pytest.ExitCode.USAGE_ERROR, pytest.ExitCode.INTERNAL_ERROR)


@dataclass(frozen=True, slots=True)
class Trial:
    """`passed` is that of the tests: a mutant that survived. `how` says what ended it otherwise, `cpu` in seconds."""

    passed: bool
    how: str
    cpu: float
    seconds: float


@dataclass(frozen=True, slots=True)
class Patience:
    """Seconds of CPU and of the clock within which tests must end."""

    cpu: int
    seconds: int


def trial(tests: Sequence[str], mutant: Mutant | None, patience: Patience) -> Trial:
    """The tests with this mutant, or with the code as it is, within `patience`."""
    began = time.monotonic()
    reading, writing = os.pipe()
    pid = os.fork()
    if pid == 0:
        os.close(reading)
        _try_and_exit(tests, mutant, patience, writing)
    os.close(writing)
    with os.fdopen(reading, encoding="utf-8", errors="replace") as pipe:
        output = pipe.read()
    _, status, usage = os.wait4(pid, 0)
    with suppress(ProcessLookupError, PermissionError):  # what the tests started
        os.killpg(pid, signal.SIGKILL)
    how = "not ended in time" if os.WIFSIGNALED(status) else output
    return Trial(status == 0, how, usage.ru_utime + usage.ru_stime, time.monotonic() - began)


def load(tests: Sequence[str]) -> None:
    """Import what these tests import, but for our own modules."""
    reading, writing = os.pipe()
    pid = os.fork()
    if pid == 0:
        os.close(reading)
        with _quiet():
            pytest.main([*_OPTIONS, "--collect-only", *tests])
        os.write(writing, "\n".join(sys.modules).encode())
        os._exit(0)
    os.close(writing)
    with os.fdopen(reading, encoding="utf-8") as pipe:
        names = pipe.read().split("\n")
    os.wait4(pid, 0)
    for name in names:
        if not name.startswith(_OURS) and name not in sys.modules:
            with suppress(Exception):  # some modules can be imported by their package alone
                importlib.import_module(name)


def _try_and_exit(tests: Sequence[str], mutant: Mutant | None, patience: Patience, writing: int) -> None:
    os.setsid()
    resource.setrlimit(resource.RLIMIT_CPU, (patience.cpu, patience.cpu))
    signal.signal(signal.SIGALRM, signal.SIG_DFL)
    signal.alarm(patience.seconds)
    if mutant is not None:
        sys.meta_path.insert(0, _Mutated(mutant))
    code: int = pytest.ExitCode.INTERNAL_ERROR
    with _quiet() as heard, suppress(BaseException):
        code = pytest.main([*_OPTIONS, *tests])
    last = "not even imported" if code in _NOT_COLLECTED else heard.getvalue().strip().rpartition("\n")[2]
    with suppress(BrokenPipeError):
        os.write(writing, last.encode())
    os._exit(int(code))


class _Mutated(SourceFileLoader):
    """Gives the mutant wherever its module is imported, without touching the file."""

    def __init__(self, mutant: Mutant) -> None:
        module = mutant.path.removesuffix(".py").removesuffix("/__init__").replace("/", ".")
        SourceFileLoader.__init__(self, module, str(ROOT / mutant.path))
        self._mutated = mutant.text

    def find_spec(self, fullname: str, path: object = None, target: object = None) -> ModuleSpec | None:
        return importlib.util.spec_from_loader(fullname, self) if fullname == self.name else None

    def get_code(self, fullname: str) -> CodeType:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", SyntaxWarning)  # "is" beside a number
            return compile(self._mutated, self.path, "exec", dont_inherit=True)


@contextmanager
def _quiet() -> Iterator[io.StringIO]:
    """Keeps what is printed."""
    heard = io.StringIO()
    with redirect_stdout(heard), redirect_stderr(heard):
        yield heard
