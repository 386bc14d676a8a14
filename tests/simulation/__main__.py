"""`SEEDS=100000 python -m tests.simulation`, by `make simulate`: that many simulations from `FIRST` on, and what broke.

A failing seed is printed at once, and the next one follows. `SEED=17` shows one alone. With
`DIVIDED=1` all have divided sinks, else some.
"""

import logging
import os
import sys
import time
from collections import Counter

from tests.simulation.simulation import explore

PROGRESS_EVERY = 30.0
"""Seconds."""


def main(first: int, count: int, *, divided: bool | None) -> int:
    """1 when a promise broke, with the seeds that show it."""
    logging.disable(logging.CRITICAL)
    reached: Counter[str] = Counter()
    first_in: dict[str, int] = {}
    broken: list[int] = []
    began = shown = time.monotonic()
    for seed in range(first, first + count):
        faults, states = explore(seed, divided=divided)
        reached += states
        for state in +states:
            first_in.setdefault(state, seed)
        if faults:
            broken.append(seed)
            print(*(f"seed {seed}: {fault}" for fault in faults), sep="\n", flush=True)
        if time.monotonic() - shown > PROGRESS_EVERY:
            shown = time.monotonic()
            each = (shown - began) / (seed - first + 1)
            left = each * (first + count - seed - 1) / 60
            print(f"{seed - first + 1} of {count}, {len(broken)} broken, {left:.0f} min left", flush=True)
    print(
        f"{count} simulations from seed {first}, {time.process_time() / count:.3f} s of CPU each; broken: {broken or 'none'}"
    )
    for state, times in reached.most_common():
        print(f"{times:8} {state} (first: seed {first_in[state]})")
    return 1 if broken else 0


if __name__ == "__main__":
    divided = os.environ.get("DIVIDED") == "1" or None
    alone = os.environ.get("SEED")
    if alone is not None:
        sys.exit(main(int(alone), 1, divided=divided))
    sys.exit(main(int(os.environ.get("FIRST", "0")), int(os.environ.get("SEEDS", "100000")), divided=divided))
