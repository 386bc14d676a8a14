"""`graph`: what a job or dataset is made from and what is made from it, as a tree, as JSON, as Graphviz' DOT or as Mermaid."""

import re
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from sqlalchemy import Connection

from collector import views
from collector.app import configuration
from collector.app.listings import read
from collector.app.tables import printable, show_json
from collector.errors import LineageError
from collector.ledger import graph as graphs
from collector.ledger.graph import Graph, Node

FEW = 20
"""Jobs and datasets that one name may mean."""


def graph(config: Path, name: str, *, depth: int, form: str) -> int:
    """`form` is tree, json, dot or mermaid. Raises `LineageError` where nothing goes by the name, or several things do."""

    def found(conn: Connection) -> tuple[list[Node], Graph | None]:
        nodes = graphs.named(conn, name, FEW)
        return nodes, graphs.around(conn, nodes[0], depth) if len(nodes) == 1 else None

    nodes, around = read(configuration.load(config), found)
    if around is None:
        raise LineageError(_not_one(name, nodes))
    match form:
        case "json":
            show_json(views.graph(around))
        case "dot":
            print(dot(around))
        case "mermaid":
            print(mermaid(around))
        case _:
            print("\n".join(tree(around) if sys.stdout.isatty() else lines(around)))
            if around.is_cut:
                print("there is more than fits: give a lower --depth, or ask for a neighbor", file=sys.stderr)
    return 0


def _not_one(name: str, nodes: Sequence[Node]) -> str:
    if not nodes:
        return f"the ledger knows no job and no dataset {name!r}; `lineage-collector explain` finds similar names"
    return f"{name!r} may be any of these, give the whole name: {', '.join(map(_words, nodes))}"


def _words(node: Node) -> str:
    kind = "job" if node.is_job else "dataset"
    return printable(f"{kind} {node.space} {node.name}")


def lines(found: Graph) -> Iterator[str]:
    """An edge a line, the way of the data, with a tab between the two; the node alone where it has none."""
    if not found.edges:
        yield _words(found.start)
    yield from sorted(f"{_words(one)}\t{_words(other)}" for one, other in found.edges)


def tree(found: Graph) -> Iterator[str]:
    """First the node, then what it is made from, then what is made from it. What was shown already is not opened again."""
    yield _words(found.start)
    up, down = dict[Node, list[Node]](), dict[Node, list[Node]]()
    for one, other in sorted(found.edges, key=lambda edge: tuple(map(_words, edge))):
        up.setdefault(other, []).append(one)
        down.setdefault(one, []).append(other)
    for title, beyond in (("made from", up), ("used by", down)):
        if beyond.get(found.start):
            yield f"{title}:"
            yield from _branches(found.start, beyond, {found.start}, "  ")


def _branches(node: Node, beyond: Mapping[Node, Sequence[Node]], shown: set[Node], indent: str) -> Iterator[str]:
    nodes = beyond.get(node, ())
    for place, each in enumerate(nodes):
        is_last = place == len(nodes) - 1
        is_known = each in shown
        yield f"{indent}{'└─' if is_last else '├─'} {_words(each)}{' (see above)' if is_known else ''}"
        if not is_known:
            shown.add(each)
            yield from _branches(each, beyond, shown, indent + ("   " if is_last else "│  "))


def dot(found: Graph) -> str:
    """For Graphviz: `| dot -Tsvg`."""
    numbers = {node: number for number, node in enumerate(found.depths)}
    boxes = [
        f"  n{number} [label={_quoted(node.name)}, tooltip={_quoted(node.space)}, shape={'ellipse' if node.is_job else 'box'}];"
        for node, number in numbers.items()
    ]
    arrows = [f"  n{numbers[one]} -> n{numbers[other]};" for one, other in found.edges]
    return "\n".join(["digraph lineage {", "  rankdir=LR;", *boxes, *arrows, "}"])


def mermaid(found: Graph) -> str:
    """For Markdown, in a block of the language `mermaid`."""
    numbers = {node: number for number, node in enumerate(found.depths)}
    boxes = [
        f"  n{number}" + (f"([{_labeled(node.name)}])" if node.is_job else f"[{_labeled(node.name)}]")
        for node, number in numbers.items()
    ]
    arrows = [f"  n{numbers[one]} --> n{numbers[other]}" for one, other in found.edges]
    return "\n".join(["flowchart LR", *boxes, *arrows])


def _labeled(words: str) -> str:
    """What has a meaning in a label of Mermaid is written by its number."""
    return '"' + re.sub(r'[#"&<>`\\]', lambda found: f"#{ord(found[0])};", printable(words)) + '"'


def _quoted(words: str) -> str:
    return '"' + printable(words).replace("\\", "\\\\").replace('"', '\\"') + '"'
