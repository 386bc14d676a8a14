"""`python -m tests.simulation COUNT [FIRST]`: runs that many, one seed after the other, and prints what broke."""

import logging
import sys
from collections import Counter

from tests.simulation.simulation import explore


def main(count: int, first: int) -> int:
    """1 when a promise broke, with the seeds that show it."""
    logging.disable(logging.CRITICAL)
    reached: Counter[str] = Counter()
    broken = 0
    for seed in range(first, first + count):
        faults, states = explore(seed)
        reached += states
        broken += bool(faults)
        for fault in faults:
            print(f"seed {seed}: {fault}")
    print(f"{count} simulations from seed {first}, {broken} of them broke a promise")
    for state, times in reached.most_common():
        print(f"{times:8} {state}")
    return 1 if broken else 0


if __name__ == "__main__":
    sys.exit(main(int(sys.argv[1]), int(sys.argv[2]) if len(sys.argv) > 2 else 0))
