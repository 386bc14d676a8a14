"""Go programs that the tests use, built once per project folder: `python3 -m tests.servers.gotools` builds all of them.

Nothing but the standard library, so that building can begin before the virtual environment is made.
"""

import fcntl
import os
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

FOLDER = Path(__file__).parents[2] / ".cache" / "go" / "bin"


@dataclass(frozen=True)
class Tool:
    """What `go install` gets: a command in a module, at a version."""

    name: str
    package: str
    version: str


HELM = Tool("helm", "helm.sh/helm/v4/cmd/helm", "v4.3.1")
HELM_DOCS = Tool("helm-docs", "github.com/norwoodj/helm-docs/cmd/helm-docs", "v1.14.2")
COMPOSE = Tool("compose-go", "github.com/compose-spec/compose-go/v2/cmd", "v2.16.2")
"""What Docker's compose reads its files with."""
TOXIPROXY = Tool("toxiproxy", "github.com/Shopify/toxiproxy/v2/cmd/server", "v2.12.0")
TOOLS = (HELM, HELM_DOCS, COMPOSE, TOXIPROXY)


class NoToolError(RuntimeError):
    """It is not there and cannot be built; the text says why."""


def program(tool: Tool) -> Path:
    """The program, built now if it is missing; other callers wait meanwhile. Some 4 minutes for Helm."""
    path = FOLDER / tool.name
    if path.exists():
        return path
    go = shutil.which("go")
    if go is None:
        raise NoToolError(f"no {tool.name} in {FOLDER}, and no go command to build it with")
    FOLDER.mkdir(parents=True, exist_ok=True)
    with (FOLDER / f".{tool.name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not path.exists():
            _build(go, tool)
    return path


def _build(go: str, tool: Tool) -> None:
    """Into a separate folder first: what is in `FOLDER` is whole."""
    unfinished = FOLDER / f".{tool.name}.building"
    environment = {**os.environ, "GOBIN": str(unfinished), "CGO_ENABLED": "0"}
    command = [go, "install", "-ldflags=-s -w", f"{tool.package}@{tool.version}"]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    if done.returncode:
        raise NoToolError(f"{' '.join(command)} failed: {done.stderr[-2000:]}")
    (unfinished / tool.package.rpartition("/")[2]).replace(FOLDER / tool.name)


def main() -> int:
    try:
        for tool in TOOLS:
            print(program(tool))
    except NoToolError as error:
        print(error, file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
