"""The user's mistakes, each with file, line, key and the nearest valid key."""

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from config.loader import ConfigurationMistakes, Mistake, load
from config.settings import Settings
from config.sources import CdfSource

Load = Callable[[str | bytes], Settings]

SOURCE = """
sources:
  - platform: dataprep
    name: prep
    workspace: 12345
    token: ${env:PREP_TOKEN}
"""


@pytest.fixture(autouse=True)
def _surroundings(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in os.environ if name.startswith("LINEAGE_COLLECTOR__")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("PREP_TOKEN", "geheim-4711")


@pytest.fixture
def load_text(tmp_path: Path) -> Load:
    def act(content: str | bytes) -> Settings:
        path = tmp_path / "c.yaml"
        path.write_bytes(content.encode() if isinstance(content, str) else content)
        return load(path)

    return act


@pytest.fixture
def mistakes(load_text: Load) -> Callable[[str | bytes], list[Mistake]]:
    def act(content: str | bytes) -> list[Mistake]:
        with pytest.raises(ConfigurationMistakes) as caught:
            load_text(content)
        assert "geheim" not in str(caught.value)
        assert all(mistake.place.endswith("c.yaml") for mistake in caught.value.mistakes)
        return list(caught.value.mistakes)

    return act


Mistakes = Callable[[str | bytes], list[Mistake]]


def said(mistakes: list[Mistake]) -> list[str]:
    """Without the folder, as people read them."""
    return [str(mistake).partition("c.yaml")[2].lstrip(":") for mistake in mistakes]


TWO = """
sources:
  - {platform: dataprep, name: a, workspace: 12345, token: geheim-1}
  - {platform: cdf, name: c, base_url: "https://Az.cognitedata.com", project: p, auth: {provider: cognite, client_id: i, client_secret: geheim-2}}
  - {platform: wetransform, name: w, tenant: acme, token: geheim-3}
"""


@pytest.mark.parametrize(
    ("other", "first"),
    [
        ("{platform: dataprep, name: b, base_url: 'https://API.clouddataprep.com:443/', workspace: 12345, token: geheim-9}", "'a' (sources[0])"),
        ("{platform: cdf, name: b, base_url: https://az.cognitedata.com, project: p, namespace: 'x://y', include: [z], auth: {provider: cognite, client_id: j, client_secret: geheim-9}}", "'c' (sources[1])"),
        ("{platform: wetransform, name: b, tenant: acme, token: geheim-9}", "'w' (sources[2])"),
        ("{platform: wetransform, name: b, tenant: other, token: geheim-3}", "'w' (sources[2])"),
    ],
)  # fmt: skip
def test_two_sources_of_one_account_are_refused(mistakes: Mistakes, other: str, first: str) -> None:
    kind = other.split(":")[1].split(",", maxsplit=1)[0].strip()
    [problem] = said(mistakes(f"{TWO}  - {other}\n"))
    assert problem == (
        f"6: sources[3].name: {first} and 'b' watch the same account of {kind}, so each run would be reported twice: "
        "keep one of the two sources, and choose its jobs with include and exclude"
    )


@pytest.mark.parametrize(
    "other",
    [
        "{platform: dataprep, name: b, workspace: 54321, token: geheim-1}",
        "{platform: dataprep, name: b, base_url: https://dataprep.example.com, workspace: 12345, token: geheim-1}",
        "{platform: cdf, name: b, base_url: https://az.cognitedata.com, project: q, auth: {provider: cognite, client_id: i, client_secret: geheim-2}}",
        "{platform: wetransform, name: b, tenant: other, token: geheim-9}",
        "{platform: wetransform, name: b, tenant: acme, customer: c-17, token: geheim-3}",
    ],
)  # fmt: skip
def test_several_accounts_on_one_host_are_good(load_text: Load, other: str) -> None:
    assert len(load_text(f"{TWO}  - {other}\n").sources) == 4


def test_a_former_name_is_nobodys_present_name_and_only_one_sources_former_one(mistakes: Mistakes) -> None:
    more = "  - {platform: dataprep, name: %s, workspace: %s, token: geheim-1, former_name: %s}\n"
    text = TWO + more % ("d", 1, "a") + more % ("e", 2, "x") + more % ("f", 3, "x") + more % ("g", 4, "g")
    assert said(mistakes(text)) == [
        "6: sources[3].former_name: a source 'a' is still configured; a former name must not be in use",
        "8: sources[5].former_name: source 'e' has the former name 'x' too; only one source can have it",
    ]


def test_a_small_file_is_enough(load_text: Load) -> None:
    settings = load_text(SOURCE)
    source = settings.sources[0]
    assert (source.name, source.job_namespace) == ("prep", "dataprep://api.clouddataprep.com/12345")
    assert str(settings.control_path) == "lineage.db.sock"


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", " the file is empty; see config/example.yaml for its content"),
        ("# only a comment\n", " the file is empty; see config/example.yaml for its content"),
        ("- a\n", " must be a mapping (key: value); see config/example.yaml for its content"),
        ("text", " must be a mapping (key: value); see config/example.yaml for its content"),
        ("http:\n\tlisten: x\n", "2: a tab; YAML is indented with spaces only"),
        ("sources:\n  - name: a\n\tplatform: cdf\n", "3: a tab; YAML is indented with spaces only"),
        (b"http: {}\nlog: \xe4\n", "2: byte 0xe4 is not UTF-8; save the file as UTF-8"),
        ('http: "\x01"', "1: contains the control character 0x01"),
        (
            "http: {\n",
            "2: is not valid YAML: expected the node content, but found '<stream end>' (while parsing a flow node)",
        ),
        (
            "a: 1\n---\nb: 1\n",
            "2: is not valid YAML: but found another document (expected a single document in the stream)",
        ),
        ("a: [*b]\n", "1: is not valid YAML: found undefined alias 'b'"),
        ("a: " + "[" * 5000, " is nested more than 32 levels deep"),
        ("a: &a [*a]\n", "1: is nested more than 32 levels deep"),
        ("a: &a {<<: *a}\n", "1: is nested more than 32 levels deep"),
        (b"a: " + b"x" * 1_100_000, " is larger than 1 MiB, which cannot be a configuration"),
    ],
)
def test_a_file_that_nothing_can_be_made_of(content: str | bytes, message: str, mistakes: Mistakes) -> None:
    assert said(mistakes(content)) == [message]


