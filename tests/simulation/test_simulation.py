"""Simulations by seeds, with an oracle that knows the platforms' side alone. A longer run: `python -m tests.simulation 10000`."""

import logging
from collections import Counter
from collections.abc import Iterator

import pytest

from tests.simulation.simulation import explore

BLOCKS, SEEDS = 4, 8
RARE = (
    "a kill with something in flight",
    "a full ledger",
    "a clock that jumped",
    "a doubt looked at",
    "taken, and the answer lost",
    "refused for good",
    "a write refused by the disk",
    "a write done, and its answer lost",
)


@pytest.fixture(autouse=True)
def quiet_logs() -> Iterator[None]:
    """The faults of these simulations would be thousands of lines."""
    logging.disable(logging.CRITICAL)
    yield
    logging.disable(logging.NOTSET)


@pytest.mark.parametrize("block", range(BLOCKS))
def test_every_promise_holds_in_each_simulation(block: int) -> None:
    reached: Counter[str] = Counter()
    for seed in range(block * SEEDS, (block + 1) * SEEDS):
        faults, states = explore(seed)
        assert not faults, f"seed {seed}: {faults}"
        reached += states
    assert len(reached.keys() & set(RARE)) >= len(RARE) - 2, f"too few rare states: {reached}"


def test_a_simulation_is_the_same_again_by_its_seed() -> None:
    assert explore(3) == explore(3)
