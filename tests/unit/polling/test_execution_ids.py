"""Under which id a trigger is made, and made again."""

import json
from collections.abc import Mapping
from typing import Any, cast
from unittest.mock import Mock

import pytest

from collector.errors import TriggerError
from collector.ledger.held_lease import HeldLease, Leases
from collector.ledger.leases import Lease
from collector.ledger.requests import Request, RequestKind, RequestState
from collector.ledger.sqlite.store import Store
from collector.model import Observation
from collector.platforms.base import Platform
from collector.polling.requests import Answer, SourceRequests
from collector.testing.clock import SimulatedClock


class Vendor:
    """Loses every answer and notes the ids that it was given."""

    def __init__(self) -> None:
        self.given: list[str] = []

    async def trigger(self, job: str, parameters: Mapping[str, str], token: str) -> Observation:
        self.given.append(token)
        raise TriggerError("no answer", doubtful=True)


class Keeping(Vendor):
    takes_execution_ids = True


def request(number: int, **body: Any) -> Request:
    text = json.dumps({"job": "7", "options": {}, **body})
    return Request(number, RequestKind.TRIGGER, "source:prep", text, 5, RequestState.CLAIMED)


async def answer(vendor: Vendor, number: int, **body: Any) -> Answer:
    return await of(vendor)._answer(request(number, **body))


def of(vendor: Vendor) -> SourceRequests:
    never: Any = None
    clock = SimulatedClock()
    lease = Lease("source:prep", "test", 1, clean=True)
    held = HeldLease(Leases(Mock(), clock, "test", never), lease, ttl=120.0, asked_at=clock.monotonic())
    return SourceRequests(cast(Platform, vendor), cast(Store, never), 1, clock, held, never, never, never)


async def test_a_lost_trigger_names_its_id_and_is_made_again_under_it() -> None:
    vendor = Keeping()
    lost = await answer(vendor, 1)
    assert lost == Answer(RequestState.DOUBTFUL, {"error": "no answer", "execution_id": vendor.given[0]})
    assert (await answer(vendor, 2, execution=lost.body["execution_id"])).body == lost.body
    assert (await answer(vendor, 3)).body != lost.body
    first, second, third = vendor.given
    assert first == second != third


async def test_a_trigger_that_a_kill_cut_off_names_its_id() -> None:
    vendor = Keeping()
    await answer(vendor, 1)
    [given] = vendor.given
    body = json.loads(of(vendor)._interrupted(request(1)))
    assert body["execution_id"] == given
    assert body["error"].endswith(f"whether it was done; to ask again without a second run: --execution-id {given}")
    assert "execution" not in of(Vendor())._interrupted(request(1))


@pytest.mark.parametrize("vendor", [Vendor()])
async def test_a_platform_that_keeps_no_ids_is_given_none(vendor: Vendor) -> None:
    assert (await answer(vendor, 1)).body == {"error": "no answer"}
    refused = await answer(vendor, 2, execution="an-id")
    assert refused.state is RequestState.FAILED
    assert "nothing was started" in (refused.body["error"] or "")
    assert len(vendor.given) == 1
