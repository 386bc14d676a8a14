"""Removes secrets and people from foreign texts (error messages, SQL, parameters) before they are shown or stored.

First the registered secrets (`collector.secret_registry`), then what looks like a credential (`collector.credentials`).
"""

import re
import sys
from bisect import bisect_left
from collections.abc import Iterable, Iterator
from functools import lru_cache
from operator import itemgetter
from threading import Lock
from typing import NamedTuple
from urllib.parse import urlsplit, urlunsplit
from zlib import crc32

from cachetools import LRUCache, cached

from collector import credentials
from collector.known_credentials import KNOWN_FORMS
from collector.secret_registry import HIDDEN, secret_registry

_SHORT = 300
"""Texts of fewer characters are remembered: the same descriptions come with every poll, and again where events are made."""
_KEPT = 8192
"""Short texts in memory, at most."""
_KEPT_NAMES = 2048
"""Short names in memory, at most: the same ones come in the columns of a table, in what a job is called and in its query."""
_KEPT_SQL = 4 * 1024 * 1024
"""Characters of SQL in memory, at most: a query is redacted with every poll of every run."""


def redacted(text: str) -> str:
    """The text without the program's secrets, and with `***` for what looks like a credential: in URLs, tokens, keys
    and values such as `password=...`. E-mail addresses become `user-` and a digest.
    """
    return _of_short(text, secret_registry.version) if len(text) < _SHORT else _redacted(text)


def _redacted(text: str) -> str:
    return _without_values(_without_known_forms(secret_registry.hidden(text)))


@lru_cache(maxsize=_KEPT)
def _of_short(text: str, secrets: int) -> str:
    """`secrets` is the version of the registry: a new secret may be in a text that was looked at before."""
    return _redacted(text)


def redacted_sql(sql: str) -> str:
    """As `redacted`, but of `password = ...` only values that are quoted or look generated: `a.token = b.token` stays. Its
    comments are treated as in `redacted`.
    """
    return _of_sql(sql, secret_registry.version)


@cached(LRUCache[object, str](_KEPT_SQL, getsizeof=lambda sql: 2 * len(sql) + 500), lock=Lock())
def _of_sql(sql: str, secrets: int) -> str:
    return _without_sql_values(_without_known_forms(secret_registry.hidden(sql)))


def redacted_name(text: str) -> str:
    """As `redacted`, for names: ordinary words stay, and what is hidden leaves a checksum too short to reveal anything."""
    return _of_short_name(text, secret_registry.version) if len(text) < _SHORT else _redacted_name(text)


@lru_cache(maxsize=_KEPT_NAMES)
def _of_short_name(text: str, secrets: int) -> str:
    """As in `_of_short`."""
    return _redacted_name(text)


def _redacted_name(text: str) -> str:
    shown = _without_values(_without_known_forms(secret_registry.hidden(text, words=False)))
    return shown if shown == text or HIDDEN not in shown else f"{shown}~{crc32(text.encode()) & 0xFFFF:04x}"


def _without_known_forms(text: str) -> str:
    if len(text) < credentials.LONG_WORD and text.isalnum():
        return text
    lowered = text.lower()
    words = " ".join([word for word in lowered.split() if len(word) >= credentials.LONG_WORD])
    found = _signed(lowered, _RULES_BY_SIGN)
    if words:
        found += _signed(words, _RULES_BY_SIGN_IN_WORDS)
    for rule in [KNOWN_FORMS[number] for number in sorted(set[int]().union(*found))]:
        if _has(lowered, rule.needs):
            text = rule.pattern().sub(rule.replacement, text)
    return text


def _signed(text: str, rules: tuple[tuple[str, list[int]], ...]) -> list[list[int]]:
    """The numbers of the rules of which the text holds a sign."""
    return [some for sign, some in rules if sign in text]


def _rules_by_sign(*, in_words: bool) -> tuple[tuple[str, list[int]], ...]:
    """Each sign once, with the numbers of its rules: to look for all of them is most of the work with short texts."""
    found: dict[str, list[int]] = {}
    for number, rule in enumerate(KNOWN_FORMS):
        for sign in rule.signs if rule.in_words is in_words else ():
            found.setdefault(sign, []).append(number)
    return tuple(found.items())


