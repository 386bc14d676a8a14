"""Who may ask, how often, and in which media type."""

import math
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from aiohttp import web

from simulators.dataprep.answers import Refused
from simulators.dataprep.switches import Switches

MINUTE = timedelta(minutes=1)

# Requests per user and per workspace and minute; runJobGroup as documented, the others from the later document.
QUOTAS = {"runJobGroup": (30, 60), "runFlow": (20, 40), "getPdfResults": (10, 20)}


@dataclass(frozen=True, slots=True)
class Token:
    user: int = 1
    expires_at: datetime | None = None


@dataclass(slots=True)
class Window:
    """One quota's minute, counted from its first request."""

    limit: int
    begins: datetime
    used: int = 0

    @property
    def resets(self) -> datetime:
        return self.begins + MINUTE


@dataclass(slots=True)
class Quotas:
    windows: dict[tuple[str, str], Window] = field(default_factory=dict)

    def window(self, operation: str, whose: str, limit: int, now: datetime) -> Window:
        known = self.windows.get((operation, whose))
        if known is None or known.resets <= now or known.limit != limit:
            known = self.windows[operation, whose] = Window(limit, now)
        return known

    def take(self, operation: str, user: str, workspace: str, now: datetime, switches: Switches) -> dict[str, str]:
        """Counts one request; the headers for its answer. Raises Refused with 429 when a quota is used up."""
        limits = QUOTAS[operation]
        both = [
            ("user", self.window(operation, f"user {user}", limits[0], now)),
            ("workspace", self.window(operation, f"workspace {workspace}", limits[1], now)),
        ]
        for scope, window in both:
            if window.used >= window.limit:
                raise _refusal(operation, scope, window, now, switches)
        for _, window in both:
            window.used += 1
        answer_headers = {
            name: text for scope, window in both for name, text in _headers(scope, window, switches).items()
        }
        return {**answer_headers, "x-retry-after": _seconds(both[0][1], now)}

    def take_read(self, user: str, now: datetime, switches: Switches) -> None:
        if not switches.read_quota:
            return
        window = self.window("read", f"user {user}", switches.read_quota, now)
        if window.used >= window.limit:
            raise _refusal("read", "user", window, now, switches)
        window.used += 1


def _seconds(window: Window, now: datetime) -> str:
    return str(math.ceil((window.resets - now).total_seconds()))


def _headers(scope: str, window: Window, switches: Switches) -> dict[str, str]:
    unit = 1000 if switches.reset_unit == "ms" else 1
    return {
        f"x-rate-limit-{scope}-limit": str(window.limit),
        f"x-rate-limit-{scope}-remaining": str(window.limit - window.used),
        f"x-rate-limit-{scope}-reset": str(int(window.resets.timestamp() * unit)),
    }


def _refusal(operation: str, scope: str, window: Window, now: datetime, switches: Switches) -> Refused:
    wait = _seconds(window, now)
    text = (
        f'API quota reached for "{operation}". Wait {wait} seconds before making a new request. '
        f"(Max. {window.limit} requests allowed per minute per {scope}.)"
    )
    return Refused(429, text, headers={**_headers(scope, window, switches), "x-retry-after": wait})


def authenticate(request: web.Request, tokens: dict[str, Token], now: datetime, switches: Switches) -> Token:
    kind, _, value = request.headers.get("Authorization", "").partition(" ")
    token = tokens.get(value) if kind == "Bearer" else None
    if token is None:
        raise Refused(switches.expired_status, "A valid access token is required")
    if token.expires_at is not None and token.expires_at <= now:
        raise Refused(switches.expired_status, "The access token has expired")
    return token


def check_media_types(request: web.Request) -> None:
    accepted = [part.split(";")[0].strip() for part in request.headers.get("Accept", "*/*").split(",")]
    if not {"*/*", "application/*", "application/json"} & set(accepted):
        raise Refused(415, f"Accept must allow application/json, not {request.headers.get('Accept')}")
    if (
        request.method in {"POST", "PUT", "PATCH"}
        and request.body_exists
        and request.content_type != "application/json"
    ):
        raise Refused(415, f"Content-type must be application/json, not {request.content_type}")
