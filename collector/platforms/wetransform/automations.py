"""One automation of an answer, read so that odd values do no harm."""

import re
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from collector.errors import BadAnswer
from collector.platforms.answers import moment, prose, text, uuid, words
from collector.platforms.unread_times import Unread, unread_times
from collector.platforms.wetransform.envelope import Envelope
from collector.platforms.wetransform.steps import STATES

_CODE = re.compile(r"[A-Za-z0-9_.\-]{1,100}")
_LONGEST_STEP = 64


@dataclass(frozen=True, slots=True)
class Automation:
    """`key` is None where the vendor gave no id. `words` is what the answer says to people, in no certain language."""

    key: str | None
    step: str | None
    code: str | None
    words: str
    details: str | None
    original_file: str | None
    transformed_file: str | None
    created_at: datetime | None
    source_id: str | None
    template_handle: str | None
    unread: Unread = ()


def automation(envelope: Envelope, *, asked: str | None = None) -> Automation:
    """Raises `BadAnswer` when the answer is about another run than `asked`, or names an id that is not a UUID."""
    payload = envelope.payload
    written = text(payload.get("automation_id"))
    key = uuid(written)
    if written is not None and key is None:
        raise BadAnswer(f"automation {asked or 'just started'}: the answer names an id that is not a valid UUID")
    if asked is not None and key not in {None, asked}:
        raise BadAnswer(f"automation {asked}: the answer is about {key}")
    human = payload.get("step_for_humans")
    code = text(human.get("code")) if isinstance(human, dict) else None
    return Automation(
        key=key or asked,
        step=_step(payload.get("step")),
        code=code if code and _CODE.fullmatch(code) else None,
        words=_words(envelope, human),
        details=prose(payload.get("details")),
        original_file=text(payload.get("original_file")),
        transformed_file=text(payload.get("transformed_file")),
        created_at=moment(payload.get("created_at")),
        source_id=uuid(envelope.source_id),
        template_handle=envelope.template_handle,
        unread=unread_times(payload, "created_at"),
    )


def _step(value: Any) -> str | None:
    """Unchanged if it is in the vendor's list, else cut and cleaned, as logs and facets show it."""
    if value is None or (isinstance(value, str) and value in STATES):
        return value
    return words(str(value), _LONGEST_STEP)


def _words(envelope: Envelope, human: Any) -> str:
    message = text(human.get("message")) if isinstance(human, dict) else None
    said = (prose(envelope.payload.get("details")), message)
    return words("; ".join(word for word in said if word))