_RULES_BY_SIGN = _rules_by_sign(in_words=False)
_RULES_BY_SIGN_IN_WORDS = _rules_by_sign(in_words=True)


def _has(lowered: str, signs: tuple[str, ...]) -> bool:
    return any(map(lowered.__contains__, signs))


def _may_name_secrets(lowered: str) -> bool:
    shown = _unescaped(lowered)
    return _has(shown, credentials.NAME_SIGNS) or _names_key(shown)


def _names_key(lowered: str) -> bool:
    """`api_key` and the like; a column that is called `key` alone is most common."""
    at = lowered.find("key")
    while at >= 0:
        end = at - (lowered[at - 1 : at] in {"-", "_", ".", " "})
        if lowered.endswith(credentials.KEY_WORDS, 0, end):
            return True
        at = lowered.find("key", at + 1)
    return False


class _Place(NamedTuple):
    """Where the value of a secret name begins, what it can look like there, and where it ends at the latest."""

    begin: int
    pattern: re.Pattern[str]
    end: int = sys.maxsize


def _without_values(text: str) -> str:
    """Without values with the name of a secret, also inside other values."""
    lowered = text.lower()
    places = list(_keys_of_ciphers(text, lowered))
    if "insert" in lowered:
        places += _inserted(text)
    if _may_name_secrets(lowered):
        places += [*_assigned(text, lowered, credentials.VALUE), *_paired(text, lowered), *_said(text, lowered)]
        places += _listed(text)
    return _without(text, places, HIDDEN)


def _without_sql_values(sql: str) -> str:
    lowered = sql.lower()
    if not (_may_name_secrets(lowered) or _has(lowered, credentials.CIPHER_SIGNS)):
        return sql
    if "insert" in lowered:
        sql = _without(sql, _inserted(sql), f"'{HIDDEN}'")
    shown: list[str] = []
    at, literals = 0, list[tuple[int, int]]()
    for token in credentials.SQL_TOKENS.finditer(sql):
        if token[0][0] in "-/":
            shown += [_without_values_of_code(sql[at : token.start()], literals), _without_values(token[0])]
            at, literals = token.end(), []
        elif token[0][0] != "`":
            literals.append((token.start() - at, token.end() - at))
    return "".join((*shown, _without_values_of_code(sql[at:], literals)))


def _without_values_of_code(sql: str, literals: list[tuple[int, int]]) -> str:
    """`literals` are where literals begin and end. A value in a literal ends with it."""
    lowered, starts = sql.lower(), [start for start, _ in literals]
    places = [
        *_assigned(sql, lowered, credentials.SQL_VALUE),
        *(place for place in _paired(sql, lowered) if _is_made_up(place, sql)),
        *_said_in_sql(sql, lowered),
        *_keys_of_ciphers(sql, lowered),
        *(place for place in _listed(sql) if sql[place.begin] == "'" or _is_made_up(place, sql)),
        *_called(sql, literals),
    ]
    return _without(sql, [_inside(place, sql, literals, starts) for place in places], f"'{HIDDEN}'")


def _inside(place: _Place, sql: str, literals: list[tuple[int, int]], starts: list[int]) -> _Place:
    before = bisect_left(starts, place.begin) - 1
    if before < 0 or place.begin >= literals[before][1]:
        return place
    start, end = literals[before]
    is_closed = sql[end - 1] == sql[start]
    pattern = credentials.LITERALS_VALUE if place.pattern is credentials.SQL_VALUE else place.pattern
    return _Place(place.begin, pattern, end - is_closed)


def _without(text: str, places: Iterable[_Place], quoted: str) -> str:
    """Without the matches at the places. A value in quotes becomes `quoted`."""
    shown, at = [], 0
    for begin, pattern, end in sorted(places, key=itemgetter(0)):
        found = pattern.match(text, begin, end) if begin >= at else None
        if found is not None and found.end() > begin and found[0] not in _EMPTY:
            shown += [text[at:begin], quoted if found[0][0] in "\"'" else HIDDEN]
            at = found.end()
    return "".join((*shown, text[at:])) if shown else text