def test_a_bomb_of_anchors_is_refused(mistakes: Mistakes) -> None:
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x]"]
    lines += [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]" for n in range(1, 12)]
    assert said(mistakes("\n".join(lines))) == [
        "1: contains more than 100000 values (an anchor counts each time that it is used)"
    ]


def test_a_folder_and_a_missing_file_are_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationMistakes, match="is a directory; name the file in it"):
        load(tmp_path)
    with pytest.raises(ConfigurationMistakes) as caught:
        load(tmp_path / "none.yaml")
    assert str(caught.value) == f"{tmp_path / 'none.yaml'}: there is no such file; name it with --config"


def test_files_are_named_by_their_whole_path(
    tmp_path: Path, mistakes: Mistakes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ConfigurationMistakes, match=f"^{tmp_path / 'none.yaml'}: there is no such file"):
        load(Path("none.yaml"))
    found = said(
        mistakes(SOURCE.replace("token: ${env:PREP_TOKEN}", "token_file: a/token\n    network: {ca_file: ca.crt}"))
    )
    assert found == [
        f"6: sources[0].token_file: {tmp_path / 'a/token'} cannot be read: No such file or directory",
        f"7: sources[0].network.ca_file: {tmp_path / 'ca.crt'} cannot be read: No such file or directory",
    ]


