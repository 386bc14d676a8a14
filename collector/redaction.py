"""Takes secrets and people out of text that others wrote (error messages, SQL, parameters) before it is shown or kept.

First what is known to be secret (`collector.own_secrets`), then what looks like it. All of it is linear in the length of the
text, for a query may have a megabyte; possessive quantifiers (`++`) keep it so.
"""

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from hashlib import sha256
from urllib.parse import urlsplit, urlunsplit
from zlib import crc32

from collector.own_secrets import HIDDEN, own_secrets

_Replacement = str | Callable[[re.Match[str]], str]


@dataclass(frozen=True, slots=True)
class _Rule:
    """`signs`: one of them is in every text, in lower case, that the pattern fits; looking for them is much cheaper."""

    signs: tuple[str, ...]
    pattern: re.Pattern[str]
    replacement: _Replacement


def _rule(signs: str, pattern: str, replacement: _Replacement = HIDDEN, flags: re.RegexFlag = re.IGNORECASE) -> _Rule:
    return _Rule(tuple(signs.split()), re.compile(pattern, flags), replacement)


def _person(found: re.Match[str]) -> str:
    """A word that stays the same, so that two people are not taken for one."""
    return f"user-{sha256(found[0].lower().encode()).hexdigest()[:8]}"


_SPELLINGS = r"pass(?:word|wd|phrase|code)|secret"
_QUOTED = (
    r"(?:\\{1,4}\"[^\"]*+(?:\"|\Z)|\\{1,4}'[^']*+(?:'|\Z)"
    r"|\"(?:[^\"\\]++|\\.)*+(?:\"|\Z)|'(?:[^'\\]++|\\.|'')*+(?:'|\Z))"
)
_FILES = "avro|csv|gz|html?|jar|json|log|orc|parquet|py|sql|tsv|txt|xlsx?|xml|ya?ml|zip"
_PAIR = r"[^\s;,\"'\\]*+"
_KNOWN_FORMS: tuple[_Rule, ...] = (
    _rule(
        "-----begin",
        r"-----BEGIN [A-Z ]*PRIVATE KEY(?: BLOCK)?-----.*?(?:-----END [A-Z ]*PRIVATE KEY(?: BLOCK)?-----|\Z)",
        flags=re.DOTALL,
    ),
    _rule(
        "authorization",
        r"(authorization\\{0,4}[\"']?\s*+[=:,]\s*+\\{0,4}[\"']?)"
        r"(?:digest\s[^\r\n]*|(?:[A-Za-z][\w-]{2,40}\s++)?[^\s,;\"'\\)}\]]++)",
        rf"\1{HIDDEN}",
    ),
    _rule(
        "cookie",
        rf"(cookie\\{{0,4}}[\"']?\s*+[=:]\s*+\\{{0,4}}[\"']?)[\w.-]++={_PAIR}(?:;\s*+[\w.-]++={_PAIR})*",
        rf"\1{HIDDEN}",
    ),
    # of words such as "bearer bonds" and "basic settings" only those that look like a token
    _rule(
        "bearer",
        r"\b(bearer)(?:\s|%20|\+)++(?:(?=[\w.~+/=-]*[\d.~+/=-])[\w.~+/=-]{6,}|\w{20,})",
        rf"\1 {HIDDEN}",
    ),
    _rule(
        "basic",
        r"\b((?i:basic))\s++(?=[A-Za-z0-9+/]*(?:[0-9+/=]|[a-z][A-Z]))[A-Za-z0-9+/]{6,}={0,2}",
        rf"\1 {HIDDEN}",
        re.NOFLAG,
    ),
    _rule("eyj", r"(?<![\w-])eyJ[\w-]{8,}\.[\w-]{8,}(?:\.[\w-]*)*", flags=re.NOFLAG),
    _rule(
        "akia asia aiza ghp_ gho_ ghu_ ghs_ ghr_ github_pat_ glpat- npm_ hf_ xox hooks.slack sk_ rk_ sk- dapi ya29. "
        "gocspx sg. 8q~",
        r"(?<![A-Za-z0-9])(?:"
        r"(?:AKIA|ASIA)[A-Z0-9]{16}\b"
        r"|AIza[\w-]{35}"
        r"|gh[pousr]_[A-Za-z0-9]{36,255}|github_pat_\w{22,255}|glpat-[\w-]{16,}|npm_[A-Za-z0-9]{36}\b|hf_[A-Za-z0-9]{30,}"
        r"|xox[a-z]-[\w-]{10,}|(?i:hooks\.slack\.com)/[^\s\"'<>]++"
        r"|[sr]k_(?:live|test)_\w{10,}|sk-[\w-]{20,}"
        r"|dapi[0-9a-f]{32,}(?:-\d+)?"
        r"|ya29\.[\w-]{12,}|GOCSPX-[\w-]{20,}|SG\.[\w-]{16,}\.[\w-]{16,}"
        r"|\w{3}8Q~[\w.~-]{30,}"
        r")",
        flags=re.NOFLAG,
    ),
    # the second half: a password that was not percent-encoded may hold a slash, while host:port/path@x is none
    _rule(
        "://",
        r"((?<![a-z0-9+.-])[a-z][a-z0-9+.-]*+://)"
        r"(?:[^\s/@:\"'<>]*+(?::[^\s/@\"'<>]*+)?@|[^\s/@:\"'<>]*+:(?!\d{1,5}[/?#])[^\s@\"'<>?]{1,256}@)",
        rf"\1{HIDDEN}@",
    ),
    _rule(
        "code= key= k= auth= sid= otp= ticket= nonce= jwt= x-amz- x-goog-",
        r"([?&](?:amp;)?(?:code|key|k|auth|sid|otp|ticket|nonce|jwt|x-amz-[\w-]+|x-goog-[\w-]+)=)[^\s&\"'<>)#]++",
        rf"\1{HIDDEN}",
    ),
    _rule("oracle:", r"(oracle:(?:thin|oci8?):)[^\s@]{0,256}+@", rf"\1{HIDDEN}@"),
    _rule("-u -user", r"((?<![\w-])(?:-u|--(?:proxy-)?user)[\s=]\s*+[\"']?[^\s:\"']++:)[^\s\"']++", rf"\1{HIDDEN}"),
    _rule(
        "pass secret token key",
        rf"((?<![\w-])--?[\w-]*(?:{_SPELLINGS}|token|api[-_]?key|access[-_]?key)(?:\s++|=))(?!-)(?:{_QUOTED}|[^\s\"']++)",
        rf"\1{HIDDEN}",
    ),
    _rule(
        "password> passwd> secret> token> key>",
        r"(<[\w:.-]*(?:password|passwd|secret|token|key)>)[^<]++(?=</|\Z)",
        rf"\1{HIDDEN}",
    ),
    _rule(
        "@",
        # of `bucket/a@b.csv` nobody knows whether it is an address
        rf"(?<![\w.%+*'-])[\w.%+'-]++@(?![\w-]++\.(?:{_FILES})\b)[a-z0-9-]++(?:\.[a-z0-9-]+)*\.[a-z]{{2,24}}\b",
        _person,
        re.IGNORECASE | re.ASCII,
    ),
)
"""What is known by how it looks."""

