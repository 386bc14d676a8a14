"""Takes secrets out of text that a platform wrote (error messages, SQL, parameters) before it leaves.

Every pattern is linear in the length of the text: a query may have a megabyte.
"""

import re
from urllib.parse import urlsplit, urlunsplit

HIDDEN = "***"

_NAMES = (
    r"(?:(?i:password|passwd|passphrase|secret|token|api[-_ ]?key|access[-_ ]?key|account[-_ ]?key|private[-_ ]?key"
    r"|credential|authorization|signature)"
    # short ones only as words of their own: Kansas and compass hold no secret
    r"|(?<![A-Za-z])(?i:pass|pwd|sas|sig)|(?<=[a-z])(?:Pass|Pwd|Sas|Sig))"
)
_QUOTED = r"\"[^\"]*(?:\"|\Z)|'[^']*(?:'|\Z)"
_ASSIGNED = rf"({_NAMES}\b[\"']?\s*[=:]\s*)"

_ANYWHERE: tuple[tuple[re.Pattern[str], str], ...] = (
    (re.compile(r"-----BEGIN [A-Z ]*PRIVATE KEY-----.*?(?:-----END [A-Z ]*PRIVATE KEY-----|\Z)", re.DOTALL), HIDDEN),
    # of words such as "bearer bonds" and "basic settings" only those that look like a token
    (re.compile(r"\b((?i:bearer))\s+(?:(?=[\w.~+/=-]*[\d.~+/=-])[\w.~+/=-]{6,}|\w{20,})"), rf"\1 {HIDDEN}"),
    (re.compile(r"\b((?i:basic))\s+(?=[A-Za-z0-9+/]*(?:[0-9+/=]|[a-z][A-Z]))[A-Za-z0-9+/]{6,}={0,2}"), rf"\1 {HIDDEN}"),
    (re.compile(r"(?<![\w-])eyJ[\w-]{8,}\.[\w-]{8,}(?:\.[\w-]*)?"), HIDDEN),
    (re.compile(r"\b(?:(?:AKIA|ASIA)[A-Z0-9]{16}|AIza[\w-]{35}|gh[pousr]_[A-Za-z0-9]{36,255})\b"), HIDDEN),
    (re.compile(r"((?<![a-z0-9+.-])[a-z][a-z0-9+.-]*://)[^\s/@:]*(?::[^\s/@]*)?@", re.IGNORECASE), rf"\1{HIDDEN}@"),
    (re.compile(r"(oracle:thin:)[^\s@]*@", re.IGNORECASE), rf"\1{HIDDEN}@"),
)
_ANY_VALUE = re.compile(rf"{_ASSIGNED}(?:{_QUOTED}|[^\s,;&\"')}}\]]+)")
_LITERAL = re.compile(rf"{_ASSIGNED}(?:{_QUOTED})")


def redacted(text: str) -> str:
    """The text with credentials in URLs, bearer tokens, keys and `password=...`-like values replaced by `***`."""
    return _ANY_VALUE.sub(rf"\1{HIDDEN}", _known_forms(text))


def redacted_sql(sql: str) -> str:
    """As `redacted`, but of `password = ...` only quoted values go: `a.token = b.token` is a join and stays."""
    return _LITERAL.sub(rf"\1'{HIDDEN}'", _known_forms(sql))


def _known_forms(text: str) -> str:
    for pattern, replacement in _ANYWHERE:
        text = pattern.sub(replacement, text)
    return text


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
