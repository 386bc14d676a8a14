"""Which jobs read and write which datasets, as their last successes say, and the graph around one of them.

Datasets have the names that they have in events: those of the configuration's aliases.
"""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from sqlalchemy import (
    ColumnElement,
    Connection,
    Integer,
    Select,
    and_,
    bindparam,
    cast,
    delete,
    exists,
    func,
    insert,
    or_,
    select,
    tuple_,
)

from collector.ledger import queries, schema
from collector.ledger.statements import KEYS, changed, chunks, rows_of
from collector.model import Dataset, Definition

DEEPEST = 6
MOST = 80
"""Nodes of a graph; what is beyond is left out and said."""
_use = schema.dataset_use


@dataclass(frozen=True, slots=True)
class Node:
    """`space` is the source of a job, the namespace of a dataset."""

    is_job: bool
    space: str
    name: str


@dataclass(frozen=True, slots=True)
class Graph:
    """`edges` go the way of the data, as pairs of nodes. `is_cut` says that there was no room for all of it; `depths` how many
    steps each node is away from the first: negative for what it is made from.
    """

    start: Node
    depths: Mapping[Node, int]
    edges: Sequence[tuple[Node, Node]]
    is_cut: bool


@dataclass(frozen=True, slots=True)
class DatasetRow:
    namespace: str
    name: str
    writers: int
    readers: int


def note(conn: Connection, source_id: int, known: Mapping[str, Definition]) -> None:
    """Store which datasets these jobs use; None in a definition leaves what is stored."""
    for some in chunks(sorted(known)):
        before = {_Use(*row) for row in conn.execute(_OF_JOBS, {"of_source": source_id, "keys": some})}
        after = {use for job in some for use in _uses(job, known[job])}
        gone = sorted(use for use in before - after if _side(known[use.job], use) is not None)
        if gone:
            of_jobs = _use.c.source_id == source_id, _use.c.job.in_(some)
            changed(conn, delete(_use).where(*of_jobs, tuple_(*_USE).in_(KEYS)), gone)
        new = [{**use._asdict(), "source_id": source_id} for use in sorted(after - before)]
        if new:
            conn.execute(insert(_use), new)


def differing(conn: Connection, source_id: int, known: Mapping[str, Definition]) -> dict[str, Definition]:
    """Those of which something else is stored."""
    stored: defaultdict[str, set[_Use]] = defaultdict(set)
    for use in (_Use(*row) for row in rows_of(conn, _OF_JOBS, sorted(known), of_source=source_id)):
        stored[use.job].add(use)
    return {job: one for job, one in known.items() if stored[job] != set(_uses(job, one))}


class _Use(NamedTuple):
    namespace: str
    name: str
    job: str
    is_output: bool


_USE = (_use.c.namespace, _use.c.name, _use.c.job, _use.c.is_output)
_OF_JOBS = select(*_USE).where(_use.c.source_id == bindparam("of_source"), _use.c.job.in_(KEYS))


def _side(one: Definition, use: _Use) -> tuple[Dataset, ...] | None:
    return one.outputs if use.is_output else one.inputs


def _sides(one: Definition) -> tuple[tuple[bool, tuple[Dataset, ...] | None], ...]:
    return (False, one.inputs), (True, one.outputs)


def _uses(job: str, one: Definition) -> Iterable[_Use]:
    for is_output, found in _sides(one):
        for dataset in found or ():
            yield _Use(schema.storable(dataset.namespace), schema.storable(dataset.name), job, is_output)


def forget_lost(conn: Connection) -> None:
    """Remove what jobs used that have no row any more."""
    job = schema.job
    is_there = exists().where(job.c.source_id == _use.c.source_id, job.c.name == _use.c.job)
    conn.execute(delete(_use).where(~is_there))


def datasets(conn: Connection, after: tuple[str, str] | None, limit: int, words: str | None = None) -> list[DatasetRow]:
    """By namespace and name, those behind `after`; `words` are somewhere in the name or the namespace."""
    outputs = func.sum(cast(_use.c.is_output, Integer))
    rows = select(_use.c.namespace, _use.c.name, outputs, func.count()).group_by(_use.c.namespace, _use.c.name)
    wanted: list[ColumnElement[bool]] = []
    if after is not None:
        wanted.append(tuple_(_use.c.namespace, _use.c.name) > after)
    if words is not None:
        wanted.append(or_(*(column.icontains(words, autoescape=True) for column in (_use.c.name, _use.c.namespace))))
    found = conn.execute(rows.where(*wanted).order_by(_use.c.namespace, _use.c.name).limit(limit))
    return [DatasetRow(space, name, writers, uses - writers) for space, name, writers, uses in found]


