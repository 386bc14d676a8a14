"""The identity provider of a simulated CDF project: access tokens by client credentials, and what they allow."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from random import Random
from typing import Any

READ = "transformationsAcl:READ"
WRITE = "transformationsAcl:WRITE"
WORKFLOWS = "workflowOrchestrationAcl:READ"


@dataclass(slots=True)
class Identity:
    """Hands out and checks tokens. `now` is in epoch milliseconds, lifetimes are seconds.

    `scope` and `audience`, where set, must be asked for exactly. The three paths answer as Entra ID, Cognite's own
    provider and Auth0 do: Entra insists on a scope, Auth0 on an audience.
    """

    now: Callable[[], int]
    random: Random
    project: str
    client_id: str = "collector"
    client_secret: str = "simulated-secret"  # noqa: S105
    scope: str | None = None
    audience: str | None = None
    lifetime: float = 3600.0
    capabilities: set[str] = field(default_factory=lambda: {READ, WRITE, WORKFLOWS})
    issued: dict[str, int] = field(default_factory=dict)
    grants: int = 0

    def grant(self, form: Mapping[str, Any], provider: str) -> tuple[int, dict[str, Any]]:
        """The answer to a token request: status and JSON."""
        if form.get("grant_type") != "client_credentials":
            return _refused(400, "unsupported_grant_type", "Only client_credentials is supported.")
        if form.get("client_id") != self.client_id:
            return _refused(400, "unauthorized_client", "AADSTS700016: Application was not found in the directory.")
        if form.get("client_secret") != self.client_secret:
            return _refused(401, "invalid_client", "AADSTS7000215: Invalid client secret provided.")
        if problem := self._unwanted(form, provider):
            return problem
        token = f"sim-{self.random.getrandbits(128):032x}"
        self.issued[token] = self.now() + round(self.lifetime * 1000)
        self.grants += 1
        return 200, {"token_type": "Bearer", "expires_in": round(self.lifetime), "access_token": token}

    def refusal(self, authorization: str | None) -> str | None:
        """Why a request with this `Authorization` header is answered with 401; None when it is not."""
        scheme, _, token = (authorization or "").partition(" ")
        if scheme.lower() != "bearer" or token not in self.issued:
            return "Unauthorized"
        return "Token is expired" if self.issued[token] <= self.now() else None

    def revoke(self) -> None:
        """All tokens become invalid at once, long before they expire."""
        self.issued.clear()

    def inspection(self) -> dict[str, Any]:
        """The answer of `/api/v1/token/inspect`."""
        by_acl: dict[str, list[str]] = {}
        for capability in sorted(self.capabilities):
            acl, _, action = capability.partition(":")
            by_acl.setdefault(acl, []).append(action)
        scope = {"projects": [self.project]}
        return {
            "subject": self.client_id,
            "projects": [{"projectUrlName": self.project, "groups": [1]}],
            "capabilities": [
                {acl: {"version": 1, "actions": actions, "scope": {"all": {}}}, "projectScope": scope}
                for acl, actions in by_acl.items()
            ],
        }

    def _unwanted(self, form: Mapping[str, Any], provider: str) -> tuple[int, dict[str, Any]] | None:
        if provider == "entra" and not form.get("scope"):
            return _refused(400, "invalid_request", "AADSTS90014: The required field 'scope' is missing.")
        if provider == "auth0" and not form.get("audience"):
            return _refused(403, "access_denied", "No audience parameter was provided.")
        if self.scope is not None and form.get("scope") != self.scope:
            return _refused(400, "invalid_scope", f"The scope {form.get('scope')} is not valid.")
        if self.audience is not None and form.get("audience") != self.audience:
            return _refused(403, "access_denied", f"Service not enabled within domain: {form.get('audience')}")
        return None


def _refused(status: int, error: str, description: str) -> tuple[int, dict[str, Any]]:
    return status, {"error": error, "error_description": description}
