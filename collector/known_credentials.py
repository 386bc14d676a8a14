"""Patterns of credentials that are known by their form, whatever stands before them; `collector.redaction` applies them.

detect-secrets was tried instead: it found none of the vendors' forms without its entropy detectors, which take most SQL for
secrets; it reports lines and not the text to replace, at 12 ms a kilobyte (these: 0.5 ms), with 20 MiB and `requests`.

As in `collector.credentials`, all patterns are linear in the length of the text.
"""

import re
from collections.abc import Callable
from dataclasses import dataclass
from hashlib import sha256

from collector.credentials import PASSWORDS, QUOTE, QUOTED, SECRET_NAME, late
from collector.secret_registry import HIDDEN

Replacement = str | Callable[[re.Match[str]], str]


@dataclass(frozen=True, slots=True)
class Rule:
    """One of `needs` and one of `signs` is in every text, in lower case, that the pattern fits; looking for them is much
    cheaper. With `in_words` the pattern fits only inside of long words.
    """

    signs: tuple[str, ...]
    pattern: Callable[[], re.Pattern[str]]
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
    return Rule(tuple(signs.split()), late(pattern, flags), replacement, tuple(needs.split()) or ("",), in_words)


def _person(found: re.Match[str]) -> str:
    """A digest of the address, so that two people stay distinguishable."""
    return f"user-{sha256(found[0].lower().encode()).hexdigest()[:8]}"


_FILES = "avro|csv|gz|html?|jar|json|log|orc|parquet|py|sql|tsv|txt|xlsx?|xml|ya?ml|zip"
_PAIR = r"[^\s;,\"'\\]*+"
_ARGUMENT = rf"(?:{QUOTED}|[^\s\"']++)"
_BEFORE_FLAG = r"[^\n|;&]{0,256}?[\s\"']"
_BETWEEN = r"(?:[\"'],\s*+(?=[\"'])|\s++)"
_OPTIONS = rf"{PASSWORDS}|secret|token|api[-_]?key|access[-_]?key|pass|pwd|pw"

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
        rf"(?<![\w-])((?i:auth){QUOTE}\s*+:\s*+{QUOTE})(?=[a-z0-9+/]*[A-Z])(?=[A-Z0-9+/]*[a-z])[A-Za-z0-9+/]{{12,}}={{0,2}}",
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
        rf"((?:<|&lt;)(?:[\w:.-]{{0,64}}?(?:{PASSWORDS}|secret|token|key)|pwd|pw)(?:\s[^<>]{{0,256}})?(?:>|&gt;)(?:<!\[CDATA\[)?)"
        r"[^<&]++(?:&(?!lt;)[^<&]*+)*+(?=</|&lt;/|\Z)",
        rf"\1{HIDDEN}",
        needs="> &gt;",
    ),
    _rule(
        "=",
        rf"((?i:<(?:entry|string|param\w*|property|setting|add|item|field|arg|option)\s[^<>]{{0,200}}?=\s*+{QUOTE}){SECRET_NAME}{QUOTE}[^<>/]{{0,200}}>)"
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
