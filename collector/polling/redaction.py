"""Observations without secrets and people: before they are decided on, stored, logged or made into events.

Keys, handles and ids stay, for the platform is asked by them; what things are called by is made in `collector.names`.
"""

from collector.alteration import altered
from collector.model import (
    ColumnEdge,
    Dataset,
    Enrichment,
    Facts,
    Field,
    Job,
    Observation,
    Poll,
    Skip,
    Stage,
)
from collector.redaction import redacted, redacted_sql


def poll(page: Poll) -> Poll:
    return altered(page, observations=tuple(map(_observation, page.observations)), skips=tuple(map(skip, page.skips)))


def enrichment(found: Enrichment) -> Enrichment:
    return altered(found, facts=_facts(found.facts), job=_job(found.job) if found.job is not None else None)


def problem(words: str | None) -> str | None:
    return _text(words)


def skip(left_out: Skip) -> Skip:
    return altered(left_out, subject=redacted(left_out.subject), cause=redacted(left_out.cause))


def _observation(seen: Observation) -> Observation:
    return altered(seen, job=_job(seen.job), raw_state=_text(seen.raw_state), facts=_facts(seen.facts))


def _job(job: Job) -> Job:
    return altered(
        job,
        description=_text(job.description),
        owners=tuple(map(redacted, job.owners)),
        tags=_pairs(job.tags),
        sql=redacted_sql(job.sql) if job.sql is not None else None,
        schedule=_text(job.schedule),
    )


def _facts(facts: Facts) -> Facts:
    return altered(
        facts,
        inputs=tuple(map(_dataset, facts.inputs)) if facts.inputs is not None else None,
        outputs=tuple(map(_dataset, facts.outputs)) if facts.outputs is not None else None,
        error=_text(facts.error),
        parameters=tuple(map(_parameter, facts.parameters)),
        stages=tuple(map(_stage, facts.stages)),
        tags=_pairs(facts.tags),
        ids={name: redacted(value) for name, value in facts.ids.items()},
        link=_text(facts.link),
        problems=tuple(map(redacted, facts.problems)),
    )


def _dataset(dataset: Dataset) -> Dataset:
    return altered(
        dataset,
        uri=_text(dataset.uri),
        description=_text(dataset.description),
        fields=tuple(map(_field, dataset.fields)),
        columns=tuple(map(_edge, dataset.columns)),
    )


def _field(field: Field) -> Field:
    return field if field.description is None else altered(field, description=redacted(field.description))


def _edge(edge: ColumnEdge) -> ColumnEdge:
    return edge if edge.description is None else altered(edge, description=redacted(edge.description))


def _stage(stage: Stage) -> Stage:
    return altered(stage, message=_text(stage.message), raw_state=_text(stage.raw_state), engine=_text(stage.engine))


def _parameter(pair: tuple[str, str]) -> tuple[str, str]:
    """The key is part of what is looked at: `password` makes any value a secret."""
    key, value = pair
    return redacted(key), redacted(f"{key}={value}").partition("=")[2]


def _pairs(pairs: tuple[tuple[str, str], ...]) -> tuple[tuple[str, str], ...]:
    return tuple((redacted(key), redacted(value)) for key, value in pairs)


def _text(text: str | None) -> str | None:
    return redacted(text) if text is not None else None
