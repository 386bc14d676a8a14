"""Takes messages from outside that something changed, and has the runs that may be meant looked at now. What they say
is never believed.
"""

import asyncio
import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import orjson
from aiohttp import web
from sqlalchemy import Connection
from sqlalchemy.exc import SQLAlchemyError

from collector.clock import Clock, to_ms
from collector.errors import AuthFailed, BadAnswer, LedgerError, NotFound
from collector.ledger import requests, stored
from collector.ledger.port import Ledger
from collector.ledger.requests import RequestKind
from collector.logs import fields
from collector.model import Run, RunState
from collector.platforms.base import Hinting
from collector.reports import HintReport, HintResult, Observer

log = logging.getLogger("lineage.hint")

BODY_WITHIN = 10.0
"""Seconds that a sender may take for its message."""
LEDGER_WITHIN = 5.0
LOOKED_AT = 10_000
"""Open runs among which those that are meant are looked for, those that are due first."""
MOST_MEANT = 200
"""Runs that one message makes due, so that many messages which may mean many runs leave the others their turn."""
NEVER = 2**62


@dataclass(frozen=True, slots=True)
class Hinted:
    """A source that takes messages: the kind of its platform, its number in the ledger, and its adapter."""

    kind: str
    source_id: int
    platform: Hinting


class Hints:
    """The routes `POST /hints/{platform}/{source}`.

    Answers 400 to a message that cannot be read, 401 to one that is not signed as agreed, 404 where none is expected, 413
    to one that is too large, 503 where the ledger does not answer, and else 202, whatever comes of it.
    """

    def __init__(self, sources: Mapping[str, Hinted], store: Ledger, clock: Clock, observer: Observer) -> None:
        self._sources, self._store, self._clock, self._observer = sources, store, clock, observer

    def routes(self) -> list[web.RouteDef]:
        return [web.post("/hints/{platform}/{source}", self._post)]

    async def _post(self, request: web.Request) -> web.Response:
        name = request.match_info["source"]
        hinted = self._sources.get(name)
        if hinted is None or hinted.kind != request.match_info["platform"]:
            return _answer(404, "no source of this name takes messages")
        try:
            async with asyncio.timeout(BODY_WITHIN):
                body = await request.read()
        except TimeoutError:
            return _answer(408, "the message did not come in time")
        return await self._taken(name, hinted, request.headers, body)

    async def _taken(self, name: str, hinted: Hinted, headers: Mapping[str, str], body: bytes) -> web.Response:
        try:
            may_mean = hinted.platform.hint(headers, body)
        except NotFound as error:
            return _answer(404, str(error))
        except AuthFailed as error:
            self._tell(name, HintResult.REFUSED, str(error))
            return _answer(401, "the signature does not fit")
        except BadAnswer as error:
            self._tell(name, HintResult.UNREADABLE, str(error))
            return _answer(400, str(error))
        try:
            async with asyncio.timeout(LEDGER_WITHIN):
                found = await self._asked(name, hinted.source_id, may_mean) if may_mean is not None else 0
        except (LedgerError, SQLAlchemyError, TimeoutError) as error:
            log.warning("hint.lost", extra=fields(source=name, cause=str(error) or "the ledger did not answer in time"))
            return _answer(503, "try again later")
        self._observer.hinted(HintReport(name, HintResult.TAKEN if found else HintResult.NOTHING))
        log.info("hint.taken", extra=fields(source=name, runs=found))
        return _answer(202, "taken")

    async def _asked(self, name: str, source_id: int, may_mean: Callable[[Run], bool]) -> int:
        """Have the runs looked at that may be meant; how many they are. Those that are due are looked at anyway."""
        now = self._clock.now()
        watched = await self._store.read(stored.tracked, source_id, NEVER, LOOKED_AT)
        meant = [run for run in watched.runs if run.due_at is not None and run.due_at > now and may_mean(run)]
        likely = sorted(meant, key=lambda run: (run.state is RunState.WAITING, run.seen_at))[:MOST_MEANT]
        if likely:
            await self._store.write(_ask, name, source_id, [run.key for run in likely], to_ms(now))
        return len(likely)

    def _tell(self, name: str, result: HintResult, cause: str) -> None:
        self._observer.hinted(HintReport(name, result))
        log.warning("hint.ignored", extra=fields(source=name, result=result.value, cause=cause))


def _ask(conn: Connection, name: str, source_id: int, keys: Sequence[str], now_ms: int) -> None:
    """Whoever holds the lease of the source does it."""
    body = orjson.dumps({"keys": keys}).decode()
    requests.add(conn, RequestKind.POLL, f"source:{name}", body, now_ms)
    requests.hint(conn, source_id, now_ms)


def _answer(status: int, words: str) -> web.Response:
    return web.Response(status=status, text=f"{words}\n")
