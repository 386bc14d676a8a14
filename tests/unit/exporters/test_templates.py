"""The templates of the pages, as those read them who do not see the screen."""

import re
from pathlib import Path

import pytest

from exporters.web.responses import HERE

TEMPLATES = sorted((HERE / "templates").glob("*.html"))


@pytest.mark.parametrize("template", TEMPLATES, ids=lambda template: template.stem)
def test_what_takes_the_focus_has_a_name(template: Path) -> None:
    focusable = re.findall(r'<[^>]*tabindex="0"[^>]*>', template.read_text(encoding="utf-8"))
    assert [tag for tag in focusable if 'role="' not in tag or 'aria-label="' not in tag] == []


@pytest.mark.parametrize("template", TEMPLATES, ids=lambda template: template.stem)
def test_a_picture_holds_no_links(template: Path) -> None:
    """What has the role of a picture is one thing to a screen reader, so that links in it would not be there."""
    pictures = re.findall(r'<svg[^>]*role="img".*?</svg>', template.read_text(encoding="utf-8"), re.DOTALL)
    assert [picture for picture in pictures if "<a " in picture] == []
