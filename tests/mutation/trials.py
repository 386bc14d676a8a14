"""Tries mutants by tests: each in a process that is forked with all loaded but what imports its module, by tests that call its function."""

import ast
import importlib
import importlib.util
import io
import json
import os
import resource
import signal
import sys
import threading
import time
import warnings
from collections.abc import Callable, Collection, Generator, Iterator, Mapping, Sequence
from contextlib import contextmanager, redirect_stderr, redirect_stdout, suppress
from dataclasses import dataclass
from functools import cache
from importlib.machinery import ModuleSpec, SourceFileLoader
from itertools import accumulate
from pathlib import Path
from types import CodeType, FrameType

import pytest

from tests.mutation.mutants import ROOT, Mutant, function_at

PACKAGES = ("collector", "exporters")
"""Where mutants are made."""
_OURS = (*PACKAGES, "config", "simulators")
_TESTS = ("tests", "conftest", "test_", "__main__")
_OPTIONS = (
    *("-x", "-q", "--tb=line", "-p", "no:cacheprovider", "-p", "no:xdist", "-o", "timeout=0", "--hypothesis-seed=0"),
    *("-W", "ignore:Module already imported:pytest.PytestAssertRewriteWarning", "-k", "not postgres"),
)
ENOUGH = 6.0
"""Seconds of CPU that tests take with one mutant at the most, but for those of one test."""
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


def trial(tests: Sequence[str], mutant: Mutant, patience: Patience, chosen: Sequence[str]) -> Trial:
    """These of the tests with this mutant, within `patience`."""
    files = [each for each in tests if any(test.startswith(f"{each}::") for test in chosen)]

    def attempt() -> tuple[int, str]:
        sys.meta_path.insert(0, _Mutated(mutant))
        code, last = _asked(files, _Chosen(chosen))
        return code, "not even imported" if code in _NOT_COLLECTED else last

    return _forked(attempt, patience)


@dataclass(frozen=True, slots=True)
class Reach:
    """The tests with the code as it is: the seconds of CPU that each takes, in `by_function` those that call a function. One that
    is called when its module is imported has all of them, as the module itself.
    """

    seconds: Mapping[str, float]
    by_function: Mapping[str, Collection[str]]

    def of(self, function: str) -> list[str]:
        """No more than `ENOUGH` seconds of them: file by file as the tests are given, of each the quickest first."""
        places = {test.partition("::")[0]: place for place, test in reversed([*enumerate(self.seconds)])}
        order = sorted(
            self.by_function.get(function, ()),
            key=lambda test: (places[test.partition("::")[0]], self.seconds[test]),
        )
        until = accumulate(self.seconds[test] for test in order)
        return [test for test, total in zip(order, until, strict=True) if total <= ENOUGH or test == order[0]]


def reach(tests: Sequence[str], path: str) -> Reach:
    """Who calls which function of the module at this path."""
    tree = ast.parse((ROOT / path).read_text(encoding="utf-8"))
    seconds: dict[str, float] = {}
    by_function: dict[str, set[str]] = {"": {_IMPORT}}
    for took, called in map(_calls, tests):
        seconds |= took
        for test, lines in called.get(str(ROOT / path), {}).items():
            for line in lines:
                by_function.setdefault(function_at(tree, line), set()).add(test)
    found = {name: seconds.keys() if _IMPORT in those else those for name, those in by_function.items()}
    return Reach(seconds, found)


@cache
def _calls(tests: str) -> tuple[dict[str, float], dict[str, dict[str, list[int]]]]:
    """The seconds of each test in this file, and by our files the first lines of the functions that each test calls."""

    def attempt() -> tuple[int, str]:
        calls = _Calls()
        sys.settrace(calls.trace)
        threading.settrace(calls.trace)
        code, last = _asked([tests], calls)
        return code, last if code else json.dumps([calls.seconds, calls.found])

    done = _forked(attempt, Patience(1200, 1200))
    if not done.passed:
        raise SystemExit(f"{tests} fails without any mutant: {done.how}")
    seconds, found = json.loads(done.how)
    return seconds, found


def _forked(attempt: Callable[[], tuple[int, str]], patience: Patience) -> Trial:
    began = time.monotonic()
    reading, writing = os.pipe()
    pid = os.fork()
    if pid == 0:
        os.close(reading)
        _attempt_and_exit(attempt, patience, writing)
    os.close(writing)
    with os.fdopen(reading, encoding="utf-8", errors="replace") as pipe:
        output = pipe.read()
    _, status, usage = os.wait4(pid, 0)
    with suppress(ProcessLookupError, PermissionError):  # what the tests started
        os.killpg(pid, signal.SIGKILL)
    how = "not ended in time" if os.WIFSIGNALED(status) else output
    return Trial(status == 0, how, usage.ru_utime + usage.ru_stime, time.monotonic() - began)