def test_a_file_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    path = tmp_path / "c.yaml"
    path.symlink_to(path)
    with pytest.raises(ConfigurationMistakes, match=r"c\.yaml: cannot be read: Too many levels of symbolic links"):
        load(path)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("htp: {}", "7: htp: unknown key; did you mean http?"),
        ("sourcs: []", "7: sourcs: unknown key; did you mean sources?"),
        ("log: {levle: info}", "7: log.levle: unknown key; did you mean level?"),
        ("qqqqqq: 1", "7: qqqqqq: unknown key; known keys are control_socket, datasets, hints, http, jobs, ledger, lineage, log, sinks, sources, stop_within"),
        ('"\\e[31m": 1', "7: '\\x1b[31m': unknown key; known keys are control_socket, datasets, hints, http, jobs, ledger, lineage, log, sinks, sources, stop_within"),
        ("log: {level: verbose}", "7: log.level: must be one of debug, info, warning, error, not 'verbose'"),
        ("log: {level: inf}", "7: log.level: must be one of debug, info, warning, error, not 'inf'; did you mean info?"),
        ("log:", "7: log: must be a mapping (key: value), not nothing"),
        ("log: [info]", "7: log: must be a mapping (key: value), not a list"),
        ("sinks: {}", "7: sinks: must be a list, not a mapping"),
        ("sinks: [file]", "7: sinks[0]: must be a mapping with type and name, not 'file'"),
        ("ledger: {path: [x]}", "7: ledger.path: must be the path of a file, not a list"),
        ("ledger: {path: '${env:X}'}", "7: ledger.path: references such as ${env:NAME} are for secrets only; set this key with LINEAGE_COLLECTOR__..."),
        ("stop_within:", "7: stop_within: must be a duration, such as 30s, not nothing"),
        ("stop_within: [5s]", "7: stop_within: must be a duration, such as 30s, not a list"),
        ("ledger: {max_size: true}", "7: ledger.max_size: must be a size, such as 10MiB, not true or false"),
        ("ledger: {max_size: {GiB: 1}}", "7: ledger.max_size: must be a size, such as 10MiB, not a mapping"),
        ("stop_within: -5s", "7: stop_within: invalid duration '-5s'; use for example 30s, 1h30m or 7d (it cannot be negative)"),
        ("stop_within: 30", "7: stop_within: invalid duration '30'; use for example 30s, 1h30m or 7d (a unit is missing)"),
        ("stop_within: 0s", "7: stop_within: it must be longer than nothing"),
        ("ledger: {max_size: 10Mi}", "7: ledger.max_size: invalid size '10Mi'; use for example 512KiB, 10MiB or 1GB"),
        (
            "ledger: {max_size: 1KiB}",
            "7: ledger.max_size: 1KiB is too small: use at least 4MiB, a smaller ledger is full within an hour",
        ),
        ("ledger: {max_size: 0}", "7: ledger.max_size: must be at least 1, not 0"),
        ("http: {listen: 17817}", "7: http.listen: must be text, not 17817: put it in quotes"),
        ("http: {listen: '::1:80'}", "7: http.listen: invalid address '::1:80'; use host:port, such as 127.0.0.1:17817 or 0.0.0.0:17817"),
        ("http: {listen: 'a:99999'}", "7: http.listen: invalid address 'a:99999'; use host:port, such as 127.0.0.1:17817 or 0.0.0.0:17817"),
        ("log: {level: info, level: info}", "7: log.level: is there twice, first in line 7: remove one"),
        ("log: !!python/name:os.system x", "7: log: the tag python/name:os.system is not supported here"),
        ("? [a]\n: b", "7: a key must be text"),
        ("datasets: [{macth: {name: a}, match: {name: a}, replace: {name: b}}]", "7: datasets[0].macth: unknown key; did you mean match?"),
        ("datasets: [{match: {nmae: b, name: a}, replace: {name: b}}]", "7: datasets[0].match.nmae: unknown key; did you mean name?"),
        ('ledger: {path: "a\\0b"}', "7: ledger.path: holds a NUL character, which no path of a file can"),
    ],
)  # fmt: skip
def test_one_mistake_one_message(text: str, message: str, mistakes: Mistakes) -> None:
    assert said(mistakes(f"{SOURCE}{text}\n")) == [message]


