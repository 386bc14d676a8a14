"""`check` for a CDF source: the token, what it may do, and each endpoint once."""

from collections.abc import Mapping
from typing import Any

from collector.errors import AuthFailed, SourceError, Throttled
from collector.model import Job
from collector.oauth import Tokens
from collector.platforms.answers import Remedies, remedy
from collector.platforms.base import Choice, Finding, nothing_chosen, tried
from collector.platforms.cdf.api import Api
from collector.platforms.cdf.list_progress import ListProgress
from collector.platforms.cdf.observations import Place, called, job_of
from collector.platforms.cdf.rows import read_definition
from config.sources import CdfSource

READ = ("transformationsAcl", "READ")
WRITE = ("transformationsAcl", "WRITE")
_PAGE = 1000
_INSPECTION = "token inspection"
WORKFLOWS = ("workflowOrchestrationAcl", "READ")


async def findings(api: Api, tokens: Tokens, config: CdfSource, now_ms: int) -> list[Finding]:
    token = await tried("token", tokens.current, "granted", _remedy_for_token)
    if not token.ok:
        return [token]
    granted = await _granted(api, config)
    jobs = await tried("list of jobs", lambda: api.jobs(1), "can be read", _remedy)
    if jobs.ok and granted[0].subject == _INSPECTION:
        granted = [Finding(_INSPECTION, ok=True, detail=f"not available, so the endpoints count: {granted[0].detail}")]
    found = [token, *granted, jobs, await tried("transformations", lambda: api.definitions(1), "can be read", _remedy)]
    if found[-1].ok and config.include:
        found += await _fitting(api, config)
    if config.workflows:
        day_ago = {"createdTimeStart": now_ms - 86_400_000}
        found.append(await tried("workflow executions", lambda: api.executions(day_ago), "can be read", _remedy))
    return found


async def _fitting(api: Api, config: CdfSource) -> list[Finding]:
    """Whether include and exclude leave anything, where one page shows all transformations."""
    try:
        rows = await api.definitions(_PAGE)
    except SourceError:
        return []  # the tries beside this one say it
    choice = Choice(config.include, config.exclude)
    known = [each for row in rows if (each := read_definition(row)) is not None]
    fitting = [each for each in known if choice.takes(*called(each.external_id, each.id, each.name))]
    if fitting or len(rows) >= _PAGE:
        return []
    return [nothing_chosen(config.include, len(known), "transformations")]


async def listed_jobs(api: Api, choice: Choice, place: Place) -> list[Job]:
    """All transformations that are chosen, as jobs. Raises `SourceError`."""
    found: list[Job] = []
    cursor: str | None = None
    progress = ListProgress("POST /transformations/filter", "a transformation")
    while True:
        page = await api.definitions_changed(0, cursor)
        known = [each for row in page.rows if (each := read_definition(row)) is not None]
        chosen = [each for each in known if choice.takes(*called(each.external_id, each.id, each.name))]
        found += [job_of(each, place) for each in chosen]
        progress.take(len(page.rows), (each.id for each in known), more=page.next is not None)
        if page.next is None:
            return found
        cursor = page.next


async def _granted(api: Api, config: CdfSource) -> list[Finding]:
    """What the inspection of the token says, or one finding that it did not work: it does not exist everywhere."""
    try:
        inspection = await api.inspect()
    except SourceError as error:
        return [Finding(_INSPECTION, ok=False, detail=str(error), remedy=_remedy(error))]
    projects = _projects(inspection)
    if config.project not in projects:
        named = ", ".join(projects) or "none"
        advice = f"set project to one of them, or let an administrator admit this client to {config.project}"
        return [Finding("project", ok=False, detail=f"the token is good for: {named}", remedy=advice)]
    granted = capabilities(inspection, config.project)
    needed = [(READ, "needed to see runs"), *([(WORKFLOWS, "needed by workflows: true")] if config.workflows else [])]
    found = [_capability(capability, why, granted) for capability, why in needed]
    may_trigger = "granted" if WRITE in granted else "not granted: runs are watched, but trigger will be refused"
    return [*found, Finding(":".join(WRITE), ok=True, detail=may_trigger)]


def capabilities(inspection: Mapping[str, Any], project: str) -> set[tuple[str, str]]:
    """(acl, action) pairs that hold in `project`, from `[{acl: {actions, scope}, projectScope}]`."""
    entries = inspection.get("capabilities")
    granted: set[tuple[str, str]] = set()
    for entry in entries if isinstance(entries, list) else []:
        if not isinstance(entry, Mapping) or not _covers(entry.get("projectScope"), project):
            continue
        for acl, grant in entry.items():
            actions = grant.get("actions") if isinstance(grant, Mapping) else None
            granted.update((acl, str(action).upper()) for action in (actions if isinstance(actions, list) else []))
    return granted


def _covers(scope: Any, project: str) -> bool:
    """`{"allProjects": {}}` or `{"projects": [...]}`; nothing said means the project of the token."""
    if not isinstance(scope, Mapping) or "projects" not in scope:
        return True
    projects = scope["projects"]
    return isinstance(projects, list) and project in projects


def _projects(inspection: Mapping[str, Any]) -> list[str]:
    rows = inspection.get("projects")
    named = [row.get("projectUrlName") for row in rows if isinstance(row, Mapping)] if isinstance(rows, list) else []
    return [name for name in named if isinstance(name, str)]


def _capability(capability: tuple[str, str], why: str, granted: set[tuple[str, str]]) -> Finding:
    name = ":".join(capability)
    if capability in granted:
        return Finding(name, ok=True, detail="granted")
    advice = f"add {name} to a group of this client in CDF, under Manage access"
    return Finding(name, ok=False, detail=f"not granted; {why}", remedy=advice)


def _remedy_for_token(error: SourceError) -> str:
    return remedy(error, _TOKEN_REMEDIES)


_TOKEN_REMEDIES: Remedies = {
    AuthFailed: "check client_id, client_secret and the token endpoint",
    Throttled: "wait a minute and try again: the identity provider limits requests",
    SourceError: "check the token endpoint (auth), network.proxy and network.ca_file, and whether the identity provider is up",
}


def _remedy(error: SourceError) -> str:
    wrong = "check the project's name and the capabilities of this client"
    return remedy(error, {AuthFailed: wrong}, "check base_url and project")
