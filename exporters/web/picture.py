"""The graph of jobs and datasets as a picture: where each box and each line goes. The way of the data is from left to right."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

BOX, HIGH = 220, 34
"""Size of a box in pixels."""
_ACROSS, _DOWN, _EDGE = 280, 48, 6
"""Between the left sides of two columns, the upper sides of two boxes, and around all."""


@dataclass(frozen=True, slots=True)
class Picture:
    """`boxes` are the left upper corners of the nodes; `lines` the paths of the edges, as SVG has them."""

    width: int
    height: int
    boxes: Sequence[tuple[int, int]]
    lines: Sequence[str]


def drawn(count: int, edges: Sequence[tuple[int, int]]) -> Picture:
    """So many nodes, with edges between their numbers."""
    places = _placed(count, [edge for edge in edges if edge[0] != edge[1]])
    boxes = [(_EDGE + round(column * _ACROSS), _EDGE + round(row * _DOWN)) for column, row in places]
    width = max(x for x, _ in boxes) + BOX + _EDGE
    height = max(y for _, y in boxes) + HIGH + _EDGE
    return Picture(width, height, boxes, [_line(boxes[one], boxes[other]) for one, other in edges])


def _placed(count: int, edges: Sequence[tuple[int, int]]) -> list[tuple[float, float]]:
    """Column and row of each node, from 0; no two are closer than one row in a column."""
    from fast_sugiyama import from_edges  # noqa: PLC0415 - only where a graph is shown

    found: dict[int, tuple[float, float]] = {}
    below = 0.0
    for part in from_edges(edges) if edges else ():
        at = {int(number): place for number, place in part[0] if int(number) < count}
        columns = _columns(at)
        scale = _closest(at)
        first = min(x for x, _ in at.values())
        found |= {number: (columns[y], below + (x - first) / scale) for number, (x, y) in at.items()}
        below = max(row for _, row in found.values()) + 1
    return [found.get(number, (0.0, below)) for number in range(count)]


def _columns(at: dict[int, tuple[float, float]]) -> dict[float, int]:
    """By layer; the highest layer is the first column."""
    return {layer: column for column, layer in enumerate(sorted({y for _, y in at.values()}, reverse=True))}


def _closest(at: dict[int, tuple[float, float]]) -> float:
    """How far the two nodes of a layer are apart that are closest."""
    gaps = []
    for layer in {y for _, y in at.values()}:
        along = sorted(x for x, y in at.values() if y == layer)
        gaps += [after - before for before, after in pairwise(along)]
    return min((gap for gap in gaps if gap > 0), default=36.0)


def _line(one: tuple[int, int], other: tuple[int, int]) -> str:
    x, y, to_x, to_y = one[0] + BOX, one[1] + HIGH // 2, other[0] - 4, other[1] + HIGH // 2
    bend = max(40, abs(to_x - x) // 2)
    return f"M{x} {y}C{x + bend} {y} {to_x - bend} {to_y} {to_x} {to_y}"
