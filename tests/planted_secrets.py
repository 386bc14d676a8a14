"""Secrets planted into every text that a vendor can fill: a simulator whose answers hold them, and what to look for."""

import re
from base64 import b64encode
from collections import defaultdict
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from datetime import datetime
from hashlib import sha256
from typing import Any
from urllib.parse import quote
from zlib import crc32

import orjson
from aiohttp import web

from simulators.server import Simulator

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]

SHAPES = (
    # addresses
    "https://bob:{}@files.example.test/x.csv",
    "https://files.example.test/x.csv?X-Amz-Signature={}&X-Amz-Expires=60",
    "https://a.blob.example.test/c/x.csv?sv=2024&se=2026-11-21&sig={}&sp=r",
    "https://files.example.test/x.csv?X-Goog-Credential=me&X-Goog-Signature={}",
    "https://api.example.test/v1?access_token={}#top",
    "https://files.example.test/x.csv?signature={}&expires=1",
    "see https://hooks.example.test/services/x?code={}&token={}",
    "postgres://me:{}@db.example.test:5432/x",
    "mongodb+srv://me:{}@cluster.example.test/",
    "amqps://me:{}@mq.example.test",
    "snowflake://me:{}@account.example.test/db/schema",
    "redis://:{}@cache.example.test:6379/0",
    # connect strings
    "jdbc:postgresql://db.example.test/x?user=me&password={}",
    "jdbc:sqlserver://h:1433;databaseName=d;user=sa;password={}",
    "jdbc:oracle:thin:scott/{}@//h:1521/S",
    "Server=tcp:h.example.test;Database=d;User ID=me;Password={};Encrypt=True",
    "Data Source=h;Initial Catalog=d;Uid=me;Pwd={};",
    "DefaultEndpointsProtocol=https;AccountName=a;AccountKey={};EndpointSuffix=core.windows.net",
    "Endpoint=sb://h.example.test/;SharedAccessKeyName=k;SharedAccessKey={}",
    "BlobEndpoint=https://a.example.test/;SharedAccessSignature=sv=2024&sig={}",
    # keys and values
    "failed with password={} at row 7",
    "PASSWORD : '{}'",
    '{{"client_secret": "{}"}}',
    '{{"refresh_token":"{}","scope":"all"}}',
    "{{'api_key': '{}'}}",
    "apikey: {}",
    "X-Api-Key: {}",
    "aws_secret_access_key = {}",
    "spark.hadoop.fs.azure.account.key.a.dfs.core.windows.net={}",
    "passphrase={}",
    "dbPwd={}",
    "id_token={}&state=1",
    "PGPASSWORD={} psql",
    "sftp --password {} host",
    "curl -u me:{} https://example.test/",
    "create user me identified by '{}'",
    "options (url 'x', dbtable 'y', password '{}')",
    # headers and tokens
    "Authorization: Bearer {}",
    "Authorization: Token {}",
    "Authorization: Basic bWU6{}",
    "Proxy-Authorization: Basic bWU6{}",
    "Cookie: session={}; theme=dark",
    "sent bearer {} to the API",
    "eyJhbGciOiJIUzI1NiJ9.{}.c2lnbmF0dXJl",
    "-----BEGIN RSA PRIVATE KEY-----\nMIIE{}\n-----END RSA PRIVATE KEY-----",
    '{{"private_key": "-----BEGIN PRIVATE KEY-----\\nMIIE{}\\n-----END PRIVATE KEY-----\\n"}}',
    # keys that are known by how they begin
    "AKIA{}",
    "ghp_{}",
    "glpat-{}",
    "xoxb-1234-{}",
    "sk_live_{}",
    "dapi{}",
    "ya29.{}",
    "AIza{}",
    # names in other languages
    "Passwort={}",
    "Das Kennwort: {}",
    "contraseña: {}",
    "contrasena = '{}'",
    "mot de passe : {}",
    "MotDePasse={}",
    "mdp={}",
    "clé d'API : {}",
    "jeton={}",
    "parola: {}",
    "chiave segreta: {}",
    "senha={}",
    "palavra-passe: {}",
    "chave de acesso: {}",
    "hasło: {}",
    "haslo={}",
    "klucz API: {}",
    "wachtwoord={}",
    "toegangssleutel: {}",
    "passord={}",
    "adgangskode: {}",
    "lösenord={}",
    "salasana={}",
    "heslo: {}",
    "şifre={}",
    "пароль: {}",
    "パスワード\uff1a{}",
    "密码={}",
    "API-Schlüssel: {}",
    "Zugriffsschlüssel={}",
    "clave: {}",
    # names in short, values in braces, brackets, other quotes and calls
    "pw={}",
    "db_pw: {}",
    "password={{a;{}}}",
    'Server=h;Password="a;{}";Database=d',
    "`token` = '{}'",
    "password <> '{}'",
    "{{b'password': b'{}'}}",
    "password=SecretStr('{}')",
    "[password=&quot;{}&quot;]",
    "password&#61;{}",
    "password\\u003d{}",
    '$env:DB_PASSWORD = "{}"',
    # names and values apart
    '{{"name":"password","value":"{}"}}',
    '{{"value": "{}", "name": "db.password"}}',
    '{{"key": "client_secret", "sensitive": true, "value": "{}"}}',
    "{{'name': 'apiToken', 'value': '{}'}}",
    '<add key="password" value="{}"/>',
    '<add value="{}" key="password"/>',
    "<property><name>fs.s3a.secret.key</name><value>{}</value></property>",
    '<entry key="password">{}</entry>',
    '<Password type="text">{}</Password>',
    "<password><![CDATA[{}]]></password>",
    "&lt;password&gt;{}&lt;/password&gt;",
    "('password', '{}')",
    '.option("password", "{}")',
    '["api_key", "{}"]',
    # connect strings and addresses of drivers
    "scott/{}@ORCL",
    "scott/{}@db.example.test:1521/S",
    "sqlplus -s scott/{}",
    "u:{}@tcp(h:3306)/db",
    "u:a@{}@tcp(h:3306)/db",
    "admin:{}@10.0.0.5:5432/x",
    "sftp://u:a@{}@h",
    "sftp://u:{}@x@files.example.test/out",
    "postgres:\\/\\/me:{}@h\\/x",
    "postgres%3A%2F%2Fme%3A{}%40h%2Fx",
    "host=h port=5432 user=me password='{}' dbname=x",
    # command lines
    "mysql -u root -p{} shop",
    "mysqldump -h h --password={} shop",
    "sshpass -p {} ssh h",
    "sshpass -p{} ssh h",
    "sqlcmd -S h -U sa -P {}",
    "redis-cli -h h -a {}",
    "docker login -u me -p {} example.test",
    "echo {} | docker login --password-stdin",
    "ldapsearch -D cn=me -w {}",
    "['mysql', '-u', 'root', '-p{}']",
    "['psql', '--password', '{}']",
    "MYSQL_PWD={} mysql",
    "keytool -storepass {} -list",
    "openssl rsa -passin pass:{}",
    "plink -pw {} h",
    "wget --user=me --passwort={} h",
    # SQL
    "create secret (type s3, key_id 'a', secret '{}')",
    "select aes_decrypt(c, '{}') from t",
    "select aes_encrypt(upper(concat(a, b)), '{}', 'GCM') from t",
    "select pgp_sym_decrypt(c, '{}') from t",
    'create table t using jdbc options(pass "{}")',
    "select 1 -- pw: {}",
    "select 1 /* Kennwort: {} */ from t",
    "set password for me = password('{}')",
    "create user me identified by {}",
    "select * from openrowset('SQLNCLI', 'h'; 'sa'; '{}', 'select 1')",
    "credentials=(aws_key_id='a' aws_secret_key='{}')",
    # webhooks and keys that are known by how they begin
    "https://acme.webhook.office.com/webhookb2/1-2@3-4/IncomingWebhook/{}/5-6",
    "https://outlook.office.com/webhook/{}",
    "https://discord.com/api/webhooks/123/{}",
    "https://hooks.slack.com/services/T0/B0/{}",
    "https://hooks.slack.com/workflows/T0/A0/1/{}",
    "https://chat.example.test/hooks/{}",
    "https://api.telegram.org/bot123:{}/sendMessage",
    "https://prod-1.westeurope.logic.azure.com:443/workflows/a/triggers/manual/paths/invoke?sp=x&sig={}",
    "SG.{}",
    "SG.{}.abcdefghijkl",
    "shpat_{}",
    "shpss_{}",
    "whsec_{}",
    "sk_test_{}",
    "github_pat_11AAAAAAA0{}",
    "gldt-{}",
    "xapp-1-{}",
    "npm_{}",
    "pypi-AgEIcHlwaS5vcmc{}",
    "hvs.{}",
    "dop_v1_{}",
    "glsa_{}",
    "ATATT3{}",
    "1//0{}abcd",
    # names in other languages, and of some vendors
    "Losungswort: {}",
    "Zugangscode={}",
    "clave_api={}",
    "código de acceso: {}",
    "token de acceso: {}",
    "frase secreta: {}",
    "credencial: {}",
    "jeton d'accès: {}",
    "phrase secrète={}",
    "parola d'ordine: {}",
    "token di accesso={}",
    "klucz tajny: {}",
    "SECRET_KEY_BASE={}",
    "SecretString: {}",
    "PHPSESSID={}",
    "dbpass={}",
    "ldap.bindpw: {}",
    "totp={}",
    'auths: {{"r.example.test": {{"auth": "bWU6{}=="}}}}',
    r"net use z: \\files\share {} /user:plant\me",
    "sftp me:{}@files.example.test:/in",
    # people
    "{}@acme.example",
    "mailto:{}@acme.example?subject=x",
    "Ann Example <{}@acme.example>",
    "started by user {}.smith@acme.example at noon",
)
"""Each with a place for a secret."""

