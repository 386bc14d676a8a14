"""Reads job groups one by one, with all that a deployment can embed in the answer."""

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import replace
from typing import TypeVar

from collector.errors import BadAnswer
from collector.platforms.dataprep import rows
from collector.platforms.dataprep.api import Api, Refused
from collector.platforms.dataprep.levels import Deployment, Embed
from collector.platforms.dataprep.rows import Group

T = TypeVar("T")

FIELDS = "id;status;createdAt;updatedAt;wrangledDataset;flowrun;ranfrom;ranfor;runParameterReferenceDate;snapshot"
"""What lists are asked for. A server may send more (the creator's personal record); it is not looked at."""


async def read(api: Api, deployment: Deployment, key: str) -> Group:
    """The group with its stages, and with the names of recipe and flow where the deployment embeds them."""
    found = await _embedded(api, deployment, key)
    if found.key != key:
        raise BadAnswer(f"GET /v4/jobGroups/{key}: the answer is about job group {found.key}")
    if found.stages is not None:
        return found
    return replace(found, stages=rows.stages(await api.get("jobGroups", key, "jobs")))


async def read_status(api: Api, key: str) -> str | None:
    """The status alone: a bare JSON string, or null."""
    body = await api.get("jobGroups", key, "status")
    if body is not None and not isinstance(body, str):
        raise BadAnswer(f"GET /v4/jobGroups/{key}/status: the answer is {type(body).__name__}, not a string")
    return rows.word(body)


async def with_embeds(deployment: Deployment, ask: Callable[[str], Awaitable[T]], *, errors: bool = False) -> T:
    """What `ask` returns when it is given as many embeds as the deployment takes; `errors` are texts of stages. An optional
    one that is refused in the vendor's words is not asked for again; after a refusal in other words all are left out, where
    the request is good without them.
    """
    while True:
        embed = _wanted_embeds(deployment, errors=errors)
        try:
            return await ask(embed)
        except Refused as error:
            optional = [one for one in Embed if one.value in embed]
            if not optional:
                raise
            if "association" in error.details.lower():
                _note_refused(deployment, error, optional)
                continue
            found = await ask(_PLAIN)
            for one in filter(deployment.has, optional):
                deployment.lacks(one, error)
            return found


_PLAIN = "jobs,wrangledDataset"
"""The embeds that the vendor documents for every edition."""


def _wanted_embeds(deployment: Deployment, *, errors: bool) -> str:
    stages = Embed.ERRORS.value if errors and deployment.has(Embed.ERRORS) else "jobs"
    recipe = Embed.FLOW.value if deployment.has(Embed.FLOW) else "wrangledDataset"
    return f"{stages},{recipe}"


def _note_refused(deployment: Deployment, error: Refused, optional: Sequence[Embed]) -> None:
    """A refusal that does not say which association it is about is about the first that can be done without. Another
    request beside this one may have found that out before.
    """
    named = Embed.ERRORS if "errormessage" in error.details.lower().split("valid associations")[0] else Embed.FLOW
    unknown = named if named in optional else optional[0]
    if deployment.has(unknown):
        deployment.lacks(unknown, error)


async def _embedded(api: Api, deployment: Deployment, key: str) -> Group:
    async def ask(embed: str) -> object:
        return await api.get("jobGroups", key, query={"embed": embed})

    return understood(await with_embeds(deployment, ask, errors=True), key)


def understood(body: object, key: str) -> Group:
    try:
        return rows.group(body)
    except rows.BadRow as error:
        raise BadAnswer(f"GET /v4/jobGroups/{key}: {error}") from error