@pytest.mark.parametrize(
    ("key", "message"),
    [
        ("pol_interval: 30s", "7: sources[0].pol_interval: unknown key; did you mean poll_interval?"),
        ("ca_file: /x", "7: sources[0].ca_file: unknown key here; it belongs to network.ca_file"),
        ("poll_interval: -5s", "7: sources[0].poll_interval: invalid duration '-5s'; use for example 30s, 1h30m or 7d (it cannot be negative)"),
        ("namespace: a b", "7: sources[0].namespace: Marquez would rewrite or not find 'a b': use letters, digits and _-.@+/, begin with a letter, and follow a colon by // or a digit, as in cdf://api.cognitedata.com/my-project"),
        ("base_url: https://me:geheim@host", "7: sources[0].base_url: contains a credential: remove it from the URL and use the key for secrets beside it"),
        ("base_url: https://geheim@host", "7: sources[0].base_url: contains a credential: remove it from the URL and use the key for secrets beside it"),
        ("base_url: https://host/?token=geheim", "7: sources[0].base_url: must end with the path: a query or fragment could contain a secret"),
        ("base_url: 'https://host:geheim'", "7: sources[0].base_url: is not a valid URL: the host or port cannot be read"),
        ("base_url: ftp://geheim", "7: sources[0].base_url: is not a valid URL: write http:// or https:// and the host"),
        ("base_url: https://host/v4", "7: sources[0].base_url: leave out /v4 and what follows: the program adds it"),
        ("base_url: 'https://[::1]:80'", "3: sources[0]: the namespace of its jobs is not valid, so set `namespace`: Marquez would rewrite or not find 'dataprep://[::1]:80/12345': use letters, digits and _-.@+/, begin with a letter, and follow a colon by // or a digit, as in cdf://api.cognitedata.com/my-project"),
        ("jitter: 0.2", "7: sources[0].jitter: is no longer a setting (polls are moved at random by a tenth of poll_interval); remove it"),
        ("burst: 1.5", "7: sources[0].burst: must be a whole number, not 1.5"),
        ("burst: many", "7: sources[0].burst: must be a whole number, not 'many'"),
        ("include: a*", "7: sources[0].include: must be a list, not text"),
        ("include: ['']", "7: sources[0].include[0]: is empty"),
        ("token_file: /x", "7: sources[0].token_file: /x cannot be read: No such file or directory"),
        ("network: {ca_file: /x}", "7: sources[0].network.ca_file: /x cannot be read: No such file or directory"),
        (f"network: {{ca_file: {__file__}}}", f"7: sources[0].network.ca_file: the certificates in {__file__} cannot be used: it must be PEM"),
        (f"network: {{client_cert_file: {__file__}}}", f"7: sources[0].network.client_key_file: the certificate in {__file__} with the key in {__file__} cannot be used: it must be PEM"),
        ("network: {proxy: 'http://a:geheim@b'}", "7: sources[0].network.proxy: contains a credential: remove it from the URL and use the key for secrets beside it"),
        ("network: {headers: {'a b': x}}", "7: sources[0].network.headers: 'a b' is not a valid name of an HTTP header"),
        ("network: {headers: {Host: x}}", "7: sources[0].network.headers: the header Host is set by the program itself: remove it"),
        ("network: {headers: {X-A: x, x-a: y}}", "7: sources[0].network.headers: a header is set twice (upper and lower case are the same)"),
        ("network: {headers: {X-A: [a]}}", "7: sources[0].network.headers.X-A: must be text, such as ${env:NAME}, not a list"),
        ("initial_lookback: {days: 1}", "7: sources[0].initial_lookback: must be a duration, a date or none, not a mapping"),
        ("network: {headers: {X-A: 5}}", "7: sources[0].network.headers.X-A: must be text, such as ${env:NAME}, not a number: put it in quotes"),
    ],
)  # fmt: skip
def test_mistakes_in_a_source(key: str, message: str, mistakes: Mistakes) -> None:
    assert said(mistakes(f"{SOURCE}    {key}\n")) == [message]


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("{platform: cfd, name: a}", "1: sources[0].platform: must be one of cdf, wetransform, dataprep, not 'cfd'; did you mean cdf?"),
        ("{name: a}", "1: sources[0].platform: is missing: give one of cdf, wetransform, dataprep"),
        ("{plattform: cdf, name: a}", "1: sources[0].plattform: unknown key; did you mean platform?"),
        ("{platform: dataprep, name: a, workspace: 1}", "1: sources[0].token_file: the secret is missing: give token: ${env:NAME} or token_file: PATH"),
        ("{platform: dataprep, name: a, workspace: 1, token: '${env:NOT_SET}'}", "1: sources[0].token: the environment variable NOT_SET is not set"),
        ("{platform: dataprep, name: a, workspace: 1, token: 1}", "1: sources[0].token: must be text, such as ${env:NAME}, not a number: put it in quotes"),
        ("{platform: dataprep, name: a, workspace: a=b, token: t}", "1: sources[0].workspace: 'a=b' becomes part of the namespace: use only letters, digits and _-.@+/"),
        ("{platform: cdf, name: a, base_url: 'https://h', project: p, auth: {token_url: 'https://t', client_id: c, client_secret: s}, page_size: 100}", "1: sources[0].page_size: is no longer a setting (a page of the list has 50 jobs); remove it"),
        ("{platform: dataprep, workspace: 1, token: t}", "1: sources[0].name: is missing"),
        ("{platform: dataprep, name: a b, workspace: 1, token: t}", "1: sources[0].name: 'a b' is not a valid name; use up to 63 letters, digits, _, - and ., and begin with a letter or digit"),
        ("{platform: wetransform, name: a, tenant: t, token: t, steps: {to_match: wait}}", "1: sources[0].steps.to_match: must be one of queued, running, waiting, succeeded, failed, canceled, unknown, not 'wait'; did you mean waiting?"),
        ("{platform: wetransform, name: a, tenant: t, token: t, intervals: {active: 2m}}", "1: sources[0].intervals.active_most: must not be shorter than active"),
    ],
)  # fmt: skip
def test_mistakes_in_other_sources(source: str, message: str, mistakes: Mistakes) -> None:
    assert said(mistakes(f"sources: [{source}]\n")) == [message]


