"""What a message says that something changed at a source: how it is signed, read, and matched to runs. It is never believed."""

import hmac
from hashlib import sha256
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from collector.errors import BadAnswer
from collector.model import Run

LARGEST = 64 * 1024
"""Bytes of a message."""
SIGNATURES = ("X-Signature", "X-Hub-Signature-256")
"""Headers that may hold the signature; the second is what GitHub and those who copied it send."""

_Word = Annotated[str, Field(min_length=1, max_length=1000)]


class Hint(BaseModel):
    """Something changed at a source: with this run, else with the runs of this job, else with any.

    `run` is the platform's id of the run. `job` is the platform's id of the job, or the name that `runs` shows. `source` is
    in the address where the message comes over HTTP.
    """

    model_config = ConfigDict(frozen=True, extra="ignore", coerce_numbers_to_str=True)

    source: _Word | None = Field(None, description="The source's name in the configuration.")
    job: _Word | None = Field(None, description="The platform's id of the job, or the name that `runs` shows.")
    run: _Word | None = Field(None, description="The platform's id of the run.")


def signature_fits(secret: str, body: bytes, signature: str | None) -> bool:
    """Whether it is the hexadecimal HMAC-SHA256 of the raw body; compared in constant time."""
    expected = hmac.new(secret.encode(), body, sha256).hexdigest()
    return hmac.compare_digest(expected.encode(), (signature or "").strip().lower().encode(errors="replace"))


def read_hint(body: bytes) -> Hint:
    """Raises `BadAnswer` for a message that is not such an object. Other keys are ignored."""
    if len(body) > LARGEST:
        raise BadAnswer(f"the message has {len(body)} bytes; up to {LARGEST} are read")
    try:
        return Hint.model_validate_json(body)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        where = ".".join(map(str, first["loc"])) or "the message"
        raise BadAnswer(
            f'{where}: {first["msg"]}; send {{"source": …, "job": …, "run": …}}, all but the source optional'
        ) from None


def may_mean(hint: Hint, run: Run) -> bool:
    """Whether the hint may be about this open run."""
    if hint.run is not None:
        return hint.run == run.key
    return hint.job is None or hint.job in {run.job.key, *_names(run.job.name), *_names(run.job.platform_name or "")}


def _names(name: str) -> tuple[str, str]:
    return name, name.partition("/")[2]
