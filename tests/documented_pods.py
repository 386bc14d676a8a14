"""The pods that docs/operations.md has people apply."""

import re
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).parents[1]
OPERATIONS = ROOT / "docs" / "operations.md"


def pod_of(name: str) -> dict[str, Any]:
    """The one in the block that says that it is tested."""
    [words] = re.findall(rf"<!-- tested: {name}.yaml -->\n```yaml\n(.*?)```", OPERATIONS.read_text(), re.DOTALL)
    pod: dict[str, Any] = yaml.safe_load(words)
    return pod


def arguments_of(name: str, places: dict[str, str]) -> list[str]:
    """Of its only container, with other places: what begins with a key is its value instead."""
    [container] = pod_of(name)["spec"]["containers"]
    return [_placed(word, places) for word in container["args"]]


def _placed(word: str, places: dict[str, str]) -> str:
    option, equals, value = word.partition("=") if word.startswith("--") else ("", "", word)
    return option + equals + next((there for here, there in places.items() if value.startswith(here)), value)