_KEYS = "access|account|api|encryption|functions|license|master|private|secret|shared|signing|ssh|storage|subscription"
_NAME = re.compile(
    rf"(?:(?i:{_SPELLINGS}|token|(?:{_KEYS})[-_. ]?key(?:\.[\w.-]+)?|credential|authorization|signature|assertion"
    r"|session[-_]?id|cookie)"
    # short ones only as words of their own: Kansas and compass hold no secret
    r"|(?<![A-Za-z])(?i:pass|pwd|sas|sig)|(?<=[a-z])(?:Pass|Pwd|Sas|Sig))\Z"
)
"""How the name of a secret value ends."""
_NAME_SIGNS = (
    *("pass", "pwd", "secret", "token", "key", "credential", "authorization", "sig", "assertion", "session", "cookie"),
    *("sas", "identified"),
)
_LONGEST_NAME = 256
_ASSIGNED = re.compile(r"(?<![\w.-])([\w.-]++(?: key\b)?)\\{0,4}[\"'\]]{0,2}\s*+(?:=>|[=:]|%3[AaDd]|\\u003[AaDd])\s*+")
_SAID = re.compile(rf"(?:identified\s++by|pass(?:word|wd|phrase)|\bpwd)\s++(?={_QUOTED})", re.IGNORECASE)
_PARSERS_WORDS = ("unexpected ", "extraneous ", "missing ", "illegal ", "near ")
"""`unexpected token: FROM` is said of SQL."""
_BARE = r"[^\s,;&\"')}\]]"
_SAME_COLUMN = r"(?![\w`]{1,64}\.[\w`]{0,64}(?i:password|secret|token|key|credential|signature|sig|pwd|pass)\b)"
_VALUE = re.compile(rf"{_QUOTED}|{_SAME_COLUMN}{_BARE}++", re.DOTALL)
_SQL_VALUE = re.compile(
    # a join or a call is none; what stands in a comment or inside a literal looks made up
    rf"{_QUOTED}|(?!\d+\b|[A-Za-z_]\w{{0,128}}(?:\(|\.[A-Za-z_`]))(?=[^\s,;&\"')}}\]`]{{0,64}}\d){_BARE}{{8,}}+",
    re.DOTALL,
)
_QUERY_VALUE = re.compile(rf"{_BARE}++")


