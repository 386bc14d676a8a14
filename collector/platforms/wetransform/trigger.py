"""Starts a run. The vendor takes no idempotency key and lists no runs, so a start whose answer was lost is never repeated."""

from collections.abc import Mapping
from typing import NoReturn

from collector.errors import AuthFailed, BadAnswer, NotFound, SourceError, TriggerError, Unavailable
from collector.platforms.answers import Forbidden, Remedies, remedy, uuid
from collector.platforms.wetransform.api import Api
from collector.platforms.wetransform.automations import Automation, automation
from collector.platforms.wetransform.envelope import Rejected

_FIND_OUT = (
    "It is not started again. The vendor has no list of runs: see the transformation's page in wetransform whether its "
    "source was refreshed just now; if you find the run's automation id there, have it watched by that."
)


def transformation_key(job: str) -> str:
    """The UUID in `{uuid}` or `transformation/{uuid}`. Raises `TriggerError` for anything else."""
    key = uuid(job.removeprefix("transformation/"))
    if key is None:
        raise TriggerError(f"{job!r} is not the id of a transformation: give its UUID")
    return key


def customer_of(parameters: Mapping[str, str], default: str | None) -> str | None:
    """The `X-Customer` of a start. Raises `TriggerError` for any other parameter: the vendor takes none."""
    if unknown := sorted(set(parameters) - {"customer"}):
        raise TriggerError(f"wetransform takes no run parameters but `customer`, so not {', '.join(unknown)}")
    return parameters.get("customer") or default


async def start(api: Api, key: str, customer: str | None) -> Automation:
    """Raises `TriggerError`, `doubtful` where a run may have been started all the same."""
    tried = f"start of transformation {key}"
    try:
        seen = automation(await api.post(f"/transformation/automation/{key}", customer=customer))
    except SourceError as error:
        _explain(error, tried)
    if seen.key is None:
        words = f"the vendor says: {seen.words}" if seen.words else "the vendor says nothing more"
        raise TriggerError(f"{tried}: accepted, but without an id of the run; {words}. {_FIND_OUT}", doubtful=True)
    return seen


def _explain(error: SourceError, tried: str) -> NoReturn:
    if isinstance(error, Unavailable) and error.sent:
        raise TriggerError(
            f"{tried}: no usable answer ({error}). A run may have been started. {_FIND_OUT}", doubtful=True
        )
    if isinstance(error, BadAnswer) and not isinstance(error, Rejected):
        raise TriggerError(f"{tried}: an answer that cannot be read ({error}). {_FIND_OUT}", doubtful=True)
    raise TriggerError(f"{tried}: {error}. Nothing was started: {remedy(error, _REMEDIES)}.")


_CONDITIONS = (
    "the source must have been uploaded and be dynamic (FTP, SFTP, URL or API), a template must be chosen, and the account "
    "must be allowed to start runs"
)
_REMEDIES: Remedies = {
    Forbidden: _CONDITIONS,
    Rejected: _CONDITIONS,
    AuthFailed: "make a new token in wetransform's account settings",
    NotFound: "check the transformation's UUID, and the customer for whom it runs",
}
