"""What a deployment lets us see: read from its own document, confirmed by trial, never assumed from its edition."""

import logging
import re
from collections.abc import Callable, Mapping
from contextlib import suppress
from enum import StrEnum
from typing import Any

from collector.errors import AuthFailed, BadAnswer, NotFound, SourceError
from collector.logs import fields
from collector.platforms.answers import Forbidden
from collector.platforms.dataprep.api import Api, NoSuchPath, Query, Refused, Unreadable

log = logging.getLogger("lineage.dataprep")

PROBE_AGAIN = 86_400.0
"""Seconds. A deployment can be upgraded, or get another edition, without notice."""
PROBE_AFTER_LOSS = 600.0
"""Seconds, where a list that had answered does not: an edition shrinks seldom, and without the list no run is found."""


class Level(StrEnum):
    L2 = "L2"
    L1 = "L1"
    L0 = "L0"

    @property
    def meaning(self) -> str:
        return _MEANING[self]


_MEANING = {
    Level.L2: "jobLibrary answers: all runs are discovered, one request a poll covers all that changed",
    Level.L1: "only the list of jobGroups answers: all runs are discovered, some requests a poll by number of runs",
    Level.L0: "no list answers: only runs that are triggered here or handed in with `watch` are followed, each by a "
    "request of its own",
}


class Optional(StrEnum):
    """Endpoints that a deployment may lack, as method and path in its OpenAPI document."""

    LIBRARY = "get /joblibrary"
    LIST = "get /jobgroups"
    INPUTS = "get /jobgroups/{id}/inputs"
    OUTPUTS = "get /jobgroups/{id}/outputs"
    RECIPES = "get /wrangleddatasets/{id}"
    FLOWS = "get /flows/{id}"
    FLOW_RUNS = "get /flowruns/{id}/jobgroups"


class Embed(StrEnum):
    """Associations that a deployment may not know."""

    FLOW = "wrangledDataset.flow"
    ERRORS = "jobs.errorMessage"


_TRIALS: Mapping[Optional, tuple[str, Query]] = {
    Optional.LIBRARY: ("jobLibrary", {"limit": 1, "runBy": "all", "fields": "id"}),
    Optional.LIST: ("jobGroups", {"limit": 1, "fields": "id"}),
}


_PARAMETER = re.compile(r"\{[^/}]*\}")


def claims(document: Any) -> frozenset[str] | None:
    """The paths that an OpenAPI document names, in lower case and without the leading /v4; None where it names none, so that
    only trials show it.
    """
    paths = document.get("paths") if isinstance(document, dict) else None
    if not isinstance(paths, dict) or not paths:
        return None
    return frozenset(
        f"{method.lower()} {_PARAMETER.sub('{id}', path.lower().removeprefix('/v4'))}"
        for path, methods in paths.items()
        if isinstance(path, str) and isinstance(methods, dict)
        for method in methods
        if isinstance(method, str)
    )


class Deployment:
    """What this deployment has, as far as known now; lost at a restart and found out again."""

    def __init__(self, api: Api, source: str, monotonic: Callable[[], float]) -> None:
        self._api, self._source, self._monotonic = api, source, monotonic
        self._claims: frozenset[str] | None = None
        self._lacks: set[Optional | Embed] = set()
        self._level: Level | None = None
        self._logged: Level | None = None
        self._best = Level.L0
        self._probe_at = 0.0

    async def level(self) -> Level:
        """The level; asks the deployment at the first call, once a day, and after `suspect`."""
        if self._level is not None and self._monotonic() < self._probe_at:
            return self._level
        if self._monotonic() >= self._probe_at:
            self._lacks.clear()
        self._claims = await self._read_claims()
        level = await self._tried()
        self._best = max(self._best, level)
        again = PROBE_AGAIN if level is self._best else PROBE_AFTER_LOSS
        self._level, self._probe_at = level, self._monotonic() + again
        if level is not self._logged:
            details = fields(source=self._source, level=level.value, before=self._logged, meaning=level.meaning)
            log.info("dataprep.level_detected", extra=details)
            self._logged = level
        return level

    @property
    def known_level(self) -> Level | None:
        """The level as last found, without asking."""
        return self._logged

    def suspect(self) -> None:
        """An optional path answered 404: look again before the next use."""
        self._level = None

    def has(self, what: Optional | Embed) -> bool:
        """False where the document does not name it, or it was tried and is not there."""
        return what not in self._lacks and (isinstance(what, Embed) or self._may_have(what))

    def _may_have(self, endpoint: Optional) -> bool:
        return self._claims is None or endpoint.value in self._claims

    async def ask(self, endpoint: Optional, *path: str, query: Query | None = None) -> tuple[Any, tuple[str, ...]]:
        """The answer of an endpoint that the deployment may lack; None where it has none, with the platform's words where it refuses."""
        if not self.has(endpoint):
            return None, ()
        try:
            return await self._api.get(*path, query=query), ()
        except NoSuchPath as error:
            self.lacks(endpoint, error)
            return None, ()
        except (NotFound, Refused, Forbidden) as error:
            return None, (str(error),)

    def lacks(self, what: Optional | Embed, error: SourceError) -> None:
        """It was tried and is not there: not tried again until the next day."""
        self._lacks.add(what)
        if isinstance(what, Optional):
            self.suspect()
        log.info("dataprep.feature_missed", extra=fields(source=self._source, what=what.value, cause=str(error)))

    async def _read_claims(self) -> frozenset[str] | None:
        """Also the test of the token. The document may be missing, YAML, or a portal's page, so that only trials show it; output
        objects are in every edition with runs.
        """
        try:
            return claims(await self._api.get("open-api-spec"))
        except Forbidden:
            await self._api.get("outputObjects", "count")
        except (NotFound, Refused, Unreadable):
            pass
        return None

    async def _tried(self) -> Level:
        """Both lists are tried: the second also reads many runs at once where the first has too little of each."""
        found = [endpoint for endpoint in _TRIALS if await self._answers(endpoint)]
        if Optional.LIBRARY in found:
            return Level.L2
        return Level.L1 if Optional.LIST in found else Level.L0

    async def _answers(self, endpoint: Optional) -> bool:
        if not self._may_have(endpoint):
            return False
        path, query = _TRIALS[endpoint]
        try:
            body = await self._api.get(path, query=query)
        except (NotFound, Refused, Forbidden) as error:
            self.lacks(endpoint, error)
            return False
        if not isinstance(body, dict) or not isinstance(body.get("data"), list):
            raise BadAnswer(f"GET /v4/{path}: the answer has no list `data`")
        self._lacks.discard(endpoint)
        return True


async def token_works(api: Api) -> bool:
    """Whether a 403 on one thing is about that thing and not about the token."""
    try:
        with suppress(NotFound, Refused):
            await api.get("outputObjects", "count")
    except AuthFailed:
        return False
    return True
