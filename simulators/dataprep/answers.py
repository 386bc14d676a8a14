"""The vendor's error envelope, dates and ids."""

from datetime import UTC, datetime
from typing import Any

from simulators.dataprep.switches import Switches

NAMES = {
    400: ("ValidationFailed", "Input validation failed"),
    401: ("UnauthorizedException", "Unauthorized"),
    403: ("AccessControlException", "Forbidden"),
    404: ("ResourceNotFoundException", "Not Found"),
    410: ("ResourceGoneException", "Gone"),
    415: ("UnsupportedMediaTypeException", "Unsupported Media Type"),
    429: ("TooManyRequestsException", "Too Many Requests"),
    500: ("InternalServerError", "Internal Server Error"),
}


class Refused(Exception):
    """An answer other than success. `headers` go out with it."""

    def __init__(
        self, status: int, details: str, *, name: str | None = None, headers: dict[str, str] | None = None
    ) -> None:
        super().__init__(details)
        self.status, self.details, self.name, self.headers = status, details, name, headers or {}


def envelope(status: int, details: str, *, form: str = "text", name: str | None = None) -> dict[str, Any]:
    known, message = NAMES.get(status, ("ServiceException", "Service unavailable"))
    described: Any = {"text": details, "code": status} if form == "object" else details
    return {"exception": {"name": name or known, "message": message, "details": described}}


def route_not_found(switches: Switches, path: str) -> Refused:
    status = switches.absent_status
    name = "RouteNotFoundException" if status == 404 else None
    return Refused(status, f"No route matches {path}", name=name)


def not_found(switches: Switches, what: str, number: object) -> Refused:
    return Refused(switches.missing_status, f"{what} {number} does not exist")


def deleted(switches: Switches, what: str, number: object) -> Refused:
    return Refused(switches.deleted_status, f"{what} {number} could not be found, it has been deleted")


def when(switches: Switches, moment: datetime | None) -> str | None:
    if moment is None:
        return None
    text = moment.astimezone(UTC).isoformat(timespec="seconds" if switches.dates == "seconds" else "milliseconds")
    return text.replace("+00:00", "Z")


def stringed(value: Any) -> Any:
    """The same JSON with every value of an `id` as a string."""
    if isinstance(value, dict):
        return {
            key: str(item) if key == "id" and isinstance(item, int) else stringed(item) for key, item in value.items()
        }
    if isinstance(value, list):
        return [stringed(item) for item in value]
    return value
