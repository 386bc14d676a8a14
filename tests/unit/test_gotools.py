"""A tool that is there is not built; one that cannot be built says why."""

import shutil
import stat
from pathlib import Path

import pytest

from tests.servers import gotools

TOOL = gotools.Tool("greet", "example.com/greet", "v1.0.0")


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(gotools, "FOLDER", tmp_path / "bin")
    return tmp_path / "bin"


def _stand_in_for_go(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, script: str) -> None:
    go = tmp_path / "go"
    go.write_text(f"#!/bin/sh\necho run >> {tmp_path}/runs\n{script}\n")
    go.chmod(go.stat().st_mode | stat.S_IXUSR)
    monkeypatch.setattr(shutil, "which", lambda _: str(go))


def test_it_is_built_once(tmp_path: Path, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _stand_in_for_go(tmp_path, monkeypatch, 'mkdir -p "$GOBIN" && echo built > "$GOBIN/greet"')
    assert gotools.program(TOOL) == gotools.program(TOOL) == folder / "greet"
    assert (folder / "greet").read_text() == "built\n"
    assert (tmp_path / "runs").read_text() == "run\n"


def test_a_failed_build_leaves_nothing_and_says_why(
    tmp_path: Path, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _stand_in_for_go(tmp_path, monkeypatch, "echo no such module >&2; exit 1")
    with pytest.raises(gotools.NoToolError, match=r"example.com/greet@v1.0.0 failed: no such module"):
        gotools.program(TOOL)
    assert not (folder / "greet").exists()


def test_without_go_it_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "which", lambda _: None)
    with pytest.raises(gotools.NoToolError, match="no go command"):
        gotools.program(TOOL)
