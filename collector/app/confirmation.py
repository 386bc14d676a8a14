"""Asking before something is done that cannot be undone."""

import sys
from collections.abc import Iterable
from functools import partial

from collector.errors import ConfigurationError


def confirmed(command: str, effect: str, lines: Iterable[str], question: str) -> bool:
    """Show `lines` and ask: whether the answer is yes. `effect` says what `command` would do, for a refusal. Raises
    `ConfigurationError` where there is nobody to ask.
    """
    if not sys.stdin.isatty():
        asks = f"`{command}` would {effect}, and asks first"
        raise ConfigurationError([f"{asks}; there is no terminal to ask on: add --yes, or --dry-run to see what goes"])
    say = partial(print, file=sys.stderr)
    for line in lines:
        say(line)
    say(f"{question} [y/N] ", end="", flush=True)
    return sys.stdin.readline().strip().lower() in {"y", "yes"}
