"""Passes each report of polling and of delivery on to all observers: the metrics always, the demo when it runs."""

from collections.abc import Sequence
from typing import Protocol

from collector.reports import (
    EventReport,
    HintReport,
    LeaseReport,
    LoadReport,
    Observer,
    PollReport,
    RequestReport,
    SkipReport,
)
from exporters.delivery.reports import CircuitReport, DeliveryObserver, RecheckReport, SendReport


class ServiceObserver(Observer, DeliveryObserver, Protocol):
    """Gets the reports of polling, of delivery and of leases."""

    def lease(self, report: LeaseReport) -> None: ...


class Observers:
    """Passes each report on to all `observers`. A subclass without observers overrides just the reports that it needs."""

    def __init__(self, observers: Sequence[ServiceObserver] = ()) -> None:
        self._observers = tuple(observers)

    def polled(self, report: PollReport) -> None:
        for observer in self._observers:
            observer.polled(report)

    def requested(self, report: RequestReport) -> None:
        for observer in self._observers:
            observer.requested(report)

    def planned(self, report: LoadReport) -> None:
        for observer in self._observers:
            observer.planned(report)

    def hinted(self, report: HintReport) -> None:
        for observer in self._observers:
            observer.hinted(report)

    def committed(self, report: EventReport) -> None:
        for observer in self._observers:
            observer.committed(report)

    def skipped(self, report: SkipReport) -> None:
        for observer in self._observers:
            observer.skipped(report)

    def sent(self, report: SendReport) -> None:
        for observer in self._observers:
            observer.sent(report)

    def circuit(self, report: CircuitReport) -> None:
        for observer in self._observers:
            observer.circuit(report)

    def rechecked(self, report: RecheckReport) -> None:
        for observer in self._observers:
            observer.rechecked(report)

    def lease(self, report: LeaseReport) -> None:
        for observer in self._observers:
            observer.lease(report)