def redacted(text: str) -> str:
    """The text without the program's own secrets, and with `***` for what looks like a credential: in URLs, tokens, keys
    and values such as `password=...`. E-mail addresses become `user-` and a digest.
    """
    return _without_values(_without_known_forms(own_secrets.hidden(text)), _VALUE, HIDDEN)


def redacted_sql(sql: str) -> str:
    """As `redacted`, but of `password = ...` only values that are quoted or look made up: `a.token = b.token` stays."""
    return _without_values(_without_known_forms(own_secrets.hidden(sql)), _SQL_VALUE, f"'{HIDDEN}'")


def redacted_name(text: str) -> str:
    """As `redacted`, for what things are called by: ordinary words stay, and names that differ only in what is hidden still
    do, by a checksum too short to tell anything.
    """
    shown = _without_values(_without_known_forms(own_secrets.hidden(text, words=False)), _VALUE, HIDDEN)
    return shown if shown == text or HIDDEN not in shown else f"{shown}~{crc32(text.encode()) & 0xFFFF:04x}"


def _without_known_forms(text: str) -> str:
    lowered = text.lower()
    for rule in _KNOWN_FORMS:
        if any(sign in lowered for sign in rule.signs):
            text = rule.pattern.sub(rule.replacement, text)
    return text


def _without_values(text: str, value: re.Pattern[str], quoted: str) -> str:
    """Without the values of what is named like a secret, inside of other values, too. A quoted one becomes `quoted`."""
    shown, at = [], 0
    for begin, in_query in _named(text):
        found = (_QUERY_VALUE if in_query else value).match(text, begin)
        if found is not None and begin >= at:
            shown += [text[at:begin], quoted if found[0][:1] in "\"'" else HIDDEN]
            at = found.end()
    return "".join((*shown, text[at:])) if shown else text


def _named(text: str) -> Iterator[tuple[int, bool]]:
    """Where the values of `password=` and `password '` begin, and whether they stand in the query of a URL or the like."""
    lowered = text.lower()
    if not any(sign in lowered for sign in _NAME_SIGNS):
        return
    said = {found.end(): False for found in _SAID.finditer(text)}
    assigned = {
        found.end(): text[found.start() - 1 : found.start()] in {"?", "&", ";"}
        for found in _ASSIGNED.finditer(text)
        if _NAME.search(found[1][-_LONGEST_NAME:]) and not lowered.endswith(_PARSERS_WORDS, 0, found.start())
    }
    yield from sorted({**said, **assigned}.items())


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
