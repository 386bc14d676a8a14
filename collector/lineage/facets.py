"""Standard facets of jobs and runs, from the model.

Versions are those of openlineage-python's classes, and so are the keys: the tests hold every event to these classes.
They are not built here as objects, for that costs 0.33 ms an event, and their import 0.6 s and 30 MiB.
"""

from collections.abc import Callable
from hashlib import blake2b
from threading import Lock
from typing import Any, TypeVar

import orjson
from cachetools import LRUCache, cached

from collector import __version__, names
from collector.lineage.custom_facets import MANY, PRODUCER, instant, said
from collector.lineage.standard_facets import FACETS
from collector.model import Facts, Job, Parent, Run
from collector.redaction import capped, redacted, redacted_sql

UNKNOWN = "unknown"
"""Value of a required field that the platform does not report."""
BIGGEST = 2**63 - 1
_KEPT_JOBS = 1024 * 1024
ENTRY = 300
"""Bytes that a cache takes for each value beside it."""

Facet = dict[str, Any]
K = TypeVar("K")


def bytes_cache(most: int) -> Callable[[Callable[[K], bytes]], Callable[[K], bytes]]:
    """Decorates a function: its last results are cached, `most` bytes of them. Of its argument, a value of ours or of JSON, a digest
    stays: a dataset with its columns takes several times the memory of its facets.
    """
    cache: LRUCache[object, bytes] = LRUCache(most, getsizeof=lambda value: len(value) + ENTRY)

    def caching(make: Callable[[K], bytes]) -> Callable[[K], bytes]:
        def made(value: K) -> bytes:
            # copied, as orjson leaves its buffer of 8 KiB behind the bytes that it returns
            return memoryview(make(value)).tobytes()

        return cached(cache, key=_digest, lock=Lock())(made)

    return caching


def _digest(value: object) -> bytes:
    try:
        text = orjson.dumps(value)
    except TypeError:  # half of a surrogate pair, or a number beyond 64 bits
        text = repr(value).encode("utf-8", "surrogatepass")
    return blake2b(text, digest_size=16).digest()


def facet(of: str, **values: Any) -> Facet:
    """A facet of this class of the library with those of its fields that are not None."""
    known = {key: value for key, value in values.items() if value is not None}
    return {"_producer": PRODUCER, "_schemaURL": FACETS[of], **known}


def written(value: Any) -> bytes:
    """Canonical JSON: sorted keys, no spaces. A value that JSON cannot represent is written as text."""
    try:
        return orjson.dumps(value, option=orjson.OPT_SORT_KEYS)
    except TypeError:
        return orjson.dumps(storable(value), option=orjson.OPT_SORT_KEYS)


