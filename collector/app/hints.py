"""Receives hints: messages from outside that something changed. The runs that they may concern are polled at once; their
content is never trusted.
"""

import asyncio
import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial

from aiohttp import web
from sqlalchemy import Connection
from sqlalchemy.exc import SQLAlchemyError

from collector.clock import Clock, to_ms
from collector.errors import AuthFailed, BadAnswer, LedgerError, NotFound
from collector.hint import SIGNATURES, Hint, may_mean, read_hint, signature_fits
from collector.ledger import requests, stored
from collector.ledger.port import Ledger
from collector.logs import fields
from collector.model import Run, RunState
from collector.platforms.base import Hinting, Platform
from collector.reports import HintReport, HintResult, Observer

log = logging.getLogger("lineage.hint")

BODY_WITHIN = 10.0
"""Seconds that a sender may take for its message."""
LEDGER_WITHIN = 5.0
LOOKED_AT = 10_000
"""Open runs that are compared with a hint, those that are due first."""
MOST_MEANT = 200
"""Runs that one message makes due, so that many messages do not delay the polls of other runs."""
NEVER = 2**62

Meant = Callable[[Run], bool]
"""Whether a message may be about this open run."""
Read = Callable[[Mapping[str, str], bytes], Meant | None]
"""`Hinting.hint` of a platform, or the same for messages of the collector's own form."""


@dataclass(frozen=True, slots=True)
class HintedSource:
    """A source, the kind of its platform and its number in the ledger. `secret` signs messages of the collector's own form
    over HTTP; None: it takes none of them.
    """

    kind: str
    source_id: int
    platform: Platform
    secret: Callable[[], str] | None = None


class Hints:
    """The routes `POST /hints/{platform}/{source}`, for messages as the platform sends them, and `POST /hints/{source}`, for
    messages of the collector's own form; and the messages of a topic.

    The routes answer 400 to a message that cannot be read, 401 to one that is not signed as agreed, 404 where none is
    expected, 413 to one that is too large, 503 where the ledger does not answer, and else 202, whatever comes of it.
    """

    def __init__(self, sources: Mapping[str, HintedSource], store: Ledger, clock: Clock, observer: Observer) -> None:
        self._sources, self._store, self._clock, self._observer = sources, store, clock, observer

    def routes(self) -> list[web.RouteDef]:
        return [
            web.post("/hints/{platform}/{source}", self._post_of_platform),
            web.post("/hints/{source}", self._post),
        ]

    async def take(self, bodies: Sequence[bytes]) -> None:
        """Messages of a topic, in its order. All for one source are taken as one; what is wrong with one is logged."""
        meant: dict[str, list[Hint]] = {}
        for body in bodies:
            try:
                hint = read_hint(body)
                if hint.source is None or hint.source not in self._sources:
                    raise BadAnswer(f"no source has the name {hint.source}; known are {', '.join(self._sources)}")  # noqa: TRY301
            except BadAnswer as error:
                self._ignored("", HintResult.UNREADABLE, str(error))
            else:
                meant.setdefault(hint.source, []).append(hint)
        for name, hints in meant.items():
            await self._look(name, partial(_one_may_mean, hints), len(hints))

    async def _post(self, request: web.Request) -> web.Response:
        name = request.match_info["source"]
        source = self._sources.get(name)
        if source is None or source.secret is None:
            return _answer(404, "no source of this name takes messages; one that does has a hint_secret")
        return await self._read(request, name, partial(_signed_hint, source.secret))

    async def _post_of_platform(self, request: web.Request) -> web.Response:
        name = request.match_info["source"]
        source = self._sources.get(name)
        if source is None or source.kind != request.match_info["platform"] or not isinstance(source.platform, Hinting):
            return _answer(404, "no source of this name takes messages")
        return await self._read(request, name, source.platform.hint, only_runs=True)

    async def _read(self, request: web.Request, name: str, read: Read, *, only_runs: bool = False) -> web.Response:
        body = await _body_of(request)
        if body is None:
            return _answer(408, "the message did not come in time")
        try:
            meant = read(request.headers, body)
        except NotFound as error:
            return _answer(404, str(error))
        except AuthFailed as error:
            self._ignored(name, HintResult.REFUSED, str(error))
            return _answer(401, "the signature does not fit")
        except BadAnswer as error:
            self._ignored(name, HintResult.UNREADABLE, str(error))
            return _answer(400, str(error))
        done = await self._look(name, meant, 1, only_runs=only_runs)
        return _answer(202, "taken") if done else _answer(503, "try again later")

    async def _look(self, name: str, meant: Meant | None, messages: int, *, only_runs: bool = False) -> bool:
        """Have the source polled now with the runs that may be meant; `only_runs`: not without any. False when the ledger
        does not take it: the source is polled at its interval all the same.
        """
        try:
            async with asyncio.timeout(LEDGER_WITHIN):
                found = await self._ask(name, meant, only_runs=only_runs) if meant is not None else None
        except (LedgerError, SQLAlchemyError, TimeoutError) as error:
            cause = str(error) or "the ledger did not answer in time"
            log.warning("hint.lost", extra=fields(source=name, cause=cause, messages=messages))
            return False
        for _ in range(messages):
            self._observer.hinted(HintReport(name, HintResult.NOTHING if found is None else HintResult.TAKEN))
        log.info("hint.taken", extra=fields(source=name, runs=found or 0, messages=messages))
        return True

    async def _ask(self, name: str, meant: Meant, *, only_runs: bool) -> int | None:
        """How many runs are looked at sooner; None when there is nothing to do. Those that are due are looked at anyway."""
        now, source_id = self._clock.now(), self._sources[name].source_id
        watched = await self._store.read(stored.tracked, source_id, NEVER, LOOKED_AT)
        later = [run for run in watched.runs if run.due_at is not None and run.due_at > now and meant(run)]
        likely = sorted(later, key=lambda run: (run.state is RunState.WAITING, run.seen_at))[:MOST_MEANT]
        if only_runs and not likely:
            return None
        await self._store.write(_ask, name, source_id, [run.key for run in likely], to_ms(now))
        return len(likely)

    def _ignored(self, name: str, result: HintResult, cause: str) -> None:
        self._observer.hinted(HintReport(name, result))
        log.warning("hint.ignored", extra=fields(source=name, result=result.value, cause=cause))


def _one_may_mean(hints: Sequence[Hint], run: Run) -> bool:
    return any(may_mean(hint, run) for hint in hints)


def _ask(conn: Connection, name: str, source_id: int, keys: Sequence[str], now_ms: int) -> None:
    """The holder of the source's lease does it."""
    requests.add_poll(conn, f"source:{name}", keys, now_ms)
    requests.hint(conn, source_id, now_ms)


def _signed_hint(secret: Callable[[], str], headers: Mapping[str, str], body: bytes) -> Meant:
    """As `Hinting.hint`, of a message in the collector's own form. Some senders put the name of the algorithm before the signature."""
    signature = next((headers[each] for each in SIGNATURES if each in headers), None)
    bare = None if signature is None else signature.strip().lower().removeprefix("sha256=")
    if not signature_fits(secret(), body, bare):
        raise AuthFailed(f"{' or '.join(SIGNATURES)} does not fit the body")
    return partial(may_mean, read_hint(body))


async def _body_of(request: web.Request) -> bytes | None:
    """None where it does not come in time."""
    try:
        async with asyncio.timeout(BODY_WITHIN):
            return await request.read()
    except TimeoutError:
        return None


def _answer(status: int, words: str) -> web.Response:
    return web.Response(status=status, text=f"{words}\n")