_EMPTY = ("''", '""')


def _assigned(text: str, lowered: str, pattern: re.Pattern[str]) -> Iterator[_Place]:
    """`password=`; in the query of a URL and the like any value is one."""
    is_escaped = "\\u" in lowered
    for found in (credentials.ASSIGNED_ESCAPED if is_escaped else credentials.ASSIGNED).finditer(text):
        start, end = found.span(1)
        if _is_secret_name(text, start, end) and not lowered.endswith(credentials.PARSERS_WORDS, 0, start):
            in_query = text[start - 1 : start] in {"?", "&", ";"}
            yield _Place(found.end(), credentials.QUERY_VALUE if in_query else pattern)


def _is_secret_name(text: str, start: int, end: int) -> bool:
    begin = max(start - credentials.BEFORE_NAME, end - credentials.LONGEST_NAME, 0)
    name = _unescaped(text[begin:end])
    lowered = name.lower()
    is_one = lowered.endswith(credentials.LAST_LETTERS) or "key." in lowered
    return is_one and credentials.NAME().search(name) is not None


def _unescaped(text: str) -> str:
    """With letters for their escapes in JSON."""
    if "\\u" not in text:
        return text
    return credentials.ESCAPE.sub(lambda found: chr(int(found[1], 16)), text)


def _paired(text: str, lowered: str) -> Iterator[_Place]:
    """`"name": "password", "value": "..."` in either order, and `("password", "...")`."""
    if "," in text:
        for found in credentials.TUPLED().finditer(text):
            yield _Place(found.end(), credentials.VALUE)
    if not _has(lowered, credentials.PAIR_SIGNS):
        return
    for found in credentials.PAIRED().finditer(text):
        in_tag = found[0].endswith(">")
        yield _Place(found.end(), credentials.CONTENT if in_tag else credentials.VALUE)
    for found in credentials.PAIRED_BACKWARDS().finditer(text):
        yield _Place(found.start("value"), credentials.VALUE, found.end("value"))


def _listed(text: str) -> Iterator[_Place]:
    """`("user" "me", "password" "x")`."""
    for found in credentials.LISTED.finditer(text):
        if _is_secret_name(text, *found.span(1 if found[1] else 2)):
            yield _Place(found.end(), credentials.VALUE)


def _inserted(text: str) -> Iterator[_Place]:
    """Each literal of a column that is named like a secret, in `insert into t (user, password) values ('me', 'x'), ...`."""
    found = credentials.INSERTED.search(text)
    while found is not None:
        end = found.end()
        if secret := _secret_columns(found["columns"]):
            places, end = _literals_of(secret, text, end)
            yield from places
        found = credentials.INSERTED.search(text, end)


def _secret_columns(columns: str) -> set[int]:
    """By number; what comments say counts for none."""
    bare = credentials.SQL_TOKENS.sub(lambda token: token[0] if token[0][0] not in "-/" else " ", columns)
    at, secret = 0, set[int]()
    for number, column in enumerate(bare.split(",")):
        if _is_secret_name(bare, at, at + len(column.rstrip(' \t\n\r`"]'))):
            secret.add(number)
        at += len(column) + 1
    return secret


def _literals_of(columns: set[int], text: str, at: int) -> tuple[list[_Place], int]:
    """In the tuples that begin here, and where they end."""
    places = list[_Place]()
    depth = number = 0
    for token in credentials.TUPLES_TOKENS.finditer(text, at):
        sign = token[0][0]
        if _ends_tuples(text, at, token, depth):
            break
        if sign == "(":
            depth, number = depth + 1, number if depth else 0
        elif sign == ")":
            depth -= 1
        elif sign == "," and depth == 1:
            number += 1
        elif sign in "'\"" and number in columns:
            places.append(_Place(token.start(), credentials.SQL_TOKENS, token.end()))
        at = token.end()
    return places, at


