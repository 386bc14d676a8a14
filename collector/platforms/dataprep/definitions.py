"""Names and definitions behind runs, kept for an hour: they cost requests, and change seldom."""

import asyncio
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace
from typing import TypeVar

from cachetools import TTLCache

from collector.errors import BadAnswer, NotFound, SourceError, Unavailable
from collector.model import Skip, SkipKind
from collector.platforms.answers import Forbidden
from collector.platforms.dataprep import groups, rows
from collector.platforms.dataprep.api import Api, NoSuchPath, Refused
from collector.platforms.dataprep.levels import Deployment, Optional
from collector.platforms.dataprep.rows import Group, OutputDefinition, Source
from collector.platforms.unread_times import UnreadTimes

KEPT_FOR = 3600.0
MISSED_FOR = 600.0
"""Seconds before a recipe without a known output makes us read all outputs again."""
MOST_KEPT = 10_000
TRIES = 3
"""After so many failures to read one recipe's name its runs go by its id, after so many to read a flow run without that parent."""
PAGE = 100

_OUTPUTS: dict[str, str | int] = {"embed": "writeSettings,publications", "includeCount": "true"}

T = TypeVar("T")


def kept(monotonic: Callable[[], float]) -> TTLCache[str, T]:
    """Values by key for an hour."""
    return TTLCache(MOST_KEPT, KEPT_FOR, monotonic)


@dataclass(frozen=True, slots=True)
class RecipeNames:
    """What a recipe and its flow are called, and what is said of them; None if the deployment does not report it."""

    recipe: str | None = None
    flow: str | None = None
    flow_key: str | None = None
    description: str | None = None

    @property
    def complete(self) -> bool:
        return bool(self.recipe and self.flow)


def _embedded_names(group: Group) -> RecipeNames:
    return RecipeNames(group.recipe_name, group.flow_name, group.flow, group.description)


@dataclass(slots=True)
class _Reading:
    """All outputs up to `offset`, by recipe; `keys` are those of them all, `began` is on the monotonic clock."""

    began: float
    offset: int = 0
    found: dict[str, list[OutputDefinition]] = field(default_factory=dict)
    keys: set[str] = field(default_factory=set)

    def take(self, outputs: Iterable[OutputDefinition]) -> None:
        for output in outputs:
            self.keys.add(output.key)
            if output.recipe is not None:
                self.found.setdefault(output.recipe, []).append(output)


