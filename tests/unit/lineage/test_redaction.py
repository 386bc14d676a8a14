import pytest

from collector.lineage.redaction import bare_url, capped, redacted

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
    ],
)
def test_secrets_in_text_are_hidden(text: str) -> None:
    assert SECRET not in redacted(text)
    assert "***" in redacted(text)


def test_keys_that_look_like_keys_are_hidden() -> None:
    assert "AKIAABCDEFGHIJKLMNOP" not in redacted("denied for AKIAABCDEFGHIJKLMNOP")
    assert "eyJhbGciOi" not in redacted("got eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxMjM0In0.abc")


@pytest.mark.parametrize(
    "text",
    [
        "Table or view not found: sap.pumps_old; line 1 pos 14",
        "select token_count, password_reset_at from `db`.`tokens` where key = 'a'",
        "duplicate externalId 'pump-7'",
        "see https://docs.example.com/errors?page=2",
    ],
)
def test_ordinary_text_stays(text: str) -> None:
    assert redacted(text) == text


def test_a_cut_is_marked_and_inside_the_limit() -> None:
    cut = capped("x" * 1000, 100)
    assert len(cut) == 100
    assert cut.endswith("[cut, 1000 characters in all]")
    assert capped("short", 100) == "short"


def test_a_bare_url_has_no_user_query_or_fragment() -> None:
    assert bare_url("https://u:p@files.example.com:8443/a/b.csv?X-Sig=1#x") == "https://files.example.com:8443/a/b.csv"
