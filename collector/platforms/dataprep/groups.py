"""Reads job groups one by one, with all that a deployment can embed in the answer."""

from dataclasses import replace

from collector.errors import BadAnswer
from collector.platforms.dataprep import rows
from collector.platforms.dataprep.api import Api, Refused
from collector.platforms.dataprep.levels import Deployment, Embed
from collector.platforms.dataprep.rows import Group, StageRow

FIELDS = "id;status;createdAt;updatedAt;wrangledDataset;flowrun;ranfrom;ranfor;runParameterReferenceDate;snapshot"
"""What lists are asked for. A server may send more (the creator's personal record); it is not looked at."""


async def read(api: Api, deployment: Deployment, key: str) -> Group:
    """The group with its stages, and with the names of recipe and flow where the deployment embeds them."""
    found = await _embedded(api, deployment, key)
    if found.key != key:
        raise BadAnswer(f"GET /v4/jobGroups/{key}: the answer is about job group {found.key}")
    if found.stages is not None:
        return found
    return replace(found, stages=await read_stages(api, key))


async def read_stages(api: Api, key: str) -> tuple[StageRow, ...]:
    return rows.stages(await api.get("jobGroups", key, "jobs"))


async def read_status(api: Api, key: str) -> str | None:
    """The status alone: a bare JSON string, or null."""
    body = await api.get("jobGroups", key, "status")
    if body is not None and not isinstance(body, str):
        raise BadAnswer(f"GET /v4/jobGroups/{key}/status: the answer is {type(body).__name__}, not a string")
    return rows.word(body)


def wanted_embeds(deployment: Deployment) -> str:
    flow = Embed.FLOW.value if deployment.has(Embed.FLOW) else "wrangledDataset"
    return f"jobs,{flow}"


def note_refused_embed(deployment: Deployment, error: Refused, asked: str) -> bool:
    """Whether the refusal is about an association of those `asked` for: it is not asked for again then. One that does not
    say which is about the first that can be done without. Another request beside this one may have found that out before.
    """
    details = error.details.lower()
    optional = [embed for embed in Embed if embed.value in asked]
    if "association" not in details or not optional:
        return False
    named = Embed.ERRORS if "errormessage" in details.split("valid associations")[0] else Embed.FLOW
    unknown = named if named in optional else optional[0]
    if deployment.has(unknown):
        deployment.lacks(unknown, error)
    return True


async def _embedded(api: Api, deployment: Deployment, key: str) -> Group:
    while True:
        embed = wanted_embeds(deployment)
        if deployment.has(Embed.ERRORS):
            embed = embed.replace("jobs", Embed.ERRORS.value, 1)
        try:
            body = await api.get("jobGroups", key, query={"embed": embed})
        except Refused as error:
            if not note_refused_embed(deployment, error, embed):
                raise
            continue
        return understood(body, key)


def understood(body: object, key: str) -> Group:
    try:
        return rows.group(body)
    except rows.BadRow as error:
        raise BadAnswer(f"GET /v4/jobGroups/{key}: {error}") from error
