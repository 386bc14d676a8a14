"""What a SQL query reads, and which columns become which, as values; and the port of a catalog."""

from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum
from typing import Protocol, TypeVar

from collector.model import Field

T = TypeVar("T")


class Subtype(StrEnum):
    """OpenLineage's transformation subtypes, the direct ones from weak to strong."""

    IDENTITY = "IDENTITY"
    TRANSFORMATION = "TRANSFORMATION"
    AGGREGATION = "AGGREGATION"
    JOIN = "JOIN"
    GROUP_BY = "GROUP_BY"
    FILTER = "FILTER"
    SORT = "SORT"
    WINDOW = "WINDOW"
    CONDITIONAL = "CONDITIONAL"

    @property
    def direct(self) -> bool:
        """True where values flow; the others only decide which, whether or in what order."""
        return self in _DIRECT

    def after(self, inner: "Subtype") -> "Subtype":
        """What it amounts to when this is done to something that `inner` made: a filter stays one, whatever its input."""
        if not self.direct:
            return self
        return inner if not inner.direct else max(self, inner, key=_DIRECT.index)


_DIRECT = (Subtype.IDENTITY, Subtype.TRANSFORMATION, Subtype.AGGREGATION)


@dataclass(frozen=True, slots=True)
class Source:
    """A dataset that a query reads. `columns` are those that it surely has; `complete`: there are no others."""

    name: str
    columns: tuple[str, ...] = ()
    complete: bool = False


def each_once(answers: Iterable[object], kind: type[T]) -> tuple[T, ...]:
    """The answers of one kind, each once, in their order."""
    return tuple(dict.fromkeys(answer for answer in answers if isinstance(answer, kind)))


class Catalog(Protocol):
    """What the names in a query stand for. Each answer is a source, None for what reads nothing, or the reason (for
    people, without literals from the query) why what is read is not known.

    `arguments` hold the text of literals, None for anything else. Names of functions come in lower case.
    """

    reading_functions: frozenset[str]
    """Functions inside expressions that read something."""
    table_arguments: frozenset[str]
    """Functions inside expressions whose arguments may be aliases of tables, not only columns."""
    excluding_functions: frozenset[str]
    """Functions inside expressions whose first argument is an array of names that a star among the others leaves out."""

    def table(self, parts: tuple[str, ...]) -> Source | str | None: ...

    def function(self, name: str, arguments: tuple[str | None, ...]) -> Source | str | None:
        """A function in the place of a table."""
        ...

    def reading(self, name: str, arguments: tuple[str | None, ...]) -> Source | str | None:
        """One of `reading_functions`."""
        ...


@dataclass(frozen=True, slots=True)
class Read:
    """A source that is read: `name` of its dataset, `columns` that the query names. `repeated` says that the query reads
    it more than once, as far as it could be parsed.
    """

    name: str
    columns: tuple[str, ...] = ()
    repeated: bool = False


@dataclass(frozen=True, slots=True)
class Edge:
    """Column `column` of the result depends on `source_column` of `source`. An empty `column`: the whole result does.

    `text` is the expression, as far as there is more to it than a name.
    """

    column: str
    source: str
    source_column: str
    subtype: Subtype
    text: str | None = None


@dataclass(frozen=True, slots=True)
class SqlLineage:
    """`reads` is None where nothing is known of what is read, and empty where the query reads nothing.

    `columns` are those of the result, empty unless all are known. `problems` say what could not be read, and where.
    """

    reads: tuple[Read, ...] | None
    columns: tuple[Field, ...] = ()
    edges: tuple[Edge, ...] = ()
    problems: tuple[str, ...] = ()

    @property
    def size(self) -> int:
        """What it weighs in a cache, in things kept."""
        return 1 + sum(1 + len(read.columns) for read in self.reads or ()) + len(self.columns) + len(self.edges)


@dataclass(frozen=True, slots=True)
class Limits:
    """Beyond `characters` a query is not looked at, beyond `tokens` it is not parsed but scanned for its tables.

    `steps` bounds the work on one query whatever the machine, `seconds` the processor time (a parse takes about 10 µs
    a step, with some constructs 400). The others bound what comes out.
    """

    characters: int = 4 * 1024 * 1024
    tokens: int = 60_000
    steps: int = 1_000_000
    seconds: float = 10.0
    reads: int = 1000
    edges: int = 2000
    columns: int = 2000
    problems: int = 20


LIMITS = Limits()
