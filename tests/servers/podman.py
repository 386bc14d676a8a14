"""The project's own image, built and run for real with Debian's buildah, podman and runc; no registry is asked.

The base image, a Debian with Python 3.13 in the place of the official one, is made once and kept in `.cache/image`, with
all layers: this store is ours alone, so nobody else's images or containers are seen or touched. All tests with an image
share one xdist group.
"""

import fcntl
import json
import os
import shutil
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest

from tests.servers.processes import unavailable

ROOT = Path(__file__).parents[2]
CACHE = ROOT / ".cache" / "image"
BASE = "docker.io/library/python:3.13-slim"  # what the Dockerfile asks for
REVISION = "0123456789abcdef0123456789abcdef01234567"

_SUITE = "trixie"  # its python3 is 3.13
_PACKAGES = "python3,python3-venv,python3-pip,ca-certificates"
_WITHOUT = ("man", "doc", "locale", "info")
_CERTIFICATES = "/etc/ssl/certs"  # this machine's authorities, which a proxy before the package index may need
_COMMANDS = {"buildah": "buildah", "podman": "podman", "runc": "runc", "mmdebstrap": "mmdebstrap"}
_STORE = ("--root", str(CACHE / "storage"), "--runroot", str(CACHE / "run"), "--storage-driver", "overlay")
_PODMAN = ("podman", *_STORE, "--runtime", "runc", "--cgroup-manager", "cgroupfs", "--events-backend", "file")


@dataclass(frozen=True, slots=True)
class Image:
    """`name` is what containers are made of; `details` is what `podman inspect` says; sizes are in bytes."""

    name: str
    details: dict[str, Any]
    size: int
    base_size: int

    @property
    def labels(self) -> dict[str, str]:
        return dict(self.details["Config"]["Labels"])

    def run(self, *words: str, options: Sequence[str] = (), seconds: float = 240) -> "subprocess.CompletedProcess[str]":
        """A container for one command, without any right; gone afterwards."""
        return _run(*_PODMAN, "run", "--rm", *UNPRIVILEGED, *options, self.name, *words, seconds=seconds)


# runc on a machine without the limits that podman wants fails with "error setting rlimits" unless they are given.
_LIMITS = ("--ulimit", "nofile=1024:1024", "--ulimit", "nproc=1024:1024", "--pull", "never")
UNPRIVILEGED = (
    *_LIMITS,
    "--network",
    "none",
    "--read-only",
    "--cap-drop",
    "ALL",
    "--security-opt",
    "no-new-privileges",
)


@dataclass
class Container:
    """One container in the background; `options` and `words` are those of `podman run`."""

    image: str
    options: Sequence[str]
    words: Sequence[str] = ()
    name: str = field(default_factory=lambda: f"lineage-{uuid4()}")

    def start(self) -> None:
        _must(*_PODMAN, "run", "--detach", "--name", self.name, *_LIMITS, *self.options, self.image, *self.words)

    def state(self) -> dict[str, Any]:
        """`Running`, `ExitCode`, `Pid` and the like."""
        return dict(json.loads(_must(*_PODMAN, "inspect", self.name))[0]["State"])

    def send(self, signal: str) -> None:
        _must(*_PODMAN, "kill", "--signal", signal, self.name)

    def ended(self, seconds: float) -> int:
        """The exit code, 137 for SIGKILL."""
        return int(_must(*_PODMAN, "wait", self.name, seconds=seconds))

    def command(self, *words: str) -> "subprocess.CompletedProcess[str]":
        """As `kubectl exec` does it."""
        return _run(*_PODMAN, "exec", self.name, *words)

    def log(self) -> str:
        done = _run(*_PODMAN, "logs", self.name)
        return done.stdout + done.stderr

    def remove(self) -> None:
        _run(*_PODMAN, "rm", "--force", "--time", "0", self.name)


def build(tag: str, *arguments: str) -> None:
    """The project's Dockerfile as it is, with what users may give beside it; raises with the end of the output."""
    trust = ("--volume", f"{_CERTIFICATES}:{_CERTIFICATES}:ro") if Path(_CERTIFICATES).is_dir() else ()
    options = ("--isolation", "chroot", "--pull-never", "--layers", *trust)
    _must("buildah", *_STORE, "bud", *options, *arguments, "--tag", tag, str(ROOT), seconds=600)


@pytest.fixture(scope="session")
def image() -> Image:
    """Built as the README says, with a revision."""
    _require()
    name = "localhost/lineage-collector:test"
    with _locked():
        _ensure_base()
        build(name, "--build-arg", f"REVISION={REVISION}")
        _must(*_PODMAN, "image", "prune", "--force", "--filter", "until=24h")  # layers of builds long gone
        [details] = json.loads(_must(*_PODMAN, "image", "inspect", name))
        [base] = json.loads(_must(*_PODMAN, "image", "inspect", BASE))
    return Image(name, details, int(details["Size"]), int(base["Size"]))


@pytest.fixture
def containers() -> Iterator[list[Container]]:
    """Append those that are started: they are gone after the test."""
    started: list[Container] = []
    yield started
    for container in started:
        container.remove()


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if "image" in getattr(item, "fixturenames", ()):
            item.add_marker(pytest.mark.xdist_group("image"))
            item.add_marker(pytest.mark.timeout(600))  # the first one builds it


def _require() -> None:
    missing = [package for command, package in _COMMANDS.items() if not _found(command)]
    if missing:
        unavailable(f"the image is built by {', '.join(_COMMANDS)}; missing (Debian's packages): {', '.join(missing)}")
    if os.geteuid() != 0:
        unavailable("the image is built and run as root here: user namespaces are not available everywhere")


def _found(command: str) -> bool:
    return shutil.which(command, path=f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin") is not None


def _ensure_base() -> None:
    if _run(*_PODMAN, "image", "exists", BASE).returncode == 0:
        return
    tar = CACHE / f"{_SUITE}.tar"
    if not tar.exists():
        excluded = [f"--dpkgopt=path-exclude=/usr/share/{name}/*" for name in _WITHOUT]
        part = tar.with_suffix(".part.tar")
        _must("mmdebstrap", "--variant=minbase", f"--include={_PACKAGES}", *excluded, _SUITE, str(part), seconds=600)
        part.rename(tar)
    _must(*_PODMAN, "import", str(tar), BASE, seconds=300)


@contextmanager
def _locked() -> Iterator[None]:
    """One builder at a time, whatever started it."""
    CACHE.mkdir(parents=True, exist_ok=True)
    with (CACHE / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _must(*argv: str, seconds: float = 240) -> str:
    done = _run(*argv, seconds=seconds)
    if done.returncode != 0:
        raise RuntimeError(f"{argv[0]} ended with {done.returncode}:\n{(done.stdout + done.stderr)[-4000:]}")
    return done.stdout


def _run(*argv: str, seconds: float = 240) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(argv, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=seconds, check=False)
