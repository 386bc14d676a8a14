"""What the interpreter does in long pieces, in which no thread of ours gets on: made short for a process that runs for months."""

import gc
import sys

SWITCH = 0.0005
"""Seconds until a thread that computes lets another one on (Python: 5 ms). A settle asks for that some dozen times: once for each
step of SQLite.
"""


FULL_COLLECTION = 1000
"""Collections of the middle generation before the whole heap is searched for garbage (Python: 10), which takes 130 ms with 10,000
open runs. Reference counts free nearly all of ours; the middle generation, searched as often as ever, most of the rest.
"""


def tune_interpreter() -> None:
    """Once, when all is imported and built: the garbage collector no longer searches what stays until the end."""
    sys.setswitchinterval(SWITCH)
    gc.collect()
    gc.freeze()
    youngest, middle, _ = gc.get_threshold()
    gc.set_threshold(youngest, middle, FULL_COLLECTION)
