"""Whatever happens in whatever order: the counts are right, the order is kept, nothing is lost or sent twice."""

import tempfile
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

from hypothesis import given, settings
from hypothesis import strategies as st

from collector.ledger import overflow, parked, runs, tallies
from collector.ledger.parked import RetryAnswer
from collector.model import EventKind, RunState
from tests.servers.postgres import PostgresServer
from tests.unit.ledger.ledgers import ALL, COMPLETE, ENDS, RUNNING, SECOND, START, Ledger, child_of, opened, opened_in

SINKS = ("a", "b")
KEYS = ("p", "c1", "c2", "x", "y")

steps = st.lists(
    st.one_of(
        st.tuples(st.just("happen"), st.sampled_from(KEYS)),
        st.tuples(
            st.sampled_from(["deliver", "park", "postpone", "retry", "drop", "overflow"]), st.sampled_from(SINKS)
        ),
        st.tuples(st.just("narrow"), st.booleans()),
    ),
    max_size=40,
)


@dataclass
class Scenario:
    """Does steps and notes what each sink acknowledged. Sink `b` wants everything, always."""

    ledger: Ledger
    acknowledged: dict[str, list[str]] = field(default_factory=lambda: {sink: [] for sink in SINKS})
    made: Counter[str] = field(default_factory=Counter)
    dropped: set[str] = field(default_factory=set)
    wanted: frozenset[EventKind] = ALL

    def happen(self, key: str) -> None:
        """The next thing in the life of a run."""
        known = runs.by_keys(self.ledger.conn, self.ledger.source, [key]).get(key)
        if known is not None and known.state is RunState.SUCCEEDED:
            return
        kinds = [START] if known is None else [RUNNING, COMPLETE] if known.state is RunState.RUNNING else [COMPLETE]
        parent = {"parent": child_of("p")} if key.startswith("c") else {}
        self.ledger.happen(key, *kinds, **parent)
        self.made.update(f"{key} {kind}" for kind in kinds)

    def deliver(self, sink: str) -> None:
        for item in self.ledger.claim(sink)[:2]:
            self.ledger.deliver(item, sink=sink)
            self.acknowledged[sink].append(item.body.decode())

    def park(self, sink: str) -> None:
        self.ledger.park(*self.ledger.claim(sink)[:1], sink=sink)

    def postpone(self, sink: str) -> None:
        self.ledger.postpone(*self.ledger.claim(sink)[:2], sink=sink)
        self.ledger.now += SECOND // 2

    def retry(self, sink: str) -> None:
        ledger = self.ledger
        events = {
            (row.strand_id, row.seq): row for row in parked.listing(ledger.conn, 4, sink_id=ledger.sinks[sink])[1:]
        }
        answers = parked.retry(ledger.conn, ledger.held[sink], ledger.sinks[sink], events, ledger.now)
        for event, answer in answers.items():
            assert (answer is RetryAnswer.SUPERSEDED) == (events[event].superseded_at is not None)

    def drop(self, sink: str) -> None:
        ledger = self.ledger
        for event in parked.listing(ledger.conn, 1, sink_id=ledger.sinks[sink]):
            gone = parked.drop(ledger.conn, ledger.held[sink], ledger.sinks[sink], [(event.strand_id, event.seq)])
            if gone and sink == "b":
                self.dropped.add(f"{event.run_key} {event.kind}")

    def overflow(self, sink: str) -> None:
        ledger = self.ledger
        lease, number = ledger.held[sink], ledger.sinks[sink]
        strands = overflow.oldest(ledger.conn, number, 0)
        overflow.park(ledger.conn, lease, number, strands, 1, "no room", ledger.now, rechecks=False)

    def narrow(self, narrow: bool) -> None:
        self.wanted = ENDS if narrow else ALL
        self.ledger.configure(a=self.wanted, b=ALL)

    def check(self) -> None:
        for sink in SINKS:
            counted, size = self.ledger.tally(sink), self.ledger.owed_bytes(sink)
            tallies.recount(self.ledger.conn, self.ledger.sinks[sink], ALL if sink == "b" else self.wanted)
            assert (self.ledger.tally(sink), self.ledger.owed_bytes(sink)) == (counted, size)

    def finish(self) -> None:
        self.ledger.now += 10 * SECOND
        for sink in SINKS:
            self.acknowledged[sink] += self.ledger.drain(sink)
            assert self.ledger.tally(sink)[0] == 0


ORDER = [START, RUNNING, COMPLETE]


def in_order(events: list[str]) -> bool:
    """Per run START, RUNNING, COMPLETE, as far as they were acknowledged."""
    lives = ([body.partition(" ")[2] for body in events if body.startswith(f"{key} ")] for key in KEYS)
    return all(life == [kind for kind in ORDER if kind in life] for life in lives)


@settings(max_examples=60, deadline=None)
@given(steps)
def test_counts_order_and_completeness(done: list[tuple[str, str | bool]]) -> None:
    with tempfile.TemporaryDirectory() as folder, opened(Path(folder) / "ledger.db") as ledger:
        live(ledger, done)


@settings(max_examples=25, deadline=None)
@given(steps)
def test_counts_order_and_completeness_in_postgresql(
    postgres: PostgresServer, done: list[tuple[str, str | bool]]
) -> None:
    with opened_in(postgres) as ledger:
        live(ledger, done)


def live(ledger: Ledger, done: list[tuple[str, str | bool]]) -> None:
    ledger.configure(a=ALL, b=ALL)
    scenario = Scenario(ledger)
    for name, value in done:
        getattr(scenario, name)(value)
        scenario.check()
    scenario.finish()
    for events in scenario.acknowledged.values():
        assert max(Counter(events).values(), default=1) == 1, "nothing is sent again once it was acknowledged"
        assert in_order(events)
    kept = parked.listing(ledger.conn, 1000, sink_id=ledger.sinks["b"])
    accounted = {*scenario.acknowledged["b"], *scenario.dropped, *(f"{event.run_key} {event.kind}" for event in kept)}
    assert accounted == set(scenario.made)
