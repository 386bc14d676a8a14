"""What wetransform reports of a run as job, datasets and facts, in names that every backend can carry."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from hashlib import sha256
from typing import Any

from collector import names
from collector.model import Dataset, Facts, Field, Job
from collector.platforms.answers import text, uuid, words
from collector.platforms.wetransform.automations import Automation
from collector.redaction import bare_url, redacted

_LONGEST_ID = 200


@dataclass(frozen=True, slots=True)
class Place:
    """Where a source's jobs and datasets live: their namespace, and the address for the dataSource facet."""

    namespace: str
    base_url: str


@dataclass(frozen=True, slots=True)
class Definition:
    """A transformation as its owner set it up: one source into one target format."""

    key: str
    source_id: str | None = None
    source_name: str | None = None
    template_handle: str | None = None
    template_name: str | None = None
    columns: tuple[str, ...] = ()


def definition(payload: Mapping[str, Any], key: str) -> Definition:
    """From the answer about one transformation, or from an entry of the list."""
    return Definition(
        key=key,
        source_id=uuid(payload.get("source_id")),
        source_name=_prose(text(payload.get("source_name"))),
        template_handle=text(payload.get("template_handle")),
        template_name=_prose(text(payload.get("template_name"))),
        columns=(*_texts(payload.get("column_names")), *_texts(payload.get("custom_field_names"))),
    )


def job(place: Place, key: str, known: Definition | None) -> Job:
    """`key` is the transformation's id, or `source-{id}` where only the source of a run is known."""
    name = names.cut(f"transformation/{names.part(key)}")
    description = None
    if known is not None:
        description = " to ".join(part for part in (known.source_name, known.template_name) if part) or None
    return Job(key, place.namespace, name, kind="JOB", integration="WETRANSFORM", description=description)


def facts(
    place: Place,
    seen: Automation,
    known: Definition | None,
    customer: str | None,
    job_key: str,
    *,
    ended: bool = False,
    failed: bool = False,
    step_before: str | None = None,
) -> Facts:
    """`known` adds names and columns; the datasets themselves come with every answer. `step_before` is the step of a run
    that failed when it was last seen under way: the vendor does not say where it failed.
    """
    defined = known or Definition(job_key)
    source_id = seen.source_id or defined.source_id
    handle = seen.template_handle or defined.template_handle
    ids = {
        "automation_id": seen.key,
        "transformation_id": job_key,
        "source_id": source_id,
        "template_handle": handle,
        "customer": pseudonym(customer),
        "step_code": seen.code if ended else None,
        "step_before": step_before if failed else None,
    }
    return Facts(
        inputs=_input(place, source_id, known, seen.original_file),
        outputs=_output(place, handle, known, customer, seen.transformed_file),
        error=_reason(seen) if failed else None,
        error_language="wetransform" if failed else None,
        engine="wetransform",
        external_id=seen.key,
        ids={name: words(value, _LONGEST_ID) for name, value in ids.items() if value},
    )


def _reason(seen: Automation) -> str:
    return redacted(seen.details or seen.words or "the vendor gives no reason")


def described(place: Place, found: Facts, known: Definition, customer: str | None) -> Facts:
    """The datasets of a run with the names and columns of its transformation."""
    inputs = found.inputs or _input(place, known.source_id, known, None)
    outputs = found.outputs or _output(place, known.template_handle, known, customer, None)
    return Facts(
        inputs=inputs and tuple(replace(it, description=known.source_name) for it in inputs),
        outputs=outputs
        and tuple(replace(it, description=known.template_name, fields=_fields(known)) for it in outputs),
    )


def pseudonym(customer: str | None) -> str | None:
    """A customer's e-mail or id as twelve hexadecimal digits that stay the same: no name of a person leaves."""
    return None if customer is None else sha256(f"wetransform customer {customer}".encode()).hexdigest()[:12]


def _input(
    place: Place, source_id: str | None, known: Definition | None, file: str | None
) -> tuple[Dataset, ...] | None:
    if source_id is None:
        return None
    name = names.dataset("sources", source_id)
    description = known.source_name if known else None
    return (Dataset(place.namespace, name, uri=place.base_url, description=description, version=_version(file)),)


def _output(
    place: Place, handle: str | None, known: Definition | None, customer: str | None, file: str | None
) -> tuple[Dataset, ...] | None:
    if handle is None:
        return None
    handle, whose = redacted(handle), pseudonym(customer)
    name = names.dataset("customers", whose, "templates", handle) if whose else names.dataset("templates", handle)
    return (
        Dataset(
            place.namespace,
            name,
            uri=place.base_url,
            fields=_fields(known) if known else (),
            description=known.template_name if known else None,
            version=_version(file),
        ),
    )


def _fields(known: Definition) -> tuple[Field, ...]:
    return tuple(Field(redacted(column)) for column in known.columns)


def _version(file: str | None) -> str | None:
    """A hash of the file's address without what may be signed in it."""
    bare = stripped(file)
    return sha256(bare.encode()).hexdigest()[:16] if bare else None


def stripped(url: str | None) -> str | None:
    """The address without user, query and fragment, None where it is none."""
    try:
        return bare_url(url) or None if url else None
    except ValueError:
        return None


def _prose(value: str | None) -> str | None:
    return words(value, _LONGEST_ID) if value else None


def _texts(values: Any) -> tuple[str, ...]:
    if not isinstance(values, list):
        return ()
    return tuple(value for value in values if isinstance(value, str) and value)
