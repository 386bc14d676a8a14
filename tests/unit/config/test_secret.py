import logging
import os
import re
from collections.abc import Callable
from pathlib import Path

import pytest
from pydantic import BaseModel, ValidationError

from config.secret import FileSecret, FromEnvironment, Secret, SecretText, TokenFile, stamp

HIDDEN = "geheim-4711"


class Holder(BaseModel):
    token: SecretText | None = None
    token_file: TokenFile = None


@pytest.fixture
def secret_file(tmp_path: Path) -> Callable[[bytes], Path]:
    def write(content: bytes) -> Path:
        path = tmp_path / "token"
        fresh = tmp_path / "fresh"
        fresh.write_bytes(content)
        fresh.replace(path)
        return path

    return write


def test_comes_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("A_TOKEN", f"  {HIDDEN}\n")
    secret = Secret.parse("${env:A_TOKEN}")
    assert secret.get() == HIDDEN
    assert secret.origin == "environment"


@pytest.mark.parametrize(
    ("value", "problem"), [("  ", "is empty"), ("a\nb", "contains a line break"), ("a\x7fb", "contains a")]
)
def test_an_unusable_variable_is_named_without_its_value(
    value: str, problem: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("A_TOKEN", value)
    with pytest.raises(ValueError, match=f"the environment variable A_TOKEN {problem}") as caught:
        Secret.parse("${env:A_TOKEN}")
    assert value not in str(caught.value)


def test_a_missing_variable_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("NO_SUCH_TOKEN", raising=False)
    with pytest.raises(ValueError, match="the environment variable NO_SUCH_TOKEN is not set"):
        Secret.parse("${env:NO_SUCH_TOKEN}")


def test_another_kind_of_reference_is_not_taken_for_the_secret() -> None:
    with pytest.raises(ValueError, match=r"write \$\{env:NAME\}"):
        Secret.parse("${A_TOKEN}")


def test_nothing_shows_the_value(secret_file: Callable[[bytes], Path]) -> None:
    for secret in (Secret.parse(HIDDEN), FileSecret(secret_file(HIDDEN.encode()))):
        holder = Holder.model_construct(token=secret, token_file=None)
        shown = f"{secret} {secret!r} {holder} {holder.model_dump()} {holder.model_dump_json()}"
        assert HIDDEN not in shown
        assert secret.description in shown


def test_a_number_is_refused_without_repeating_it() -> None:
    with pytest.raises(ValidationError) as caught:
        Holder.model_validate({"token": 471147114711})
    assert "put it in quotes" in str(caught.value.errors()[0]["msg"])
    assert "471147114711" not in caught.value.errors()[0]["msg"]


def test_a_file_is_read_again_when_it_changes(secret_file: Callable[[bytes], Path]) -> None:
    secret = FileSecret(secret_file(b"first\n"))
    assert secret.get() == "first"
    secret_file(b"\xef\xbb\xbfsecond\r\n")
    assert secret.get() == "second"


def test_a_file_that_is_rewritten_in_place_is_read_again(tmp_path: Path) -> None:
    path = tmp_path / "token"
    path.write_text("first")
    secret = FileSecret(path)
    path.write_text("other")
    os.utime(path, ns=(1, 1))
    assert secret.get() == "other"


def test_a_file_whose_rights_change_is_read_again(tmp_path: Path) -> None:
    """It may have been there before this user might read it."""
    path = tmp_path / "token"
    path.write_text("first")
    before = stamp(path)

    def changed() -> bool:
        path.chmod(0o640)
        return stamp(path) != before

    assert any(changed() for _ in range(100_000)), "once the clock of the file system ticked"


def test_a_mounted_secret_rotates_by_its_link(tmp_path: Path) -> None:
    for version in ("one", "two"):
        (tmp_path / version).mkdir()
        (tmp_path / version / "token").write_text(version)
    (tmp_path / "data").symlink_to("one")
    secret = FileSecret(tmp_path / "data" / "token")
    (tmp_path / "fresh").symlink_to("two")
    (tmp_path / "fresh").replace(tmp_path / "data")
    assert secret.get() == "two"


def test_the_last_good_value_stays_and_is_said_once(
    secret_file: Callable[[bytes], Path], caplog: pytest.LogCaptureFixture
) -> None:
    path = secret_file(HIDDEN.encode())
    secret = FileSecret(path)
    with caplog.at_level(logging.WARNING):
        path.unlink()
        assert [secret.get(), secret.get()] == [HIDDEN, HIDDEN]
        assert len(caplog.records) == 1
        secret_file(b"")
        assert secret.get() == HIDDEN
    assert len(caplog.records) == 2
    assert str(path) in caplog.text
    assert HIDDEN not in caplog.text
    secret_file(b"new")
    assert secret.get() == "new"


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        (b"", "is empty"),
        (b"\xff\xfe", "is not UTF-8 text"),
        (b"a\nb", "line break"),
        (b"x" * 70_000, "larger than 64 KiB"),
    ],
)
def test_an_unusable_file_is_named(content: bytes, problem: str, secret_file: Callable[[bytes], Path]) -> None:
    path = secret_file(content)
    with pytest.raises(ValueError, match=problem) as caught:
        FileSecret(path)
    assert str(path) in str(caught.value)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="nothing-here cannot be read: No such file or directory"):
        FileSecret(tmp_path / "nothing-here")


@pytest.mark.parametrize(
    ("written", "words"),
    [
        ("Bearer ${env:TOKEN}", "put the whole value into the variable"),
        ("http://me:${env:TOKEN}@proxy:3128", "put the whole value into the variable"),
        ("$MY_TOKEN", "write ${env:MY_TOKEN}"),
        ("${TOKEN}", "write ${env:NAME}"),
    ],
)
def test_what_is_meant_as_a_reference_is_not_taken_for_the_secret(written: str, words: str) -> None:
    with pytest.raises(ValueError, match=re.escape(words)):
        Secret.parse(written)


@pytest.mark.parametrize("text", ["pa$$word", "$1", "$lower", "100$NAME"])
def test_a_dollar_in_a_secret_is_a_dollar(text: str) -> None:
    assert Secret.parse(text).get() == text


def test_what_the_environment_brings_is_no_reference() -> None:
    assert Secret.parse(FromEnvironment("$MY_TOKEN")).get() == "$MY_TOKEN"
