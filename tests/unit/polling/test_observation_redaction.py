"""What an adapter reports loses secrets and people in every field, and nothing that is asked by."""

from dataclasses import fields, is_dataclass, replace
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

import pytest

from collector.lineage import custom_facets
from collector.model import (
    ColumnEdge,
    Dataset,
    Enrichment,
    Facts,
    Field,
    Job,
    Observation,
    Poll,
    RunState,
    Skip,
    SkipKind,
    Stage,
    StageState,
)
from collector.polling import redaction
from collector.secret_registry import secret_registry

PLANTED = "see password=hunter2secret of ann@acme.example"
SHOWN = redaction.skip(Skip(SkipKind.ROW, PLANTED, "")).subject
KEPT = {
    *("key", "run_id", "state", "seen_at", "namespace", "name", "kind", "integration", "external_id", "change", "type"),
    *("field", "source_field", "subtype", "dialect", "handle"),
}
"""Ids, words of ours, and names, which `collector.names` makes."""


def planted() -> Observation:
    at = datetime(2026, 1, 1, tzinfo=UTC)
    edge = ColumnEdge("a", "n", "m", "c", description=PLANTED)
    dataset = Dataset("n", "m", uri=PLANTED, description=PLANTED, fields=(Field("a", None, PLANTED),), columns=(edge,))
    facts = Facts(
        inputs=(dataset,),
        outputs=(dataset,),
        error=PLANTED,
        parameters=((PLANTED, PLANTED), ("password", "hunter2secret")),
        stages=(Stage("1", "wrangle", StageState.FAILED, raw_state=PLANTED, engine=PLANTED, message=PLANTED),),
        tags=((PLANTED, PLANTED),),
        ids={"jobId": PLANTED},
        link=PLANTED,
        problems=(PLANTED,),
    )
    job = Job(
        *("7", "n", "transformation/x", "QUERY", "CDF"),
        description=PLANTED,
        owners=("ann@acme.example",),
        tags=((PLANTED, PLANTED),),
        sql="select 1 -- password='hunter2secret' of ann@acme.example",
        schedule=PLANTED,
    )
    return Observation("1", UUID(int=1), job, RunState.FAILED, PLANTED, at, facts=facts, handle={"id": PLANTED})


def texts(value: Any, place: str = "") -> dict[str, str]:
    if isinstance(value, str):
        return {place: value}
    if is_dataclass(value):
        return {
            key: text
            for field in fields(value)
            if field.name not in KEPT
            for key, text in texts(getattr(value, field.name), f"{place}.{field.name}").items()
        }
    parts = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, tuple) else ()
    return {key: text for at, part in parts for key, text in texts(part, f"{place}[{at}]").items()}


def test_no_field_keeps_a_secret_or_a_person() -> None:
    seen = planted()
    page = Poll((seen,), skips=(Skip(SkipKind.ROW, PLANTED, PLANTED),))
    enriched = redaction.enrichment(Enrichment(seen.facts, seen.job))
    found = texts(redaction.poll(page)) | texts(enriched, "enriched")
    assert len(found) > 40
    assert enriched.job is not None
    assert enriched.job.name == seen.job.name
    assert not {place: text for place, text in found.items() if "hunter2" in text or "acme" in text}


def test_a_field_that_is_one_of_our_own_secrets_is_hidden() -> None:
    """However short and plain it is: what looks like an ordinary word may be one."""
    secret_registry.learn("a sink", "k3y0fthesink")
    facts = Facts(error="k3y0fthesink", ids={"jobId": "k3y0fthesink"})
    (shown,) = redaction.poll(Poll((replace(planted(), facts=facts),))).observations
    assert (shown.facts.error, shown.facts.ids) == ("***", {"jobId": "***"})
    assert custom_facets.said("k3y0fthesink") == "***"


def test_what_is_asked_by_stays() -> None:
    seen = planted()
    (shown,) = redaction.poll(Poll((seen,))).observations
    assert (shown.key, shown.handle, shown.job.key) == (seen.key, seen.handle, seen.job.key)


@pytest.mark.parametrize("word", ["Running", "upsert", "sap_work_orders_clean"])
def test_what_holds_no_secret_stays_the_same(word: str) -> None:
    """A run that says the same with every poll is not written anew, and nothing of it is copied."""
    seen = planted()
    job = replace(seen.job, description=word, owners=(), tags=((word, "true"),), sql=f"select {word}", schedule=None)
    plain = replace(seen, job=job, raw_state=word, facts=Facts(ids={"word": word}, problems=(word,)))
    (shown,) = redaction.poll(Poll((plain,))).observations
    assert shown is plain
