"""What the SQL of a job says about its datasets: the inputs, and how the columns of the output come about. Pure."""

from dataclasses import dataclass, replace

from collector.lineage.sql import SqlLineage
from collector.model import ColumnEdge, Dataset, Field, Skip, SkipKind
from collector.platforms.cdf.reading import JobRow

LONGEST_CAUSE = 500


@dataclass(frozen=True, slots=True)
class DataFlow:
    """`inputs` are None where they are not known."""

    inputs: tuple[Dataset, ...] | None
    output: Dataset | None
    problems: tuple[str, ...]


def data_flow(row: JobRow, sql: SqlLineage | None, output: Dataset | None, namespace: str, uri: str) -> DataFlow:
    """`namespace` and `uri` are those of the project that the job reads from; `output` is what its destination says."""
    if sql is None:
        return DataFlow(None, output, _problems(row, None))
    inputs = None
    if sql.reads is not None:
        inputs = tuple(
            Dataset(namespace, read.name, uri=uri, fields=tuple(map(Field, read.columns))) for read in sql.reads
        )
    return DataFlow(inputs, output and _with_columns(output, row, sql, namespace), _problems(row, sql))


def sql_skips(row: JobRow, sql: SqlLineage | None) -> tuple[Skip, ...]:
    """One for a job whose query could not be read as a whole."""
    if not (problems := _problems(row, sql)):
        return ()
    subject = f"transformation {row.external_id or row.transformation_id}"
    return (Skip(SkipKind.SQL, subject, "; ".join(problems)[:LONGEST_CAUSE]),)


def _problems(row: JobRow, sql: SqlLineage | None) -> tuple[str, ...]:
    if row.query is None:
        return ("the job does not hold its SQL, so its inputs are not known",)
    if sql is None:
        return ("the SQL could not be read in time, so its inputs are not known yet",)
    return tuple(f"SQL: {problem}" for problem in sql.problems)


def _with_columns(output: Dataset, row: JobRow, sql: SqlLineage, namespace: str) -> Dataset:
    """The output with what flows into it. A job that deletes lets nothing flow: its query only says which rows go."""
    if row.conflict_mode == "delete":
        return output
    edges = tuple(
        ColumnEdge(
            edge.column,
            namespace,
            edge.source,
            edge.source_column,
            "DIRECT" if edge.how.direct else "INDIRECT",
            edge.how.value,
            edge.text,
        )
        for edge in sql.edges
    )
    # without the types of its casts: a column has one type in Marquez or is two, and readers of it know none
    return replace(output, fields=tuple(Field(column.name) for column in sql.columns), columns=edges)
