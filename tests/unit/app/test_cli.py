"""The command line from outside: help in time, mistakes in one line each, exit codes, no traceback."""

import json
import os
import re
import socket
import sys
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import typer

import collector.__main__ as entry
from collector.app import cli, listings
from collector.errors import LineageError

GOOD = """
sources:
  - platform: dataprep
    name: prep
    workspace: 12345
    token: geheim-4711
sinks:
  - {type: file, name: file, path: events.ndjson}
"""


@dataclass(frozen=True, slots=True)
class Said:
    code: int
    out: str
    err: str


Run = Callable[..., Said]


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    """The command as it is installed, within this process."""

    def act(*words: str | Path) -> Said:
        monkeypatch.setattr(sys, "argv", ["lineage-collector", *map(str, words)])
        with pytest.raises(SystemExit) as ended:
            cli.main()
        code = ended.value.code or 0
        assert isinstance(code, int)
        return Said(code, *capsys.readouterr())

    return act


@pytest.fixture
def config(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str | bytes], Path]:
    for name in [name for name in os.environ if name.startswith("LINEAGE_COLLECTOR")]:
        monkeypatch.delenv(name)

    def write(content: str | bytes) -> Path:
        path = tmp_path / "c.yaml"
        path.write_bytes(content.encode() if isinstance(content, str) else content)
        return path

    return write


Write = Callable[[str | bytes], Path]


def _commands(command: Any, *path: str) -> Iterator[tuple[str, ...]]:
    yield path
    for name, below in getattr(command, "commands", {}).items():
        yield from _commands(below, *path, name)


@pytest.mark.parametrize("width", [80, 40])
def test_every_command_has_help_with_an_example_in_whole_sentences(
    run: Run, monkeypatch: pytest.MonkeyPatch, width: int
) -> None:
    monkeypatch.setenv("COLUMNS", str(width))
    cli._add_commands()
    paths = list(_commands(typer.main.get_command(cli.app)))
    assert {("runs",), ("runs", "show"), ("ledger", "copy"), ("demo",), ("simulate",)} <= set(paths)
    for path in paths:
        said = run(*path, "--help")
        words = " ".join(said.out.split())
        assert said.code == 0
        example = " ".join(("Example: lineage-collector", *path)) if path else "Try it without any platform"
        assert example in words, path
        assert not re.search(r"--[a-z-]+ <(str|path|int|list)", words), path
        listed = said.out.partition("Commands:")[2]
        assert "..." not in listed.partition("Example")[0], path
        assert max(map(len, said.out.splitlines())) <= max(width + 12, 60), path


def test_a_ledger_that_cannot_be_copied_is_one_clear_line(run: Run, tmp_path: Path) -> None:
    for words, code, cause in (
        ((tmp_path / "none.db", "postgresql://me@h/d"), 1, "there is no ledger at"),
        (("a.db", "postgresql://me:geheim-4711@h/d"), 2, "contains a password: remove it"),
        (("a.db", "b.db"), 2, "one end must be a file and the other PostgreSQL"),
    ):
        said = run("ledger", "copy", *words)
        assert said.code == code
        [line] = said.err.splitlines()
        assert line.startswith("error: ")
        assert cause in line
        assert "geheim" not in said.out + said.err


def source(**changes: str) -> str:
    fields = {"platform": "dataprep", "name": "prep", "workspace": "12345", "token": "geheim-4711"} | changes
    return "sources:\n  - " + "\n    ".join(f"{key}: {value}" for key, value in fields.items() if value) + "\n"


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (GOOD + "htp: {}\n", "htp: unknown key; did you mean http?"),
        (source(poll_intervall="30s"), "sources[0].poll_intervall: unknown key; did you mean poll_interval?"),
        (source(burst="many"), "sources[0].burst: must be a whole number, not 'many'"),
        (source(token=""), "the secret is missing: give token: ${env:NAME} or token_file: PATH"),
        (source(token="${env:NOT_THERE}"), "NOT_THERE"),
        (source(token_file="none.txt", token=""), "none.txt"),
        (GOOD.replace("sinks:", source()[9:] + "sinks:"), "sources[0] has the name 'prep' too; names are unique"),
        (source(base_url="https://me:geheim@x.example"), "sources[0].base_url"),
        (
            source(poll_interval="-5s"),
            "invalid duration '-5s'; use for example 30s, 1h30m or 7d (it cannot be negative)",
        ),
        (source(namespace="'dataprep://x/a;b'"), "sources[0].namespace"),
        (source(platform="datapreb"), "did you mean dataprep?"),
        ("", "the file is empty"),
        ("sources:\n\t- name: a\n", "a tab; YAML is indented with spaces only"),
        ("sources: []\n", "sources: needs at least one item"),
        (b"sources: \xff\n", "is not UTF-8"),
        ("sources: {", "is not valid YAML"),
    ],
)
@pytest.mark.parametrize("command", [["run"], ["check", "--offline"], ["status"], ["trigger", "prep", "7"]])
def test_a_mistake_is_one_clear_line(run: Run, config: Write, command: list[str], content: str, words: str) -> None:
    path = config(content)
    said = run(*command, "--config", path)
    assert said.code == 2
    [line] = said.err.splitlines()
    assert line.startswith(f"error: {path}")
    assert words in line
    assert "geheim" not in said.out + said.err


