"""Tokens by client credentials, from a provider on loopback, in simulated time."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from typing import Any

import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer

from collector.errors import AuthFailed, BadAnswer, SourceError, Throttled, Unavailable
from collector.http import LARGEST_TOKEN, HttpClient, HttpOptions
from collector.oauth import REFUSED_FOR, UNSAID_LIFETIME, Grant, Tokens
from collector.secret_registry import HIDDEN, secret_registry
from collector.testing.clock import SimulatedClock

SECRET = "a-secret-that-nobody-may-see"


@dataclass
class Provider:
    """Grants a new token each time, or answers `refusal`. While `gate` is closed it answers nobody."""

    lifetime: Any = 3600
    status: int = 200
    refusal: Any = None
    headers: dict[str, str] = field(default_factory=dict)
    secrets: list[str] = field(default_factory=list)
    gate: asyncio.Event = field(default_factory=asyncio.Event)
    at_once: int = 0
    most_at_once: int = 0

    async def token(self, request: web.Request) -> web.Response:
        self.secrets.append(str((await request.post())["client_secret"]))
        self.at_once += 1
        self.most_at_once = max(self.most_at_once, self.at_once)
        await self.gate.wait()
        self.at_once -= 1
        granted = {"access_token": f"granted-token-number-{len(self.secrets)}", "expires_in": self.lifetime}
        if self.lifetime is None:
            del granted["expires_in"]
        return web.json_response(
            granted if self.refusal is None else self.refusal, status=self.status, headers=self.headers
        )


@dataclass
class Deployment:
    provider: Provider
    clock: SimulatedClock
    tokens: Tokens
    secret: str = SECRET


@pytest.fixture
async def deployment() -> AsyncIterator[Deployment]:
    provider, clock, http = Provider(), SimulatedClock(), HttpClient(HttpOptions())
    provider.gate.set()
    app = web.Application(client_max_size=2**24)
    app.router.add_post("/token", provider.token)
    async with TestServer(app) as server:
        grant = Grant(str(server.make_url("/token")), "me", lambda: made.secret)
        made = Deployment(provider, clock, Tokens(http, clock, grant))
        yield made
        await http.close()


@pytest.mark.parametrize("lifetime", [0.001, 1, 20, 30, 31, 60, 3600, "3600", 10**9])
async def test_a_token_serves_for_half_of_its_life_and_not_beyond_it(
    deployment: Deployment, lifetime: float | str
) -> None:
    deployment.provider.lifetime = lifetime
    for _ in range(10):
        await deployment.tokens.current()
    assert len(deployment.provider.secrets) == 1, "not one for each event"
    deployment.clock.advance(float(lifetime) * 0.49)
    await deployment.tokens.current()
    assert len(deployment.provider.secrets) == 1
    deployment.clock.advance(max(1.0, float(lifetime) * 0.51))
    await deployment.tokens.current()
    assert len(deployment.provider.secrets) == 2


@pytest.mark.parametrize(
    "lifetime",
    [
        "nan",
        "inf",
        "soon",
        0,
        -5,
        [],
        {},
        "",
        None,
        float("nan"),
        float("inf"),
        10**400,
        "9" * 400,
        "\ud800",
        -(10**30),
    ],
)
async def test_a_lifetime_that_says_nothing_is_taken_for_short(deployment: Deployment, lifetime: Any) -> None:
    deployment.provider.lifetime = lifetime
    await deployment.tokens.current()
    deployment.clock.advance(UNSAID_LIFETIME / 2)
    await deployment.tokens.current()
    assert len(deployment.provider.secrets) == 1
    deployment.clock.advance(UNSAID_LIFETIME / 2)
    await deployment.tokens.current()
    assert len(deployment.provider.secrets) == 2, "it is renewed"


async def test_all_who_need_a_token_wait_for_one_request(deployment: Deployment) -> None:
    tokens = await asyncio.gather(*(deployment.tokens.current() for _ in range(20)))
    assert set(tokens) == {"granted-token-number-1"}
    assert (len(deployment.provider.secrets), deployment.provider.most_at_once) == (1, 1)


async def test_a_token_that_is_refused_is_replaced_once_and_a_fresh_one_is_kept(deployment: Deployment) -> None:
    old = await deployment.tokens.current()
    fresh = await asyncio.gather(*(deployment.tokens.current(refused=old) for _ in range(5)))
    assert set(fresh) == {"granted-token-number-2"}
    assert await deployment.tokens.current(refused=old) == fresh[0], "it was the old one that was refused"
    assert await deployment.tokens.current() == fresh[0]
    assert len(deployment.provider.secrets) == 2


@pytest.mark.parametrize(
    ("status", "error"), [(401, AuthFailed), (408, Unavailable), (503, Unavailable), (429, Throttled)]
)
async def test_all_who_waited_share_a_failure(deployment: Deployment, status: int, error: type[SourceError]) -> None:
    deployment.provider.status, deployment.provider.refusal = status, {"error": "invalid_client"}
    failures = await asyncio.gather(*(deployment.tokens.current() for _ in range(20)), return_exceptions=True)
    assert {type(failure) for failure in failures} == {error}
    assert len(deployment.provider.secrets) == 1


async def test_a_refusal_is_believed_for_a_while(deployment: Deployment) -> None:
    deployment.provider.status = 401
    deployment.provider.refusal = {"error": "invalid_client", "error_description": "no such client"}
    for _ in range(10):
        with pytest.raises(AuthFailed, match="401, invalid_client: no such client; check client_id"):
            await deployment.tokens.current()
    assert len(deployment.provider.secrets) == 1
    deployment.provider.status, deployment.provider.refusal = 200, None
    deployment.clock.advance(REFUSED_FOR)
    assert await deployment.tokens.current() == "granted-token-number-2"


async def test_patience_that_the_provider_asks_for_is_obeyed(deployment: Deployment) -> None:
    deployment.provider.status, deployment.provider.headers = 429, {"Retry-After": "30"}
    with pytest.raises(Throttled):
        await deployment.tokens.current()
    deployment.provider.status = 200
    deployment.clock.advance(20)
    with pytest.raises(Throttled) as caught:
        await deployment.tokens.current()
    assert caught.value.after == 10
    deployment.clock.advance(10)
    await deployment.tokens.current()
    assert len(deployment.provider.secrets) == 2


async def test_an_outage_of_the_provider_is_not_believed_any_longer_than_it_lasts(deployment: Deployment) -> None:
    deployment.provider.status = 503
    with pytest.raises(Unavailable):
        await deployment.tokens.current()
    deployment.provider.status = 200
    assert await deployment.tokens.current()


async def test_while_a_token_holds_a_failure_to_replace_it_disturbs_nobody_else(deployment: Deployment) -> None:
    token = await deployment.tokens.current()
    deployment.provider.status, deployment.provider.refusal = 401, {"error": "invalid_client"}
    with pytest.raises(AuthFailed):
        await deployment.tokens.current(refused=token)
    assert await deployment.tokens.current() == token


async def test_a_secret_that_rotates_is_asked_for_at_each_request(deployment: Deployment) -> None:
    token = await deployment.tokens.current()
    deployment.secret = "another-secret"
    await deployment.tokens.current(refused=token)
    assert deployment.provider.secrets == [SECRET, "another-secret"]


async def test_a_token_is_learnt_as_a_secret_before_anybody_has_it(deployment: Deployment) -> None:
    token = await deployment.tokens.current()
    assert secret_registry.hidden(f"the token {token} expired") == f"the token {HIDDEN} expired"


async def test_who_gives_up_waiting_takes_nobody_elses_request_away(deployment: Deployment) -> None:
    deployment.provider.gate.clear()
    first, second = (asyncio.create_task(deployment.tokens.current()) for _ in range(2))
    async with asyncio.timeout(10):
        while not deployment.provider.secrets:
            await asyncio.sleep(0)
    first.cancel()
    deployment.provider.gate.set()
    assert await second


async def test_an_answer_that_is_no_token_by_its_size_is_not_read(deployment: Deployment) -> None:
    deployment.provider.refusal = {"access_token": "x" * LARGEST_TOKEN}
    with pytest.raises(BadAnswer, match="status 200, and an answer of more than 1 MiB"):
        await deployment.tokens.current()


@pytest.mark.parametrize("token", ["", None, 7, "a\r\nX-Injected: b", "a\x00b", "tokén"])
async def test_a_token_that_fits_no_header_is_none(deployment: Deployment, token: Any) -> None:
    deployment.provider.refusal = {"access_token": token}
    with pytest.raises(BadAnswer, match="status 200 without an access_token"):
        await deployment.tokens.current()
