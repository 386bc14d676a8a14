"""Tries mutants by the tests that reach them, each in a forked process that ends with the first test that fails.

The tests are collected once, with all that they import: there the functions get the code of the mutant. What a module does while it is
imported cannot be changed afterwards, so that such mutants are tried in a process that has imported nothing of ours yet.
"""

import ast
import gc
import importlib.util
import io
import json
import os
import signal
import sys
import threading
import time
import traceback
import warnings
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext, redirect_stderr, redirect_stdout, suppress
from dataclasses import dataclass
from importlib.machinery import ModuleSpec, SourceFileLoader
from itertools import accumulate, zip_longest
from multiprocessing import Pipe
from types import CodeType, FrameType, FunctionType
from typing import Any

import pytest

from tests.mutation.mutants import ROOT, Mutant

_OPTIONS = (
    *("-q", "--tb=no", "-p", "no:cacheprovider", "-p", "no:xdist", "-o", "timeout=0", "--hypothesis-seed=0"),
    *("-W", "ignore:Module already imported:pytest.PytestAssertRewriteWarning", "-k", "not postgres"),
)
ENOUGH = 12.0
"""Seconds of CPU that tests take with one mutant at the most, but for those of one test."""
_LEAST_CPU, _LEAST_SECONDS = 3, 30
"""What each test has at least before it counts as not ended: of CPU, and of the clock, which says little on a busy machine."""
_TIMES_CPU, _TIMES_SECONDS = 3, 100
"""And how many times what it takes without a mutant."""
_NOT_COLLECTED = (pytest.ExitCode.INTERRUPTED, pytest.ExitCode.USAGE_ERROR, pytest.ExitCode.INTERNAL_ERROR)
_IRREPLACEABLE, _FAULT = 77, 78
"""Exit codes: no function can get the mutant; the fault is of this module."""
_ENDED = {signal.SIGPROF: "not ended", signal.SIGALRM: "not ended"}


@dataclass(frozen=True, slots=True)
class Trial:
    """What became of a mutant: killed, not ended, not imported, or survived. `how` names what ended it, `cpu` is in seconds."""

    outcome: str
    how: str
    cpu: float


SURVIVED = "survived"


class Workbench:
    """Tests that are collected; a plug-in of pytest that does `work` with them instead of running them."""

    def __init__(self, work: Callable[["Workbench"], None]) -> None:
        self._work = work
        self._session: pytest.Session
        self._functions: list[FunctionType] = []

    def pytest_runtestloop(self, session: pytest.Session) -> bool:
        sys.settrace(None)  # what imports do was traced
        self._session = session
        self._functions = [each for each in gc.get_objects() if isinstance(each, FunctionType)]
        gc.collect()
        gc.freeze()  # so that a forked process copies fewer pages
        self._work(self)
        return True

    def reach(self, lines: "Lines") -> "Reach":
        """Runs all tests once, as the code is. Those that fail are asked about no mutant."""

        def attempt() -> tuple[int, str]:
            seconds: list[float | None] = []
            with lines.traced():
                for index, item in enumerate(self._session.items):
                    began, failed = time.process_time(), self._session.testsfailed
                    self._run(item, None)
                    fails = self._session.testsfailed > failed
                    seconds.append(None if fails else time.process_time() - began)
                    lines.note(index)
            return 0, json.dumps([seconds, lines.found])

        _, answer, _ = _forked(attempt)
        seconds, found = json.loads(answer)
        names = [each.nodeid for each in self._session.items]
        return Reach(names, seconds, found)

    def trial(self, mutant: Mutant, tests: Mapping[str, float]) -> Trial | None:
        """These tests, with the seconds that they take, with this mutant in its functions. None: no function can get it."""

        def attempt() -> tuple[int, str]:
            return self.failing(tests) if replaced(mutant, self._functions) else (_IRREPLACEABLE, "")

        status, output, cpu = _forked(attempt)
        return None if os.waitstatus_to_exitcode(status) == _IRREPLACEABLE else _judged(status, output, cpu)

    def failing(self, tests: Mapping[str, float]) -> tuple[int, str]:
        """The first of these tests that fails."""
        items = {each.nodeid: each for each in self._session.items}
        chosen = [items[each] for each in tests if each in items]
        for item, following in zip_longest(chosen, chosen[1:]):
            seconds = tests[item.nodeid]
            signal.setitimer(signal.ITIMER_PROF, _LEAST_CPU + _TIMES_CPU * seconds)
            signal.alarm(_LEAST_SECONDS + int(_TIMES_SECONDS * seconds))
            self._run(item, following)
            if self._session.testsfailed:
                return 1, item.nodeid
        return 0, f"{len(chosen)} tests"

    @staticmethod
    def _run(item: pytest.Item, following: pytest.Item | None) -> None:
        item.config.hook.pytest_runtest_protocol(item=item, nextitem=following)