SENTENCES = (
    "Invalid API key provided: {}",
    "Incorrect API key provided: {}. You can find your key elsewhere",
    "token {} expired",
    "the access token {} has expired",
    "invalid token '{}'",
    "password is {}",
    "The password was {} until yesterday",
    "using password {}",
    "wrong password {} for user me",
    "password [{}] is wrong",
    "Das Passwort ist {}",
    "das Kennwort lautet {}",
    "la contraseña es {}",
    "le mot de passe est {}",
    "a senha é {}",
    "access key {} is not known",
    "client secret is {}",
    "mot de passe «{}»",
    "Passwort „{}“",
    "contraseña incorrecta: {}",
    "mot de passe incorrect : {}",
    "Password errata: {}",
    "Passwort falsch: {}",
    "senha incorreta {}",
    "Api-Token {}",
)
"""Of texts for people and comments in SQL; in SQL itself `token t1` renames a column."""

_ADDRESSES = tuple(number for number, shape in enumerate(SHAPES) if re.match(r"[a-z+]+://", shape))
_KEPT = frozenset(
    [
        *(
            "id",
            "uuid",
            "status",
            "step",
            "automation_id",
            "transformation_id",
            "source_id",
            "access_token",
            "token_type",
        ),
        *(
            "nextCursor",
            "jobType",
            "ranfor",
            "projectUrlName",
            "transformationId",
            "jobId",
            "actions",
            "acl",
            "timestamp",
        ),
        *("count", "type", "destinationType", "kind"),
    ]
)
"""Keys whose values steer the adapter: ids, states and words of enumerations."""
_NAMED_BY_PEOPLE = ("externalId", "transformationExternalId", "workflowExternalId", ".database", ".table")
"""Ids that people choose: the platform is asked by them, so the ledger keeps them, and nothing shows them as they are."""
_TIME = re.compile(r"\d{4}-\d\d-\d\dT.*|\d+")
_IS_ADDRESS = re.compile(r"[a-z0-9+]+://")


