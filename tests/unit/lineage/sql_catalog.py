"""A catalog for tests: two-part names are tables, `read_all(...)` reads what its arguments say."""

from collector.lineage.sql import LIMITS, Limits, Source, SqlLineage, read


class PlainCatalog:
    reading_functions = frozenset({"lookup"})
    table_arguments = frozenset({"changed"})
    excluding_functions = frozenset({"all_but"})

    def table(self, parts: tuple[str, ...]) -> Source | str | None:
        if len(parts) != 2:
            return f"table {'.'.join(parts)} is not known"
        columns = {"full": ("a", "b"), "part": ("a",)}.get(parts[1], ())
        return Source(".".join(parts), columns, complete=parts[1] == "full")

    def function(self, name: str, arguments: tuple[str | None, ...]) -> Source | str | None:
        if name != "read_all":
            return f"function {name} is not known"
        return None if None in arguments else Source(f"{name}({','.join(map(str, arguments))})")

    def reading(self, name: str, arguments: tuple[str | None, ...]) -> Source | str | None:
        return Source(f"{name}({','.join(map(str, arguments))})")


def lineage(text: str, limits: Limits = LIMITS) -> SqlLineage:
    return read(text, PlainCatalog(), limits)


def tables(text: str, limits: Limits = LIMITS) -> list[str] | None:
    found = lineage(text, limits)
    return None if found.reads is None else [one.name for one in found.reads]


def edges(text: str) -> set[str]:
    """Each as `column <- table.column HOW`."""
    return {
        f"{one.column or '*'} <- {one.source}.{one.source_column} {one.subtype.value}" for one in lineage(text).edges
    }
