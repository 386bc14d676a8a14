"""Names that every backend can store: namespaces, job names and dataset names.

Marquez 0.51 rewrites other characters in namespaces, splits node ids at colons and answers 500 for the graph of a name
that begins with a digit under a namespace with `://`; so names are made and checked here, before anything is stored.
"""

import re
from urllib.parse import urlsplit
from zlib import crc32

from collector.redaction import redacted_name

_NAMESPACE = re.compile(r"[A-Za-z][A-Za-z0-9_\-.@+/]*(:(//|\d)[A-Za-z0-9_\-.@+/]*)*")
_UNFIT = re.compile(r"[^A-Za-z0-9_\-.@+/:]")
_CONTROL = re.compile("[\x00-\x1f\x7f-\x9f\ud800-\udfff]")
_CONTROL_IN_TEXT = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\ud800-\udfff]")
LONGEST = 255


def namespace(platform: str, base_url: str, *parts: str) -> str:
    """`{platform}://{host}[:port]/{parts}`, with characters that a backend would rewrite replaced by `_`."""
    url = urlsplit(base_url)
    host = (url.hostname or "localhost") + (f":{url.port}" if url.port else "")
    path = "/".join(_UNFIT.sub("_", redacted_name(part)).replace(":", "_") for part in parts if part)
    return f"{platform}://{host}/{path}" if path else f"{platform}://{host}"


def namespace_fault(name: str) -> str | None:
    """Why a backend would not store this namespace unchanged, None if it would."""
    if not name:
        return "is empty"
    if len(name) > LONGEST:
        return f"is longer than {LONGEST} characters"
    if _NAMESPACE.fullmatch(name) is None:
        return "may contain only letters, digits and _-.@+/ after a first letter, and ':' only before '//' or a digit"
    return None


def part(text: str) -> str:
    """One part of a dataset or job name: `/`, `:`, `#`, `%` and control characters percent-encoded, so that different parts stay different;
    secrets and people removed.
    """
    plain = clean(text)
    shown = redacted_name(plain)
    return _SEPARATES.sub(_encoded, text if shown == plain else shown)


_SEPARATES = re.compile(f"[/:#%]|{_CONTROL.pattern}")


def _encoded(found: re.Match[str]) -> str:
    return f"%{ord(found[0]):02X}"


def dataset(first: str, *rest: str) -> str:
    """A dataset name from a leading word and its parts, `/` between them."""
    return cut("/".join([first, *(part(text) for text in rest)]))


def clean(text: str) -> str:
    """The text without control characters (NUL makes Marquez answer 500) and lone surrogates."""
    return text if text.isprintable() else _CONTROL.sub("", text)


def clean_text(text: str) -> str:
    """As `clean`, for prose and SQL: tabs and line ends stay."""
    return _CONTROL_IN_TEXT.sub("", text)


def cut(name: str) -> str:
    """At most 255 characters; a checksum at the end distinguishes names that were cut."""
    if len(name) <= LONGEST:
        return name

    return f"{name[: LONGEST - 9]}~{crc32(name.encode()):08x}"
