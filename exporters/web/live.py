"""`/live`: server-sent events that say that something changed, so that a page that is open reads itself anew.

Not aiohttp-sse: it would write the two lines of an event; the limits of streams, which are the rest of this, would stay.
"""

import asyncio

from aiohttp import web

from collector.ledger.port import Ledger

STREAMS = 32
"""At the same time; a further page stays as it is until it is loaded again."""
LIFE = 25.0
"""Seconds of one stream, less than the server gives a request; the browser then opens the next."""
EVERY = 2.0
"""Seconds between two events of a stream at the least, however much is committed."""
LOOK = 5.0
"""Seconds between two looks whether the browser is still there."""
_AGAIN_MS = 1000


class Live:
    """Counts the commits, for all streams together. Nothing is read or sent while nothing is committed."""

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger
        self._commits = 0
        self._committed, self._stopping = asyncio.Event(), asyncio.Event()
        self._streams = 0
        self._forget = ledger.on_commit(self._count)

    def routes(self) -> list[web.RouteDef]:
        return [web.get("/live", self._stream, allow_head=False)]

    def stop(self) -> None:
        """End all streams, so that the server need not wait for them."""
        self._forget()
        self._stopping.set()
        self._committed.set()

    async def _stream(self, request: web.Request) -> web.StreamResponse:
        if self._stopping.is_set() or self._streams >= STREAMS:
            return web.Response(status=503, text="too many pages are open\n", headers={"Retry-After": "60"})
        answer = web.StreamResponse(headers={"Content-Type": "text/event-stream", "Cache-Control": "no-store"})
        self._streams += 1
        try:
            await answer.prepare(request)
            await self._send(request, answer, request.headers.get("Last-Event-ID", ""))
        except ConnectionError:
            pass  # the browser went away
        finally:
            self._streams -= 1
        return answer

    async def _send(self, request: web.Request, answer: web.StreamResponse, known: str) -> None:
        """An event whenever there were commits since the one that is `known`, and one at first where none is: there may have been
        some since the page was read.
        """
        now = asyncio.get_running_loop().time
        end = now() + LIFE
        await answer.write(f"retry: {_AGAIN_MS}\n\n".encode())
        while (left := end - now()) > 0 and not self._stopping.is_set() and not _is_gone(request):
            committed, current = self._committed, str(self._commits)
            if current == known:
                await _wait(committed, min(left, LOOK))
            else:
                known = current
                await answer.write(f"id: {current}\ndata: changed\n\n".encode())
                await _wait(self._stopping, min(left, EVERY))

    def _count(self) -> None:
        self._commits += 1
        self._committed.set()
        self._committed = asyncio.Event()


def _is_gone(request: web.Request) -> bool:
    return request.transport is None or request.transport.is_closing()


async def _wait(event: asyncio.Event, seconds: float) -> None:
    try:
        async with asyncio.timeout(seconds):
            await event.wait()
    except TimeoutError:
        pass
