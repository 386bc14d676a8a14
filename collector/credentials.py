"""Patterns of credentials in foreign texts that are called so: their names, and values behind them. `collector.redaction`
applies them; those known by their form are in `collector.known_credentials`.

All patterns are linear in the length of the text, for a query may have a megabyte: what is repeated is possessive (`++`) or
bounded.
"""

import re
from collections.abc import Callable
from functools import cache


def late(pattern: str, flags: int = 0) -> Callable[[], re.Pattern[str]]:
    """Compiled when first asked for: the long ones would take 70 ms of each start, and few texts need them."""
    return cache(lambda: re.compile(pattern, flags))


def _words(listed: str) -> tuple[str, ...]:
    return tuple(listed.split("|"))


# --- names ---

PASSWORDS = (
    r"pass(?:word|wd|phrase|code|wort|ord)|kennwort|losungswort|zugangscode|adgangskode|kodeord|l(?:ö|o\u0308?|oe)senord|wachtwoord|salasana|lozinka"
    r"|contrase(?:ñ|ny|n|n\u0303|\\{1,16}u00f1|%c3%b1|&ntilde;|Ã±)a|mot[-_ ]?de[-_ ]?passe|palavra[-_ ]passe|has(?:ł|l|\\{1,16}u0142)o"
    r"|jelsz(?:ó|o)|slapta(?:ž|z)odis|парол[ьяі]|密码|密碼|口令|パスワード|비밀번호|mật khẩu|kata sandi"
)
_SECRETS = (
    r"secret(?:[-_]?key[-_]?base|[-_]?(?:string|binary|value))?|geheimnis|secreto|segredo|segreto|hemlighet|hemmelighet"
    r"|(?:token|jeton)(?: d['’]acc(?:è|e)s| de acceso| de acesso| di accesso)?"  # noqa: RUF001 # as French writes
    r"|credential|credencial|credenzial[ei]|c(?:ó|o)digo de acc?eso|codice di accesso|code d['’]acc(?:è|e)s"  # noqa: RUF001 # as above
    r"|(?:phrase|frase) secr(?:è|e)t[ea]|frase segreta|parola d['’]ordine"  # noqa: RUF001 # as above
)
KEY_WORDS = _words(
    "access|account|api|app|application|auth|client|connection|consumer|decryption|encryption|deploy|functions|"
    "hmac|instrumentation|integration|license|master|private|routing|secret|service|session|shared|signing|ssh|"
    "storage|subscription|symmetric"
)
_KEYS = (
    rf"(?:{'|'.join(KEY_WORDS)})[-_. ]?key"
    r"|(?:api-?|zugriffs|zugangs|konto|geheim|geheimer |privater )schl(?:ü|ue|u\u0308)ssel"
    r"|(?:api-?|(?:å|a)tkomst|tilgangs|hemlig |hemmelig )n(?:yckel|(?:ø|o)kkel|(?:ø|o)gle)|(?:toegangs|api-?|geheime )sleutel"
    r"|cl(?:é|e|e\u0301)s?[-_ ](?:d['’]acc(?:è|e)s|d['’]api|api|secr(?:è|e)te|priv(?:é|e)e)"  # noqa: RUF001 # as French writes
    r"|clave[-_ ](?:de[-_ ]acceso|de[-_ ]api|api|secreta|privada)|llave[-_ ](?:secreta|privada)"
    r"|chiave[-_ ](?:di[-_ ]accesso|api|segreta|privata)|chave[-_ ](?:de[-_ ]acesso|d[ae][-_ ]api|api|secreta|privada)"
    r"|klucz[-_ ](?:api|dost(?:ę|e)pu|prywatny|tajny)|tajny klucz"
)
_OTHERS = r"authorization|signature|assertion|sess(?:ion)?[-_]?id|cookie"
_SHORT = "(?:db|bind|root|user|admin|ldap|smtp|ftp|sql|svc)?(?:pass|pwd|pw)|psw|pswd|mdp|sas|sig|t?otp|creds"
_WHOLE_WORDS = "clave|senha|heslo|geslo|geheim|parola|parool|(?:ş|s)ifre"
NAME_ENDS = (
    rf"(?:(?i:{PASSWORDS}|{_SECRETS}|{_KEYS}|{_OTHERS})"
    # short ones only as separate words: Kansas, compass and enclave are not secrets
    rf"|(?<![^\W\d_])(?i:{_SHORT}|{_WHOLE_WORDS})|(?<=[a-z])(?:Pass|Pwd|Pw|Sas|Sig))"
)
"""How the name of a secret value ends."""
NAME = late(rf"(?:{NAME_ENDS}|(?i:(?:{'|'.join(KEY_WORDS)})[-_. ]?key\.[\w.-]{{1,200}}))\Z")
LAST_LETTERS = _words(
    "password|passwd|passphrase|passcode|passwort|passord|kennwort|adgangskode|kodeord|losungswort|zugangscode|"
    "base|string|binary|value|sessid|sess-id|sess_id|otp|creds|credencial|credenziale|credenziali|eta|ordine|tajny|"
    "senord|wachtwoord|salasana|lozinka|ña|\u0303a|nya|contrasena|u00f1a|%c3%b1a|tilde;a|ã±a|passe|hasło|haslo|"
    "u0142o|jelszó|jelszo|odis|пароль|пароля|паролі|密码|密碼|口令|パスワード|비밀번호|khẩu|sandi|secret|geheimnis|secreto|"
    "segredo|segreto|het|token|jeton|credential|key|ssel|nyckel|kkel|gle|sleutel|accès|acces|api|te|ée|ee|acceso|"
    "privada|accesso|segreta|privata|acesso|secreta|dostępu|dostepu|prywatny|klucz|authorization|signature|"
    "assertion|sessionid|session-id|session_id|cookie|pass|pwd|pw|psw|pswd|mdp|sas|sig|clave|senha|heslo|geslo|"
    "geheim|parola|parool|ifre"
)
"""Every text that `NAME` fits ends so in lower case, or has `key.` in it; looking at this is much cheaper."""
NAME_SIGNS = _words(
    "pass|pw|secret|token|credential|authorization|sig|assertion|sess|cookie|sas|losungs|zugangscode|otp|creds|"
    "credencial|credenzial|digo de acc|codice di acc|code d|ase s|identified|psw|mdp|kennwort|adgangskode|kodeord|"
    "senord|wachtwoord|salasana|lozinka|contrase|haslo|hasło|u0142o|jelsz|slapta|парол|密|口令|パスワード|비밀번호|mật|sandi|"
    "geheim|segre|heml|hemm|jeton|schl|nyckel|kkel|nogle|nøgle|sleutel|clé|cle\u0301|cle |cles |clave|llave|chiave|"
    "chave|klucz|senha|heslo|geslo|paro|ifre"
)
"""One of these is in every text with a name, unless it is the name of a key."""
LONGEST_NAME = 256
BEFORE_NAME = 24
"""So much before its last word can belong to a name, such as `mot de passe`."""

