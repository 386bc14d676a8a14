"""What `check` finds out about a Dataprep source."""

from collector.errors import AuthFailed, SourceError
from collector.platforms.answers import Forbidden
from collector.platforms.base import Finding
from collector.platforms.dataprep.api import Api
from collector.platforms.dataprep.levels import Deployment, Level, Optional
from config.sources import DataprepSource

PER_RUN = 4
"""Requests per run: its stages when it begins; group, inputs and outputs when it ended."""
PER_POLL = {Level.L2: 1, Level.L1: 1, Level.L0: 0}

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
        remedy = "Check base_url, proxy and ca_file of this source, and whether the platform is up."
        return [Finding(where, ok=False, detail=str(error), remedy=remedy)]
    has = [text for endpoint, text in _OPTIONAL.items() if deployment.has(endpoint)]
    lacks = [text for endpoint, text in _OPTIONAL.items() if not deployment.has(endpoint)]
    return [
        Finding(where, ok=True, detail="the token is accepted"),
        Finding(f"level {level.value}", ok=True, detail=level.meaning, remedy=_remedy(level)),
        Finding("details", ok=True, detail=f"here: {', '.join(has) or 'none'}; not here: {', '.join(lacks) or 'none'}"),
        budget(level, settings),
    ]


def _remedy(level: Level) -> str | None:
    if level is not Level.L0:
        return None
    return "Start runs with `trigger`, or hand in their numbers with `watch`: this edition lists no runs."


def budget(level: Level, settings: DataprepSource) -> Finding:
    """What the limit of requests allows: runs an hour where they are listed, runs at a time where they are not."""
    if settings.requests_per_minute is None:
        return Finding("budget", ok=True, detail="no limit of our own; the platform's answers decide")
    polls = 60 / settings.poll_interval.total_seconds()
    left = settings.requests_per_minute - PER_POLL[level] * polls
    if level is Level.L0:
        detail = f"{settings.requests_per_minute} requests a minute read up to {left:.0f} runs once a minute"
        return Finding("budget", ok=True, detail=detail)
    an_hour = max(0.0, left) * 60 / PER_RUN
    detail = f"{settings.requests_per_minute} requests a minute: {polls:.1f} for polls, the rest for about {an_hour:.0f} runs an hour"
    remedy = None if an_hour >= 1 else "Raise requests_per_minute or poll_interval: polls alone use up the limit."
    return Finding("budget", ok=an_hour >= 1, detail=detail, remedy=remedy)
