"""Where the ledger is: a file or PostgreSQL, never both, and no password in sight."""

from collections.abc import Callable
from pathlib import Path

import pytest

from config.loader import ConfigurationMistakes, load
from config.settings import Settings

Load = Callable[[str], Settings]


@pytest.fixture
def load_ledger(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Load:
    monkeypatch.setenv("PG_PASSWORD", "geheim-4711")
    source = "sources: [{platform: dataprep, name: prep, workspace: 1, token: t-0815-t}]"

    def act(ledger: str) -> Settings:
        path = tmp_path / "c.yaml"
        path.write_text(f"ledger: {ledger}\n{source}\n")
        return load(path)

    return act


def test_a_database_with_its_password_from_the_environment(load_ledger: Load) -> None:
    ledger = load_ledger(
        "{url: 'postgresql://me@db-1,db-2:5433/lineage?sslmode=verify-full', password: '${env:PG_PASSWORD}', schema: x}"
    ).ledger
    assert ledger.current_password == "geheim-4711"
    assert ledger.place == "postgresql://me@db-1,db-2:5433/lineage"
    assert (ledger.file, ledger.schema) == (None, "x")


def test_a_password_in_a_file_is_read_again(load_ledger: Load, tmp_path: Path) -> None:
    secret = tmp_path / "password"
    secret.write_text("first\n")
    ledger = load_ledger(f"{{url: 'postgresql://me@db/lineage', password_file: '{secret}'}}").ledger
    assert ledger.current_password == "first"
    secret.write_text("the second\n")
    assert ledger.current_password == "the second"


def test_nothing_shows_the_password(load_ledger: Load) -> None:
    settings = load_ledger("{url: 'postgresql://me@db/lineage', password: geheim-4711}")
    assert "geheim" not in f"{settings!r} {settings.public()}"


@pytest.mark.parametrize(
    ("ledger", "words"),
    [
        ("{path: x.db, url: 'postgresql://db/x'}", "give either path (a file) or url (PostgreSQL), not both"),
        ("{password: geheim-4711}", "password: only used with url"),
        ("{schema: x}", "schema: only used with url"),
        ("{notify: true}", "notify: only used with url"),
        ("{url: 'postgresql://me:geheim-4711@db/x'}", "contains a password: remove it and set ledger.password_file"),
        ("{url: 'postgresql://me@db/x?password=geheim-4711'}", "contains a password"),
        ("{url: 'mysql://me@db/x'}", "is not an address of PostgreSQL: write postgresql://user@host:5432/database"),
        ("{url: 'postgresql://me@db'}", "names no database"),
        ("{url: 'postgresql://me@db/x?sslmod=require'}", "sslmod is not a parameter of libpq; did you mean sslmode?"),
        ("{url: 'postgresql://me@db/x?nonsense=1'}", "nonsense is not a parameter of libpq"),
        ("{url: 'postgresql://me@db/x?sslmode=verify'}", "sslmode verify is none of disable, allow, prefer, require"),
        ("{url: '${env:PG_PASSWORD}'}", "cannot be read"),
        ("{url: 'postgresql://db/x', schema: 'Lineage; DROP'}", "is not a valid name of a schema"),
        ("{url: 'postgresql://db/x', password: a-secret, password_file: y}", "y cannot be read"),
    ],
)
def test_mistakes_are_said_without_the_password(load_ledger: Load, ledger: str, words: str) -> None:
    with pytest.raises(ConfigurationMistakes) as caught:
        load_ledger(ledger)
    text = " ".join(str(mistake) for mistake in caught.value.mistakes)
    assert words in text
    assert "geheim" not in text