def secret(number: int, *, in_id: bool = False) -> str:
    """Letters and digits only, so that no way of writing it down changes it; as long as its shape wants it."""
    text = sha256(f"planted {number} {in_id}".encode()).hexdigest()
    shape = SHAPES[number]
    if shape.startswith("AKIA"):
        return text[:16].upper()
    if shape.startswith("AIza"):
        return text[:35]
    return text[:36] if shape.startswith(("ghp_", "dapi")) else f"{text[:7]}{number:02d}{text[9:16]}"


@dataclass
class PlantedSecrets:
    """Which secret grows where follows from the field and `variant`, so that a field says the same at each poll. `ours` are
    the program's own: error messages repeat them in all their `ways`.
    """

    variant: int
    ours: tuple[str, ...] = ()
    planted: dict[tuple[int, bool], set[str]] = field(default_factory=lambda: defaultdict(set))
    repeated: set[str] = field(default_factory=set)
    turns: dict[tuple[int, ...], dict[str, int]] = field(default_factory=dict)

    def text(self, genuine: str | None, place: str) -> str:
        """A text with a secret; an address stays one."""
        among: tuple[int, ...] = tuple(range(len(SHAPES)))
        if genuine is not None and _IS_ADDRESS.match(genuine):
            among = _ADDRESSES
        number = among[(self._turn(place, among) + self.variant) % len(among)]
        in_id = place.endswith(_NAMED_BY_PEOPLE)
        self.planted[number, in_id].add(place)
        with_secrets = SHAPES[number].replace("{}", secret(number, in_id=in_id)).replace("{{", "{").replace("}}", "}")
        if genuine is None or among is _ADDRESSES:
            return with_secrets
        return f"{genuine} {with_secrets}"

    def _turn(self, place: str, among: tuple[int, ...]) -> int:
        """Each new place gets the next shape, so that every shape is planted, and keeps it."""
        turns = self.turns.setdefault(among, {})
        return turns.setdefault(place, len(turns))

    def with_secrets(self, value: Any, place: str) -> Any:
        """The JSON value with a secret in each text, and in place of each null."""
        if isinstance(value, dict):
            kept = {
                key: each if _is_kept(key, each) else self.with_secrets(each, f"{place}.{key}")
                for key, each in value.items()
            }
            return kept | {"remark": self.text(None, f"{place}.remark")} if value else value
        if isinstance(value, list):
            return [self.with_secrets(each, f"{place}[]") for each in value]
        return self.text(value, place) if value is None or isinstance(value, str) else value

    def repeating(self, value: Any, place: str) -> Any:
        """`with_secrets`, with one of our own secrets in each text."""
        if isinstance(value, dict):
            return {key: self.repeating(each, f"{place}.{key}") for key, each in value.items()}
        if not isinstance(value, str):
            return value
        turn = crc32(place.encode()) + self.variant
        written = ways(self.ours[turn % len(self.ours)])
        self.repeated.add(way := written[turn // len(self.ours) % len(written)])
        return self.text(f"{value} got {way} and", place)

    def found(self, text: str, *, in_ids: bool = True) -> dict[str, list[str]]:
        """The shapes of planted secrets that stand in a text, with where they were planted; and our own."""
        lowered = text.lower()
        leaks = [
            (number, in_id)
            for number, in_id in self.planted
            if (in_ids or not in_id) and secret(number, in_id=in_id).lower() in lowered
        ]
        places = {SHAPES[number]: sorted(self.planted[number, in_id])[:12] for number, in_id in leaks}
        of_us = [way for ours in self.ours for way in ways(ours) if way.lower() in lowered]
        return places | ({"ours": of_us} if of_us else {})


def ways(ours: str) -> tuple[str, ...]:
    """How others repeat a secret that they were sent."""
    basic = b64encode(f"me:{ours}".encode()).decode()
    return ours, quote(ours, safe=""), ours.upper(), orjson.dumps(ours).decode()[1:-1], f"Basic {basic}"


def _is_kept(key: str, value: Any) -> bool:
    if isinstance(value, str) and _TIME.fullmatch(value):
        return True
    if value is None and key.lower().endswith(("time", "at", "_at", "date")):
        return True
    return key in _KEPT and not isinstance(value, dict | list)


class LeakySimulator:
    """A simulator in whose answers the secrets of a secrets stand; `untouched` are paths whose answers stay as they are."""

    def __init__(self, name: str, simulator: Simulator, secrets: PlantedSecrets, untouched: str = r"$^") -> None:
        self.faults = simulator.faults
        self._name, self._simulator, self._garden, self._barren = name, simulator, secrets, re.compile(untouched)

    def routes(self) -> list[web.RouteDef]:
        return [
            web.RouteDef(route.method, route.path, self._planting(route.handler), route.kwargs)
            for route in self._simulator.routes()
        ]

    def control_routes(self) -> list[web.RouteDef]:
        return self._simulator.control_routes()

    def error_body(self, status: int) -> Any:
        return self._garden.repeating(self._simulator.error_body(status), f"{self._name} {status}")

    def now(self) -> datetime:
        return self._simulator.now()

    def expected_runs(self) -> list[dict[str, Any]]:
        return self._simulator.expected_runs()

    def _planting(self, handler: Any) -> Handler:
        async def planted(request: web.Request) -> web.StreamResponse:
            answer: web.StreamResponse = await handler(request)
            path = re.sub(r"[0-9a-f]{8}-[0-9a-f-]{27}|\b\d+\b", "*", request.path)
            if not isinstance(answer, web.Response) or not answer.body or self._barren.search(path):
                return answer
            try:
                value = orjson.loads(answer.body)  # type: ignore[arg-type] # bytes, as simulators answer
            except ValueError:
                return answer
            body = orjson.dumps(self._garden.with_secrets(value, f"{self._name} {path}"))
            kept = {key: text for key, text in answer.headers.items() if key.lower() != "content-length"}
            return web.Response(status=answer.status, body=body, headers=kept)

        return planted