@pytest.mark.parametrize(
    ("sink", "message"),
    [
        ("{type: kafak, name: a}", "7: sinks[0].type: must be one of file, marquez, openlineage, kafka, not 'kafak'; did you mean kafka?"),
        ("{type: marquez, name: a, url: 'http://m', concurrency: 91}", "7: sinks[0].concurrency: must be at most 90, not 91"),
        ("{type: marquez, name: a, url: 'http://m', runs_api: false, lineage_api: false}", "7: sinks[0].lineage_api: runs_api and lineage_api are both off, so nothing would be sent: switch on one"),
        ("{type: marquez, name: a, url: 'http://m', events: []}", "7: sinks[0].events: needs at least one item"),
        ("{type: marquez, name: a, url: 'http://m', events: [STRAT]}", "7: sinks[0].events[0]: must be one of OTHER, START, RUNNING, COMPLETE, FAIL, ABORT, not 'STRAT'; did you mean START?"),
        ("{type: marquez, name: a, url: 'http://m', ledger_share: 0.0}", "7: sinks[0].ledger_share: must be more than 0, not 0.0"),
        ("{type: kafka, name: a, bootstrap_servers: ['h:1'], sasl: geheim}", "7: sinks[0].sasl: must be a mapping (key: value), not text"),
        ("{type: file, name: a}", "7: sinks[0].path: is missing"),
        ("{type: kafka, name: a, bootstrap_servers: ['h:1'], connect_within: 30s}", "7: sinks[0].connect_within: is no longer a setting (connecting to Kafka may take 15 s); remove it"),
        ("{type: kafka, name: a, bootstrap_servers: ['h:1'], send_within: 9s}", "7: sinks[0].send_within: is no longer a setting (an attempt waits 5 s for Kafka's answer, then asks again); remove it"),
        ("{type: kafka, name: a, bootstrap_servers: 'h:1,h'}", "7: sinks[0].bootstrap_servers[1]: is not a valid server; use host:port"),
        ("{type: kafka, name: a, bootstrap_servers: ['h:1'], topic: a b}", "7: sinks[0].topic: 'a b' is not a valid topic; use up to 249 letters, digits, dots, _ and -"),
        ("{type: kafka, name: a, bootstrap_servers: ['h:1'], sasl: {mechanism: PLAIN, username: u}}", "7: sinks[0].sasl.password_file: the secret is missing: give password: ${env:NAME} or password_file: PATH"),
        ("{type: kafka, name: a, bootstrap_servers: ['h:1'], compression: zstd}", "7: sinks[0].compression: must be one of none, gzip, not 'zstd'"),
        ("{type: openlineage, name: a, url: 'http://o', endpoint: 'x?key=geheim'}", "7: sinks[0].endpoint: must be a path below url, without a query, which could contain a secret"),
    ],
)  # fmt: skip
def test_mistakes_in_a_sink(sink: str, message: str, mistakes: Mistakes) -> None:
    assert said(mistakes(f"{SOURCE}sinks: [{sink}]\n"))[:1] == [message]


