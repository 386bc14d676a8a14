"""wetransform: a service that maps files of customers into target formats. Its API reads one run at a time."""

from typing import TYPE_CHECKING

from collector.model import RunState
from collector.platforms.base import Choice, Context
from collector.platforms.rate_limit import shared
from collector.platforms.wetransform.adapter import Wetransform
from collector.platforms.wetransform.api import Api
from collector.platforms.wetransform.definitions import Definitions
from collector.platforms.wetransform.discovery import Discovery
from collector.platforms.wetransform.lineage import Definition, Place, job
from collector.platforms.wetransform.runs import Meaning, Runs
from collector.platforms.wetransform.schedule import Intervals
from collector.platforms.wetransform.steps import STATES, table
from collector.platforms.wetransform.tracker import Tracker

if TYPE_CHECKING:
    from config.sources import WetransformSource

__all__ = ["STATES", "Wetransform", "create"]

_LONGEST_PASS = 30.0
"""Seconds of one poll's reading, at the most: what is due then comes first in the next."""
_MOST_SIDE_BY_SIDE = 6


def create(config: "WetransformSource", context: Context) -> Wetransform:
    """The adapter of one source; asks nothing of the network."""
    clock, per_minute, token = context.clock, config.requests_per_minute, config.credential.get
    place = Place(context.namespace, config.base_url)
    intervals = _intervals(config)
    pace = shared(clock, config.base_url, token(), per_minute=per_minute, burst=config.burst)
    api = Api(context.http, config.base_url, token, pace, clock)
    definitions = Definitions(api, clock)
    runs = Runs(api, definitions, place, clock, _meaning(config), intervals)
    tracker = Tracker(
        context.source,
        api,
        definitions,
        runs,
        clock,
        intervals,
        customer=config.customer,
        longest_pass=min(_LONGEST_PASS, config.poll_within.total_seconds() / 2),
        side_by_side=_MOST_SIDE_BY_SIDE if per_minute is None else max(1, min(_MOST_SIDE_BY_SIDE, per_minute // 6)),
    )
    return Wetransform(
        context.source,
        api=api,
        place=place,
        definitions=definitions,
        runs=runs,
        tracker=tracker,
        discovery=_discovery(config, api, definitions, place, context) if config.discover else None,
        include=config.include,
        customer=config.customer,
        intervals=intervals,
        per_minute=per_minute,
        webhook_secret=config.webhook_credential.get if config.webhook_credential is not None else None,
    )


def _intervals(config: "WetransformSource") -> Intervals:
    wished = config.intervals
    return Intervals(wished.active, wished.active_most, wished.waiting, wished.waiting_most)


def _meaning(config: "WetransformSource") -> Meaning:
    overrides = {step: RunState(word) for step, word in config.steps.items()}
    return Meaning(table(overrides), overrides, config.waiting_after)


def _discovery(
    config: "WetransformSource", api: Api, definitions: Definitions, place: Place, context: Context
) -> Discovery:
    choice = Choice(config.include, config.exclude)

    def is_wanted(known: Definition) -> bool:
        names = (known.key, job(place, known.key, known).name, known.source_name, known.template_name)
        return choice.takes(*names)

    rate = (config.requests_per_minute or 300) / 60
    return Discovery(api, definitions, place, context.clock, customer=config.customer, wanted=is_wanted, rate=rate)
