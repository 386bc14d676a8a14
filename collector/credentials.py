"""Patterns of credentials in foreign texts; `collector.redaction` applies them.

detect-secrets was tried instead: it found none of the vendors' forms below without its entropy detectors, which take most SQL
for secrets; it reports lines and not the text to replace, at 12 ms a kilobyte (these: 0.5 ms), with 20 MiB and `requests`.

All patterns are linear in the length of the text, for a query may have a megabyte: what is repeated is possessive (`++`) or
bounded.
"""

import re
from collections.abc import Callable
from dataclasses import dataclass
from hashlib import sha256

from collector.secret_registry import HIDDEN

Replacement = str | Callable[[re.Match[str]], str]


@dataclass(frozen=True, slots=True)
class Rule:
    """One of `needs` and one of `signs` is in every text, in lower case, that the pattern fits; looking for them is much
    cheaper. With `in_words` the pattern fits only inside of long words.
    """

    signs: tuple[str, ...]
    pattern: re.Pattern[str]
    replacement: Replacement
    needs: tuple[str, ...] = ("",)
    in_words: bool = False


def _rule(
    signs: str,
    pattern: str,
    replacement: Replacement = HIDDEN,
    flags: re.RegexFlag = re.IGNORECASE,
    *,
    needs: str = "",
    in_words: bool = False,
) -> Rule:
    return Rule(tuple(signs.split()), re.compile(pattern, flags), replacement, tuple(needs.split()) or ("",), in_words)


def _person(found: re.Match[str]) -> str:
    """A digest of the address, so that two people stay distinguishable."""
    return f"user-{sha256(found[0].lower().encode()).hexdigest()[:8]}"


def _words(listed: str) -> tuple[str, ...]:
    return tuple(listed.split("|"))


# --- names ---

_PASSWORDS = (
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
    rf"(?:(?i:{_PASSWORDS}|{_SECRETS}|{_KEYS}|{_OTHERS})"
    # short ones only as separate words: Kansas, compass and enclave are not secrets
    rf"|(?<![^\W\d_])(?i:{_SHORT}|{_WHOLE_WORDS})|(?<=[a-z])(?:Pass|Pwd|Pw|Sas|Sig))"
)
"""How the name of a secret value ends."""
NAME = re.compile(rf"(?:{NAME_ENDS}|(?i:(?:{'|'.join(KEY_WORDS)})[-_. ]?key\.[\w.-]{{1,200}}))\Z")
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

