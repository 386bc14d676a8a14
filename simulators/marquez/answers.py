"""The forms that Marquez's answers take: JSON, the three kinds of error body, and nothing at all."""

import json
from dataclasses import dataclass, field
from typing import Any

JSON = "application/json"
_PAGE = """<html>
<head>
<meta http-equiv="Content-Type" content="text/html;charset=ISO-8859-1"/>
<title>Error {status} {reason}</title>
</head>
<body><h2>HTTP ERROR {status} {reason}</h2>
<table>
<tr><th>URI:</th><td>{path}</td></tr>
<tr><th>STATUS:</th><td>{status}</td></tr>
<tr><th>MESSAGE:</th><td>{reason}</td></tr>
<tr><th>SERVLET:</th><td>jersey</td></tr>
</table>

</body>
</html>
"""
_REASONS = {400: "Bad Request", 500: "Internal Server Error"}


@dataclass(frozen=True, slots=True)
class Answer:
    """One HTTP answer. An empty `body` goes without a content type."""

    status: int
    body: bytes = b""
    content_type: str = JSON
    headers: dict[str, str] = field(default_factory=dict)


class Refused(Exception):
    """The request ends here with this answer."""

    def __init__(self, answer: Answer) -> None:
        super().__init__(answer.status)
        self.answer = answer


class IllegalArgument(Exception):
    """A name that Marquez's model cannot hold: an HTML 400 from `/lineage`, a JSON 500 elsewhere."""


class DatabaseFault(Exception):
    """What the database or the code below it breaks on: an HTML 500 from `/lineage`, a JSON 500 elsewhere."""


class Unparsable(Exception):
    """The body is not JSON of the right types: status 500 with `"code": 400`."""


def ok(body: Any, status: int = 200, headers: dict[str, str] | None = None) -> Answer:
    return Answer(status, json.dumps(body, separators=(",", ":")).encode(), headers=headers or {})


def error(status: int, message: str, code: int | None = None) -> Answer:
    return ok({"code": status if code is None else code, "message": message}, status)


def errors(status: int, messages: list[str]) -> Answer:
    return ok({"errors": messages}, status)


def page(status: int, path: str) -> Answer:
    """Jetty's own error page, which says nothing about the cause."""
    text = _PAGE.format(status=status, reason=_REASONS[status], path=path)
    return Answer(status, text.encode("latin-1", "replace"), "text/html;charset=iso-8859-1")


def unhandled(log_id: int) -> Answer:
    return error(500, f"There was an error processing your request. It has been logged (ID {log_id:016x}).")


def not_found() -> Refused:
    return Refused(error(404, "HTTP 404 Not Found"))


def missing(kind: str, name: object) -> Refused:
    return Refused(error(404, f"{kind} '{name}' not found."))
