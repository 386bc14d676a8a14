"""Starts a transformation. CDF takes no idempotency key, so a start whose answer was lost is never repeated."""

from collections.abc import Mapping

from collector.errors import AuthFailed, SourceError, TriggerError, Unavailable
from collector.oauth import Tokens
from collector.platforms.answers import Remedies, remedy
from collector.platforms.cdf.api import Api, Garbled, Refused
from collector.platforms.cdf.rows import JobRow, read_job


async def started(api: Api, tokens: Tokens, job: str, parameters: Mapping[str, str]) -> JobRow:
    """The job of the run. Raises `TriggerError`."""
    if parameters:
        raise TriggerError(f"a CDF transformation takes no parameters; {job} was not started")
    try:
        await tokens.current()
        row = read_job(await _sent(api, job))
        if row is None:
            raise Garbled("the answer holds no job")
    except SourceError as error:
        raise _trigger_error(job, error) from error
    return row


async def _sent(api: Api, job: str) -> object:
    """By external id; digits may be an id, and CDF says so when they are not."""
    if job.isascii() and job.isdecimal():
        try:
            return await api.run({"id": int(job)})
        except Refused as error:
            if not error.missing:
                raise
    return await api.run({"externalId": job})


def _trigger_error(job: str, error: SourceError) -> TriggerError:
    """In doubt where CDF may have started the job although its answer did not come through."""
    if isinstance(error, Garbled) or (isinstance(error, Unavailable) and error.sent):
        said = f"whether {job} was started is not known: {error}; it is not tried again"
        return TriggerError(
            f"{said}. If it was, the next polls bring the run: look before you start it again", doubtful=True
        )
    return TriggerError(f"{job} was not started: {error}; {remedy(error, _REMEDIES, 'check base_url and project')}")


_REMEDIES: Remedies = {
    Refused: "give the transformation's external id or its number, and look whether it can be started in CDF itself",
    AuthFailed: "check client and project, and that the client has transformationsAcl:WRITE",
}