def tried(mutants: Sequence[Mutant], tests_of: Callable[[str], Sequence[str]]) -> Iterator[tuple[Mutant, Trial]]:
    """What became of each, by the tests of its module: of those in functions first."""
    by_id = {each.id: each for each in mutants}
    left: dict[str, dict[str, float]] = {}
    for id_, said in _said_by_another_process(lambda say: _try_in_functions(mutants, tests_of, say)):
        if isinstance(said, Trial):
            yield by_id[id_], said
        else:
            left[id_] = said
    for id_, tests in left.items():
        yield by_id[id_], imported_trial(by_id[id_], tests)


Said = tuple[str, Trial | dict[str, float]]
"""Of a mutant, by its id: what became of it, or the tests to be asked about it by an import."""


def _try_in_functions(
    mutants: Sequence[Mutant], tests_of: Callable[[str], Sequence[str]], say: Callable[[Said], None]
) -> int:
    files = dict.fromkeys(test for each in mutants for test in tests_of(each.path))
    lines = Lines({each.path for each in mutants})

    def work(bench: Workbench) -> None:
        lines.note(None)
        _migrate_once()
        reached = bench.reach(lines)
        for each in mutants:
            tests = reached.of(each, tests_of(each.path))
            result = None if reached.is_imported(each) else bench.trial(each, tests)
            say((each.id, result or tests))

    code, heard = collected([*files], work, lines)
    if code:
        print(heard)
    return code


def _migrate_once() -> None:
    """What most tests begin with, here instead of in each process that is forked."""
    from collector.ledger.schema import REVISIONS
    from tests.unit.empty_ledger import statements

    statements(REVISIONS)


def _said_by_another_process(work: Callable[[Callable[[Said], None]], int]) -> Iterator[Said]:
    receiving, sending = Pipe(duplex=False)
    pid = os.fork()
    if pid == 0:
        receiving.close()
        code = 1
        try:
            code = work(sending.send)
        except BaseException:  # noqa: BLE001 - nothing of the parent may run in this process
            traceback.print_exc()
        finally:
            sending.close()
            sys.stdout.flush()
            os._exit(code)
    sending.close()
    with suppress(EOFError):
        while True:
            yield receiving.recv()
    if os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]):
        raise SystemExit("the tests cannot be collected, or no mutant can be tried")


def collected(tests: Sequence[str], work: Callable[[Workbench], None], lines: "Lines | None" = None) -> tuple[int, str]:
    """Collects these tests, lets `work` use them, and returns what pytest exits with and says. `lines` gets what the import reaches."""
    heard = io.StringIO()
    with redirect_stdout(heard), redirect_stderr(heard), lines.traced() if lines else nullcontext():
        code = pytest.main([*_OPTIONS, *tests], plugins=[Workbench(work)])
    return int(code), heard.getvalue()


def imported_trial(mutant: Mutant, tests: Mapping[str, float]) -> Trial:
    """These tests, with the seconds that they take, with this mutant as the module that they import."""

    def attempt() -> tuple[int, str]:
        sys.meta_path.insert(0, _Mutated(mutant))
        result: list[tuple[int, str]] = []
        files = dict.fromkeys(each.partition("::")[0] for each in tests)
        code, _ = collected([*files], lambda bench: result.append(bench.failing(tests)))
        return result[0] if result else (code, "not even imported")

    return _judged(*_forked(attempt))


def _judged(status: int, output: str, cpu: float) -> Trial:
    if os.WIFSIGNALED(status):
        by = signal.Signals(os.WTERMSIG(status))
        return Trial(_ENDED.get(by, "killed"), f"ended by {by.name}", cpu)
    code = os.waitstatus_to_exitcode(status)
    if code == _FAULT:
        raise RuntimeError(output)
    if code in _NOT_COLLECTED:
        return Trial("not imported", output, cpu)
    return Trial("killed" if code else SURVIVED, output, cpu)


class Lines:
    """Notes which lines of these modules are reached, by the number of each test; none: by the import."""

    def __init__(self, paths: Iterable[str]) -> None:
        self._reached: dict[str, set[int]] = {str(ROOT / each): set() for each in paths}
        self.found: dict[str, dict[int, list[int | None]]] = {each: {} for each in self._reached}
        self._local = {name: _noting(lines) for name, lines in self._reached.items()}

    def note(self, test: int | None) -> None:
        """What was reached since the last note was by this test."""
        for name, lines in self._reached.items():
            for line in lines:
                self.found[name].setdefault(line, []).append(test)
            lines.clear()

    @contextmanager
    def traced(self) -> Iterator[None]:
        sys.settrace(self._trace)
        threading.settrace(self._trace)
        try:
            yield
        finally:
            sys.settrace(None)
            threading.settrace(None)

    def _trace(self, frame: FrameType, event: str, _: Any) -> Callable[[FrameType, str, Any], Any] | None:
        return self._local.get(frame.f_code.co_filename)


def _noting(lines: set[int]) -> Callable[[FrameType, str, Any], Any]:
    def note(frame: FrameType, event: str, _: Any) -> Any:
        if event == "line":
            lines.add(frame.f_lineno)
        return note

    return note