def load(tests: Sequence[str], path: str | None = None) -> None:
    """Import what these tests import: of others only, or of ours, too, but for tests, the module at this path, and those that
    import it, if only by others. That is for a process in which no other module is tried.
    """

    def attempt() -> tuple[int, str]:
        code, last = _asked(["--collect-only", *tests], plugin=None)
        return code, last if code else json.dumps([*sys.modules])

    collected = _forked(attempt, Patience(600, 600))
    if not collected.passed:
        raise SystemExit(f"{' '.join(tests)} cannot be collected: {collected.how}")
    names = [name for name in json.loads(collected.how) if not name.startswith(_TESTS)]
    ours = [name for name in names if name.startswith(_OURS)]
    left_out = set(ours) if path is None else _importers(module_name(path), ours)
    for name in names:
        if name not in left_out and name not in sys.modules:
            with suppress(Exception):  # some modules can be imported by their package alone
                importlib.import_module(name)


def _importers(module: str, ours: Sequence[str]) -> set[str]:
    """The module, and those of ours that import it or one that does."""
    imports = {name: _imported(name) for name in ours}
    found: set[str] = set()
    more = {module}
    while more:
        found |= more
        more = {name for name, those in imports.items() if those & found} - found
    return found


def _imported(module: str) -> set[str]:
    spec = importlib.util.find_spec(module)
    if spec is None or spec.origin is None or not spec.origin.endswith(".py"):
        return set()
    found: set[str] = set()
    for node in ast.walk(ast.parse(Path(spec.origin).read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found.update(each.name for each in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            found.update((node.module, *(f"{node.module}.{each.name}" for each in node.names)))
    return found


def module_name(path: str) -> str:
    return path.removesuffix(".py").removesuffix("/__init__").replace("/", ".")


def _attempt_and_exit(attempt: Callable[[], tuple[int, str]], patience: Patience, writing: int) -> None:
    os.setsid()
    resource.setrlimit(resource.RLIMIT_CPU, (patience.cpu, patience.cpu))
    signal.signal(signal.SIGALRM, signal.SIG_DFL)
    signal.alarm(patience.seconds)
    code, output = int(pytest.ExitCode.INTERNAL_ERROR), ""
    with suppress(BaseException):
        code, output = attempt()
    with suppress(BrokenPipeError), os.fdopen(writing, "w", encoding="utf-8", errors="replace") as pipe:
        pipe.write(output)
    os._exit(code)


def _asked(tests: Sequence[str], plugin: object | None) -> tuple[int, str]:
    """What pytest exits with, and its last line."""
    with _quiet() as heard:
        code = pytest.main([*_OPTIONS, *tests], plugins=[] if plugin is None else [plugin])
    return int(code), heard.getvalue().strip().rpartition("\n")[2]


class _Chosen:
    """Lets pytest run these tests alone, in this order."""

    def __init__(self, tests: Sequence[str]) -> None:
        self._places = {test: place for place, test in enumerate(tests)}

    def pytest_collection_modifyitems(self, items: list[pytest.Item]) -> None:
        items[:] = [each for each in items if each.nodeid in self._places]
        items.sort(key=lambda each: self._places[each.nodeid])


_IMPORT = ""
"""Stands for a test: what is called when none is run."""


class _Calls:
    """Notes by test its seconds of CPU, and by our files the first lines of the functions that it calls."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}
        self.found: dict[str, dict[str, list[int]]] = {}
        self._test = _IMPORT
        self._ours = tuple(f"{ROOT}/{each}" for each in PACKAGES)

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_protocol(self, item: pytest.Item) -> Generator[None, object, object]:
        self._test, began = item.nodeid, time.process_time()
        result = yield
        self.seconds[self._test] = time.process_time() - began
        self._test = _IMPORT
        return result

    def trace(self, frame: FrameType, event: str, _: object) -> None:
        code = frame.f_code
        if event == "call" and code.co_filename.startswith(self._ours):
            lines = self.found.setdefault(code.co_filename, {}).setdefault(self._test, [])
            if code.co_firstlineno not in lines:
                lines.append(code.co_firstlineno)


class _Mutated(SourceFileLoader):
    """Gives the mutant wherever its module is imported, without touching the file."""

    def __init__(self, mutant: Mutant) -> None:
        SourceFileLoader.__init__(self, module_name(mutant.path), str(ROOT / mutant.path))
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
