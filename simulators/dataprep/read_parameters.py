"""The common read parameters: `embed`, `fields`, and those of lists."""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from simulators.dataprep.answers import Refused
from simulators.dataprep.switches import Switches

DEFAULT_LIMIT = 25
FILTER_TYPES = frozenset({"fuzzy", "contains", "exact", "exactIgnoreCase"})

Row = dict[str, Any]


@dataclass(slots=True)
class Embed:
    """What to embed below one association, with its options (`limit`, `fields`, `sort`)."""

    options: dict[str, str] = field(default_factory=dict)
    children: dict[str, "Embed"] = field(default_factory=dict)


def parse_embed(text: str) -> dict[str, Embed]:
    """`a.b,c(limit=1,fields=id;name)` as a tree."""
    root: dict[str, Embed] = {}
    for part in _split(text):
        found = re.fullmatch(r"([^()]+)(?:\((.*)\))?", part.strip())
        if found is None:
            raise Refused(400, f"Malformed embed: {part}")
        level, last = root, Embed()
        for name in found[1].split("."):
            last = level.setdefault(name.strip(), Embed())
            level = last.children
        for option in filter(None, (found[2] or "").split(",")):
            key, _, value = option.partition("=")
            last.options[key.strip()] = value.strip()
    return root


def _split(text: str) -> list[str]:
    """Parts between commas outside parentheses."""
    return [part for part in re.split(r",(?![^()]*\))", text) if part.strip()]


def check_embed(
    resource: str, embed: Mapping[str, Embed], valid: Mapping[str, frozenset[str]], many: frozenset[str]
) -> None:
    """Raises Refused with the list of valid associations, or when a single resource is to be limited."""
    for name, below in embed.items():
        known = valid.get(resource, frozenset())
        if name not in known:
            choices = ", ".join(sorted(known))
            raise Refused(400, f"No association {name} in {resource}! Valid associations are {choices}")
        if "limit" in below.options and name not in many:
            raise Refused(400, f"Association {name} in {resource} cannot be limited")
        check_embed(name, below.children, valid, many)


def pick(row: Row, fields: str | None, keep: frozenset[str] = frozenset()) -> Row:
    """Only the named fields, `id`, and what has to stay. Fields are separated by semicolons."""
    if not fields:
        return row
    wanted = {name.strip() for name in fields.split(";")} | keep | {"id"}
    return {key: value for key, value in row.items() if key in wanted}


def limited(rows: list[Row], options: Mapping[str, str]) -> list[Row]:
    """Embedded rows under the options of their embed."""
    rows = ordered(rows, options["sort"]) if "sort" in options else rows
    rows = rows[: whole("limit", options["limit"])] if "limit" in options else rows
    return [pick(row, options.get("fields")) for row in rows]


def ordered(rows: list[Row], sort: str) -> list[Row]:
    for key in reversed(sort.split(",")):
        name = key.strip().lstrip("-")
        rows = sorted(rows, key=lambda row: _comparable(row.get(name)), reverse=key.strip().startswith("-"))
    return rows


def _comparable(value: Any) -> tuple[int, float, str]:
    if isinstance(value, int | float):
        return (1, float(value), "")
    return (0, 0.0, "") if value is None else (2, 0.0, str(value))


def whole(name: str, text: str) -> int:
    if not re.fullmatch(r"\d{1,9}", text):
        raise Refused(400, f'"{name}" must be a whole number, not {text!r}')
    return int(text)


def is_true(text: str | None) -> bool:
    return (text or "").lower() == "true"


def sorted_rows(
    rows: list[Row], query: Mapping[str, str], switches: Switches, shuffle: Callable[[list[Row]], None]
) -> list[Row]:
    """In the order asked for, as far as the deployment obeys; else in its own."""
    rows = sorted(rows, key=lambda row: int(row["id"]), reverse=switches.order == "newest")
    if switches.order == "shuffled":
        shuffle(rows)
    sort = query.get("sort")
    obeyed = switches.sort == "both" or (switches.sort == "descending" and (sort or "").startswith("-"))
    return ordered(rows, sort) if sort and obeyed else rows


def filtered(rows: list[Row], query: Mapping[str, str]) -> list[Row]:
    wanted = query.get("filter")
    kind = query.get("filterType", "fuzzy")
    if kind not in FILTER_TYPES:
        raise Refused(400, f'"filterType" must be one of {", ".join(sorted(FILTER_TYPES))}')
    if not wanted:
        return rows
    names = [name.strip() for name in query.get("filterFields", "name").split(",")]
    if any("." in name for name in names):
        raise Refused(500, "nested filter field", name="IOException")
    return [row for row in rows if any(_matches(str(row.get(name) or ""), wanted, kind) for name in names)]


def _matches(value: str, wanted: str, kind: str) -> bool:
    if kind == "exact":
        return value == wanted
    if kind == "exactIgnoreCase":
        return value.lower() == wanted.lower()
    if kind == "contains":
        return wanted.lower() in value.lower()
    letters = iter(value.lower())
    return all(letter in letters for letter in wanted.lower())


def page(rows: list[Row], query: Mapping[str, str], switches: Switches) -> list[Row]:
    """One page: 25 rows unless asked otherwise, silently cut, with no word about the rest."""
    limit = whole("limit", query.get("limit", str(DEFAULT_LIMIT)))
    offset = whole("offset", query.get("offset", "0"))
    if is_true(query.get("noLimit")):
        return rows[offset:]
    return rows[offset : offset + min(limit, switches.max_limit)]


def listing(shown: list[Row], total: int, query: Mapping[str, str]) -> dict[str, Any]:
    counted = {"count": total} if is_true(query.get("includeCount")) else {}
    return {"data": shown, **counted}
