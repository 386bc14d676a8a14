"""Answers as they come on a bad day: genuine ones mutated at random, from a seed."""

import json
from collections.abc import Iterator
from copy import deepcopy
from dataclasses import dataclass, field
from random import Random
from typing import Any

from aiohttp import web

ODD_VALUES: tuple[Any, ...] = (
    *(None, True, False, 0, -1, 7, 1.5, 10**30, -(10**30), 1e308),
    *("", " ", "null", "0", "\x00", "\ud800", "é" * 300, "x" * 20_000, "2026-13-45T99:99:99Z", "-0001-01-01"),
    *([], {}, [None], {"": None}, [[[[[]]]]], {"a": {"b": {"c": {}}}}),
)


@dataclass(frozen=True, slots=True)
class Mutant:
    """`kind` says what was done to the genuine answer."""

    kind: str
    status: int
    body: bytes
    headers: dict[str, str] = field(default_factory=lambda: {"Content-Type": "application/json"})

    def response(self) -> web.Response:
        return web.Response(status=self.status, body=self.body, headers=self.headers)


def mutants(genuine: Any, *, seed: int, count: int) -> Iterator[Mutant]:
    """`genuine` is an answer's JSON value. No mutant gets a word into a field that was not in the genuine answer or odd."""
    rng = Random(seed)
    for _ in range(count):
        yield _KINDS[rng.randrange(len(_KINDS))](genuine, rng)


def _dumped(kind: str, value: Any, status: int = 200) -> Mutant:
    return Mutant(kind, status, json.dumps(value).encode())


def _changed(genuine: Any, rng: Random) -> Mutant:
    """Up to five places get an odd value, lose their key or change places."""
    value = deepcopy(genuine)
    for _ in range(rng.randint(1, 5)):
        holder, key = _place(value, rng)
        if holder is None:
            break
        if isinstance(holder, dict) and rng.random() < 0.3:
            del holder[key]
        else:
            holder[key] = deepcopy(rng.choice(ODD_VALUES))
    return _dumped("changed", value)


def _place(value: Any, rng: Random) -> tuple[Any, Any]:
    """A place anywhere in the value, as its holder and key."""
    places: list[tuple[Any, Any]] = []
    todo = [value]
    while todo:
        holder = todo.pop()
        keys = list(holder) if isinstance(holder, dict) else range(len(holder)) if isinstance(holder, list) else ()
        places += [(holder, key) for key in keys]
        todo += [holder[key] for key in keys]
    return rng.choice(places) if places else (None, None)


def _replaced(genuine: Any, rng: Random) -> Mutant:
    return _dumped("replaced", rng.choice(ODD_VALUES))


def _truncated(genuine: Any, rng: Random) -> Mutant:
    body = json.dumps(genuine).encode()
    return Mutant("truncated", 200, body[: rng.randrange(len(body))])


def _html(genuine: Any, rng: Random) -> Mutant:
    status = rng.choice((200, 200, 404, 502, 503))
    return Mutant("html", status, b"<!doctype html><h1>Sorry</h1>", {"Content-Type": "text/html"})


def _charset(genuine: Any, rng: Random) -> Mutant:
    charset = rng.choice(("utf-16", "latin-1", "no-such-charset"))
    encoding = charset if charset != "no-such-charset" else "utf-8"
    body = json.dumps(genuine, ensure_ascii=False).encode(encoding, "replace")
    return Mutant("charset", 200, body, {"Content-Type": f"application/json; charset={charset}"})


def _noise(genuine: Any, rng: Random) -> Mutant:
    return Mutant("noise", 200, rng.randbytes(rng.randint(0, 400)))


def _deep(genuine: Any, rng: Random) -> Mutant:
    depth = rng.choice((100, 900, 20_000))
    return Mutant("deep", 200, b'{"a":' * depth + b"1" + b"}" * depth)


def _huge_numbers(genuine: Any, rng: Random) -> Mutant:
    digits = b"9" * rng.choice((30, 400, 5_000))
    body = json.dumps(genuine).encode().replace(b"null", digits)
    return Mutant("huge_numbers", 200, body + b" " * (digits not in body))


def _status(genuine: Any, rng: Random) -> Mutant:
    status = rng.choice((201, 202, 301, 400, 401, 403, 404, 409, 410, 418, 422, 429, 500, 503, 599))
    after = {"Retry-After": rng.choice(("", "1", "soon", "-3", "9" * 50))} if status == 429 else {}
    return Mutant("status", status, json.dumps(genuine).encode(), {"Content-Type": "application/json", **after})


_KINDS = (
    *(_changed, _changed, _changed, _changed, _replaced, _truncated),
    *(_html, _charset, _noise, _deep, _huge_numbers, _status),
)
