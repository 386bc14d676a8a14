"""What the interpreter does in long pieces, in which no thread of ours gets on: made short for a process that runs for months."""

import gc
import sys

SWITCH = 0.0005
"""Seconds until a thread that computes lets another one on (Python: 5 ms). A settle asks for that some dozen times: once for each
step of SQLite.
"""


def shorten_pauses() -> None:
    """Once, when all is imported and built: the collector of garbage no longer goes through what stays for ever."""
    sys.setswitchinterval(SWITCH)
    gc.collect()
    gc.freeze()