_QUOTE = r"(?:\\{0,16}[\"']|&(?:quot|apos|#0?3[49]|#x2[27]);)"
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
    rf"(?:{_QUOTE}|[\]`]){{0,2}}\s*+"
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
_SECRET_NAME = rf"[\w .$:/-]{{0,64}}?{NAME_ENDS}"
PAIRED = re.compile(
    rf"\b(?i:{_FIELDS}){_QUOTE}?\s*+[=:]\s*+{_QUOTE}?{_SECRET_NAME}(?:{_QUOTE}|(?=\s|\\{{1,16}}[nrt]))"
    rf"(?:[^{{}}<>]{{0,200}}?(?:[\s,;{{]|\\{{1,16}}[nrt]){_QUOTE}?)?(?i:{_VALUES}){_QUOTE}?\s*+[=:]\s*+"
    rf"|<(?i:{_FIELDS})>\s*+{_SECRET_NAME}\s*+</(?i:{_FIELDS})>\s*+<(?i:{_VALUES})>(?=[^<])"
)
"""`"name": "password", "value": `, also in XML."""
TUPLED = re.compile(rf"[(\[]\s*+[bu]?{_QUOTE}{_SECRET_NAME}{_QUOTE}\s*+,\s*+(?={QUOTED})")
"""`("password", `."""
LISTED = re.compile(rf"[(,]\s*+(?:[\"']([\w .$:/-]{{1,64}})[\"']|`([\w .$:/-]{{1,64}})`)\s++(?={QUOTED})")
"""`("user" "me", "password" "x")`, as SQL lists options."""
CALLED = re.compile(r"\s++(?:as\s++)?[\"'`]?([\w.-]++)", re.IGNORECASE)
"""`as password` behind a literal; the group is the last word of the name."""
PAIRED_BACKWARDS = re.compile(
    rf"\b(?i:{_VALUES}){_QUOTE}?\s*+[=:]\s*+(?P<value>{_QUOTE}[^\"'<>&\n]{{1,256}}{_QUOTE})"
    rf"[^{{}}<>\n]{{0,200}}?[\s,;]{_QUOTE}?(?i:{_FIELDS}){_QUOTE}?\s*+[=:]\s*+{_QUOTE}{_SECRET_NAME}{_QUOTE}"
)
PAIR_SIGNS = ("val", "default", "<string>", '"v"', "'v'", " v=")
SAID = re.compile(
    rf"(?:identified\s++by|{_PASSWORDS}|(?<![^\W\d_])pwd?)(?:\s++|\s*+\(\s*+)(?:is|was|ist|lautet|es|est|è|é|=|:)?\s*+"
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
PROSE = re.compile(
    rf"(?:(?<![\w-])|(?<=api-)|(?<=auth-)|(?<=access-))(?:(?:{_PASSWORDS}|{_KEYS}|token|jeton|clave|senha|heslo|parola)(?:[ \t]++(?:{_JOINTS})\b){{0,3}}"
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

# --- known by their form ---

_FILES = "avro|csv|gz|html?|jar|json|log|orc|parquet|py|sql|tsv|txt|xlsx?|xml|ya?ml|zip"
_PAIR = r"[^\s;,\"'\\]*+"
_ARGUMENT = rf"(?:{QUOTED}|[^\s\"']++)"
_BEFORE_FLAG = r"[^\n|;&]{0,256}?[\s\"']"
_BETWEEN = r"(?:[\"'],\s*+(?=[\"'])|\s++)"
_OPTIONS = rf"{_PASSWORDS}|secret|token|api[-_]?key|access[-_]?key|pass|pwd|pw"

KNOWN_FORMS: tuple[Rule, ...] = (
    _rule(
        "-----begin",
        r"-----BEGIN [A-Z ]*PRIVATE KEY(?: BLOCK)?-----.*?(?:-----END [A-Z ]*PRIVATE KEY(?: BLOCK)?-----|\Z)",
        flags=re.DOTALL,
    ),
    _rule("private-lines:", r"(Private-Lines:)[^:]*+(?=Private-|\Z)", rf"\1 {HIDDEN} "),
    _rule(
        "authorization",
        r"(authorization\\{0,16}[\"']?\s*+[=:,]\s*+\\{0,16}[\"']?)"
        r"(?:digest\s[^\r\n]*|(?:[A-Za-z][\w-]{2,40}\s++)?[^\s,;\"'\\)}\]]++)",
        rf"\1{HIDDEN}",
    ),
    _rule(
        "cookie",
        rf"(cookie\\{{0,16}}[\"']?\s*+[=:]\s*+\\{{0,16}}[\"']?)[\w.-]++={_PAIR}(?:;\s*+[\w.-]++={_PAIR})*",
        rf"\1{HIDDEN}",
    ),
    # of words such as "bearer bonds" and "basic settings" only those that look like a token
    _rule(
        "bearer",
        r"\b(bearer)(?:\s|%20|\+)++(?:(?=[\w.~+/=-]*[\d.~+/=-])[\w.~+/=-]{6,}|\w{20,})",
        rf"\1 {HIDDEN}",
    ),
    _rule(
        "basic",
        r"\b((?i:basic))\s++(?=[A-Za-z0-9+/]*(?:[0-9+/=]|[a-z][A-Z]))[A-Za-z0-9+/]{6,}={0,2}",
        rf"\1 {HIDDEN}",
        re.NOFLAG,
    ),
    _rule(
        "eyj",
        r"(?<![\w-])eyJ(?:[\w-]{8,}\.[\w-]{8,}(?:\.[\w-]*)*|(?:hbGciOi|0eXAiOi|raWQiOi|lbmMiOi)[\w.-]*+)",
        flags=re.NOFLAG,
    ),
    _rule(
        "akia asia aiza ghp_ gho_ ghu_ ghs_ ghr_ github_pat_ glpat- gldt- glrt- glcbt- glptt- glft- glsoat- glimt- glagent- npm_"
        " hf_ xox xapp- sk_ rk_ sk- dapi ya29. 1//0 gocspx sg. 8q~ shpat_ shpca_ shppa_ shpss_ whsec_ pypi-ag dckr_pat_ dop_v1_"
        " doo_v1_ dor_v1_ hvs. hvb. pul- lin_api_ sq0 key- glsa_ glc_ nrak- pscale_ dp.st. dp.pt. ntn_ secret_ figd_ pat-na1-"
        " pat-eu1- pmak- rubygems_ sntry dbtc_ dbtu_ dbts_ sbp_ age-secret-key-1 atatt3 atctt3 atbb hrku- dt0c01. .atlasv1. gsk_"
        " eaac -us",
        r"(?<![A-Za-z0-9])(?:"
        r"(?:AKIA|ASIA)[A-Z0-9]{16}\b(?:[\s:,;|/\"']{1,5}[A-Za-z0-9/+]{40}\b)?"
        r"|AIza[\w-]{35}"
        r"|gh[pousr]_[A-Za-z0-9]{16,255}|github_pat_\w{22,255}"
        r"|gl(?:pat|dt|rt|cbt|ptt|ft|soat|imt|agent)-[\w-]{16,}"
        r"|(?:npm|hf|gsk)_(?=[A-Za-z0-9]{0,40}\d)[A-Za-z0-9]{16,}"
        r"|xox[a-z](?:\.xox[a-z])?-[\w-]{10,}|xapp-[\w-]{10,}"
        r"|[sr]k_(?:live|test)_\w{10,}|sk-[\w-]{20,}|whsec_[\w+/=]{12,}"
        r"|dapi[0-9a-f]{32,}(?:-\d+)?"
        r"|ya29\.[\w-]{12,}|1//0[\w-]{20,}|GOCSPX-[\w-]{20,}"
        r"|SG\.(?:[\w-]{10,}\.[\w-]{10,}|(?=[A-Za-z0-9-]{0,64}\d)[A-Za-z0-9-]{16,}(?!\w))"
        r"|shp(?:at|ca|pa|ss)_[A-Za-z0-9]{8,}"
        r"|pypi-Ag[\w-]{20,}|dckr_pat_[\w-]{16,}|do[opr]_v1_[0-9a-f]{16,}|hv[sb]\.[\w-]{16,}|pul-[0-9a-f]{20,}|lin_api_\w{16,}"
        r"|sq0[a-z]{3}-[\w-]{16,}|key-[0-9a-f]{32}\b|[0-9a-f]{32}-us\d{1,2}\b|gls?[ac]_\w{16,}|NRAK-[A-Z0-9]{16,}"
        r"|pscale_\w{1,8}_[\w.-]{16,}|dp\.[ps]t\.[\w.]{16,}|(?:ntn|secret)_(?=[A-Za-z0-9]{0,64}\d)[A-Za-z0-9]{32,}|figd_[\w-]{16,}"
        r"|pat-(?:na|eu)1-[0-9a-f-]{16,}|PMAK-[0-9a-f-]{16,}|rubygems_[0-9a-f]{16,}|sntry[su]_[\w=+/-]{16,}|dbt[cus]_[\w=-]{16,}"
        r"|sbp_[0-9a-f]{16,}|AGE-SECRET-KEY-1[0-9A-Z]{16,}|AT(?:ATT3|CTT3|BB)[\w=-]{16,}|HRKU-[\w-]{16,}"
        r"|dt0c01\.[A-Z0-9]{8,}\.[A-Z0-9]{16,}|\w{14}\.atlasv1\.[\w-]{16,}|EAAC[A-Za-z0-9]{20,}"
        r"|\w{3}8Q~[\w.~-]{30,}"
        r")",
        flags=re.NOFLAG,
        in_words=True,
    ),
    # an account's key of Azure; checksums have the same length
    _rule("==", r"(?<![A-Za-z0-9+/])(?<!sha512-)[A-Za-z0-9+/]{86}==", flags=re.NOFLAG),
    _rule(
        "hooks.slack.com webhook.office.com office.com/webhook office365.com/webhook discord hooks.zapier.com maker.ifttt.com"
        " api.telegram.org chat.googleapis.com pagerduty.com/integration webexapis.com make.com integromat.com logic.azure.com",
        r"((?:hooks\.slack\.com|webhook\.office\.com|outlook\.office(?:365)?\.com/webhook|discord(?:app)?\.com/api/(?:v\d+/)?webhooks"
        r"|hooks\.zapier\.com|maker\.ifttt\.com/\w{1,32}|chat\.googleapis\.com/v1/spaces|pagerduty\.com/integration"
        r"|webexapis\.com/v1/webhooks|hook\.(?:[a-z0-9]{1,8}\.)?make\.com|hook\.integromat\.com|logic\.azure\.com(?::443)?/workflows"
        r"|api\.telegram\.org)/)[^\s\"'<>\\]++",
        rf"\1{HIDDEN}",
        needs=".com .org",
    ),
    _rule(
        "hook",
        r"(://[^\s\"'<>?#/\\]{1,255}/(?:[\w.-]{1,64}/){0,4}?[\w-]{0,32}hooks?[a-z0-9]{0,4}/)(?=[^\s\"'<>]{0,256}\d)[^\s\"'<>\\]{16,}",
        rf"\1{HIDDEN}",
    ),
    _rule(
        "://",
        r"((?<![a-z0-9+.-])[a-z][a-z0-9+.-]*+://)"
        # to the last at, for a password may hold one; the second half: a password that was not percent-encoded may hold a
        # slash, while host:port/path@x is not a password
        r"(?:[^\s/\"'<>]*@|[^\s/@:\"'<>]*+:(?!\d{1,5}[/?#])[^\s\"'<>?]{1,256}@)",
        rf"\1{HIDDEN}@",
    ),
    _rule(r":\/ :\\/", r"(:\\{1,16}/\\{1,16}/)[^\s/\"'<>]{1,256}@", rf"\1{HIDDEN}@"),
    _rule("%3a%2f%2f", r"(%3A%2F%2F)(?:[^\s%/&\"'<>]|%(?!40|2F)[0-9a-f]{2}){1,256}%40", rf"\1{HIDDEN}%40"),
    # without a scheme: of Go's drivers, and before a host with a port or a path
    _rule(
        "@",
        r"(?<![\w.:/@%-])([\w.%-]{1,64}:)(?!\d{1,5}[@/]|//)(?:[^\s\"'<>/]{1,128}@(?=[a-z]\w{0,31}\()"
        r"|[^\s\"'<>/@]{1,128}@(?=[\w.-]{1,128}(?::\d{1,5}\b|:?/)))",
        rf"\1{HIDDEN}@",
    ),
    _rule("oracle:", r"(oracle:(?:thin|oci8?):)[^\s@]{0,256}+@", rf"\1{HIDDEN}@"),
    # scott/x@ORCL: a name of Oracle's is in capitals, or has a host, or follows one of its programs; `host:a/b@X` is none,
    # but behind the name of an exception
    _rule(
        "@",
        r"(?<![\w/.@%$\\-])(?<!(?<!ception)(?<!rror):)([A-Za-z][\w$#]{0,29}/)(?!\d{1,5}@)[^\s/@\"'<>]{3,128}@"
        rf"(?=//|\(|[\w.-]{{1,128}}:\d{{1,5}}\b|(?i:orcl|xe|xepdb\d?|orclpdb\d?|\w{{0,24}}pdb\d?)\b"
        rf"|[A-Z][A-Z0-9_]{{1,29}}(?:\.[A-Z]{{2,16}}){{0,3}}(?![\w./-]|\.(?i:{_FILES})\b))",
        rf"\1{HIDDEN}@",
        re.NOFLAG,
    ),
    _rule(
        "sqlplus sqlldr expdp impdp rman",
        r"(\b(?:sqlplus|sqlldr|expdp|impdp|rman)\b[^\n|;&]{0,128}?[\s\"'=][a-z][\w$#]{0,29}/)[^\s/@\"'<>]++",
        rf"\1{HIDDEN}",
        needs="/",
    ),
    _rule(
        "code= key= k= auth= sid= otp= ticket= nonce= jwt= x-amz- x-goog-",
        r"([?&](?:amp;)?(?:code|key|k|auth|sid|otp|ticket|nonce|jwt|x-amz-[\w-]+|x-goog-[\w-]+)=)[^\s&\"'<>)#]++",
        rf"\1{HIDDEN}",
        needs="=",
    ),
    _rule(
        "identified",
        r"(\b(?:user|role|to)\s++\S{1,128}\s++identified\s++by\s++)(?!values\b)[^\s;,\"'\\&]++",
        rf"\1{HIDDEN}",
    ),
    _rule("-u -user", r"((?<![\w-])(?:-u|--(?:proxy-)?user)[\s=]\s*+[\"']?[^\s:\"']++:)[^\s\"']++", rf"\1{HIDDEN}"),
    _rule(
        "pass secret token key pw kennwort senord wacht",
        rf"((?<![\w-])--?[\w-]*(?:{_OPTIONS})(?:=|{_BETWEEN}))(?!-){_ARGUMENT}",
        rf"\1{HIDDEN}",
        needs="-",
    ),
    # flags of these programs only: -p has another meaning elsewhere
    _rule(
        "mysql mariadb mycli sshpass 7z",
        rf"(\b(?:mysql\w*|mariadb[\w-]{{0,16}}|mycli|sshpass|7z[ar]?)\b{_BEFORE_FLAG}-p)(?!ort\b)(?:{QUOTED}|[^\s\"'-][^\s\"']*+)",
        rf"\1{HIDDEN}",
        needs="-p",
    ),
    _rule(
        "sshpass mongo beeline tabcmd login",
        rf"(\b(?:sshpass|mongo\w*|beeline|tabcmd|login)\b{_BEFORE_FLAG}-p{_BETWEEN})(?!-){_ARGUMENT}",
        rf"\1{HIDDEN}",
        needs="-p",
    ),
    _rule(
        "sqlcmd bcp osql isql tsql zip",
        rf"((?i:\b(?:sqlcmd|bcp|osql|isql|tsql|zip|unzip)\b){_BEFORE_FLAG}-P(?:{_BETWEEN})?+)(?!-){_ARGUMENT}",
        rf"\1{HIDDEN}",
        re.NOFLAG,
        needs="-p",
    ),
    _rule(
        "auth",
        rf"(?<![\w-])((?i:auth){_QUOTE}\s*+:\s*+{_QUOTE})(?=[a-z0-9+/]*[A-Z])(?=[A-Z0-9+/]*[a-z])[A-Za-z0-9+/]{{12,}}={{0,2}}",
        rf"\1{HIDDEN}",
        re.NOFLAG,
    ),
    _rule(
        "net", r"(\bnet\s++use\s++(?:\S{1,8}\s++)?\\\\\S{1,256}\s++)(?![/*])\S++(?=\s++/u)", rf"\1{HIDDEN}", needs="use"
    ),
    _rule("redis-cli", rf"(\bredis-cli\b{_BEFORE_FLAG}-a{_BETWEEN})(?!-){_ARGUMENT}", rf"\1{HIDDEN}"),
    _rule("ldap", rf"(\bldap\w{{2,12}}\b{_BEFORE_FLAG}-w{_BETWEEN})(?!-){_ARGUMENT}", rf"\1{HIDDEN}", re.NOFLAG),
    _rule("htpasswd", rf"(\bhtpasswd\s++-\w{{0,4}}b\w{{0,4}}\s++\S++\s++\S++\s++){_ARGUMENT}", rf"\1{HIDDEN}"),
    _rule(
        "smbclient rpcclient", rf"(client\b{_BEFORE_FLAG}-U\s*+[^\s%]{{1,64}}%)[^\s\"']++", rf"\1{HIDDEN}", re.NOFLAG
    ),
    _rule("lftp", rf"(\blftp\b{_BEFORE_FLAG}-u\s*+[^\s,]{{1,64}},)[^\s\"']++", rf"\1{HIDDEN}"),
    _rule(".logon", r"(\.logon\s++[^\s,]{1,128},)[^\s;\"']++", rf"\1{HIDDEN}"),
    _rule("pass:", rf"(-pass(?:in|out)?\s++pass:){_ARGUMENT}", rf"\1{HIDDEN}"),
    _rule(
        "echo",
        rf"(\becho\s++(?:-n\s++)?)(?:{QUOTED}|[^\s|\"']++)(?=\s*+\|\s*+[^\n|]{{0,128}}?(?:sudo\s++-S|password-stdin|passwd))",
        rf"\1{HIDDEN}",
    ),
    _rule(
        "pass pwd secret token key pw kennwort senha haslo hasło senord wacht",
        rf"((?:<|&lt;)(?:[\w:.-]{{0,64}}?(?:{_PASSWORDS}|secret|token|key)|pwd|pw)(?:\s[^<>]{{0,256}})?(?:>|&gt;)(?:<!\[CDATA\[)?)"
        r"[^<&]++(?:&(?!lt;)[^<&]*+)*+(?=</|&lt;/|\Z)",
        rf"\1{HIDDEN}",
        needs="> &gt;",
    ),
    _rule(
        "=",
        rf"((?i:<(?:entry|string|param\w*|property|setting|add|item|field|arg|option)\s[^<>]{{0,200}}?=\s*+{_QUOTE}){_SECRET_NAME}{_QUOTE}[^<>/]{{0,200}}>)"
        r"(?=[^<\s])[^<]++(?=</|\Z)",
        rf"\1{HIDDEN}",
        re.NOFLAG,
        needs=">",
    ),
    _rule(
        "@",
        # it is unclear whether `bucket/a@b.csv` is an address
        rf"(?<![\w.%+*'-])[\w.%+'-]++@(?![\w-]++\.(?:{_FILES})\b)[a-z0-9-]++(?:\.[a-z0-9-]+)*\.[a-z]{{2,24}}\b",
        _person,
        re.IGNORECASE | re.ASCII,
    ),
)
