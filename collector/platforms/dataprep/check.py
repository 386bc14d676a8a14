"""What `check` finds out about a Dataprep source."""

from collector.errors import AuthFailed, NotFound, SourceError
from collector.platforms.answers import Forbidden, Remedies, remedy
from collector.platforms.base import Finding
from collector.platforms.dataprep.api import Api, NoSuchPath
from collector.platforms.dataprep.levels import Deployment, Level, Optional
from config.sources import DataprepSource

_OPTIONAL = {
    Optional.INPUTS: "inputs of runs (else by definition)",
    Optional.OUTPUTS: "outputs of runs (else by definition)",
    Optional.RECIPES: "names of recipes (else embedded, or ids)",
    Optional.FLOW_RUNS: "flow runs as parents (else none)",
}


async def findings(api: Api, deployment: Deployment, settings: DataprepSource) -> list[Finding]:
    """Token and address first; without them nothing else is tried."""
    where = f"{settings.base_url}, workspace {settings.workspace}"
    try:
        level = await deployment.level()
        if level is Level.L0:
            await _ask_for_any_run(api)
    except SourceError as error:
        return [Finding(where, ok=False, detail=str(error), remedy=remedy(error, _REMEDIES))]
    has = [text for endpoint, text in _OPTIONAL.items() if deployment.has(endpoint)]
    lacks = [text for endpoint, text in _OPTIONAL.items() if not deployment.has(endpoint)]
    return [
        Finding(where, ok=True, detail="the token is accepted"),
        Finding(f"level {level.value}", ok=True, detail=level.meaning, remedy=_remedy(level)),
        Finding("details", ok=True, detail=f"here: {', '.join(has) or 'none'}; not here: {', '.join(lacks) or 'none'}"),
    ]


async def _ask_for_any_run(api: Api) -> None:
    """Where no list answers, only a run's own path shows whether the token is accepted. Raises `SourceError` if it does not."""
    try:
        await api.get("jobGroups", "0")
    except NoSuchPath:
        raise
    except NotFound:
        return


_REMEDIES: Remedies = {
    Forbidden: "enable the API for the project, and let the user of the token use it: Settings, Access tokens",
    AuthFailed: "make a new token, and give it to this source: Settings, Access tokens",
    NotFound: "check base_url of this source: no path of the API answers there",
}


def _remedy(level: Level) -> str | None:
    if level is not Level.L0:
        return None
    return "start runs with `trigger`, or hand in their numbers with `watch`: this edition lists no runs"
