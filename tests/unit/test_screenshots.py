"""The pictures of the pages in README and docs."""

import re
from pathlib import Path

import pytest

from tests import screenshots

ROOT = Path(__file__).parents[2]
_PICTURE = re.compile(
    r'<source media="\(prefers-color-scheme: dark\)" srcset="(\S+)-dark\.png">\s+<img .*src="(\S+)-light\.png".*>'
)


@pytest.mark.parametrize("page", ["README.md", "docs/http.md"])
def test_every_picture_is_there_light_and_dark_and_small(page: str) -> None:
    text = (ROOT / page).read_text()
    shown = _PICTURE.findall(text)
    assert shown
    assert len(shown) == text.count("<picture>")
    assert [dark for dark, _ in shown] == [light for _, light in shown]
    files = [(ROOT / page).parent / f"{name}-{scheme}.png" for name, _ in shown for scheme in ("light", "dark")]
    sizes = {file.name: file.stat().st_size for file in files}
    assert {name: size for name, size in sizes.items() if not 0 < size <= screenshots.LARGEST} == {}


def test_without_a_chromium_it_says_so(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(SystemExit, match="none is there: looked for chromium, ") as ended:
        screenshots.main()
    assert isinstance(ended.value.code, str), "a text: exit code 1"
