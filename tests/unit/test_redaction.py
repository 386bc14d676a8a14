import json
import re
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml

from collector import names
from collector.redaction import bare_url, capped, redacted, redacted_name, redacted_sql
from collector.secret_registry import secret_registry
from tests.planted_secrets import SENTENCES, SHAPES, secret

SECRET = "hunter2secret"
MADE_UP = "Zq7xK2vLp9"
ROOT = Path(__file__).parents[2]
CORPUS = ROOT / "tests" / "corpus" / "cdf_sql"
_SHOWS_A_SECRET = re.compile(
    r"\$\{env:|ann@acme\.example|existingSecret|--from-file|`password=|identified by|\.\.\."
    r"|simulated-secret|wetransform-token|dataprep-token|postgresql://(?:me|lineage)@|X-Signature: |secretName: "
)
"""Lines of the docs that name a secret, or a place for one."""


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
    text = SHAPES[number].replace("{}", secret(number)).replace("{{", "{").replace("}}", "}")
    for sentence in (text, f"Row 7 is bad: {text} and so on", f"select 1\n-- {text}\nfrom a", json.dumps({"x": text})):
        shown = redact(sentence)
        assert secret(number).lower() not in shown.lower()
        assert redact is redacted_name or redact(shown) == shown, "what goes through twice is the same"


@pytest.mark.parametrize("sentence", SENTENCES)
def test_a_secret_in_a_sentence_is_hidden(sentence: str) -> None:
    planted = secret(0)
    said = sentence.format(planted)
    for text in (said, f"Row 7 is bad: {said}", json.dumps({"x": said}, ensure_ascii=False)):
        assert planted not in redacted(text)
        assert planted not in redacted_name(text)
    assert planted not in redacted_sql(f"select 1 -- {said}\nfrom a")
    assert planted not in redacted_sql(f"select 1 /* {said} */ from a")


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
        f"- name: DB_PASSWORD\n  value: {SECRET}",
        f"- name: DB_PASSWORD\\n  value: {SECRET}",
        f"password: |\n  {SECRET}\nuser: me",
        f"s3://AKIAABCDEFGHIJKLMNOP:{SECRET}@bucket/x",
        f"contrasen\u0303a: {SECRET}",
        f"contrase\\u00f1a: {SECRET}",
        f"password=''{SECRET}''",
        f'password=""{SECRET}""',
        f"java.sql.SQLException:scott/{SECRET}@ORCL",
        f"token {MADE_UP}\\r\\nCaused by: x",
    ],
)
def test_secrets_are_hidden_however_they_are_quoted(text: str) -> None:
    assert SECRET not in redacted(text)


@pytest.mark.parametrize(
    "said",
    [
        "Invalid API key provided: {}",
        "password is {}",
        "token {} expired",
        '{{"name":"password","value":"{}"}}',
        '<add key="password" value="{}"/>',
        'options(pass "{}")',
        "password\\u003d{}",
        "Kennwort: {}",
        "contraseña: {}",
    ],
)
def test_secrets_are_hidden_however_deep_they_stand_in_json(said: str) -> None:
    text = said.format(MADE_UP)
    for _ in range(4):
        for shown in (redacted(text), redacted(f"{text}\\nCaused by: x"), redacted_name(text)):
            assert MADE_UP not in shown
        text = json.dumps({"message": text})


@pytest.mark.parametrize(
    "sql",
    [
        "create table a using jdbc options ('password' '{}', 'user' 'me')",
        "create table a using jdbc options (`user` 'me', `password` '{}')",
        'create table a using jdbc options ("user" "me", "password" "{}")',
        "select '{}' as password",
        "select a, '{}' `api_key` from b",
        "select named_struct('a', 'b'), '{}' AS \"token\", concat('-', a, ' token ') from b",
        "select a, 'b' -- and so on\n, '{}' as password from c",
    ],
)
def test_literals_that_sql_calls_secrets_are_hidden(sql: str) -> None:
    shown = redacted_sql(sql.format(MADE_UP))
    assert MADE_UP not in shown
    assert shown == sql.replace('"{}"', "'{}'").format("***")


@pytest.mark.parametrize("redact", [redacted, redacted_sql, redacted_name])
def test_what_stands_between_semicolons_is_hidden_however_it_looks(redact: Callable[[str], str]) -> None:
    """Of connect strings; in SQL a word alone would be a column."""
    for text in ("jdbc:x://h:1/d;token=abc", "'jdbc:x://h:1/d;user=me;password=swordfish;ssl=true'"):
        shown = redact(text)
        assert "abc" not in shown
        assert "swordfish" not in shown
        assert "jdbc:x://h:1/d;" in shown


