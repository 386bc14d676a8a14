"""The CDF simulator as the server wants it: a project with faults and routes."""

from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

from aiohttp import web

from collector.testing.faults import Faults
from simulators.cdf.control import control_routes
from simulators.cdf.modes import Modes
from simulators.cdf.project import Project
from simulators.cdf.routes import vendor_routes
from simulators.cdf.wire import envelope


def _system_now() -> datetime:
    return datetime.now(UTC)


class CdfSimulator(Project):
    """One simulated CDF project, its API under `/api/v1/projects/{project}` and its identity provider.

    Tokens come from `/oauth2/token`, `/{tenant}/oauth2/v2.0/token` or `/oauth/token` (Cognite, Entra ID, Auth0) for
    client `collector` with secret `simulated-secret`.
    """

    def __init__(
        self,
        *,
        seed: int = 0,
        now: Callable[[], datetime] = _system_now,
        project: str = "plant-a",
        modes: Modes | None = None,
    ) -> None:
        super().__init__(seed=seed, now=now, name=project, modes=modes)
        self.faults = Faults()

    def routes(self) -> list[web.RouteDef]:
        return vendor_routes(self)

    def control_routes(self) -> list[web.RouteDef]:
        return control_routes(self)

    def error_body(self, status: int) -> Any:
        return envelope(status)
