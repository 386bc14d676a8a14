"""The registry of the program's secrets, by which they are hidden in all texts, see `collector.redaction`.

One registry for the process, like its logging: error texts are made in too many places to hand it to each. Register
a secret with `learn` before it is first sent; `collector.app.factory` does that for those of the configuration.

A secret is found verbatim and in the forms in which others repeat it: in upper or lower case, percent-encoded (also twice),
escaped as in JSON, Python or HTML, inside Base64 (a Basic header), or cut off after its first 16 characters.
"""

import base64
import binascii
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache
from html import escape
from threading import Lock
from typing import Any
from urllib.parse import unquote, urlsplit

from config.secret import SHORTEST

HIDDEN = "***"
EARLIER = 3
"""So many former values of a secret that rotates stay hidden: of a token that lives an hour, three hours."""

_WORDLIKE = 12
_HEAD = 16
_LONGEST = 4096
_TAIL = "[A-Za-z0-9_.~+/=%-]*"
_PLAIN = re.compile(r"[A-Za-z0-9_.~-]+")
_SCHEME = re.compile(r"(?:basic|bearer|token|apikey|api-key|digest)\s+(\S+)", re.IGNORECASE)
_NAMED_VALUE = re.compile(r"=([^;\s]{8,})")


@dataclass(frozen=True, slots=True)
class _Form:
    """One form of a secret. `sign` is in the lower-cased text wherever `pattern` fits. `is_word` where the secret
    could be an ordinary word, such as a demo's `lineage`.
    """

    sign: str
    pattern: re.Pattern[str]
    is_word: bool = False


class SecretRegistry:
    """Safe to use from several threads."""

    def __init__(self) -> None:
        self._lock = Lock()
        self._texts: dict[str, tuple[str, ...]] = {}
        self._forms: tuple[tuple[str, _Form], ...] = ()
        self.version = 0
        """Grows with every change, for those who remember what they found."""

    def learn(self, owner: str, text: str) -> None:
        """Register the present secret of `owner` (any constant name); its last `EARLIER` secrets stay registered."""
        with self._lock:
            known = self._texts.get(owner, ())
            if text in known[-1:]:
                return
            self._texts[owner] = (*(each for each in known if each != text), text)[-1 - EARLIER :]
            texts = dict.fromkeys(each for kept in self._texts.values() for each in kept)
            forms = dict.fromkeys(form for each in texts for form in _forms(each))
            self._forms = tuple((form.sign, form) for form in forms)
            self.version += 1  # last: what is found from here on has this secret

    def forget_all(self) -> None:
        """For tests, which share a process."""
        with self._lock:
            self._texts, self._forms = {}, ()
            self.version += 1

    def hidden(self, text: str, *, words: bool = True) -> str:
        """The text with `***` for each registered secret; without `words` not for those that could be ordinary words."""
        if len(text) < SHORTEST:
            return text
        lowered = text.lower()
        for sign, form in self._forms:
            if sign in lowered and (words or not form.is_word):
                text = form.pattern.sub(HIDDEN, text)
        return text

    def hidden_in(self, value: Any) -> Any:
        """A JSON value with `hidden` texts; its keys stay."""
        if isinstance(value, str):
            return self.hidden(value)
        if isinstance(value, Mapping):
            return {key: self.hidden_in(each) for key, each in value.items()}
        if isinstance(value, list | tuple):
            return [self.hidden_in(each) for each in value]
        return value


secret_registry = SecretRegistry()


@lru_cache(maxsize=1024)
def _forms(text: str) -> tuple[_Form, ...]:
    return tuple(form for piece in _pieces(text) if len(piece) >= SHORTEST for form in _forms_of(piece))


def _pieces(text: str) -> Iterator[str]:
    """The secret parts of a configured text: of an address its password, of a header's value also the credential in it."""
    if "://" in text and (password := _password(text)):
        yield password
        return
    yield text
    if (found := _SCHEME.fullmatch(text)) is not None:
        yield found[1]
        yield from _basic_password(found[1])
    yield from _NAMED_VALUE.findall(text)


def _password(url: str) -> str | None:
    try:
        parts = urlsplit(url)
    except ValueError:
        return None
    return unquote(parts.password or parts.username or "") or None


def _basic_password(credential: str) -> Iterator[str]:
    try:
        _, colon, password = base64.b64decode(credential, validate=True).decode().partition(":")
    except (binascii.Error, UnicodeDecodeError):
        return
    if colon:
        yield password


def _forms_of(secret: str) -> Iterator[_Form]:
    head, rest = secret[:_HEAD], secret[_HEAD:_LONGEST]
    pattern = "".join(map(_letter, head))
    if rest:
        whole = "".join(map(_letter, rest))
        # only of what looks generated: the beginning of `lineage-collector-password` is in many texts
        is_random = any(map(str.isdigit, head)) and any(map(str.isalpha, head))
        pattern += f"(?:{whole}|{_TAIL})" if is_random else whole
        head = head if is_random else secret[:_LONGEST]
    is_word = len(secret) < _WORDLIKE and (secret.isalpha() or secret.isdigit())
    if is_word:  # not inside other words and names
        pattern = rf"(?<![\w.-]){pattern}(?![\w-]|\.\w)"
    yield _Form(_sign(head), re.compile(pattern, re.IGNORECASE), is_word)
    for inside in _in_base64(secret):
        pattern = "".join(map(_letter_of_base64, inside[: 2 * _HEAD]))
        yield _Form(_sign(inside[: 2 * _HEAD]), re.compile(rf"{pattern}[A-Za-z0-9_+/%-]*=*"))


def _in_base64(secret: str) -> Iterator[str]:
    """The secret in Base64 behind any number of bytes: the letters that depend on it alone."""
    data = secret.encode()
    for before in range(3):
        letters = base64.b64encode(b"\0" * before + data).decode()
        yield letters[-(-before * 8 // 6) : (before + len(data)) * 8 // 6]


def _sign(text: str) -> str:
    return max(_PLAIN.findall(text), key=len, default="").lower()


def _letter(letter: str) -> str:
    """A pattern for one character of a secret, however it is escaped."""
    if _PLAIN.fullmatch(letter):
        return re.escape(letter)
    code, utf16 = ord(letter), letter.encode("utf-16-be", "surrogatepass").hex()
    ways = [
        "".join(f"%(?:25)*{byte:02x}" for byte in letter.encode(errors="surrogatepass")),
        r"\\{1,16}".join(f"u{utf16[at : at + 4]}" for at in range(0, len(utf16), 4)),
        f"&#0*{code};",
        f"&#x0*{code:x};",
        *([f"x{code:02x}"] if code < 256 else []),
        *([re.escape(escape(letter))] if escape(letter) != letter else []),
        *([r"\+"] if letter == " " else []),
        re.escape(letter),  # the last: of %25 it would take the %
    ]
    return rf"\\{{0,16}}(?:{'|'.join(ways)})"


def _letter_of_base64(letter: str) -> str:
    """Both alphabets, and percent-encoded."""
    return {"+": "(?:[+-]|%2[Bb])", "/": r"(?:\\?[/_]|%2[Ff])"}.get(letter, letter)
