"""The demo's one chain over three platforms, as Marquez's graph shows it. Pure."""

from collections import deque
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

FIRST = "dataset:sftp://files.nordic-pumps.example:outbox/spare-parts.xlsx"
"""Where a supplier puts its file: the node id that the chain begins with."""
LAST = "views/sp_maintenance/SparePart/v1"
"""The view of the data model that the chain ends in: a dataset of the CDF project."""


def path(graph: Iterable[Mapping[str, Any]], first: str, last: str) -> list[str]:
    """The shortest way along the out-edges of a `/lineage` answer, as node ids; empty where there is none."""
    onward = {node["id"]: [edge["destination"] for edge in node["outEdges"]] for node in graph}
    came_from: dict[str, str | None] = {first: None} if first in onward else {}
    waiting = deque(came_from)
    while waiting:
        node = waiting.popleft()
        if node == last:
            return _back(came_from, last)
        for following in onward.get(node, ()):
            if following not in came_from:
                came_from[following] = node
                waiting.append(following)
    return []


def _back(came_from: Mapping[str, str | None], last: str) -> list[str]:
    found: list[str] = []
    node: str | None = last
    while node is not None:
        found.append(node)
        node = came_from[node]
    return found[::-1]


def shown(chain: Sequence[str]) -> str:
    """One line a node, indented as the summary of the demo is."""
    return "\n  -> ".join(f"{node.partition(':')[0]:<8}{node.partition(':')[2]}" for node in chain)
