"""Takes secrets out of text that a platform wrote (error messages, SQL, parameters) before it leaves."""

import re
from urllib.parse import urlsplit, urlunsplit

HIDDEN = "***"

_NAMES = r"(?:pass(?:word|wd|phrase)?|pwd|secret|token|api[-_ ]?key|access[-_ ]?key|account[-_ ]?key|private[-_ ]?key|client[-_ ]?secret|credential|authorization|signature|sas|sig)"
_PATTERNS: tuple[tuple[re.Pattern[str], str], ...] = (
    (re.compile(r"-----BEGIN [A-Z ]*PRIVATE KEY-----.*?(?:-----END [A-Z ]*PRIVATE KEY-----|\Z)", re.DOTALL), HIDDEN),
    (re.compile(r"\b(Bearer|Basic)\s+[A-Za-z0-9._~+/=-]{6,}", re.IGNORECASE), rf"\1 {HIDDEN}"),
    (re.compile(r"\beyJ[A-Za-z0-9_-]{8,}\.[A-Za-z0-9_-]{8,}(?:\.[A-Za-z0-9_-]*)?"), HIDDEN),
    (re.compile(r"\b(?:AKIA|ASIA)[A-Z0-9]{16}\b"), HIDDEN),
    (re.compile(r"(\b[a-z][a-z0-9+.-]*://)[^\s/@:]*(?::[^\s/@]*)?@", re.IGNORECASE), rf"\1{HIDDEN}@"),
    (
        re.compile(
            rf"([?&;]?\b[\w.-]*{_NAMES}\b[\"']?\s*[=:]\s*)(\"[^\"]*\"|'[^']*'|[^\s,;&\"')}}\]]+)", re.IGNORECASE
        ),
        rf"\1{HIDDEN}",
    ),
)


def redacted(text: str) -> str:
    """The text with credentials in URLs, bearer tokens, keys and `password=...`-like values replaced by `***`."""
    for pattern, replacement in _PATTERNS:
        text = pattern.sub(replacement, text)
    return text


def capped(text: str, limit: int) -> str:
    """At most `limit` characters, with the cut marked."""
    if len(text) <= limit:
        return text
    mark = f" … [cut, {len(text)} characters in all]"
    return text[: max(0, limit - len(mark))] + mark


def bare_url(url: str) -> str:
    """The URL without user, query and fragment: file links may be signed."""
    parts = urlsplit(url)
    host = parts.hostname or ""
    if ":" in host:
        host = f"[{host}]"
    port = f":{parts.port}" if parts.port else ""
    return urlunsplit((parts.scheme, host + port, parts.path, "", ""))