def test_a_value_inside_a_quoted_one_ends_nothing() -> None:
    for text in (f'password="a token=b {SECRET}" next', f"('password', 'a pwd=b {SECRET}') next"):
        for redact in (redacted, redacted_sql):
            assert SECRET not in redact(text)
            assert redact(text).endswith(" next")


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
        "uses: actions/checkout@v4",
        "select a.token t1_alias, b.secret s2 from a join b on a.id = b.id",
        "select map('token', a.b) as m, get_json_object(x, '$.token') as t from a",
        "select 1 -- on a.token = b.token\nfrom a",
        "select decode(a, 'UTF-8'), aes_decrypt(a, b, 'GCM') from t",
        "select password, token from t order by token desc limit 100",
        "mismatched token 'from' at line 3 near token 'x1'",
        "the token expired 2024-11-21T10:00:00Z",
        "the password is wrong; the token is not valid; API key required",
        "token type2_x of lexer; password field_2 is empty",
        "https://example.com/webhooks/intro",
        "mysql -h h -P 3306 -u me shop; docker run -p 8080:80 web",
        "enclave: 5; passage: 7; mot: x",
        "10:30@noon, 10.0.0.5:5432/x, a:b/c",
        '{"name": "key", "value": "12"}',
        "<name>pumps</name><value>7</value>",
        "select o.id, o.value from otp_events o join base b on b.value = o.value where sess_id_count > 3",
        "código de acceso no válido; parole chiave: pompe; mot-clé: pompe2; frase: la pompa 12 è guasta",
        "codice di accesso non valido; Password errata; la contraseña incorrecta; mot de passe incorrect",
        "password expired on 2024-01-02; the token expired in 300s; token expired 12 minutes ago",
        'auth: basic; "auth": "oauth2"; "auth": {"type": "x"}; net use of 45kWh in 2024',
        "copied host1:/data/in to me@host2:/data/out; dbuser: me; bypass: 1; the secret string is empty",
    ],
)
def test_ordinary_text_stays(text: str) -> None:
    for redact in (redacted, redacted_sql, redacted_name):
        assert redact(text) == text


@pytest.mark.parametrize(
    "sql",
    [
        "select concat('password=', p) as x from t where y = 'z'",
        "select split(url, 'token=')[1] as c, regexp_extract(url, 'sig=(.*)&') as d from t",
        "select * from t where name in ('token', 'name') and url like '%password=%'",
        "select * from cdf_nodes('token', 'PumpView', 'v1')",
        "select if(token = '', null, token) as token from t where password <> ''",
        "select concat('a', x, ' token ') as y, 'EUR' as currency from t",
        "select 'password' as kind, t.key, t.`key`, 'key' key from t where key = 'externalId1'",
        'select a secret "s1", b token "t2" from t',
    ],
)
def test_literals_that_speak_of_secrets_stay(sql: str) -> None:
    assert redacted_sql(sql) == sql


@pytest.mark.parametrize(
    ("sql", "shown"),
    [
        ("insert into t(user, password) values ('a', 'PW')", "insert into t(user, password) values ('a', '***')"),
        (
            "INSERT INTO s.t (`user`, `password`, n) VALUES ('a', 'P''W', 'x'), ('b', md5('PW'), 'y'); select 'c'",
            "INSERT INTO s.t (`user`, `password`, n) VALUES ('a', '***', 'x'), ('b', md5('***'), 'y'); select 'c'",
        ),
        ("insert into t (n, api_key) values (f('x', 'y'), 'PW')", "insert into t (n, api_key) values (f('x', 'y'), '***')"),
        ("insert into t (a, pwd) -- so\n values ('a', 'PW')", "insert into t (a, pwd) -- so\n values ('a', '***')"),
        ("insert into t (a, -- who's, (me)\n pwd /* it's; x */) values ('a', 'PW')", "insert into t (a, -- who's, (me)\n pwd /* it's; x */) values ('a', '***')"),
        ("insert into t(a, pwd)\\nvalues (1, 'PW'),\\n(3, 'PW')", "insert into t(a, pwd)\\nvalues (1, '***'),\\n(3, '***')"),
        ("insert into t(pwd) values ('PW' /* 'c' */), ('PW", "insert into t(pwd) values ('***' /* 'c' */), ('***'"),
        ("insert into [d].[t] ([user],[password]) values (N'a', N'PW')", "insert into [d].[t] ([user],[password]) values (N'a', N'***')"),
        ('insert or ignore into "t"("password") values (\'PW\')', 'insert or ignore into "t"("password") values (\'***\')'),
        ("insert into t partition (d='1') (a, pwd) values ('a', 'PW')", "insert into t partition (d='1') (a, pwd) values ('a', '***')"),
        ("when not matched then insert (a, pwd) values ('a', 'PW')", "when not matched then insert (a, pwd) values ('a', '***')"),
        ("insert into t(pwd) values ('PW') returning f('c')", "insert into t(pwd) values ('***') returning f('c')"),
        ("insert into t(pwd) values ('PW') `a` ('c')", "insert into t(pwd) values ('***') `a` ('c')"),
        ("insert into a(pwd) values (f(); insert into b(n, pwd) values ('x', 'PW')", "insert into a(pwd) values (f(); insert into b(n, pwd) values ('x', '***')"),
    ],
)  # fmt: skip
def test_what_is_inserted_into_a_column_for_secrets_is_hidden(sql: str, shown: str) -> None:
    assert redacted_sql(sql) == shown
    assert "PW" not in redacted(f"error near {sql}")