def used(conn: Connection, datasets: Iterable[tuple[str, str]]) -> frozenset[tuple[str, str]]:
    """Those of these namespaces and names of datasets of which a job is known that reads or writes them."""
    by_name = _use.c.namespace, _use.c.name
    known = select(*by_name).where(tuple_(*by_name).in_(KEYS))
    return frozenset((space, name) for space, name in rows_of(conn, known, sorted(set(datasets))))


def around(conn: Connection, start: Node, depth: int, most: int = MOST) -> Graph:
    """What `start` is made from and what is made from it, up to `depth` steps; a step leads from a job to a dataset or back."""
    sources = {number: name for name, number in queries.source_names(conn).items()}
    depths, edges, is_cut = {start: 0}, dict[tuple[Node, Node], None](), False
    for way in (-1, 1):
        ends: Sequence[Node] = [start]
        for step in range(1, min(depth, DEEPEST) + 1):
            found = _beyond(conn, ends, way, sources, most)
            ends = []
            for near, far in found:
                if far not in depths and len(depths) >= most:
                    is_cut = True
                    continue
                if far not in depths:
                    depths[far] = way * step
                    ends.append(far)
                edges[(far, near) if way < 0 else (near, far)] = None
            is_cut = is_cut or len(found) >= most * _ROOM
    return Graph(start, depths, [*edges], is_cut)


_ROOM = 4
"""Edges that are read for each node that has room."""


def _beyond(
    conn: Connection, ends: Sequence[Node], way: int, sources: Mapping[int, str], most: int
) -> list[tuple[Node, Node]]:
    """Pairs of these nodes and what is one step further up (-1) or down (1)."""
    numbers = {name: number for number, name in sources.items()}
    jobs, names = defaultdict[int, list[str]](list), defaultdict[str, list[str]](list)
    for node in ends:
        if not node.is_job:
            names[node.space].append(node.name)
        elif node.space in numbers:
            jobs[numbers[node.space]].append(node.name)
    room, found = most * _ROOM, list[tuple[Node, Node]]()
    for number, of_source in jobs.items():
        given = {"space": number, "names": of_source, "is_output": way > 0, "most": room}
        found += [_ends(sources, *row) for row in conn.execute(_BY_JOB, given)]
    for space, of_space in names.items():
        given = {"space": space, "names": of_space, "is_output": way < 0, "most": room}
        found += [_ends(sources, *row)[::-1] for row in conn.execute(_BY_DATASET, given)]
    return found[:room]


def _ends(sources: Mapping[int, str], space: str, name: str, source_id: int, job: str) -> tuple[Node, Node]:
    return Node(True, sources[source_id], job), Node(False, space, name)


def _query(space: ColumnElement[Any], name: ColumnElement[str]) -> Select[Any]:
    use = select(_use.c.namespace, _use.c.name, _use.c.source_id, _use.c.job).order_by(*_use.primary_key)
    wanted = space == bindparam("space"), name.in_(bindparam("names", expanding=True))
    return use.where(*wanted, _use.c.is_output == bindparam("is_output")).limit(bindparam("most"))


_BY_JOB = _query(_use.c.source_id, _use.c.job)
_BY_DATASET = _query(_use.c.namespace, _use.c.name)


def has(conn: Connection, node: Node) -> bool:
    """Whether there is such a job or dataset."""
    job, source = schema.job, schema.source
    if node.is_job:
        rows = select(job.c.name).join(source, source.c.id == job.c.source_id)
        wanted = rows.where(source.c.name == node.space, job.c.name == node.name)
    else:
        wanted = select(_use.c.name).where(_use.c.namespace == node.space, _use.c.name == node.name)
    return conn.scalar(wanted.limit(1)) is not None


def named(conn: Connection, name: str, limit: int) -> list[Node]:
    """Jobs and datasets with this name: whole, without what is before its first slash, or `NAMESPACE NAME`."""
    job, source = schema.job, schema.source
    of_job = or_(job.c.name == name, job.c.name.endswith(f"/{name}", autoescape=True))
    jobs = select(source.c.name, job.c.name).join(source, source.c.id == job.c.source_id).where(of_job)
    space, _, rest = name.rpartition(" ")
    of_dataset = or_(_use.c.name == name, and_(_use.c.namespace == space, _use.c.name == rest))
    uses = select(_use.c.namespace, _use.c.name).where(of_dataset).distinct()
    found = [Node(True, *row) for row in conn.execute(jobs.order_by(source.c.name, job.c.name).limit(limit))]
    found += [Node(False, *row) for row in conn.execute(uses.order_by(_use.c.namespace, _use.c.name).limit(limit))]
    return found[:limit]
