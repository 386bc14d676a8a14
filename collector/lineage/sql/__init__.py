"""What a SQL query reads, and which columns become which. `read` is the way in; nothing in this package imports it back.

sqlglot (37 MiB) is imported with the first query.
"""

from collections.abc import Callable

from collector.lineage.sql.model import LIMITS, Catalog, Edge, Limits, Read, Source, SqlLineage, Subtype

__all__ = ["LIMITS", "Catalog", "Edge", "Limits", "Read", "Source", "SqlLineage", "Subtype", "read"]


def read(
    text: str, catalog: Catalog, limits: Limits = LIMITS, stopped: Callable[[], bool] = lambda: False
) -> SqlLineage:
    """Raises nothing, whatever the text holds. Takes up to `limits.seconds` of processor time, so call it in a thread;
    `stopped` is called now and then; True makes it give up.
    """
    from collector.lineage.sql.reader import read_query  # noqa: PLC0415 - 37 MiB and 0.4 s

    return read_query(text, catalog, limits, stopped)