def test_every_mistake_has_its_line(run: Run, config: Write) -> None:
    said = run("check", "--config", config(source(burst="many", poll_interval="-5s") + "htp: 1\n"))
    assert (said.code, len(said.err.splitlines())) == (2, 3)


def test_a_folder_and_a_file_that_is_not_there(run: Run, tmp_path: Path) -> None:
    for path, words in (
        (tmp_path, "is a directory; name the file in it"),
        (tmp_path / "no.yaml", "there is no such file"),
    ):
        said = run("run", "--config", path)
        assert said.code == 2
        assert said.err.count("\n") == 1
        assert words in said.err


def test_ctrl_c_in_a_command_is_one_plain_line(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def interrupted(*_: object, **__: object) -> int:
        raise KeyboardInterrupt

    monkeypatch.setattr(listings, "skipped", interrupted)
    monkeypatch.setattr(sys, "argv", ["lineage-collector", "skipped"])
    with pytest.raises(SystemExit) as ended:
        entry.main()
    assert (ended.value.code, *capsys.readouterr()) == (130, "", "interrupted\n")


def test_a_file_is_named_by_its_whole_path(run: Run, config: Write, monkeypatch: pytest.MonkeyPatch) -> None:
    path = config("sources: []")
    monkeypatch.chdir(path.parent)
    assert run("check", "--offline", "--config", path.name).err.startswith(f"error: {path}:1: sources: ")
    path.write_text("")
    assert run("check", "--offline", "--config", path.name).err.startswith(f"error: {path}: the file is empty")
    assert f"{path}/x: cannot be read: Not a directory; check" in run("check", "--config", f"{path.name}/x").err


def test_without_config_the_file_of_that_name_is_taken(
    run: Run, config: Write, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert "lineage-collector.yaml: there is no such file; name it with --config" in run("check", "--offline").err
    config(GOOD).rename(tmp_path / "lineage-collector.yaml")
    assert run("check", "--offline").code == 0
    monkeypatch.setenv("LINEAGE_COLLECTOR_CONFIG", "other.yaml")
    assert "other.yaml: there is no such file" in run("check", "--offline").err


def test_check_offline_reports_what_is_risky_as_well(run: Run, config: Write) -> None:
    path = config(GOOD)
    said = run("check", "--offline", "--config", path)
    assert said.code == 0
    head, valid, risky = said.out.splitlines()
    assert head == "part\tsubject\tok\tdetail\tremedy"
    assert valid == f"configuration\t{path}\tyes\tvalid; sources: 1, sinks: 1\t-"
    assert risky.startswith("configuration\tadvice\tyes\tsources[0].token: a secret is written into the file")
    rows = json.loads(run("check", "--offline", "--json", "--config", path).out)
    assert [(row["part"], row["ok"]) for row in rows] == [("configuration", True)] * 2


@pytest.mark.parametrize("command", [["run"], ["check", "--offline"]])
@pytest.mark.parametrize(
    ("content", "words"),
    [
        (None, ": there is no such file; correct http.web_config_file"),
        ("basic_auth_user: {}", ":1: basic_auth_user: unknown key; did you mean basic_auth_users?"),
        ("basic_auth_users: {ann: geheim}", ":1: basic_auth_users.ann: is not a bcrypt hash ($2y$...)"),
        ("tls_server_config:\n  cert_file: c.crt\n  key_file: c.key", ":2: tls_server_config.cert_file: "),
    ],
)
def test_so_is_one_in_the_web_configuration(
    run: Run, config: Write, command: list[str], content: str | None, words: str
) -> None:
    path = config(GOOD + "http: {web_config_file: web.yaml}\n")
    web = path.with_name("web.yaml")
    if content is not None:
        web.write_text(content)
    path.write_text(path.read_text().replace("web.yaml", str(web)))
    said = run(*command, "--config", path)
    assert said.code == 2
    assert said.err.startswith(f"error: {web}{words}")
    assert "geheim" not in said.out + said.err


def test_check_reports_what_the_web_configuration_says(run: Run, config: Write, tmp_path: Path) -> None:
    web = tmp_path / "web.yaml"
    web.write_text("basic_auth_users: {ann: $2y$10$X0h1gDsPszWURQaxFh.zoubFi6DXncSjhoQNJgRrnGs7EsimhC7zG}")
    path = config(GOOD + f"http: {{listen: '0.0.0.0:0', web_config_file: {web}}}\n")
    said = run("check", "--offline", "--config", path)
    assert said.code == 0
    lines = said.out.splitlines()
    assert f"configuration\t{web}\tyes\tvalid; TLS: off, users: 1\t-" in lines
    risky = "http.web_config_file: passwords are sent to 0.0.0.0:0 unencrypted; add tls_server_config"
    assert f"configuration\tadvice\tyes\t{risky}\t-" in lines


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["trigger", "nope", "7"], "there is no source named 'nope' in the configuration; configured are prep"),
        (["watch", "nope", "7"], "there is no source named 'nope' in the configuration; configured are prep"),
        (["parked", "retry", "nope"], "there is no sink named 'nope' in the configuration; configured are file"),
        (["runs", "--state", "done"], "--state 'done' is not valid; use queued, running, waiting, succeeded,"),
    ],
)
def test_names_that_are_not_there(run: Run, config: Write, words: list[str], message: str) -> None:
    said = run(*words, "--config", config(GOOD))
    assert said.code == 2
    assert said.err.startswith(f"error: {message}")


