"""Pictures of the pages for README and docs, light and dark: `python -m tests.screenshots` (or `make screenshots`).

The demo runs until it has runs enough, then a real Chromium takes its first page, a job and a run that failed.
"""

import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import quote

import httpx

FOLDER = Path(__file__).parents[1] / "docs" / "screenshots"
LARGEST = 150_000
"""Bytes of a picture."""
PATIENCE = 180.0
"""Seconds within which the demo must have its runs."""
_SCHEMES = {"dark": 0, "light": 1}
"""As Chromium numbers them."""
_JOB = quote("transformation/spare_parts_to_model", safe="")
_FAILS = quote("transformation/sap_equipment_to_model", safe="")
CHROMIUM = ("chromium", "chromium-browser", "google-chrome")
_T = TypeVar("_T")


@dataclass(frozen=True, slots=True)
class Shot:
    """`height` is that of the window, in pixels."""

    name: str
    path: str
    height: int


def main() -> None:
    program = next(filter(None, map(shutil.which, CHROMIUM)), None)
    if program is None:
        sys.exit(f"The pictures are taken by a Chromium, and none is there: looked for {', '.join(CHROMIUM)}.")
    FOLDER.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory() as name, _demo(Path(name) / "demo.txt") as pages:
        for shot in _shots(pages):
            for scheme, number in _SCHEMES.items():
                _take(program, Path(name), pages + shot.path, shot, FOLDER / f"{shot.name}-{scheme}.png", number)


@contextmanager
def _demo(said: Path) -> Iterator[str]:
    """The address of its pages, as long as the context lasts."""
    with said.open("wb") as out:
        process = subprocess.Popen([sys.executable, "-m", "collector", "demo", "--forever"], stdout=out)
    try:
        yield _waited(lambda: _address(said.read_text(), process), "the address of the demo's pages")
    finally:
        process.terminate()
        process.wait()


def _address(said: str, process: subprocess.Popen[bytes]) -> str | None:
    if (code := process.poll()) is not None:
        sys.exit(f"The demo ended with code {code}; run `make demo` to see why.")
    return next((line.split()[1] for line in said.splitlines() if line.startswith("pages ")), None)


def _shots(pages: str) -> list[Shot]:
    _waited(lambda: _json(pages, "runs")["next"], "a hundred runs")
    failed = _waited(lambda: _json(pages, f"runs?state=failed&job={_FAILS}")["runs"], "a run that failed")
    return [
        Shot("overview", "/", 680),
        Shot("job", f"/jobs/plant-a/{_JOB}", 720),
        Shot("run", f"/runs/{failed[-1]['run_id']}", 1050),
    ]


def _json(pages: str, path: str) -> dict[str, Any]:
    found: dict[str, Any] = httpx.get(f"{pages}/api/v1/{path}", timeout=60).raise_for_status().json()
    return found


def _waited(look: Callable[[], _T | None], what: str) -> _T:
    end = time.monotonic() + PATIENCE
    while time.monotonic() < end:
        if found := look():
            return found
        time.sleep(0.5)
    sys.exit(f"Waited {PATIENCE:.0f} s for {what} in vain.")


def _take(program: str, folder: Path, url: str, shot: Shot, file: Path, scheme: int) -> None:
    file.unlink(missing_ok=True)
    command = [program, "--headless=new", "--no-sandbox", "--hide-scrollbars", "--disable-lcd-text"]
    command += [f"--user-data-dir={folder / 'profile'}", f"--blink-settings=preferredColorScheme={scheme}"]
    command += [f"--window-size=1280,{shot.height}", f"--screenshot={file}", url]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    if not file.exists():
        sys.exit(f"Chromium took no picture of {url} (code {done.returncode}): {done.stderr[-2000:]}")
    size = file.stat().st_size
    print(f"{file.relative_to(FOLDER.parents[1])}  {size / 1000:.0f} kB")
    if size > LARGEST:
        sys.exit(f"{file.name} is larger than {LARGEST // 1000} kB: show less, or a smaller window.")


if __name__ == "__main__":
    main()
