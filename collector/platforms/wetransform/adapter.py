"""The wetransform source: runs are read one by one on a schedule of their own, for the vendor lists none."""

import logging
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from functools import partial

from collector.errors import AuthFailed, BadAnswer, NotFound, SourceError
from collector.hint import signature_fits
from collector.model import Enrichment, Facts, Job, Observation, Poll, Run, RunState
from collector.platforms.answers import Forbidden, Remedies, remedy, uuid
from collector.platforms.base import Choice, Context, Finding, Load, nothing_chosen, tried
from collector.platforms.rate_limit import shared
from collector.platforms.wetransform.api import Api
from collector.platforms.wetransform.automations import Automation
from collector.platforms.wetransform.definitions import Definitions
from collector.platforms.wetransform.discovery import Discovery
from collector.platforms.wetransform.hints import may_mean, read_hint
from collector.platforms.wetransform.lineage import Definition, Place, described, job
from collector.platforms.wetransform.runs import Meaning, RunOrigin, Runs
from collector.platforms.wetransform.steps import table
from collector.platforms.wetransform.tracker import Tracker
from collector.platforms.wetransform.transformation_list import entry_definition, pages
from collector.platforms.wetransform.trigger import customer_of, start, transformation_key
from config.sources import WetransformSource

log = logging.getLogger("lineage.wetransform")


_LONGEST_PASS = 30.0
"""Seconds of one poll's reading, at the most: what is due then comes first in the next."""
_MOST_SIDE_BY_SIDE = 6


def create(config: WetransformSource, context: Context) -> "Wetransform":
    """The entry point of the platform `wetransform`."""
    return Wetransform(config, context)


