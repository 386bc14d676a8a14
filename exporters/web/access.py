"""Who may read the pages: TLS and passwords, by the current web configuration file."""

import asyncio
import base64
import binascii
import hmac
import logging
import os
from collections.abc import Awaitable, Callable, Collection, Mapping
from hashlib import sha256

import bcrypt
from aiohttp import web

from collector.logs import fields
from config.web import Access
from exporters.web.identity import USER, certified_user

log = logging.getLogger("lineage.access")

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]

MOST_WAITING = 16
"""Requests that wait for a check of their password; more are refused, as each check takes a CPU for a while."""
LONGEST_PASSWORD = 72
"""Bytes: bcrypt ignores what comes after them."""


class TooMany(Exception):
    """Too many requests wait for their password to be checked."""


class Passwords:
    """Checks passwords by bcrypt, one at a time in a thread. Valid ones are remembered as keyed digests, one per user,
    so that a scrape is cheap; others are checked each time, so that guesses cannot displace a valid one.
    """

    def __init__(self) -> None:
        self._key = os.urandom(32)
        self._known: dict[str, bytes] = {}
        self._alone = asyncio.Lock()
        self._waiting = 0

    async def fits(self, users: Mapping[str, str], name: str, password: bytes) -> bool:
        """`users` holds a hash for each name. An unknown name takes as long as a known one. Raises `TooMany`."""
        if self._is_known(users, name, password):
            return True
        if self._waiting >= MOST_WAITING:
            raise TooMany
        self._waiting += 1
        try:
            async with self._alone:
                if self._is_known(users, name, password):
                    return True
                hashed = users.get(name) or next(iter(users.values()))
                fits = await asyncio.to_thread(_fits, password, hashed) and name in users
        finally:
            self._waiting -= 1
        if fits:
            self._known[name] = self._digest(hashed, password)
        return fits

    def _is_known(self, users: Mapping[str, str], name: str, password: bytes) -> bool:
        """The digest covers the hash, too: once the hash changes, the password is unknown again."""
        digest = self._digest(users.get(name, ""), password)
        return hmac.compare_digest(self._known.get(name, b""), digest) and name in users

    def _digest(self, hashed: str, password: bytes) -> bytes:
        return hmac.digest(self._key, hashed.encode() + b":" + password, sha256)


def _fits(password: bytes, hashed: str) -> bool:
    return bcrypt.checkpw(password[:LONGEST_PASSWORD], hashed.encode()) and len(password) <= LONGEST_PASSWORD


class Gate:
    """Checks each request by the current `access`. `open_to` are the routes without a password."""

    def __init__(self, access: Callable[[], Access], open_to: Collection[str]) -> None:
        self._access, self._open_to, self._passwords = access, open_to, Passwords()

    async def pass_on(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        """Requires a password on unknown paths, too, so that a client without one cannot learn which paths exist."""
        users = self._access().users
        resource = request.match_info.route.resource
        if resource is not None and resource.canonical in self._open_to:
            return await handler(request)
        if not users:
            if (certified := certified_user(request)) is not None:
                request[USER] = certified
            return await handler(request)
        try:
            given = _credentials(request.headers.get("Authorization", ""))
            if given is not None and await self._passwords.fits(users, *given):
                request[USER] = given[0]
                return await handler(request)
        except TooMany:
            return web.Response(status=503, text="too many passwords to check\n", headers={"Retry-After": "5"})
        if given is not None:
            log.warning("access.refused", extra=fields(client=request.remote, path=request.path))
        wanted = {"WWW-Authenticate": 'Basic realm="lineage-collector", charset="UTF-8"'}
        return web.Response(status=401, text="name and password are needed\n", headers=wanted)


def _credentials(header: str) -> tuple[str, bytes] | None:
    """Name and password, None where there are none or they cannot be parsed."""
    scheme, _, encoded = header.partition(" ")
    try:
        name, colon, password = base64.b64decode(encoded.strip(), validate=True).partition(b":")
        return (name.decode(), password) if scheme.lower() == "basic" and colon else None
    except (binascii.Error, ValueError):
        return None
