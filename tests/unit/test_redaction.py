import json
from collections.abc import Callable

import pytest

from collector import names
from collector.redaction import bare_url, capped, redacted, redacted_name, redacted_sql
from tests.planting import SHAPES, secret

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


@pytest.mark.parametrize("number", range(len(SHAPES)))
@pytest.mark.parametrize("redact", [redacted, redacted_sql, redacted_name])
def test_every_planted_shape_is_hidden_wherever_it_stands(redact: Callable[[str], str], number: int) -> None:
    grown = SHAPES[number].replace("{}", secret(number)).replace("{{", "{").replace("}}", "}")
    for text in (grown, f"Row 7 is bad: {grown} and so on", f"select 1\n-- {grown}\nfrom a", json.dumps({"x": grown})):
        shown = redact(text)
        assert secret(number).lower() not in shown.lower()
        assert redact is redacted_name or redact(shown) == shown, "what goes through twice is the same"


@pytest.mark.parametrize(
    "text",
    [
        f"postgres://me:pa/ss{SECRET}@db.example.com/x",
        f"password%3D{SECRET}%26user%3Dme",
        f"<Password>{SECRET}</Password>",
        f'password="a\\"{SECRET}"',
        f"password = 'it''s {SECRET}'",
        f'{{\\"password\\": \\"{SECRET}\\"}}',
        f"('Authorization', 'Token {SECRET}')",
        f"Set-Cookie: a=b; sid={SECRET}",
        f"https://hooks.slack.com/services/T0/B0/{SECRET}",
        f"--client-secret={SECRET}",
        f"Ocp-Apim-Subscription-Key: {SECRET}",
        f"JSESSIONID={SECRET}",
    ],
)
def test_secrets_are_hidden_however_they_are_quoted(text: str) -> None:
    assert SECRET not in redacted(text)


def test_people_stay_apart_without_being_named() -> None:
    one, other = redacted("/queryResults/ann.example@acme.example/x.csv"), redacted("no right for bob@acme.example")
    assert one.startswith("/queryResults/user-")
    assert other.startswith("no right for user-")
    assert "acme" not in one + other
    assert one.split("/")[2] not in other
    assert redacted("ANN.Example@acme.example") in one


def test_a_name_that_lost_a_secret_is_not_taken_for_another() -> None:
    one, other = (names.dataset("transformation", f"daily {key}={SECRET}") for key in ("password", "dbPwd"))
    same = [names.dataset("transformation", f"daily password={SECRET}{number}") for number in range(3)]
    assert SECRET not in one + other + "".join(same)
    assert len({one, other, *same}) == 5
    assert names.dataset("raw", "tokens", "password_resets") == "raw/tokens/password_resets"


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
        'select `secret`, "password" from t where api_key is not null',
        "cast(token as string) as token, sig as signature, count(*) as pass",
        "select a.id from a join b on a.token = b.token and a.password=b.password",
        "with `api_key` as (select 1) select * from cdf_nodes('space', 'view', 'v1') where space = 'a'",
        "7f0e4a52-9d1c-4b8e-a111-0123456789ab",
        "sha256:9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08",
        "/data/2024/11/secret_santa/token_counts.parquet",
        "raw/sap/aufk",
        "Unexpected token: FROM at line 3",
        "SparkException: Task 3 in stage 1.0 failed 4 times: java.lang.Object@1b2c3d4e",
        "foreign key (a, b) references t; primary key: id",
        "s3://bucket/2024/part-0001.snappy.parquet?versionId=3",
        "http://h:8080/path/x@y is gone",
        "a signature of three fields",
        "GET http://127.0.0.1:39913/v4/jobGroups/1: status 404",
        "status 401; check client_id, client_secret, scopes and audience",
        "--conf spark.sql.shuffle.partitions=8",
        "cookies are not sent; authorization is needed",
        "npm i @scope/package@1.2.3",
    ],
)
def test_ordinary_text_stays(text: str) -> None:
    for redact in (redacted, redacted_sql, redacted_name):
        assert redact(text) == text


def test_sql_loses_literals_and_keeps_its_joins() -> None:
    assert redacted_sql("select 1 from a join b on a.token = b.token") == "select 1 from a join b on a.token = b.token"
    assert SECRET not in redacted_sql(f"select 1 where password = '{SECRET}' or Token=\"{SECRET}\"")
    assert SECRET not in redacted_sql(f"-- https://me:{SECRET}@host/\nselect 1")


_MUCH = [
    *(
        "a.",
        "a-",
        "eyJ-",
        "eyJaaaaaaaaa.",
        "password",
        "password ",
        "https",
        "password='x ",
        "x@",
        "b:",
        "a://b:",
        "://",
    ),
    *(
        "-u a:",
        "--password ",
        "--a-",
        "<a:",
        "<",
        '"name":"',
        '\\"',
        "\\",
        "'",
        'password=\\"',
        "x.y@",
        "a@b.",
        "a b@c-",
    ),
    *("authorization: ", "bearer ", "basic ", "cookie=", "cookie: a=b; ", "-----BEGIN PRIVATE KEY-----", "sk-", "8Q~"),
    *("account.key.", "a key", "token = ", "&code=", "?k", "identified by ", "identified by '", 'password = "\\'),
    *("oracle:thin:", "[", "aaaaaaaa", "SG.aaaaaaaaaaaaaaaaaaaa", "hooks.slack.com", "\r\n", "\t=", "password\\\\\\"),
]


@pytest.mark.parametrize("piece", _MUCH)
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