class Definitions:
    """Reads definitions of one deployment. What it refuses is None or empty; failures are raised."""

    def __init__(self, api: Api, deployment: Deployment, monotonic: Callable[[], float], unread: UnreadTimes) -> None:
        self._api, self._deployment, self._monotonic, self._unread = api, deployment, monotonic, unread
        self._names: TTLCache[str, RecipeNames] = kept(monotonic)
        self._flows: TTLCache[str, str] = kept(monotonic)
        self._sources: TTLCache[str, tuple[Source, ...]] = kept(monotonic)
        self._outputs: dict[str, list[OutputDefinition]] = {}
        self._outputs_read_at: float | None = None
        self._outputs_lock = asyncio.Lock()
        self._reading: _Reading | None = None
        self._failures: dict[str, int] = {}

    def learn(self, group: Group) -> None:
        """Keep the names that came embedded in a group."""
        names = _embedded_names(group)
        if group.recipe and names.complete:
            self._names[group.recipe] = names

    async def names(self, group: Group) -> RecipeNames:
        """The names of the group's recipe and flow. A recipe whose names fail again and again goes without, and so does a run
        that alone would name them and is not shown to us.
        """
        self.learn(group)
        if group.recipe is None:
            return RecipeNames()
        known = self._names.get(group.recipe)
        if known is not None:
            return known
        try:
            found = await self._read_names(group)
        except NoSuchPath:
            raise
        except (NotFound, Forbidden) as error:
            self._unread.skip(_nameless(group.recipe, error))
            return RecipeNames()
        except (Unavailable, BadAnswer) as error:
            failures = self._failures[group.recipe] = self._failures.get(group.recipe, 0) + 1
            if failures < TRIES:
                raise
            self._unread.skip(_nameless(group.recipe, error))
            found = RecipeNames()
        self._failures.pop(group.recipe, None)
        self._names[group.recipe] = found
        return found

    def known_names(self, recipe: str) -> RecipeNames:
        """Without asking."""
        return self._names.get(recipe) or RecipeNames()

    async def _read_names(self, group: Group) -> RecipeNames:
        names = _embedded_names(group)
        if group.recipe and not names.complete and self._deployment.has(Optional.RECIPES):
            query = {"embed": "flow", "fields": "id;name;description;flow"}
            found, _ = await self._deployment.ask(Optional.RECIPES, "wrangledDatasets", group.recipe, query=query)
            names = _embedded_names(rows.group({"id": group.key, "wrangledDataset": found}))
        if not (names.recipe and (names.flow or names.flow_key)) and group.stages is None:
            names = _embedded_names(await groups.read(self._api, self._deployment, group.key))
        if names.flow is None and names.flow_key is not None:
            names = replace(names, flow=await self.flow_name(names.flow_key))
        return names

    async def flow_name(self, flow: str) -> str | None:
        known = self._flows.get(flow)
        if known is not None:
            return known
        body, _ = await self._deployment.ask(Optional.FLOWS, "flows", flow, query={"fields": "id;name"})
        name = rows.name(body.get("name")) if isinstance(body, dict) else None
        if name:
            self._flows[flow] = name
        return name

    async def output(self, recipe: str, ranfrom: str | None) -> OutputDefinition | None:
        """The output definition that a run of this origin uses: scheduled runs have their own beside the ad hoc one."""
        await self._have_outputs(recipe)
        known = self._outputs.get(recipe, [])
        wanted = [output for output in known if output.adhoc == (ranfrom != "schedule")]
        return next(iter([*wanted, *known]), None)

    async def sources(self, recipe: str, ranfrom: str | None) -> tuple[Source, ...]:
        """The imported datasets behind that output, by definition: also some that a run did not read."""
        output = await self.output(recipe, ranfrom)
        if output is None:
            return ()
        known = self._sources.get(output.key)
        if known is not None:
            return known
        body = await self._unless_refused("outputObjects", output.key, "inputs")
        found = tuple(source for row in rows.data(body) if (source := rows.source(row)) is not None)
        self._sources[output.key] = found
        return found

    async def _have_outputs(self, recipe: str) -> None:
        """There is no request for one recipe's outputs in every edition, so all are read and kept: for all runs at once, and on from
        where it ended when the run that it was for was given up, as many pages may take longer than a run waits for its details.
        """
        async with self._outputs_lock:
            now, kept_for = self._monotonic(), KEPT_FOR if recipe in self._outputs else MISSED_FOR
            if self._outputs_read_at is not None and now - self._outputs_read_at < kept_for:
                return
            if self._reading is None or now - self._reading.began >= MISSED_FOR:
                self._reading = _Reading(now)
            while await self._read_more(self._reading):
                pass
            self._outputs, self._outputs_read_at, self._reading = self._reading.found, self._monotonic(), None

    async def _read_more(self, reading: "_Reading") -> bool:
        """One page of all outputs; whether there are more. Raises `BadAnswer` for a list that has no end."""
        query = _OUTPUTS | {"limit": PAGE, "offset": reading.offset}
        body = await self._unless_refused("outputObjects", query=query)
        page = rows.data(body)
        outputs = [output for row in page if (output := rows.output_definition(row)) is not None]
        if reading.offset and page and reading.keys.issuperset(output.key for output in outputs):
            raise BadAnswer("GET /v4/outputObjects repeats the same rows whatever the offset")
        reading.take(outputs)
        reading.offset += len(page)
        return not _is_last(len(page), reading.offset, rows.total(body))

    async def _unless_refused(self, *path: str, query: dict[str, str | int] | None = None) -> object:
        try:
            return await self._api.get(*path, query=query)
        except (NotFound, Forbidden, Refused):
            return None


def _nameless(recipe: str, error: SourceError) -> Skip:
    return Skip(SkipKind.ROW, f"recipe {recipe}", f"its name cannot be read, so a run goes by its number: {error}")


def _is_last(length: int, read: int, total: int | None) -> bool:
    """Whether a page of so many rows ends a list of which so many are read."""
    if not length:
        return True
    return read >= total if total is not None else length < min(PAGE, 25)
