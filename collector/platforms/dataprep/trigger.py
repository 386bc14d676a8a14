"""Starts a run, once whatever happens: the platform keeps an execution id for us and answers 304 to its repeats."""

from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Any

import orjson
from cachetools import FIFOCache

from collector.clock import Clock
from collector.errors import AuthFailed, NotFound, SourceError, Throttled, TriggerError, Unavailable
from collector.platforms.answers import Forbidden, Remedies, remedy
from collector.platforms.dataprep import groups, rows
from collector.platforms.dataprep.api import Answer, Api, NoSuchPath, Refused
from collector.platforms.dataprep.levels import Deployment, Level
from collector.platforms.dataprep.rows import Group

TRIES = 3
PAUSE = 2.0
SKEW = timedelta(minutes=2)
OVERRIDE = "overrides."
"""Parameters whose names begin so change the settings of the run; all others are run parameters."""
MOST_REMEMBERED = 1000
LONGEST_EXECUTION = 200


class Starter:
    """Starts runs of recipes."""

    def __init__(self, api: Api, deployment: Deployment, clock: Clock) -> None:
        self._api, self._deployment, self._clock = api, deployment, clock
        self._started: FIFOCache[str, str] = FIFOCache(MOST_REMEMBERED)

    async def start(self, recipe: str, parameters: Mapping[str, str], execution: str) -> str:
        """The id of the job group. Repeats of one `execution` start nothing. Raises TriggerError."""
        if not execution.isascii() or not execution.isprintable() or not 0 < len(execution) <= LONGEST_EXECUTION:
            raise TriggerError("an execution id is a short word of printable ASCII characters; nothing was started")
        body = request_body(recipe, parameters)
        began = self._clock.now()
        answer = await self._sent(body, execution)
        if answer.status == 304:
            return self._started.get(execution) or await self._find(recipe, began)
        key = rows.number(answer.body.get("id")) if isinstance(answer.body, dict) else None
        if key is None:
            raise TriggerError(
                f"a run of recipe {recipe} was asked for, but the answer names no job group; "
                "look at the platform's Jobs page and hand its number to `watch`",
                doubtful=True,
            )
        self._started[execution] = key
        return key

    async def _sent(self, body: Any, execution: str) -> Answer:
        """The execution id makes it safe to ask again after an answer that was lost or cannot be read."""
        lost: SourceError | None = None
        doubtful = False
        for attempt in range(TRIES):
            if attempt:
                await self._clock.sleep(PAUSE * attempt)
            try:
                return await self._api.send("POST", ("jobGroups",), body=body, headers={"x-execution-id": execution})
            except (Refused, NotFound, AuthFailed, Throttled) as error:
                if not doubtful:
                    raise TriggerError(
                        f"the platform did not start the run: {error}; {remedy(error, _REMEDIES)}"
                    ) from error
                break
            except SourceError as error:
                lost = error
                doubtful = doubtful or not isinstance(error, Unavailable) or error.sent
        cause = "nobody knows whether the run was started" if doubtful else "nothing was started"
        again = f"to ask again without a second run, repeat the command with --execution-id {execution}"
        raise TriggerError(f"{cause}: {lost}; {again}", doubtful=doubtful)

    async def _find(self, recipe: str, began: datetime) -> str:
        """The run that exists already: the platform does not say which it is, so only a single candidate counts."""
        others = set(self._started.values())
        found = [
            group for group in await self._recent(recipe) if group.key not in others and _may_be(group, recipe, began)
        ]
        if len(found) == 1:
            return found[0].key
        which = f"it may be one of {', '.join(group.key for group in found)}" if found else "no list shows it"
        raise TriggerError(
            f"this run of recipe {recipe} was already started, but the platform does not say under which number; "
            f"{which}. Hand the number of the platform's Jobs page to `watch`",
            doubtful=True,
        )

    async def _recent(self, recipe: str) -> list[Group]:
        level = await self._deployment.level()
        if level is Level.L0:
            return []
        path = "jobLibrary" if level is Level.L2 else "jobGroups"
        scope = {"runBy": "all"} if level is Level.L2 else {"flowNodeId": recipe}
        query: dict[str, str | int] = {"limit": 100, "sort": "-id", "fields": groups.FIELDS, **scope}
        try:
            body = await self._api.get(path, query=query)
        except (SourceError, Forbidden):
            return []
        return [groups.understood(row, "list") for row in rows.data(body) if isinstance(row, dict) and "id" in row]


_REMEDIES: Remedies = {
    NoSuchPath: "this API starts no runs: start it on the platform itself",
    Forbidden: "have the token's user allowed to run this recipe",
    AuthFailed: "make a new token, and give it to this source",
    NotFound: "check the recipe's number: it is in the address of the recipe's page, after `recipe=`",
    Refused: "check the recipe's number and the parameters, and whether the recipe has an output",
}


def _may_be(group: Group, recipe: str, began: datetime) -> bool:
    is_recent = group.created_at is not None and group.created_at >= began - SKEW
    return group.recipe == recipe and group.ranfrom in {"api", None} and is_recent


def recipe_id(job: str) -> str:
    """`7` or `recipe/7`. Raises TriggerError for anything else: names are not unique."""
    key = rows.number(job.removeprefix("recipe/").strip())
    if key is None:
        raise TriggerError(
            f"{job!r} is not a recipe id: open the recipe in its flow and take the number after `recipe=` in the address"
        )
    return key


def request_body(recipe: str, parameters: Mapping[str, str]) -> dict[str, Any]:
    """The documented request. `overrides.execution=photon` and the like go into `overrides`; a value that is JSON is
    sent as JSON there (`overrides.writesettings=[{...}]`).
    """
    body: dict[str, Any] = {"wrangledDataset": {"id": int(recipe)}}
    run = {key: value for key, value in parameters.items() if not key.startswith(OVERRIDE)}
    overrides = {key.removeprefix(OVERRIDE): _value(key, value) for key, value in parameters.items() if key not in run}
    if run:
        body["runParameters"] = {"overrides": {"data": [{"key": key, "value": value} for key, value in run.items()]}}
    if overrides:
        body["overrides"] = overrides
    return body


def _value(name: str, text: str) -> Any:
    """Raises TriggerError for what begins as JSON and is none: the platform would take it for a text and start."""
    try:
        return orjson.loads(text)
    except ValueError as error:
        if text.lstrip()[:1] in {"{", "["}:
            raise TriggerError(f"the parameter {name} is not valid JSON ({error}); nothing was started") from error
        return text
