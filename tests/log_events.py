"""The log events as the code writes them: name, levels, fields. `python -m tests.log_events` brings docs/logs.md up to date.

The meanings are written in the page by hand; a new event gets an empty one, which a test refuses.
"""

import ast
import re
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field
from operator import itemgetter
from pathlib import Path

ROOT = Path(__file__).parents[1]
PAGE = ROOT / "docs" / "logs.md"
FOLDERS = ("collector", "exporters", "config")
LEVELS = {"debug", "info", "warning", "error", "critical", "exception"}
BEGIN, END = "<!-- events: generated from the code, `python -m tests.log_events` -->", "<!-- /events -->"
_ROW = re.compile(r"^\| `(?P<name>[a-z_.]+)` \|(?:[^|]*\|){2} ?(?P<meaning>.*?) ?\|$", re.MULTILINE)


@dataclass(slots=True)
class LogEvent:
    """`fields` may differ from place to place; a traceback comes with an event logged by `exception`."""

    levels: set[str] = field(default_factory=set)
    fields: set[str] = field(default_factory=set)


def log_events() -> dict[str, LogEvent]:
    """By name. What the name is made of at run time (`event.RESULT`) is left out: those are logged for debugging alone."""
    found: defaultdict[str, LogEvent] = defaultdict(LogEvent)
    for folder in FOLDERS:
        for path in sorted((ROOT / folder).rglob("*.py")):
            for name, level, names in _calls(ast.parse(path.read_text(encoding="utf-8"))):
                found[name].levels.add(level)
                found[name].fields |= names
    return dict(sorted(found.items()))


def _calls(tree: ast.Module) -> Iterator[tuple[str, str, set[str]]]:
    functions = [node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)]
    answers = {
        function.name: node.value
        for function in functions
        for node in ast.walk(function)
        if isinstance(node, ast.Return) and node.value is not None
    }
    for function in functions:
        assigned = [
            (node.lineno, target.id, node.value)
            for node in ast.walk(function)
            if isinstance(node, ast.Assign)
            for target in node.targets
            if isinstance(target, ast.Name)
        ]
        for node in ast.walk(function):
            if isinstance(node, ast.Call) and (event := _event(node)) is not None:
                before = {
                    name: value for line, name, value in sorted(assigned, key=itemgetter(0)) if line < node.lineno
                }
                extra = next((word.value for word in node.keywords if word.arg == "extra"), None)
                yield event, _level(node), _fields(extra, before, answers)


def _event(call: ast.Call) -> str | None:
    if not isinstance(call.func, ast.Attribute) or call.func.attr not in LEVELS or not call.args:
        return None
    name = call.args[0]
    is_event = (
        isinstance(name, ast.Constant) and isinstance(name.value, str) and re.fullmatch(r"[a-z]+\.[a-z_]+", name.value)
    )
    return str(name.value) if is_event and isinstance(name, ast.Constant) else None


def _level(call: ast.Call) -> str:
    assert isinstance(call.func, ast.Attribute)
    return "error" if call.func.attr == "exception" else call.func.attr


def _fields(extra: ast.expr | None, named: dict[str, ast.expr], answers: dict[str, ast.expr]) -> set[str]:
    """The names given to `fields(...)`, also where its result, a dict of more fields or a function stands in between."""
    if isinstance(extra, ast.Name) and extra.id in named:
        return _fields(named[extra.id], named, answers)
    if not isinstance(extra, ast.Call):
        return set()
    names = {word.arg for word in extra.keywords if word.arg is not None}
    for word in extra.keywords:
        if (
            word.arg is None
            and isinstance(word.value, ast.Name)
            and isinstance(more := named.get(word.value.id), ast.Dict)
        ):
            names |= {key.value for key in more.keys if isinstance(key, ast.Constant) and isinstance(key.value, str)}
    if isinstance(extra.func, ast.Attribute) and extra.func.attr in answers:
        names |= _fields(answers[extra.func.attr], named, answers)
    return names


def meanings(text: str) -> dict[str, str]:
    return {row["name"]: row["meaning"] for row in _ROW.finditer(text)}


def fresh(text: str) -> str:
    """The page with its table made anew; the meanings stay."""
    known = meanings(text)
    rows = [
        f"| `{name}` | {', '.join(sorted(event.levels))} | {', '.join(f'`{each}`' for each in sorted(event.fields))} "
        f"| {known.get(name, '')} |"
        for name, event in log_events().items()
    ]
    table = "\n".join(["| event | level | fields | meaning |", "|---|---|---|---|", *rows])
    before, rest = text.split(BEGIN)
    return f"{before}{BEGIN}\n{table}\n{END}{rest.split(END)[1]}"


if __name__ == "__main__":
    PAGE.write_text(fresh(PAGE.read_text(encoding="utf-8")), encoding="utf-8")