@dataclass(frozen=True, slots=True)
class Reach:
    """The tests with the code as it is: the seconds of CPU that each takes (None: it fails), and by module and line the numbers of those
    that reach it, None for the import.
    """

    names: Sequence[str]
    seconds: Sequence[float | None]
    by_line: Mapping[str, Mapping[str, Collection[int | None]]]

    @property
    def failing(self) -> list[str]:
        return [name for name, seconds in zip(self.names, self.seconds, strict=True) if seconds is None]

    def is_imported(self, mutant: Mutant) -> bool:
        return None in self._numbers(mutant)

    def of(self, mutant: Mutant, files: Sequence[str]) -> dict[str, float]:
        """Tests that reach the statement, no more than `ENOUGH` seconds of them: file by file as these are given, of each the quickest first."""
        numbers = self._numbers(mutant)
        reaching = range(len(self.names)) if None in numbers else [each for each in numbers if each is not None]
        found = {self.names[each]: seconds for each in reaching if (seconds := self.seconds[each]) is not None}
        return enough(found, files)

    def _numbers(self, mutant: Mutant) -> set[int | None]:
        by_line = self.by_line[str(ROOT / mutant.path)]
        return {each for line in statement(ast.parse(mutant.was), mutant.line) for each in by_line.get(str(line), ())}


def enough(seconds: Mapping[str, float], files: Sequence[str]) -> dict[str, float]:
    places = {file: place for place, file in enumerate(files)}
    known = {test: places[file] for test in seconds if (file := test.partition("::")[0]) in places}
    order = sorted(known, key=lambda test: (known[test], seconds[test]))
    until = accumulate(seconds[test] for test in order)
    taken = [test for test, total in zip(order, until, strict=True) if total <= ENOUGH or test == order[0]]
    return {test: seconds[test] for test in taken}


def statement(tree: ast.AST, line: int) -> range:
    """The lines of the innermost statement at this one, without the statements within it."""
    found = range(line, line + 1)
    for node in ast.walk(tree):
        if isinstance(node, ast.stmt | ast.ExceptHandler) and line in (own := _own_lines(node)):
            found = own
    return found


def _own_lines(node: ast.stmt | ast.ExceptHandler) -> range:
    first = min(each.lineno for each in (node, *getattr(node, "decorator_list", ())))
    body = getattr(node, "body", ())
    last = max(body[0].lineno - 1, first) if body else node.end_lineno or first
    return range(first, last + 1)


def replaced(mutant: Mutant, functions: Iterable[FunctionType]) -> bool:
    """Whether one of these functions differs in the mutant, and each that does has its code now."""
    file = str(ROOT / mutant.path)
    codes = {_key(each): each for each in _codes(_compiled(mutant.text, file))}
    mine = [each for each in functions if each.__code__.co_filename == file]
    changed = [(each, code) for each in mine if (code := codes.get(_key(each.__code__))) and code != each.__code__]
    try:
        for function, code in changed:
            function.__code__ = code
    except ValueError:  # it closes over other variables
        return False
    return bool(changed)


def _key(code: CodeType) -> tuple[str, int]:
    return code.co_qualname, code.co_firstlineno


def _codes(code: CodeType) -> Iterator[CodeType]:
    yield code
    for each in code.co_consts:
        if isinstance(each, CodeType):
            yield from _codes(each)


def _compiled(text: str, file: str) -> CodeType:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", SyntaxWarning)  # "is" beside a number
        return compile(text, file, "exec", dont_inherit=True)


def module_name(path: str) -> str:
    return path.removesuffix(".py").removesuffix("/__init__").replace("/", ".")


class _Mutated(SourceFileLoader):
    """Gives the mutant wherever its module is imported, without touching the file."""

    def __init__(self, mutant: Mutant) -> None:
        SourceFileLoader.__init__(self, module_name(mutant.path), str(ROOT / mutant.path))
        self._mutated = mutant.text

    def find_spec(self, fullname: str, path: object = None, target: object = None) -> ModuleSpec | None:
        return importlib.util.spec_from_loader(fullname, self) if fullname == self.name else None

    def get_code(self, fullname: str) -> CodeType:
        return _compiled(self._mutated, self.path)


def _forked(attempt: Callable[[], tuple[int, str]]) -> tuple[int, str, float]:
    """How this ended in a process of its own, what it returned, and the seconds of CPU it took."""
    reading, writing = os.pipe()
    pid = os.fork()
    if pid == 0:
        os.close(reading)
        _attempt_and_exit(attempt, writing)
    os.close(writing)
    with os.fdopen(reading, encoding="utf-8", errors="replace") as pipe:
        output = pipe.read()
    _, status, usage = os.wait4(pid, 0)
    with suppress(ProcessLookupError, PermissionError):  # what the tests started
        os.killpg(pid, signal.SIGKILL)
    return status, output, usage.ru_utime + usage.ru_stime


def _attempt_and_exit(attempt: Callable[[], tuple[int, str]], writing: int) -> None:
    os.setsid()
    signal.signal(signal.SIGALRM, signal.SIG_DFL)
    try:
        code, output = attempt()
    except BaseException as error:  # noqa: BLE001 - nothing of the parent may run in this process
        code, output = _FAULT, repr(error)
    with suppress(BrokenPipeError), os.fdopen(writing, "w", encoding="utf-8", errors="replace") as pipe:
        pipe.write(output)
    os._exit(code)
