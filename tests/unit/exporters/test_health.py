"""How a sink is doing: what counts as one outage, and what is logged of it."""

import logging
from datetime import UTC, datetime
from typing import Any

import pytest

from collector.ledger.shards import WHOLE, Shard
from collector.testing.clock import SimulatedClock
from exporters.delivery.circuit import OPENS_AFTER
from exporters.delivery.health import Health
from exporters.delivery.reports import CircuitReport, RecheckReport, SendReport
from exporters.sinks.base import Retry

DOWN = Retry("connection refused")
NOW = datetime(2026, 11, 22, tzinfo=UTC)


class Reports:
    def __init__(self) -> None:
        self.circuits: list[CircuitReport] = []

    def sent(self, report: SendReport) -> None: ...
    def rechecked(self, report: RecheckReport) -> None: ...

    def circuit(self, report: CircuitReport) -> None:
        self.circuits.append(report)


def a_health(reports: Reports | None = None, shard: Shard = WHOLE) -> Health:
    return Health("marquez", SimulatedClock(), lambda: 0.5, reports or Reports(), shard)


def logged_fields(caplog: pytest.LogCaptureFixture) -> list[tuple[str, dict[str, Any]]]:
    return [(record.message, record.__dict__["fields"]) for record in caplog.records]


def test_failures_before_a_success_do_not_count_for_the_next_outage() -> None:
    reports = Reports()
    health = a_health(reports)
    for _ in range(OPENS_AFTER - 1):
        health.failed(1, DOWN)
    health.succeeded(NOW)
    assert (health.circuit.failures, health.circuit.cause) == (0, None)
    health.failed(1, DOWN)
    assert not health.circuit.open
    assert reports.circuits == []


def test_a_probe_that_fails_for_its_event_alone_makes_room_for_another() -> None:
    health = a_health()
    for _ in range(OPENS_AFTER):
        health.failed(1, DOWN)
    health.probing(7)
    health.failed(7, Retry("500 for this event", sink_wide=False))
    assert health.circuit.open
    assert health.circuit.probe is None
    assert health.last_error == "500 for this event"


def test_a_loop_that_fails_is_shown_without_secrets(caplog: pytest.LogCaptureFixture) -> None:
    health = a_health()
    health.stuck("settle", ValueError("password=hunter2secret"))
    assert health.trouble == "settle: ValueError: password=***"
    [record] = [record for record in caplog.records if record.message == "delivery.stuck"]
    assert record.fields["cause"] == "password=***"  # type: ignore[attr-defined]


@pytest.mark.parametrize(("shard", "logged"), [(WHOLE, {}), (Shard(0, 2), {"shard": 0})])
def test_a_loop_that_goes_on_is_logged_once_with_its_shard_if_there_are_several(
    shard: Shard, logged: dict[str, int], caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    health = a_health(shard=shard)
    health.unstuck("settle")
    health.stuck("settle", ValueError("no"))
    caplog.clear()
    health.unstuck("settle")
    health.unstuck("settle")
    assert logged_fields(caplog) == [("delivery.recovered", {"sink": "marquez", "part": "settle", **logged})]


def test_an_outage_says_when_it_is_looked_at_next(caplog: pytest.LogCaptureFixture) -> None:
    health = a_health()
    health._clock.advance(100)  # type: ignore[attr-defined]
    for _ in range(OPENS_AFTER):
        health.failed(1, DOWN)
    [(event, fields)] = logged_fields(caplog)
    assert (event, fields["next_probe_seconds"]) == ("sink.interrupted", 0.8), "0.75, to a tenth"


@pytest.mark.parametrize(
    ("before", "now", "logged"),
    [
        (0, 9, []),
        (9, 10, ["sink.refusals_begun"]),
        (10, 11, []),
        (10, 10, []),
        (10, 0, ["sink.refusals_ended"]),
        (9, 0, []),
    ],
)
def test_refusals_are_logged_once_when_they_begin_and_end(
    before: int, now: int, logged: list[str], caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    a_health().refusals(before, now)
    assert [record.message for record in caplog.records] == logged