# --- values ---

QUOTE = r"(?:\\{0,16}[\"']|&(?:quot|apos|#0?3[49]|#x2[27]);)"
QUOTED = (
    r"(?:(?:(?-i:[bBuUrRNE@$]{1,2})(?=[\"']))?"
    r"(?:\\{1,16}\"[^\"]*+(?:\"|\Z)|\\{1,16}'[^']*+(?:'|\Z)"
    r"|''[^'\s,;)][^']*+''|\"\"[^\"\s,;)][^\"]*+\"\""
    r"|\"(?:[^\"\\]++|\\.)*+(?:\"|\Z)|'(?:[^'\\]++|\\.|'')*+(?:'|\Z))"
    r"|&(?:quot|apos|#0?3[49]|#x2[27]);[^\"'<>&]*+(?:&(?!quot|apos|#0?3[49]|#x2[27])[^\"'<>&]*+)*+(?:&(?:quot|apos|#\w++);|\Z)"
    r"|[„“”][^“”\"\n]{1,256}[“”\"]|[«»][^«»\n]{1,256}[«»]|[‚‘’][^‘’\n]{1,256}[‘’])"  # noqa: RUF001 # as people quote
)
_BARE = r"[^\s,;&\"')}\]]"
_SAME_COLUMN = r"(?![\w`]{1,64}\.[\w`]{0,64}(?i:password|secret|token|key|credential|signature|sig|pwd|pass)\b)"
_BRACED = r"\{(?!\s*+[\\\"'{}])[^{}\n]{1,256}\}"
_BLOCK = r"[|>][+-]?[ \t]*+\r?\n[ \t]++[^\n]++"
_HIDDEN = r"\*\*\*(?!\w)"
VALUE = re.compile(rf"{_HIDDEN}|{QUOTED}|{_BRACED}|{_BLOCK}|{_SAME_COLUMN}{_BARE}++", re.DOTALL)
_MADE_UP = rf"(?=[^\s,;&\"')}}\]`]{{0,64}}\d){_BARE}{{8,}}+"
SQL_VALUE = re.compile(
    # not a join or a call; text inside a literal must look generated
    rf"{_HIDDEN}|{QUOTED}|{_BRACED}|(?!\d+\b|[A-Za-z_]\w{{0,128}}(?:\(|\.[A-Za-z_`])){_MADE_UP}",
    re.DOTALL,
)
LITERALS_VALUE = re.compile(rf"''[^']++(?:''|\Z)|{SQL_VALUE.pattern}", re.DOTALL)
QUERY_VALUE = re.compile(rf"{_HIDDEN}|{QUOTED}|{_BRACED}|{_BARE}++", re.DOTALL)
CONTENT = re.compile(r"[^<]++")
"""The content of an element of XML."""
SQL_TOKENS = re.compile(
    r"'(?:[^'\\]++|\\.|'')*+(?:'|\Z)|\"(?:[^\"\\]++|\\.|\"\")*+(?:\"|\Z)|`[^`]*+(?:`|\Z)"
    r"|--[^\n]*+|/\*(?!\+).*?(?:\*/|\Z)",
    re.DOTALL,
)
"""Literals, names in quotes, comments (but hints)."""