def test_all_mistakes_are_reported_at_once_in_the_order_of_the_file(mistakes: Mistakes) -> None:
    text = """
log: {level: loud}
stop_within: -5s
sources:
  - {platform: cdf, name: a, base_url: 'https://u:geheim@h', project: p, auth: {provider: entra, client_id: 5}}
  - {platform: wetransform, name: a, tenant: t, tokn: x}
  - {platform: nope, name: c}
sinks:
  - {type: file, name: f, path: x, path: y}
  - {type: file, name: f, path: x}
  - {type: file, name: f, path: x}
"""
    assert [(mistake.line, mistake.key) for mistake in mistakes(text)] == [
        (2, "log.level"),
        (3, "stop_within"),
        (5, "sources[0].base_url"),
        (5, "sources[0].auth.tenant"),
        (5, "sources[0].auth.client_id"),
        (5, "sources[0].auth.client_secret_file"),
        (6, "sources[1].name"),
        (6, "sources[1].token_file"),
        (6, "sources[1].tokn"),
        (7, "sources[2].platform"),
        (9, "sinks[0].path"),
        (10, "sinks[1].name"),
        (11, "sinks[2].name"),
    ]


def test_a_list_without_items_and_no_list_at_all(mistakes: Mistakes) -> None:
    assert said(mistakes("sources: []\n")) == ["1: sources: needs at least one item"]
    assert said(mistakes("log: {}\n")) == [" sources: is missing"]


def test_a_name_may_serve_a_source_and_a_sink(load_text: Load) -> None:
    settings = load_text(f"{SOURCE}sinks: [{{type: file, name: prep, path: '-'}}]\n")
    assert settings.source("prep") is settings.sources[0]
    assert settings.sink("prep") is settings.sinks[0]
    assert settings.sink("other") is None


def test_words_that_other_yaml_readers_change_stay_text(load_text: Load) -> None:
    text = SOURCE.replace("name: prep", "name: no") + "    initial_lookback: 2026-01-31\n"
    assert load_text(text).sources[0].name == "no"


def test_anchors_and_merges_work(load_text: Load) -> None:
    text = f"""{SOURCE}    network: &net {{headers: {{X-A: b}}}}
sinks:
  - &base {{type: marquez, name: one, url: 'http://m', network: *net}}
  - {{<<: *base, name: two}}
"""
    settings = load_text(text)
    assert [sink.name for sink in settings.sinks] == ["one", "two"]


def test_a_byte_order_mark_is_no_mistake(load_text: Load) -> None:
    assert load_text(b"\xef\xbb\xbf" + SOURCE.encode()).sources


def test_a_socket_whose_name_is_too_long_is_refused(mistakes: Mistakes) -> None:
    found = said(mistakes(f"{SOURCE}ledger: {{path: /{'x' * 100}/lineage.db}}\n"))
    assert len(found) == 1
    assert "longer than the 100 bytes" in found[0]