def _ends_tuples(text: str, at: int, token: re.Match[str], depth: int) -> bool:
    """Whether this token neither is inside a tuple, nor stands between two of them, nor begins the next one."""
    sign = token[0][0]
    if sign == ";" or depth:
        return sign == ";"
    return sign not in "(,-/" or not credentials.GAP.fullmatch(text, at, token.start())


def _called(sql: str, literals: Iterable[tuple[int, int]]) -> Iterator[_Place]:
    """`'x' as password`."""
    for start, end in literals:
        found = credentials.CALLED.match(sql, end)
        if found is not None and _is_secret_name(sql, *found.span(1)):
            yield _Place(start, credentials.VALUE)


def _said(text: str, lowered: str) -> Iterator[_Place]:
    """`the password is ...`, `token '...' expired`."""
    said = (
        (credentials.SAID(), credentials.VALUE),
        (credentials.TOKEN_SAID, credentials.VALUE),
        (credentials.PROSE(), credentials.PROSE_VALUE),
    )
    for at in _beginnings(text, lowered):
        if lowered.endswith(credentials.PARSERS_WORDS, 0, at):
            continue
        for pattern, value in said:
            if (found := pattern.match(text, at)) is not None:
                yield _Place(found.end(), value)


def _said_in_sql(sql: str, lowered: str) -> Iterator[_Place]:
    for at in _beginnings(sql, lowered):
        if lowered.endswith(credentials.PARSERS_WORDS, 0, at):
            continue
        if (found := credentials.SAID().match(sql, at)) is not None:
            yield _Place(found.end(), credentials.VALUE)
        elif (found := credentials.TOKEN_SAID.match(sql, at)) is not None:
            place = _Place(found.end(), credentials.VALUE)
            if found["single"] is not None or _is_made_up(place, sql):
                yield place


def _beginnings(text: str, lowered: str) -> Iterator[int]:
    """The places where a sentence can name a secret: at words for one."""
    if len(lowered) != len(text):
        lowered = "".join(letter.lower() if len(letter.lower()) == 1 else letter for letter in text)
    has_keys = _names_key(lowered) or _has(lowered, credentials.KEY_SIGNS)
    for sign in (*credentials.SAID_SIGNS, *(credentials.KEY_WORDS if has_keys else ())):
        at = lowered.find(sign)
        while at >= 0:
            yield at
            at = lowered.find(sign, at + 1)


def _is_made_up(place: _Place, sql: str) -> bool:
    found = place.pattern.match(sql, place.begin, place.end)
    return found is not None and len(found[0]) > 7 and any(map(str.isdigit, found[0]))


def _keys_of_ciphers(sql: str, lowered: str) -> Iterator[_Place]:
    """The literals in a call of `aes_decrypt` and the like, but the names of modes."""
    if not _has(lowered, credentials.CIPHER_SIGNS):
        return
    at = 0
    while (found := credentials.CIPHERS.search(sql, at)) is not None:
        at, depth = found.end(), 1
        for token in credentials.CALLS_TOKENS.finditer(sql, at, at + credentials.LONGEST_CALL):
            at, depth = token.end(), depth + {"(": 1, ")": -1}.get(token[0], 0)
            if depth == 0:
                break
            if token[0] not in "()" and credentials.MODES.fullmatch(token[0]) is None:
                yield _Place(token.start(), credentials.VALUE)


def capped(text: str, limit: int, *, of: int | None = None) -> str:
    """At most `limit` characters, with the cut marked. `of` is the length of what this is the beginning of."""
    size = of or len(text)
    if size <= limit:
        return text
    mark = f" … [cut, {size} characters in all]"
    return text[: max(0, limit - len(mark))] + mark


def bare_url(url: str) -> str:
    """The URL without user, query and fragment: file links may be signed."""
    parts = urlsplit(url)
    host = parts.hostname or ""
    if ":" in host:
        host = f"[{host}]"
    port = f":{parts.port}" if parts.port else ""
    return urlunsplit((parts.scheme, host + port, parts.path, "", ""))
