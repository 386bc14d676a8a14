"""Reads YAML into plain values, with the line of each key; refuses what YAML parsers silently accept.

Only `true` and `false` are booleans and only decimal digits are numbers: `no`, `12:30` and dates stay text.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path as FilePath
from typing import Any

import yaml

from config.mistakes import ConfigurationMistakes, Mistake, Path, dotted

_LARGEST = 1024 * 1024
_MOST_VALUES = 100_000
_DEEPEST = 32
_TAG = "tag:yaml.org,2002:"


class _Loader(yaml.SafeLoader):
    yaml_implicit_resolvers = {}  # noqa: RUF012 -- add_implicit_resolver below replaces it on this class


for _name, _pattern, _first in (
    ("null", r"^(~|null|Null|NULL|)$", "~nN"),
    ("bool", r"^(true|True|TRUE|false|False|FALSE)$", "tTfF"),
    ("int", r"^[-+]?[0-9]{1,18}$", "-+0123456789"),
    ("float", r"^[-+]?[0-9]{1,18}\.[0-9]{1,18}$", "-+0123456789"),
    ("merge", r"^<<$", "<"),
):
    _Loader.add_implicit_resolver(_TAG + _name, re.compile(_pattern), list(_first))
_Loader.add_implicit_resolver(_TAG + "null", re.compile(r"^$"), [""])


@dataclass(slots=True)
class Document:
    """A configuration file as read: plain values, the line of each, and mistakes in the YAML."""

    file: str
    values: dict[str, Any] = field(default_factory=dict)
    lines: dict[Path, int] = field(default_factory=dict)
    mistakes: list[Mistake] = field(default_factory=list)

    def line(self, path: Path) -> int:
        """The line of the value, or of the nearest thing around it; 0 for the whole file."""
        for length in range(len(path), 0, -1):
            if (line := self.lines.get(path[:length])) is not None:
                return line
        return 0


def read(
    path: FilePath,
    *,
    hint: str = "see config/example.yaml for its content",
    named_by: str = "name it with --config",
) -> Document:
    """Raises `ConfigurationMistakes` if the file cannot be parsed; smaller mistakes are in the document.
    `named_by` is the remedy for a missing file.
    """
    path = path.absolute()
    name = str(path)
    text = _text(path, named_by)
    node = _composed(name, text)
    if node is None:
        raise _unusable(name, f"the file is empty; {hint}")
    if not isinstance(node, yaml.MappingNode):
        raise _unusable(name, f"must be a mapping (key: value); {hint}")
    document = Document(name)
    document.values = _Walk(document).mapping(node, ())
    return document


def _text(path: FilePath, named_by: str) -> str:
    try:
        with path.open("rb") as file:
            content = file.read(_LARGEST + 1)
    except FileNotFoundError:
        raise _unusable(str(path), f"there is no such file; {named_by}") from None
    except IsADirectoryError:
        raise _unusable(str(path), "is a directory; name the file in it") from None
    except OSError as error:
        raise _unusable(str(path), f"cannot be read: {error.strerror}; check the path, and who may read it") from None
    except ValueError:
        raise _unusable(repr(str(path)), "is not a valid path of a file") from None
    if len(content) > _LARGEST:
        raise _unusable(str(path), "is larger than 1 MiB, which cannot be a configuration")
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = content[: error.start].count(b"\n") + 1
        raise _unusable(
            str(path), f"byte 0x{content[error.start]:02x} is not UTF-8; save the file as UTF-8", line
        ) from None


def _composed(name: str, text: str) -> yaml.Node | None:
    loader = None
    try:
        loader = _Loader(text)
        return loader.get_single_node()
    except yaml.reader.ReaderError as error:
        line = text[: error.position].count("\n") + 1
        raise _unusable(name, f"contains the control character 0x{ord(text[error.position]):02x}", line) from None
    except yaml.MarkedYAMLError as error:
        raise _broken(name, text, error) from None
    except RecursionError:
        raise _unusable(name, f"is nested more than {_DEEPEST} levels deep") from None
    finally:
        if loader is not None:
            loader.dispose()


def _broken(name: str, text: str, error: yaml.MarkedYAMLError) -> ConfigurationMistakes:
    mark = error.problem_mark or error.context_mark
    line = mark.line if mark else 0
    tab = _indented_by_tab(text, line)
    if tab is not None:
        return _unusable(name, "a tab; YAML is indented with spaces only", tab)
    context = f" ({error.context})" if error.context else ""
    return _unusable(name, f"is not valid YAML: {error.problem}{context}", line + 1)


def _indented_by_tab(text: str, line: int) -> int | None:
    """The number of the line where the parser failed, or of the one before, if it begins with a tab."""
    lines = text.split("\n")
    numbers = (number for number in (line, line - 1) if 0 <= number < len(lines))
    return next((number + 1 for number in numbers if re.match(r"[ -]*\t", lines[number])), None)


def _unusable(file: str, problem: str, line: int = 0) -> ConfigurationMistakes:
    return ConfigurationMistakes([Mistake(file, "", problem, line=line)])


class _Walk:
    """Turns nodes into values. Aliases are followed, so the count and the depth of what comes out are bounded."""

    def __init__(self, document: Document) -> None:
        self._document = document
        self._count = 0

    def mapping(self, node: yaml.MappingNode, path: Path) -> dict[str, Any]:
        values: dict[str, Any] = {}
        for key, key_node, value_node in self._entries(node, path):
            here = (*path, key)
            if key in values:
                first = self._document.lines[here]
                self._report(key_node, here, f"is there twice, first in line {first}: remove one")
                continue
            self._document.lines[here] = _line(key_node)
            values[key] = self._value(value_node, here)
        return self._merged(node, values, path)

    def _entries(self, node: yaml.MappingNode, path: Path) -> Iterator[tuple[str, yaml.Node, yaml.Node]]:
        for key_node, value_node in node.value:
            if key_node.tag == _TAG + "merge":
                continue
            if isinstance(key_node, yaml.ScalarNode):
                yield key_node.value, key_node, value_node
            else:
                self._report(key_node, path, "a key must be text")

    def _merged(self, node: yaml.MappingNode, values: dict[str, Any], path: Path) -> dict[str, Any]:
        """`<<` adds keys that the mapping itself does not have; of several the first wins."""
        for key_node, value_node in node.value:
            if key_node.tag != _TAG + "merge":
                continue
            for source in value_node.value if isinstance(value_node, yaml.SequenceNode) else [value_node]:
                if not isinstance(source, yaml.MappingNode):
                    self._report(key_node, path, "<< takes a mapping or a list of mappings")
                    continue
                self._enter(source, path)
                for key, value in _Walk.mapping(self, source, (*path, "<<")).items():
                    values.setdefault(key, value)
                    self._document.lines.setdefault((*path, key), _line(source))
        return values

    def _value(self, node: yaml.Node, path: Path) -> Any:
        self._enter(node, path)
        if isinstance(node, yaml.MappingNode) and node.tag == _TAG + "map":
            return self.mapping(node, path)
        if isinstance(node, yaml.SequenceNode) and node.tag == _TAG + "seq":
            return [self._item(child, (*path, index)) for index, child in enumerate(node.value)]
        try:
            return _scalar(node)
        except ValueError:
            self._report(node, path, f"the tag {node.tag.removeprefix(_TAG)} is not supported here")
            return None

    def _item(self, node: yaml.Node, path: Path) -> Any:
        self._document.lines[path] = _line(node)
        return self._value(node, path)

    def _enter(self, node: yaml.Node, path: Path) -> None:
        self._count += 1
        file, line = self._document.file, _line(node)
        if self._count > _MOST_VALUES:
            raise _unusable(
                file, f"contains more than {_MOST_VALUES} values (an anchor counts each time that it is used)", line
            )
        if len(path) > _DEEPEST:
            raise _unusable(file, f"is nested more than {_DEEPEST} levels deep", line)

    def _report(self, node: yaml.Node, path: Path, problem: str) -> None:
        self._document.mistakes.append(Mistake(self._document.file, dotted(path), problem, line=_line(node)))


def _scalar(node: yaml.Node) -> str | int | float | bool | None:
    """Raises `ValueError` for tags that this program does not support."""
    match node.tag.removeprefix(_TAG):
        case "str":
            return str(node.value)
        case "null":
            return None
        case "bool" if node.value.lower() in {"true", "false"}:
            return bool(node.value.lower() == "true")
        case "int" if len(node.value) < 20:
            return int(node.value)
        case "float" if len(node.value) < 40:
            return float(node.value)
    raise ValueError(node.tag)


def _line(node: yaml.Node) -> int:
    return int(node.start_mark.line) + 1
