"""What `check` finds out about a Dataprep source."""

from collector.errors import AuthFailed, SourceError
from collector.platforms.answers import Forbidden
from collector.platforms.base import Finding
from collector.platforms.dataprep.api import Api
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
    except AuthFailed as error:
        what = (
            "the project's API is not enabled, or the token may not use it"
            if isinstance(error, Forbidden)
            else "the token"
        )
        return [Finding(where, ok=False, detail=str(error), remedy=f"Check {what}: Settings, Access tokens.")]
    except SourceError as error:
        remedy = "Check base_url, network.proxy and network.ca_file of this source, and whether the platform is up."
        return [Finding(where, ok=False, detail=str(error), remedy=remedy)]
    has = [text for endpoint, text in _OPTIONAL.items() if deployment.has(endpoint)]
    lacks = [text for endpoint, text in _OPTIONAL.items() if not deployment.has(endpoint)]
    return [
        Finding(where, ok=True, detail="the token is accepted"),
        Finding(f"level {level.value}", ok=True, detail=level.meaning, remedy=_remedy(level)),
        Finding("details", ok=True, detail=f"here: {', '.join(has) or 'none'}; not here: {', '.join(lacks) or 'none'}"),
    ]


def _remedy(level: Level) -> str | None:
    if level is not Level.L0:
        return None
    return "Start runs with `trigger`, or hand in their numbers with `watch`: this edition lists no runs."
