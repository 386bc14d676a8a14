"""Secrets by reference: an environment variable (`${env:NAME}`) or a file that is read again when it changes."""

import logging
import os
import re
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Literal

from pydantic import AfterValidator, PlainSerializer, PlainValidator, ValidationInfo, WithJsonSchema

logger = logging.getLogger(__name__)

REFERENCE = re.compile(r"^\$\{env:([A-Za-z_][A-Za-z0-9_]*)\}$")
SHORTEST = 6
"""Characters. A shorter secret is not looked for in texts: it would be found in ordinary words."""
_LARGEST = 64 * 1024


class FromEnvironment(str):
    """A text that an environment variable set in the configuration, so that it does not count as a literal."""

    __slots__ = ()


class Secret:
    """A text that no message shows. `get()` returns its present value; `origin` is where it comes from."""

    __slots__ = ("_listener", "_text", "description", "origin")

    def __init__(self, text: str, origin: Literal["literal", "environment", "file"], description: str) -> None:
        self._text = text
        self._listener: Callable[[str], None] | None = None
        self.origin = origin
        self.description = description

    def get(self) -> str:
        return self._text

    def on_change(self, listener: Callable[[str], None]) -> None:
        """Call `listener` with the text now and each time that it changes. There is one listener, the last."""
        self._listener = listener
        listener(self._text)

    def __repr__(self) -> str:
        return f"<secret from {self.description}>"

    @classmethod
    def parse(cls, value: object) -> "Secret":
        """`${env:NAME}` or the secret itself; raises `ValueError`, whose message never contains the value."""
        if isinstance(value, Secret):
            return value
        if not isinstance(value, str):
            advice = ": put it in quotes" if isinstance(value, bool | int | float) else ""
            raise ValueError(f"must be text, such as ${{env:NAME}}, not {_kind(value)}{advice}")  # noqa: TRY004
        if match := REFERENCE.match(value):
            return cls(_from_environment(match[1]), "environment", f"environment variable {match[1]}")
        if value.startswith("${"):
            raise ValueError("is not a valid reference: write ${env:NAME}")
        if isinstance(value, FromEnvironment):
            return cls(_clean(value), "environment", "the environment")
        if (fault := _misspelt(value)) is not None:
            raise ValueError(fault)
        return cls(_clean(value), "literal", "the configuration file")


def _misspelt(value: str) -> str | None:
    """The mistake in a text that looks like a reference; None if there is none."""
    if _PLAIN.fullmatch(value):
        return f"is a reference in the syntax of a shell: write ${{env:{value[1:]}}}"
    if _WITHIN.search(value):
        return "has a reference within other text, which is not replaced: put the whole value into the variable"
    return None


_PLAIN = re.compile(r"\$[A-Z][A-Z0-9_]{2,}")
_WITHIN = re.compile(r"\$\{env:[A-Za-z_][A-Za-z0-9_]*\}")


class FileSecret(Secret):
    """A secret in a file, read again when the file changed, so that it can rotate under a running program.

    While the file cannot be read or has no valid content, the last valid value stays and a warning is logged once.
    """

    __slots__ = ("_path", "_stamp")

    def __init__(self, path: Path) -> None:
        self._stamp = stamp(path)  # before reading: a change in between is then seen by the next get()
        self._path = path
        super().__init__(_read(path), "file", f"file {path}")

    def get(self) -> str:
        now = stamp(self._path)
        if now != self._stamp:
            self._stamp = now
            try:
                self._text = _read(self._path)
            except ValueError as error:
                logger.warning("the secret in %s keeps its former value: the file %s", self._path, error)
            else:
                if self._listener is not None:
                    self._listener(self._text)
        return self._text

    @classmethod
    def parse(cls, value: object) -> "FileSecret":
        if isinstance(value, FileSecret):
            return value
        if not isinstance(value, str | Path):
            raise ValueError(f"must be the path of a file, not {_kind(value)}")  # noqa: TRY004
        return cls(Path(value))


def either(first: str, *, required: bool) -> AfterValidator:
    """For a field `x_file` declared after `x`: only one of the two, and when `required` exactly one, may be given."""

    def check(value: FileSecret | None, info: ValidationInfo) -> FileSecret | None:
        if first not in info.data:
            return value
        other = info.data[first]
        if value is not None and other is not None:
            raise ValueError(f"give either {first} or {first}_file, not both")
        if value is None and other is None and required:
            raise ValueError(f"the secret is missing: give {first}: ${{env:NAME}} or {first}_file: PATH")
        return value

    return AfterValidator(check)


def given(secret: Secret | None, file: FileSecret | None) -> Secret:
    """The one of the two that the model requires."""
    found = secret or file
    assert found is not None
    return found


def _schema(example: str) -> WithJsonSchema:
    return WithJsonSchema({"type": "string", "minLength": 1, "examples": [example]})


_SHOWN = PlainSerializer(repr, return_type=str)
SecretText = Annotated[Secret, PlainValidator(Secret.parse), _SHOWN, _schema("${env:NAME}")]
SecretFile = Annotated[FileSecret, PlainValidator(FileSecret.parse), _SHOWN, _schema("/run/secrets/token")]
TokenFile = Annotated[SecretFile | None, either("token", required=True)]
PasswordFile = Annotated[SecretFile | None, either("password", required=True)]
ClientSecretFile = Annotated[SecretFile | None, either("client_secret", required=True)]
ApiKeyFile = Annotated[SecretFile | None, either("api_key", required=False)]
HintSecretFile = Annotated[SecretFile | None, either("hint_secret", required=False)]
WebhookSecretFile = Annotated[SecretFile | None, either("webhook_secret", required=False)]


def _from_environment(name: str) -> str:
    if name not in os.environ:
        raise ValueError(f"the environment variable {name} is not set")
    try:
        return _clean(os.environ[name])
    except ValueError as error:
        raise ValueError(f"the environment variable {name} {error}") from None


def _read(path: Path) -> str:
    """`ValueError` with a text that follows "the file"."""
    where = path.absolute()
    try:
        with path.open("rb") as file:
            content = file.read(_LARGEST + 1)
    except OSError as error:
        raise ValueError(f"{where} cannot be read: {error.strerror}") from None
    if len(content) > _LARGEST:
        raise ValueError(f"{where} is larger than 64 KiB, which cannot be a secret")
    try:
        return _clean(content.decode("utf-8-sig"))
    except UnicodeDecodeError:
        raise ValueError(f"{where} is not UTF-8 text") from None
    except ValueError as error:
        raise ValueError(f"{where} {error}") from None


def _clean(text: str) -> str:
    """Without the line end that editors add; control characters would get into HTTP headers."""
    text = str(text).strip(" \t\r\n")
    if not text:
        raise ValueError("is empty")
    if any(ord(character) < 32 or ord(character) == 127 for character in text):
        raise ValueError("contains a line break or another control character")
    return text


Stamp = tuple[int, int, int] | None


def stamp(path: Path) -> Stamp:
    """A value that changes with the file and its rights; Kubernetes swaps a mounted secret by a link, which changes the inode."""
    try:
        status = path.stat()
    except OSError:
        return None
    return status.st_ctime_ns, status.st_size, status.st_ino


def _kind(value: object) -> str:
    kinds = {bool: "true or false", int: "a number", float: "a number", list: "a list", dict: "a mapping"}
    return kinds.get(type(value), "nothing")
