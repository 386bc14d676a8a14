"""Confirmation of actions that cannot be undone."""

import sys
from collections.abc import Iterable
from functools import partial

from collector.errors import ConfigurationError


def confirmed(command: str, effect: str, lines: Iterable[str], question: str) -> bool:
    """Show `lines` and ask; whether the answer is yes. `effect` is what `command` would do, for the message. Raises
    `ConfigurationError` if there is no terminal.
    """
    if not sys.stdin.isatty():
        asks = f"`{command}` would {effect}, and asks for confirmation"
        raise ConfigurationError(
            [f"{asks}; there is no terminal to ask on: add --yes, or --dry-run to see what it would remove"]
        )
    say = partial(print, file=sys.stderr)
    for line in lines:
        say(line)
    say(f"{question} [y/N] ", end="", flush=True)
    return sys.stdin.readline().strip().lower() in {"y", "yes"}