@pytest.mark.parametrize("words", [["runs"], ["skipped"], ["parked", "list"], ["status"], ["runs", "--json"]])
def test_before_the_first_run_there_is_no_ledger_to_read(run: Run, config: Write, words: list[str]) -> None:
    path = config(f"ledger: {{path: {config(GOOD).parent}/none.db}}{GOOD}")
    said = run(*words, "--config", path)
    assert said.code == 1
    assert re.fullmatch(r"error: there is no ledger at \S+none\.db: .*\n", said.err)
    assert not (path.parent / "none.db").exists()


@pytest.mark.parametrize("param", ["country", "=DE", ""])
def test_a_parameter_is_a_pair(run: Run, config: Write, param: str) -> None:
    said = run("trigger", "prep", "7", "--param", param, "--config", config(GOOD))
    assert said.code == 2
    assert f"{param!r} is not of the form key=value" in said.err


def test_words_that_no_command_has(run: Run) -> None:
    for words in (["rnu"], ["run", "--confg", "x"], ["simulate", "mars"], ["runs", "--limit", "0"]):
        said = run(*words)
        assert said.code == 2
        assert "Traceback" not in said.err


@pytest.mark.parametrize("command", ["runs", "skipped"])
def test_more_rows_than_a_database_can_count_are_refused(run: Run, command: str) -> None:
    said = run(command, "--limit", str(10**23))
    assert said.code == 2
    assert "Invalid value for '--limit'" in said.err


def test_a_platform_that_no_simulator_has_is_named_in_plain_words(run: Run) -> None:
    said = run("simulate", "cfd")
    assert said.err.splitlines()[-1] == (
        "Error: Invalid value for 'PLATFORM': 'cfd' is not one of cdf, wetransform, dataprep, marquez, all"
    )


def test_a_format_that_no_graph_has_is_named_in_plain_words(run: Run) -> None:
    said = run("graph", "x", "--format", "svg")
    assert said.err.splitlines()[-1] == "Error: Invalid value for '--format': 'svg' is not one of tree, dot, mermaid"


def test_what_went_wrong_is_said_in_words(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> int:
        raise LineageError("ledger x.db is in use by process 7")

    monkeypatch.setattr("collector.app.process.run", fail)
    said = run("run")
    assert (said.code, said.err) == (1, "error: ledger x.db is in use by process 7\n")


def test_a_full_disk_under_the_output(run: Run, config: Write, monkeypatch: pytest.MonkeyPatch) -> None:
    path = config(GOOD)
    with suppress(OSError), Path("/dev/full").open("w") as full:  # closing it fails, too
        monkeypatch.setattr(sys, "stdout", full)
        said = run("check", "--offline", "--config", path)
        monkeypatch.undo()
    assert said == Said(1, "", "error: the output could not be written: no space left on its disk\n")


def test_a_ledger_in_a_folder_that_is_not_there(run: Run, config: Write) -> None:
    said = run("check", "--offline", "--config", config(f"{GOOD}ledger: {{path: /nowhere/at/all.db}}\n"))
    assert said.code == 2
    assert "/nowhere/at/all.db.sock cannot be made" in said.err
    assert "correct ledger.path" in said.err


def test_a_port_that_simulate_cannot_take(run: Run) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        port = taken.getsockname()[1]
        assert run("simulate", "cdf", "--port", str(port)).err == (
            f"error: cannot listen on 127.0.0.1:{port}: address already in use\n"
        )
    assert run("simulate", "cdf", "--port", "99999").code == 2
