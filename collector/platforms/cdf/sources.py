"""What the SQL of a transformation names, as datasets: RAW tables, resource types, views, files, foreign tables. Pure.

The syntax is that of Cognite's page on SQL syntax and functions; names of datasets are those of destinations.
"""

from collections.abc import Callable, Mapping

from collector import names
from collector.lineage.sql import Source
from collector.numerals import counted
from collector.platforms.cdf.datasets import TYPES

_RESOURCES = {name.replace("_", ""): name for name in TYPES}
"""Tables of the schema `_cdf`, and the datasets that they are."""

_RAW_COLUMNS = ("key", "lastUpdatedTime")
_READ_NOTHING = frozenset({"explode", "inline", "json_tuple", "posexplode", "range", "stack"})
"""Table functions of Spark itself; some have a form with `_outer` at the end."""

_Arguments = tuple[str | None, ...]


class CdfCatalog:
    """The catalog for `collector.lineage.sql`. RAW names keep their case: they are data."""

    reading_functions = frozenset({"asset_ids", "dataset_id"})
    table_arguments = frozenset({"is_new"})
    excluding_functions = frozenset({"to_metadata_except"})

    def table(self, parts: tuple[str, ...]) -> Source | str | None:
        if not all(parts):
            return f"a table name with an empty part or a parameter ({'.'.join(parts)}); what it reads is not known"
        if len(parts) == 1:
            return f"table {parts[0]} is neither defined by WITH nor named with a database; what it reads is not known"
        if len(parts) > 2:
            return f"a table name of {len(parts)} parts ({'.'.join(parts)}); what it reads is not known"
        schema, table = parts
        if schema.lower() == "_cdf":
            found = _RESOURCES.get(table.lower())
            return Source(found) if found else f"resource type _cdf.{table} is not known here"
        if schema.lower() == "_cdf_sequences":
            return Source(names.dataset("sequence_rows", table))
        return Source(names.dataset("raw", schema, table), _RAW_COLUMNS)

    def function(self, name: str, arguments: _Arguments) -> Source | str | None:
        if name.removesuffix("_outer") in _READ_NOTHING:
            return None
        reader = _FUNCTIONS.get(name)
        if reader is None:
            return f"table function {name} is not known here; what it reads is not known"
        if name not in _ANY_ARGUMENT and any(argument is None for argument in arguments):
            return f"{name} has an argument that is not a literal; what it reads is not known"
        odd = f"{name} has {counted(len(arguments), 'argument')}, or an empty one; what it reads is not known"
        return reader(tuple(argument or "" for argument in arguments)) or odd

    def reading(self, name: str, arguments: _Arguments) -> Source | str | None:
        """Both look things up by name while the query runs; which ones does not matter to the dataset."""
        return Source("assets" if name == "asset_ids" else "data_sets")


def _one_lake(given: tuple[str, ...]) -> Source | None:
    """Data source, table and, if there are three, a schema, which goes between them."""
    if len(given) == 3:
        given = (given[0], given[2], given[1])
    return _named("external", given, (2, 3))


def _named(first: str, given: tuple[str, ...], counts: tuple[int, ...], columns: tuple[str, ...] = ()) -> Source | None:
    if len(given) not in counts or not all(names.clean(part) for part in given):
        return None
    return Source(names.dataset(first, *given), columns, complete=bool(columns))


_NODES = Source("nodes", ("space", "externalId"), complete=True)
_FUNCTIONS: Mapping[str, Callable[[tuple[str, ...]], Source | None]] = {
    "cdf_raw": lambda given: _named("raw", given, (2,), (*_RAW_COLUMNS, "columns")),
    # the second argument, about schema inference, is not part of the name
    "cdf_file_content": lambda given: _named("file_content", given[:1], (1,)) if len(given) < 3 else None,
    "cdf_assetsubtree": lambda given: Source("assets") if len(given) == 1 else None,
    "cdf_nodes": lambda given: _named("views", given, (3,)) if given else _NODES,
    "cdf_edges": lambda given: _named("views", given, (3,)) if given else Source("edges"),
    # a type of a data model, or with a fifth argument one of its relationships
    "cdf_data_models": lambda given: _named("data_models", given, (4, 5)),
    "ext_onelake": _one_lake,
}
_ANY_ARGUMENT = frozenset({"cdf_assetsubtree"})
"""Which assets does not matter: they are one dataset."""