_GAP = r"(?:\s|\\[nrt])"
INSERTED = re.compile(
    rf"\binsert{_GAP}{{1,8}}(?:(?:or{_GAP}{{1,8}}\w{{1,20}}{_GAP}{{1,8}})?(?:into|overwrite){_GAP}{{1,8}}(?:table{_GAP}{{1,8}})?"
    rf"[^\s();,']{{1,400}}{_GAP}{{0,40}}(?:partition{_GAP}{{0,8}}\([^()]{{1,400}}\){_GAP}{{0,8}})?)?"
    r"\((?P<columns>(?:[^()';/-]|--[^\n]{0,400}+|/\*.{0,400}?\*/|[/-]){1,8000}+)\)"
    rf"{_GAP}{{0,40}}(?:--[^\n]{{0,200}}{_GAP}{{1,40}})?values?\b",
    re.IGNORECASE | re.DOTALL,
)
"""`insert into t (user, password) values`."""
GAP = re.compile(f"{_GAP}*")
"""Blanks, also as JSON writes them."""
TUPLES_TOKENS = re.compile(rf"{SQL_TOKENS.pattern}|[(),;]", SQL_TOKENS.flags)

# --- where a value begins ---

_SEPARATOR = (
    rf"(?:{QUOTE}|[\]`]){{0,2}}\s*+"
    r"(?:=>|<>|[:=：＝]|!=|%3[AaDd]|\\{1,16}u(?:003|ff1)[AaDd]|&#(?:61|58|[xX]3[aAdD]);)\s*+"  # noqa: RUF001 # of texts in CJK
    # the call stays, so that SQL does
    r"(?:\w{0,32}[(\[]\s*+(?=\\{0,16}[\"']|\*\*\*))?"
)
ASSIGNED = re.compile(rf"(?<![\w.-])([\w.-]++){_SEPARATOR}")
ASSIGNED_ESCAPED = re.compile(
    rf"(?<![\w.-])((?:[\w.-]|\\{{1,16}}u(?!00[0-7]|ff|FF)[0-9A-Fa-f]{{4}}){{1,64}}+){_SEPARATOR}"
)
ESCAPE = re.compile(r"\\{1,16}u([0-9A-Fa-f]{4})")
"""`password=`; the group is the last word of the name."""
_FIELDS = "name|key|field|property|param(?:eter)?|option|variable|header|attribute|setting|id|k"
_VALUES = "value|val|default|string|v"
SECRET_NAME = rf"[\w .$:/-]{{0,64}}?{NAME_ENDS}"
PAIRED = late(
    rf"\b(?i:{_FIELDS}){QUOTE}?\s*+[=:]\s*+{QUOTE}?{SECRET_NAME}(?:{QUOTE}|(?=\s|\\{{1,16}}[nrt]))"
    rf"(?:[^{{}}<>]{{0,200}}?(?:[\s,;{{]|\\{{1,16}}[nrt]){QUOTE}?)?(?i:{_VALUES}){QUOTE}?\s*+[=:]\s*+"
    rf"|<(?i:{_FIELDS})>\s*+{SECRET_NAME}\s*+</(?i:{_FIELDS})>\s*+<(?i:{_VALUES})>(?=[^<])"
)
"""`"name": "password", "value": `, also in XML."""
TUPLED = late(rf"[(\[]\s*+[bu]?{QUOTE}{SECRET_NAME}{QUOTE}\s*+,\s*+(?={QUOTED})")
"""`("password", `."""
LISTED = re.compile(rf"[(,]\s*+(?:[\"']([\w .$:/-]{{1,64}})[\"']|`([\w .$:/-]{{1,64}})`)\s++(?={QUOTED})")
"""`("user" "me", "password" "x")`, as SQL lists options."""
CALLED = re.compile(r"\s++(?:as\s++)?[\"'`]?([\w.-]++)", re.IGNORECASE)
"""`as password` behind a literal; the group is the last word of the name."""
PAIRED_BACKWARDS = late(
    rf"\b(?i:{_VALUES}){QUOTE}?\s*+[=:]\s*+(?P<value>{QUOTE}[^\"'<>&\n]{{1,256}}{QUOTE})"
    rf"[^{{}}<>\n]{{0,200}}?[\s,;]{QUOTE}?(?i:{_FIELDS}){QUOTE}?\s*+[=:]\s*+{QUOTE}{SECRET_NAME}{QUOTE}"
)
PAIR_SIGNS = ("val", "default", "<string>", '"v"', "'v'", " v=")
SAID = late(
    rf"(?:identified\s++by|{PASSWORDS}|(?<![^\W\d_])pwd?)(?:\s++|\s*+\(\s*+)(?:is|was|ist|lautet|es|est|è|é|=|:)?\s*+"
    rf"(?={QUOTED})",
    re.IGNORECASE,
)
"""`password 'x'`, `PASSWORD('x')`."""
TOKEN_SAID = re.compile(
    rf"(?<![\w.])(?:secret|token|(?:api|access)[-_ ]?key|pass|passcode)\s++(?=(?P<single>'[^']{{4,512}})|{QUOTED})",
    re.IGNORECASE,
)
"""`secret 'x'`. In SQL what stands in double quotes may be the column's new name."""
_JOINTS = (
    "provided|given|used|supplied|entered|received|sent|value|is|was|ist|lautet|war|es|era|est|était|è|é|foi|jest|er|är"
    "|on|to|the|this|invalid|wrong|incorrect|bad|now|expired|falsch|falsches|ungültig|abgelaufen|incorrect[aeo]|incorreta|invalide"
    "|inv[aá]lid[ao]|errat[ao]|sbagliat[ao]|scadut[ao]|err[oó]ne[ao]|caducad[ao]|expirad[ao]|expiré"
)
PROSE = late(
    rf"(?:(?<![\w-])|(?<=api-)|(?<=auth-)|(?<=access-))(?:(?:{PASSWORDS}|{_KEYS}|token|jeton|clave|senha|heslo|parola)(?:[ \t]++(?:{_JOINTS})\b){{0,3}}"
    rf"|secret(?:[ \t]++(?:{_JOINTS})\b){{1,3}})(?:[ \t]?:)?[ \t]++[\[(<`]?"
    # looks made up: letters and digits, but no call, path, file or name of a column
    r"(?=[^\s]{0,64}\d)(?=[^\s]{0,64}[a-z])(?![a-z0-9_]{1,64}(?:[_(/]|\\(?![\\\"'nrt])|[.:][a-z0-9_])|\d{1,4}[-:/.]\d|[/~.]|\w+://)",
    re.IGNORECASE,
)
"""`the password is x1y2z3`, `token x1y2z3 expired`."""
SAID_SIGNS = _words(
    "identified|pass|kennwort|adgangskode|kodeord|lösenord|losenord|loesenord|wachtwoord|salasana|lozinka|contrase|"
    "mot|palavra|hasło|haslo|jelsz|slapta|парол|密|口令|パスワード|비밀번호|mật khẩu|kata sandi|pw|secret|token|jeton|clave|"
    "senha|heslo|parola|zugriffsschl|zugangsschl|kontoschl|geheim|privater schl|hemlig|hemmelig|toegangssleutel|"
    "clé|cle|llave|chiave|chave|klucz|tajny"
)
"""What is said begins with one of these, or with one of `KEY_WORDS` where `key` or one of `KEY_SIGNS` is in the text."""
KEY_SIGNS = ("schl", "nyckel", "kkel", "gle", "sleutel")
PROSE_VALUE = re.compile(r"(?:[^\s,;\"'<>()\[\]{}`\\]|\\(?![\\\"'])){6,256}+")
PARSERS_WORDS = ("unexpected ", "extraneous ", "missing ", "illegal ", "near ", "mismatched ")
"""`unexpected token: FROM` is an error about SQL."""
CIPHERS = re.compile(
    r"\b(?:try_)?(?:aes_(?:de|en)crypt|(?:en|de)crypt(?:_raw|byphrase|bypassphrase)?|pgp_sym_(?:en|de)crypt|des_(?:en|de)crypt"
    r"|hmac\w*|openrowset)\s*+\(",
    re.IGNORECASE,
)
"""Functions of SQL whose literals are keys."""
CIPHER_SIGNS = ("crypt", "hmac", "openrowset")
LONG_WORD = 14
LONGEST_CALL = 1000
CALLS_TOKENS = re.compile(r"[()]|'(?:[^'\\]|\\.|''){0,512}'|\"(?:[^\"\\]|\\.){0,512}\"", re.DOTALL)
MODES = re.compile(
    r"\W?(?:gcm|ecb|cbc|pkcs|none|default|aes|utf-?8|hex|base64|sha\d*|md5|sqlncli\w*|msoledbsql|)\W?", re.IGNORECASE
)