class TestEnvironment:
    def test_it_wins_over_the_file(self, load_text: Load, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("LINEAGE_COLLECTOR__SOURCES__0__POLL_INTERVAL", "10s")
        monkeypatch.setenv("LINEAGE_COLLECTOR__SOURCES__0__NETWORK__HEADERS__X-A", "c")
        monkeypatch.setenv("LINEAGE_COLLECTOR__SOURCES__0__BURST", "3")
        monkeypatch.setenv("lineage_collector__log__level", "debug")
        settings = load_text(f"{SOURCE}    network: {{headers: {{x-A: b}}}}\n")
        source = settings.sources[0]
        assert isinstance(source.http_options()["headers"], dict)
        assert (source.poll_interval.seconds, source.burst) == (10, 3)
        assert source.http_options()["headers"] == {"x-A": "c"}
        assert settings.log.level == "debug"

    def test_it_makes_whole_items(self, load_text: Load, monkeypatch: pytest.MonkeyPatch) -> None:
        for key, value in {
            "SINKS__10__TYPE": "file",
            "SINKS__10__NAME": "s10",
            "SINKS__10__PATH": "-",
            **{f"SINKS__{n}__TYPE": "kafka" for n in range(10)},
            **{f"SINKS__{n}__NAME": f"s{n}" for n in range(10)},
            **{f"SINKS__{n}__BOOTSTRAP_SERVERS": "a:1,b:2" for n in range(10)},
            **{f"SINKS__{n}__TLS": "true" for n in range(10)},
            "SINKS__0__EVENTS__0": "START",
            "SINKS__0__EVENTS__1": "COMPLETE",
        }.items():
            monkeypatch.setenv(f"LINEAGE_COLLECTOR__{key}", value)
        settings = load_text(SOURCE)
        assert [sink.name for sink in settings.sinks] == [f"s{n}" for n in range(11)]
        assert settings.sinks[0].events == ("START", "COMPLETE")

    def test_a_secret_in_it_is_no_literal(self, load_text: Load, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("LINEAGE_COLLECTOR__SOURCES__0__TOKEN", "from-outside")
        source = load_text(SOURCE.replace("    token: ${env:PREP_TOKEN}\n", "")).sources[0]
        assert source.credential.get() == "from-outside"  # type: ignore[union-attr]
        assert source.credential.origin == "environment"  # type: ignore[union-attr]

    @pytest.mark.parametrize(
        ("variable", "message"),
        [
            ("LOG__LEVL", "environment variable LINEAGE_COLLECTOR__LOG__LEVL: log.levl: unknown key; did you mean level?"),
            ("LOG__LEVEL", "environment variable LINEAGE_COLLECTOR__LOG__LEVEL: log.level: must be one of debug, info, warning, error, not 'geheim'"),
            ("SOURCES__2__NAME", "environment variable LINEAGE_COLLECTOR__SOURCES__2__NAME: '2' is not an item of the list: it has 1, so the next is 1"),
            ("SOURCES__X__NAME", "environment variable LINEAGE_COLLECTOR__SOURCES__X__NAME: 'x' is not an item of the list: it has 1, so the next is 1"),
            ("LOG____LEVEL", "environment variable LINEAGE_COLLECTOR__LOG____LEVEL: a part of the name is empty: write two underscores between the parts"),
            ("SOURCES__0__POLL_INTERVAL", "environment variable LINEAGE_COLLECTOR__SOURCES__0__POLL_INTERVAL: sources[0].poll_interval: invalid duration 'geheim'; use for example 30s, 1h30m or 7d"),
        ],
    )  # fmt: skip
    def test_its_mistakes_name_the_variable(
        self, variable: str, message: str, load_text: Load, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv(f"LINEAGE_COLLECTOR__{variable}", "geheim")
        with pytest.raises(ConfigurationMistakes) as caught:
            load_text(SOURCE)
        assert [str(mistake) for mistake in caught.value.mistakes] == [message]


def test_a_plug_in_brings_its_own_options(load_text: Load, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("config.sources.known_platforms", lambda: ("cdf", "wetransform", "dataprep", "acme"))
    monkeypatch.setattr("config.sinks.known_sinks", lambda: ("file", "pigeon"))
    settings = load_text("""
sources: [{platform: acme, name: a, namespace: acme://x/y, options: {any: {thing: 1}}}]
sinks: [{type: pigeon, name: p, options: {loft: north}}]
""")
    assert settings.sources[0].job_namespace == "acme://x/y"
    assert settings.sources[0].options == {"any": {"thing": 1}}  # type: ignore[union-attr]
    assert settings.sinks[0].options == {"loft": "north"}  # type: ignore[union-attr]


def test_cdf_is_read_as_written(load_text: Load) -> None:
    settings = load_text("""
sources:
  - platform: cdf
    name: c
    base_url: https://api.cognitedata.com/
    project: p
    auth: {provider: cognite, client_id: i, client_secret: "${env:PREP_TOKEN}"}
""")
    source = settings.sources[0]
    assert isinstance(source, CdfSource)
    assert source.base_url == "https://api.cognitedata.com"
    assert source.auth.credential.get() == "geheim-4711"
