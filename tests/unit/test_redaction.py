import pytest

from collector.redaction import bare_url, capped, redacted, redacted_sql

SECRET = "hunter2secret"


@pytest.mark.parametrize(
    "text",
    [
        f"jdbc:postgresql://me:{SECRET}@db.example.com/x failed",
        f"https://blob.example.com/a.csv?sv=1&sig={SECRET}&se=2 is gone",
        f"password={SECRET}",
        f"PASSWORD : '{SECRET}'",
        f'{{"client_secret": "{SECRET}"}}',
        f"Authorization: Bearer {SECRET}",
        f"AccountKey={SECRET};EndpointSuffix=core.windows.net",
        f"api_key={SECRET}, next",
        f"aws_secret_access_key={SECRET}",
        f"-----BEGIN RSA PRIVATE KEY-----\n{SECRET}\n-----END RSA PRIVATE KEY-----",
        f"pwd={SECRET}&user=me",
        f"token: {SECRET}",
        f'password="{SECRET}',
        f"dbPwd={SECRET}",
        f"jdbc:oracle:thin:scott/{SECRET}@//h:1521/S is down",
        f"SharedAccessKey={SECRET}",
        f"GET https://h/x?a=1&token={SECRET}",
        f"Basic dXNlcjp{SECRET}",
    ],
)
def test_secrets_in_text_are_hidden(text: str) -> None:
    assert SECRET not in redacted(text)
    assert "***" in redacted(text)


def test_keys_that_look_like_keys_are_hidden() -> None:
    assert "AKIAABCDEFGHIJKLMNOP" not in redacted("denied for AKIAABCDEFGHIJKLMNOP")
    assert "eyJhbGciOi" not in redacted("got eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxMjM0In0.abc")
    assert "AIza" not in redacted(f"key AIza{'x' * 35} is not enabled")
    assert "ghp_" not in redacted(f"remote: ghp_{'a' * 36}")


@pytest.mark.parametrize(
    "text",
    [
        "Table or view not found: sap.pumps_old; line 1 pos 14",
        "select token_count, password_reset_at from `db`.`tokens` where key = 'a'",
        "duplicate externalId 'pump-7'",
        "see https://docs.example.com/errors?page=2",
        "Basic cleaning of pumps",
        "the bearer of bad news",
        "Kansas: 5, compass: north, bypass: true",
        "gs://bucket/a@b.csv",
    ],
)
def test_ordinary_text_stays(text: str) -> None:
    assert redacted(text) == text


def test_sql_loses_literals_and_keeps_its_joins() -> None:
    assert redacted_sql("select 1 from a join b on a.token = b.token") == "select 1 from a join b on a.token = b.token"
    assert SECRET not in redacted_sql(f"select 1 where password = '{SECRET}' or Token=\"{SECRET}\"")
    assert SECRET not in redacted_sql(f"-- https://me:{SECRET}@host/\nselect 1")


@pytest.mark.parametrize("piece", ["a.", "a-", "eyJ-", "password", "password ", "https", "password='x ", "x@", "b:"])
def test_much_of_anything_takes_no_time(piece: str) -> None:
    """Quadratic patterns take minutes, and end in the time-out of all tests."""
    text = piece * (200_000 // len(piece))
    assert redacted(text)
    assert redacted_sql(text)


def test_a_cut_is_marked_and_inside_the_limit() -> None:
    cut = capped("x" * 1000, 100)
    assert len(cut) == 100
    assert cut.endswith("[cut, 1000 characters in all]")
    assert capped("short", 100) == "short"


def test_a_bare_url_has_no_user_query_or_fragment() -> None:
    assert bare_url("https://u:p@files.example.com:8443/a/b.csv?X-Sig=1#x") == "https://files.example.com:8443/a/b.csv"
