"""What the SQL of a job says about its datasets: the inputs, and how the columns of the output come about. Pure."""

from dataclasses import dataclass, replace

from collector.lineage.sql import SqlLineage
from collector.model import ColumnEdge, Dataset, Facts, Field, Run, Skip, SkipKind
from collector.platforms.cdf.rows import JobRow

LONGEST_CAUSE = 500
_NO_SQL = "the job does not hold its SQL, so its inputs are not known"
_NOT_IN_TIME = "the SQL could not be read in time, so its inputs are not known"


@dataclass(frozen=True, slots=True)
class DataFlow:
    """`inputs` are None where they are not known."""

    inputs: tuple[Dataset, ...] | None
    output: Dataset | None
    problems: tuple[str, ...]


def data_flow(row: JobRow, sql: SqlLineage | None, output: Dataset | None, namespace: str, uri: str) -> DataFlow:
    """`namespace` and `uri` are those of the project that the job reads from; `output` is what its destination says.
    SQL that is None has not been read yet: that is no problem before the run's end, see `read_late`.
    """
    if sql is None:
        return DataFlow(None, output, (_NO_SQL,) if row.query is None else ())
    columns = output and _with_columns(output, row.conflict_mode, sql, namespace)
    return DataFlow(_inputs(sql, namespace, uri), columns, _problems(row, sql))


def read_late(run: Run, sql: SqlLineage | None, namespace: str, uri: str) -> Facts:
    """What the SQL of an ended run says that had not been read while the run was seen."""
    if run.facts.inputs is not None or run.job.sql is None:
        return Facts()
    if sql is None:
        return Facts(problems=(_NOT_IN_TIME,))
    mode = run.facts.ids.get("conflictMode")
    outputs = run.facts.outputs and tuple(_with_columns(each, mode, sql, namespace) for each in run.facts.outputs)
    return Facts(inputs=_inputs(sql, namespace, uri), outputs=outputs, problems=_sql_problems(sql))


def _inputs(sql: SqlLineage, namespace: str, uri: str) -> tuple[Dataset, ...] | None:
    if sql.reads is None:
        return None
    return tuple(Dataset(namespace, read.name, uri=uri, fields=tuple(map(Field, read.columns))) for read in sql.reads)


def sql_skips(row: JobRow, sql: SqlLineage | None) -> tuple[Skip, ...]:
    """One for a job whose query could not be read as a whole."""
    if not (problems := _problems(row, sql)):
        return ()
    subject = f"transformation {row.external_id or row.transformation_id}"
    return (Skip(SkipKind.SQL, subject, "; ".join(problems)[:LONGEST_CAUSE]),)


def _problems(row: JobRow, sql: SqlLineage | None) -> tuple[str, ...]:
    if row.query is None:
        return (_NO_SQL,)
    return (_NOT_IN_TIME,) if sql is None else _sql_problems(sql)


def _sql_problems(sql: SqlLineage) -> tuple[str, ...]:
    return tuple(f"SQL: {problem}" for problem in sql.problems)


def _with_columns(output: Dataset, conflict_mode: str | None, sql: SqlLineage, namespace: str) -> Dataset:
    """The output with what flows into it. A job that deletes lets nothing flow: its query only says which rows go."""
    if conflict_mode == "delete":
        return output
    edges = tuple(
        ColumnEdge(
            edge.column,
            namespace,
            edge.source,
            edge.source_column,
            "DIRECT" if edge.subtype.direct else "INDIRECT",
            edge.subtype.value,
            edge.text,
        )
        for edge in sql.edges
    )
    # without the types of its casts: a column has one type in Marquez or is two, and readers of it know none
    return replace(output, fields=tuple(Field(column.name) for column in sql.columns), columns=edges)