class Wetransform:
    """One account, seen for the customer of the configuration."""

    def __init__(self, config: WetransformSource, context: Context) -> None:
        clock, per_minute, token = context.clock, config.requests_per_minute, config.credential.get
        self._config, self._context = config, context
        self._customer, self._per_minute = config.customer, per_minute
        self._place = Place(context.namespace, config.base_url)
        pace = shared(clock, config.base_url, token(), per_minute=per_minute, burst=config.burst)
        self._api = Api(context.http, config.base_url, token, pace, clock)
        self._definitions = Definitions(self._api, clock, context.source)
        self._runs = Runs(self._api, self._definitions, self._place, clock, _meaning(config), config.intervals)
        self._tracker = Tracker(
            context.source,
            self._api,
            self._definitions,
            self._runs,
            clock,
            config.intervals,
            customer=config.customer,
            longest_pass=min(_LONGEST_PASS, config.poll_within.total_seconds() / 2),
            side_by_side=_MOST_SIDE_BY_SIDE if per_minute is None else max(1, min(_MOST_SIDE_BY_SIDE, per_minute // 6)),
        )
        self._discovery = self._walks() if config.discover else None

    def _walks(self) -> Discovery:
        """What finds the runs that others started."""
        config, choice = self._config, Choice(self._config.include, self._config.exclude)

        def is_wanted(known: Definition) -> bool:
            name = job(self._place, known.key, known).name
            return choice.takes(known.key, name, known.source_name, known.template_name)

        rate = (config.requests_per_minute or 300) / 60
        return Discovery(
            self._context.source,
            self._api,
            self._definitions,
            self._place,
            self._context.clock,
            customer=config.customer,
            wanted=is_wanted,
            rate=rate,
        )

    async def poll(self, tracked: Sequence[Run], cursor: str | None) -> AsyncIterator[Poll]:
        has_page = False
        async for page in self._tracker.pages(tracked):
            has_page = True
            for seen in page.observations:
                self._note(seen)
            yield page
        if self._discovery is not None:
            async for page in self._discovery.pages(cursor):
                has_page = True
                yield page
        if not has_page:
            yield Poll()

    async def enrich(self, run: Run) -> Enrichment:
        """Names and columns of the transformation, where the last look did not have them yet."""
        whose = RunOrigin.of(run.handle)
        if whose.transformation is None:
            return Enrichment()
        try:
            known = await self._definitions.read(whose.transformation, whose.customer)
        except NotFound as error:
            return Enrichment(Facts(problems=(f"names and columns are not known: {error}",)))
        found = described(self._place, run.facts, known, whose.customer)
        return Enrichment(found, job(self._place, run.job.key, known))

    async def trigger(self, job: str, parameters: Mapping[str, str], token: str) -> Observation:
        """`job` is the transformation's UUID; the one parameter is `customer`, the `X-Customer` to start it for."""
        key, customer = transformation_key(job), customer_of(parameters, self._customer)
        seen = await start(self._api, key, customer)
        observation = self._runs.observation(seen, RunOrigin(key, customer))
        self._note(observation)
        return observation

    async def watch(self, key: str, options: Mapping[str, str]) -> Observation:
        """`key` is an automation's UUID. Options: `customer`, and `transformation`, which is looked for if it is not
        given. Raises `NotFound` also for options that do not fit.
        """
        if unknown := sorted(set(options) - {"customer", "transformation"}):
            raise NotFound(f"watch {key}: there is no option {', '.join(unknown)}, but customer and transformation")
        automation_id = uuid(key)
        if automation_id is None:
            raise NotFound(f"watch {key}: an automation id is a UUID")
        customer = options.get("customer") or self._customer
        try:
            seen = await self._runs.read(automation_id, customer)
        except NotFound as error:
            hint = (
                "there is no such run, or not for this customer; give the run's own id, not that of its transformation"
            )
            raise NotFound(f"{error}; {hint}") from error
        except Forbidden as error:
            hint = "the token may not see this run: give the customer for whom it runs, or have the token's user allowed to"
            raise Forbidden(f"{error}; {hint}") from error
        known = await self._transformation(seen, options.get("transformation"), customer)
        if known is not None:
            # a START without the columns that the end has makes two versions of one output in Marquez
            await self._definitions.prepare(known.key, customer)
        observation = self._runs.observation(seen, RunOrigin(known.key if known else None, customer))
        self._note(observation)
        return observation

    async def check(self) -> list[Finding]:
        listed = await self._tried("list of transformations", "/transformations")
        greeting = await self._tried("greeting", "/hello")
        if listed.ok and not greeting.ok:
            greeting = Finding("greeting", ok=True, detail=f"not as expected, which does no harm: {greeting.detail}")
        return [greeting, listed, *(await self._fitting() if listed.ok else ())]

    async def _fitting(self) -> list[Finding]:
        """Whether include and exclude leave anything."""
        try:
            number = await self._discovery.unwanted() if self._discovery is not None and self._config.include else None
        except SourceError:
            return []  # the tries beside this one say it
        return [] if number is None else [nothing_chosen(self._config.include, number, "transformations")]

    async def jobs(self) -> Sequence[Job]:
        found: dict[str, Job] = {}
        async for page in pages(self._api, self._customer):
            known = [each for row in page.entries if (each := entry_definition(row)) is not None]
            wanted = [each for each in known if self._discovery is None or self._discovery.wants(each)]
            found.update({each.key: job(self._place, each.key, each) for each in wanted})
        return list(found.values())

    def load(self, watched: Mapping[RunState, int]) -> Load:
        """One request reads one run: at the longest interval of runs under way, and the shortest of waiting ones."""
        runs, waiting = sum(watched.values()), watched.get(RunState.WAITING, 0)
        interval, limit = self._config.intervals.active_most.total_seconds(), self._per_minute
        rarely = self._config.intervals.waiting.total_seconds()
        walks = self._discovery.requests_per_minute * interval / 60 if self._discovery is not None else 0.0
        reads = runs - waiting + waiting * interval / rarely
        note = limit and (
            f"enough for {limit * interval / 60:.0f} runs under way or {limit * rarely / 60:.0f} that wait for a person"
        )
        return Load(runs, walks, reads, interval, limit, setting="intervals.active_most", note=note or None)

    def hint(self, headers: Mapping[str, str], body: bytes) -> Callable[[Run], bool] | None:
        """The webhook `file:ready-for-download`."""
        if (secret := self._config.webhook_credential) is None:
            raise NotFound("no webhook_secret is configured")
        if not signature_fits(secret.get(), body, headers.get("X-Signature")):
            raise AuthFailed("webhook: X-Signature does not fit the body")
        found = read_hint(body)
        return None if found is None else partial(may_mean, found)

    async def close(self) -> None:
        await self._context.http.close()

    async def _transformation(self, seen: Automation, named: str | None, customer: str | None) -> Definition | None:
        """The transformation of a run, which its answer does not name: as named, or by source and template."""
        if named is None:
            return await self._definitions.find(seen, customer)
        key = uuid(named)
        if key is None:
            raise NotFound(f"watch {seen.key}: transformation={named} is not a valid UUID")
        known = await self._definitions.read(key, customer)
        if seen.source_id is not None and known.source_id not in {None, seen.source_id}:
            raise NotFound(f"watch {seen.key}: it runs on source {seen.source_id}, transformation {key} on another")
        return known

    async def _tried(self, subject: str, path: str) -> Finding:
        params = {"per_page": 1} if path == "/transformations" else None
        remedies = {**_REMEDIES, Forbidden: _FOR_NO_CUSTOMER} if self._customer else _REMEDIES
        get = partial(self._api.get, path, customer=self._customer, params=params)
        return await tried(subject, get, f"GET {path} answers", partial(remedy, known=remedies))

    def _note(self, seen: Observation) -> None:
        if self._discovery is not None:
            self._discovery.note(seen)


def _meaning(config: WetransformSource) -> Meaning:
    overrides = {step: RunState(word) for step, word in config.steps.items()}
    return Meaning(table(overrides), overrides, config.waiting_after)


_FOR_NO_CUSTOMER = "see that `customer` is an e-mail or id of one of your customers, and that the token may act for it"
_WRONG_ADDRESS = "see that `base_url` is the address of the API, https://api.wetransform.com"
_REMEDIES: Remedies = {
    Forbidden: "the token is known, but may not do this: see what the account has bought and the user may do",
    AuthFailed: "make a new token in wetransform's account settings and put it where `token` or `token_file` points",
    NotFound: _WRONG_ADDRESS,
    BadAnswer: _WRONG_ADDRESS,
}