def storable(value: Any) -> Any:
    """A value as every backend can store it: no control characters, no half of a surrogate pair, no huge number."""
    if isinstance(value, str):
        return names.clean_text(value)
    if isinstance(value, dict):
        return {names.clean(str(key)): storable(each) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return [storable(each) for each in value]
    if value is None or isinstance(value, bool | float | orjson.Fragment):
        return value
    return value if isinstance(value, int) and abs(value) <= BIGGEST else names.clean_text(str(value))


def job_facets(job: Job) -> orjson.Fragment:
    """The job's facets as JSON: jobType with the `jobType` field that Marquez demands, sql, documentation, ..."""
    return orjson.Fragment(_job_facets(job))


@bytes_cache(_KEPT_JOBS)
def _job_facets(job: Job) -> bytes:
    kind = facet("JobTypeJobFacet", processingType="BATCH", integration=job.integration, jobType=job.kind)
    facets = {"jobType": kind}
    if job.sql is not None:
        query = redacted_sql(names.clean_text(job.sql))
        facets["sql"] = facet("SQLJobFacet", query=query, dialect=job.dialect)
    if job.description:
        facets["documentation"] = facet("DocumentationJobFacet", description=prose(job.description))
    if job.owners:
        owners = [{"name": names.clean(owner)} for owner in job.owners]
        facets["ownership"] = facet("OwnershipJobFacet", owners=owners)
    if job.tags:
        facets["tags"] = facet("TagsJobFacet", tags=_tags(job.tags, job.integration))
    return written(facets)


def prose(text: str) -> str:
    return redacted(names.clean_text(text))


# one table of cases: when there is which facet
def run_facets(facts: Facts, run: Run, *, error_limit: int, ended: bool, failed: bool) -> Facet:
    """The run's standard facets as JSON values. The error text is there on the terminal event of a failed run only, and
    so is, on terminal events, an id that another system gave the run meanwhile.
    """
    job = run.job
    facets: Facet = {}
    if facts.nominal_start is not None:
        facets["nominalTime"] = facet(
            "NominalTimeRunFacet",
            nominalStartTime=instant(facts.nominal_start),
            nominalEndTime=instant(facts.nominal_end) if facts.nominal_end else None,
        )
    if facts.engine is not None:
        facets["processing_engine"] = facet(
            "ProcessingEngineRunFacet",
            name=said(facts.engine),
            version=said(facts.engine_version or UNKNOWN),
            openlineageAdapterVersion=__version__,
        )
    known_from_the_first_look = run.key.rpartition("/")[2] == facts.external_id
    if facts.external_id is not None and (ended or known_from_the_first_look):
        facets["externalQuery"] = facet(
            "ExternalQueryRunFacet",
            externalQueryId=said(facts.external_id),
            source=job.integration.lower(),
        )
    if facts.parameters:
        parameters = [_parameter(key, value) for key, value in facts.parameters]
        facets["executionParameters"] = facet("ExecutionParametersRunFacet", parameters=parameters)
    if facts.tags:
        facets["tags"] = facet("TagsRunFacet", tags=_tags(facts.tags, job.integration))
    if failed and facts.error:
        facets["errorMessage"] = _error(facts.error, facts.error_language or _language(job), error_limit)
    if facts.problems:
        facets["extractionError"] = _extraction_error(facts.problems, error_limit)
    return facets


def _tags(tags: tuple[tuple[str, str], ...], integration: str) -> list[dict[str, str]]:
    return [{"key": said(key), "value": said(value), "source": integration} for key, value in tags]


def _parameter(key: str, value: str) -> dict[str, str]:
    """The key is part of what is redacted: `password` makes any value a secret."""
    name = names.clean(key)
    shown = redacted(f"{name}={names.clean_text(value)}")
    return {"key": name, "value": shown.removeprefix(f"{name}=")}


def _language(job: Job) -> str:
    """Of the text that failed; the facet demands one."""
    return "SQL" if job.sql is not None else UNKNOWN


def _error(text: str, language: str, limit: int) -> Facet:
    return facet("ErrorMessageRunFacet", message=_cut_prose(text, limit), programmingLanguage=said(language))


def _cut_prose(text: str, limit: int) -> str:
    """Redacted before it is cut, or half a secret could stay; what lies far behind the cut is not looked at."""
    looked_at = text[: 8 * limit]
    return capped(prose(looked_at), limit, of=len(text) if len(text) > len(looked_at) else None)


def _extraction_error(problems: tuple[str, ...], limit: int) -> Facet:
    errors = [{"errorMessage": _cut_prose(problem, limit)} for problem in problems[:MANY]]
    return facet("ExtractionErrorRunFacet", totalTasks=1, failedTasks=1, errors=errors)


def parent_facet(parent: Parent, job: str) -> Facet:
    """`job` is the parent's name as its own events have it. The root is the parent itself where nothing is above it."""
    root = {
        "run": {"runId": str(parent.root_run_id or parent.run_id)},
        "job": {"namespace": parent.root_namespace or parent.namespace, "name": names.clean(parent.root_job or job)},
    }
    of = {"run": {"runId": str(parent.run_id)}, "job": {"namespace": parent.namespace, "name": job}}
    return facet("ParentRunFacet", **of, root=root)