@pytest.mark.parametrize(
    "sql",
    [
        "insert into t(user_id, token_count, n) values ('a', 'b', 'c')",
        "insert into t(password, n) select a, 'keep' from t where n = 'x'",
        "insert into t(n) values ('password', 'x')",
    ],
)
def test_what_is_inserted_elsewhere_stays(sql: str) -> None:
    assert redacted_sql(sql) == sql


def test_of_the_keys_of_ciphers_only_those_inside_the_call_are_hidden() -> None:
    sql = "select aes_encrypt(f(a), '{}', 'GCM'), concat('units', b) from t"
    assert redacted_sql(sql.format("Zq7")) == sql.format("***")
    assert redacted_sql("select aes_encrypt(a, 'Zq7'\"xK2\")") == "select aes_encrypt(a, '***''***')", (
        "one behind the other"
    )


def test_a_literal_that_is_cut_off_shows_nothing_of_its_secret() -> None:
    assert redacted_sql(f"select 'password={MADE_UP}!") == "select 'password=***"


def test_a_letter_that_gets_longer_in_lower_case_moves_no_secret() -> None:
    assert redacted(f"İzmir, İstanbul: the PASSWORD is {MADE_UP}!") == "İzmir, İstanbul: the PASSWORD is ***"


def test_sql_loses_literals_and_keeps_its_joins() -> None:
    assert redacted_sql("select 1 from a join b on a.token = b.token") == "select 1 from a join b on a.token = b.token"
    assert SECRET not in redacted_sql(f"select 1 where password = '{SECRET}' or Token=\"{SECRET}\"")
    assert SECRET not in redacted_sql(f"-- https://me:{SECRET}@host/\nselect 1")


def test_no_query_of_the_corpus_and_few_lines_of_the_docs_change() -> None:
    queries = [case["sql"] for file in CORPUS.glob("*.yaml") for case in yaml.safe_load(file.read_text())]
    assert len(queries) > 100
    assert [sql for sql in queries if redacted_sql(sql) != sql] == []
    lines = [line for sql in queries for line in sql.splitlines()]
    assert [line for line in lines if redacted(line) != line or redacted_name(line) != line] == []
    texts = [line for file in (ROOT / "docs").rglob("*.md") for line in file.read_text().splitlines()]
    changed = [line for line in texts if redacted(line) != line and not _SHOWS_A_SECRET.search(line)]
    assert len(texts) > 500
    false_alarms = ("replace the token: a file", "automountServiceAccountToken: false")
    assert [line for line in changed if not any(alarm in line for alarm in false_alarms)] == []


def test_a_cut_is_marked_and_inside_the_limit() -> None:
    cut = capped("x" * 1000, 100)
    assert len(cut) == 100
    assert cut.endswith("[cut, 1000 characters in all]")
    assert capped("short", 100) == "short"


def test_a_bare_url_has_no_user_query_or_fragment() -> None:
    assert bare_url("https://u:p@[2001:db8::1]:8443/a?b=c") == "https://[2001:db8::1]:8443/a"
    assert bare_url("https://[::1]/a") == "https://[::1]/a"
    assert bare_url("https://u:p@files.example.com:8443/a/b.csv?X-Sig=1#x") == "https://files.example.com:8443/a/b.csv"


def test_a_secret_learned_later_is_hidden_in_a_text_that_was_looked_at_before() -> None:
    text, sql = "the pump of plant north-seventeen stands", "select 'north-seventeen' as plant"
    assert (redacted(text), redacted_sql(sql)) == (text, sql)
    secret_registry.learn("a sink", "north-seventeen")
    assert "north-seventeen" not in redacted(text) + redacted_sql(sql)
    secret_registry.forget_all()
    assert (redacted(text), redacted_sql(sql)) == (text, sql)


def test_names_that_differ_in_what_is_hidden_differ_by_four_digits() -> None:
    one, other = (redacted_name(f"https://x/y?sig={each}{'0f' * 20}") for each in "ab")
    assert one != other
    assert re.fullmatch(r"[^~]*\*\*\*[^~]*~[0-9a-f]{4}", one), one


def test_the_shortest_token_that_is_known_by_its_form_is_hidden() -> None:
    assert redacted("deployed with shpat_a1b2c3d4 today") == "deployed with *** today"


def test_a_registered_word_stays_in_names_and_nowhere_else() -> None:
    secret_registry.learn("a sink", "seventeen")
    assert redacted_name("pumps of seventeen") == "pumps of seventeen"
    assert redacted("pumps of seventeen") == "pumps of ***"


def test_the_checksum_of_a_name_stays_the_same_for_ever() -> None:
    """It is a part of the names that backends have stored."""
    assert redacted_name(f"daily password={SECRET}") == "daily password=***~6eed"


def test_the_head_of_a_token_is_hidden_as_soon_as_it_has_the_length_of_one() -> None:
    assert (redacted("eyJhbGciOiJIU"), redacted("eyJhbGciOiJIUz")) == ("eyJhbGciOiJIU", "***")
