"""Who sends a request, and whether its form was made here for this user: against forgeries by other sites (CSRF).

Not aiohttp-session: nothing is kept of a session but the random word in its cookie, by which a form is signed.
"""

import hmac
import secrets
from collections.abc import Callable
from hashlib import sha256
from typing import Any
from urllib.parse import urlsplit

from aiohttp import web

from config.web import Access

USER = web.RequestKey("user", str)
"""The name of the user whose password or client certificate was checked; absent without either."""
_SESSION = web.RequestKey("session", str)
_COOKIE = "lineage_collector_session"
_LIFE = 12 * 3600
"""Seconds of a session: a form that is older is loaded again."""


class Refused(Exception):
    """The request is not acted upon; the text says why, and what to do."""


def certified_user(request: web.Request) -> str | None:
    """The common name of a client certificate that was verified, None without one."""
    certificate: Any = request.get_extra_info("peercert") or {}
    names = dict(pair for part in certificate.get("subject", ()) for pair in part)
    name = names.get("commonName")
    return str(name) if name else None


class Forms:
    """Tokens of forms, each bound to the user and to a session: a random cookie that browsers send with no request of another
    site. They need no memory, so a form of one replica is taken by another.
    """

    def __init__(self, access: Callable[[], Access], *, acts: bool = True) -> None:
        self._access, self._acts = access, acts

    def token(self, request: web.Request) -> str | None:
        """For a form on the page that answers this request, None where nobody is authenticated. `keep` goes with the answer."""
        user = request.get(USER)
        if user is None or not self._acts:
            return None
        session = request.cookies.get(_COOKIE, "")
        if len(session) != 43:
            session = request[_SESSION] = secrets.token_urlsafe(32)
        return self._token(user, session)

    def keep(self, request: web.Request, answer: web.Response) -> web.Response:
        """The answer, with the session that a token was made for, if it is new."""
        if (session := request.get(_SESSION)) is not None:
            answer.set_cookie(_COOKIE, session, max_age=_LIFE, httponly=True, samesite="Strict", secure=request.secure)
        return answer

    def checked(self, request: web.Request, token: str) -> str:
        """The user who sends this form. Raises `Refused`."""
        user: str | None = request.get(USER)
        session = request.cookies.get(_COOKIE, "")
        if user is None:
            raise Refused(
                "acting from the pages is off, as nobody has to log in: set http.web_config_file with users or client "
                "certificates (docs/http.md), or use the command line"
            )
        if not _is_own(request):
            raise Refused("this request comes from a page of another site")
        if not session or not hmac.compare_digest(token.encode(), self._token(user, session).encode()):
            raise Refused("the form is not of this session, or too old: load the page again and repeat it")
        return user

    def _token(self, user: str, session: str) -> str:
        hashed = self._access().users.get(user, "")
        return hmac.new(session.encode(), f"form\0{user}\0{hashed}".encode(), sha256).hexdigest()


def _is_own(request: web.Request) -> bool:
    """Browsers name the origin of each POST; programs need not."""
    origin, site = request.headers.get("Origin"), request.headers.get("Sec-Fetch-Site")
    if origin is None:
        return site in {None, "same-origin", "none"}
    try:
        return urlsplit(origin).netloc.lower() == request.headers.get("Host", "").lower() != ""
    except ValueError:
        return False
