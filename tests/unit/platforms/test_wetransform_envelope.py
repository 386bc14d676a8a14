import json
from typing import Any
from uuid import UUID

import pytest

from collector.errors import AuthFailed, BadAnswer, NotFound, SourceError, Throttled, Unavailable
from collector.platforms.answers import Forbidden
from collector.platforms.wetransform.automations import automation
from collector.platforms.wetransform.envelope import Envelope, Rejected, read
from collector.testing.clock import START

GOOD: dict[str, Any] = {
    "success": True,
    "payload": {"automation_id": str(UUID(int=8)), "step": "pending"},
    "product": None,
    "template_handle": "new-hires",
    "source_id": str(UUID(int=9)),
    "debug": [],
}
PRODUCT = {
    "requirement": "permission",
    "permission": {"name": "X_SOURCE_FORMAT_XML", "description": "Can import XML files"},
    "limitation_type": "columns",
    "limitation_needed_value": 12,
    "limitation_current_value": 9,
}


def answer(status: int, body: Any, **headers: str) -> Envelope:
    raw = body if isinstance(body, bytes) else json.dumps(body).encode()
    return read(status, headers, raw, tried="GET /x", now=START)


class TestSuccess:
    @pytest.mark.parametrize("status", [200, 201])
    def test_a_product_on_a_success_is_no_error(self, status: int) -> None:
        envelope = answer(status, GOOD | {"product": PRODUCT})
        assert envelope.payload["step"] == "pending"
        assert (envelope.template_handle, envelope.source_id) == ("new-hires", str(UUID(int=9)))

    def test_a_product_on_a_success_is_no_reason_of_a_failed_run(self) -> None:
        """The vendor's sample carries one; a failed run whose `details` are null says nothing more."""
        payload = GOOD["payload"] | {"step": "failed", "details": None, "step_for_humans": None}
        assert automation(answer(200, GOOD | {"payload": payload, "product": PRODUCT})).words == ""

    def test_escaped_slashes_are_plain_json(self) -> None:
        raw = json.dumps(GOOD | {"payload": {"original_file": "https://h/f"}}).replace("/", "\\/").encode()
        assert answer(200, raw).payload["original_file"] == "https://h/f"

    @pytest.mark.parametrize(
        "body",
        [
            b"",
            b"<html>",
            b'{"success": true, "payload": {"autom',
            b"\xff\xfe",
            b"[" * 5000 + b"]" * 5000,
            [],
            None,
            7,
            GOOD | {"payload": []},
            GOOD | {"payload": None},
            GOOD | {"payload": "x"},
        ],
    )
    def test_what_cannot_be_read_says_so(self, body: Any) -> None:
        with pytest.raises(BadAnswer, match="GET /x: status 200") as caught:
            answer(200, body)
        assert not isinstance(caught.value, Rejected)

    @pytest.mark.parametrize(
        ("success", "kind"), [(False, Rejected), (None, BadAnswer), ("true", BadAnswer), (1, BadAnswer)]
    )
    def test_success_must_be_true_and_only_false_is_a_no(self, success: Any, kind: type[BadAnswer]) -> None:
        with pytest.raises(BadAnswer, match="missing permission X_SOURCE_FORMAT_XML") as caught:
            answer(200, GOOD | {"success": success, "payload": [], "product": PRODUCT})
        assert type(caught.value) is kind


class TestErrors:
    @pytest.mark.parametrize(
        ("status", "kind"),
        [
            (400, Rejected),
            (401, AuthFailed),
            (403, Forbidden),
            (404, NotFound),
            (410, NotFound),
            (422, Rejected),
            (301, Rejected),
            (429, Throttled),
            (500, Unavailable),
            (502, Unavailable),
        ],
    )
    @pytest.mark.parametrize("body", [b"<html>", {"success": False, "payload": [], "product": None}, b""])
    def test_statuses(self, status: int, kind: type[SourceError], body: Any) -> None:
        with pytest.raises(kind, match=f"GET /x: status {status}"):
            answer(status, body)

    def test_what_is_missing_is_said_in_words(self) -> None:
        with pytest.raises(Forbidden) as caught:
            answer(403, {"success": False, "payload": [], "product": PRODUCT})
        assert "missing permission X_SOURCE_FORMAT_XML (Can import XML files)" in str(caught.value)
        assert "limit columns: 12 needed, 9 allowed" in str(caught.value)

    def test_a_payload_that_speaks_is_heard_without_its_secrets(self) -> None:
        with pytest.raises(Rejected) as caught:
            answer(400, {"success": False, "payload": {"why": "bad url https://u:pw@h/x?token=abcdef"}})
        assert "bad url" in str(caught.value)
        assert "pw" not in str(caught.value)
        assert "abcdef" not in str(caught.value)

    @pytest.mark.parametrize(("header", "after"), [("7", 7.0), ("Sat, 21 Nov 2026 09:15:30 GMT", 30.0), ("", None)])
    def test_patience(self, header: str, after: float | None) -> None:
        with pytest.raises(Throttled) as caught:
            answer(429, b"", **({"Retry-After": header} if header else {}))
        assert caught.value.after == after


class TestAutomations:
    def test_another_runs_answer_is_never_taken_for_this_one(self) -> None:
        with pytest.raises(BadAnswer, match="the answer is about"):
            automation(answer(200, GOOD), asked=str(UUID(int=7)))

    def test_ids_are_compared_as_uuids(self) -> None:
        shouted = GOOD | {"payload": {"automation_id": str(UUID(int=0xABCDEF)).upper(), "step": "failed"}}
        assert automation(answer(200, shouted), asked=str(UUID(int=0xABCDEF))).step == "failed"

    def test_a_null_id_is_the_one_that_was_asked_for(self) -> None:
        seen = automation(answer(200, GOOD | {"payload": {"automation_id": None}}), asked=str(UUID(int=7)))
        assert (seen.key, seen.step) == (str(UUID(int=7)), None)

    @pytest.mark.parametrize(
        ("step", "read_as"),
        [(None, None), ("failed", "failed"), (7, "7"), ([], "[]"), ({"a": 1}, "{'a': 1}"), ("x" * 500, 64)],
    )
    def test_odd_steps(self, step: Any, read_as: Any) -> None:
        seen = automation(answer(200, GOOD | {"payload": {"step": step}}))
        assert (len(str(seen.step)) if isinstance(read_as, int) else seen.step) == read_as

    def test_odd_values_of_every_field_do_no_harm(self) -> None:
        odds: tuple[Any, ...] = (None, [], {}, 7, True, "", "x" * 10_000)
        for odd in odds:
            payload = dict.fromkeys(
                ("step_for_humans", "details", "original_file", "transformed_file", "created_at", "type"), odd
            )
            body = GOOD | {"payload": payload, "template_handle": odd, "source_id": odd, "product": odd, "debug": odd}
            assert automation(answer(200, body), asked=str(UUID(int=7))).key == str(UUID(int=7))
