import hashlib
import hmac
import json
from dataclasses import replace
from typing import Any
from uuid import UUID

import pytest

from collector.errors import BadAnswer
from collector.hint import signature_fits
from collector.model import Facts, Job, Run, RunState
from collector.platforms.wetransform.hints import Hint, may_mean, read_hint
from collector.testing.clock import START
from simulators.wetransform import sign

BODY = json.dumps(
    {
        "event": "file:ready-for-download",
        "download_url": "https://files.example.test/x?signature=abc",
        "customer_id": "cust-1",
        "customer_email": "ann@acme.example",
        "template": "new-hires",
    }
).encode()


def test_half_a_surrogate_pair_in_a_hint_costs_no_more_than_itself() -> None:
    found = read_hint(BODY.replace(b"new-hires", rb"new\ud800hires"))
    assert found == Hint(frozenset({"cust-1", "ann@acme.example"}), "new\ufffdhires")


class TestSignature:
    def test_the_right_one(self) -> None:
        right = hmac.new(b"s3cret", BODY, hashlib.sha256).hexdigest()
        assert signature_fits("s3cret", BODY, right)
        assert signature_fits("s3cret", BODY, f" {right.upper()} ")
        assert signature_fits("s3cret", BODY, sign("s3cret", BODY))

    @pytest.mark.parametrize("wrong", [None, "", "00", "é", "\udcff", sign("other", BODY), sign("s3cret", BODY + b" ")])
    def test_wrong_ones(self, wrong: str | None) -> None:
        assert not signature_fits("s3cret", BODY, wrong)

    def test_it_is_over_the_raw_bytes(self) -> None:
        assert not signature_fits("s3cret", json.dumps(json.loads(BODY), indent=1).encode(), sign("s3cret", BODY))


class TestReading:
    def test_what_it_says(self) -> None:
        assert read_hint(BODY) == Hint(frozenset({"cust-1", "ann@acme.example"}), "new-hires")

    def test_ids_may_be_numbers(self) -> None:
        hint = read_hint(b'{"event": "file:ready-for-download", "customer_id": 17, "template": 4}')
        assert hint == Hint(frozenset({"17"}), "4")

    @pytest.mark.parametrize("template", [b"", b', "template": null', b', "template": ""', b', "template": []'])
    def test_without_a_template_it_could_be_about_any_run(self, template: bytes) -> None:
        with pytest.raises(BadAnswer, match="names no template"):
            read_hint(b'{"event": "file:ready-for-download", "customer_id": 17' + template + b"}")

    def test_other_events_are_none_of_ours(self) -> None:
        assert read_hint(b'{"event": "file:received"}') is None

    @pytest.mark.parametrize("body", [b"", b"{", b"[]", b"null", b"{}", b'{"event": 7}', b"\xff"])
    def test_what_is_no_event(self, body: bytes) -> None:
        with pytest.raises(BadAnswer, match="webhook"):
            read_hint(body)


def run(key: str, customer: str | None, template: str | None, **more: Any) -> Run:
    job = Job("t", "wetransform://api.wetransform.com/acme", "transformation/t", "JOB", "WETRANSFORM")
    made = Run(key, UUID(int=1), job, RunState.RUNNING, "matching", START, START)
    ids = {"template_handle": template} if template else {}
    return replace(made, facts=Facts(ids=ids), handle={"customer": customer} if customer else {}, **more)


class TestMatching:
    def test_same_customer_and_same_template(self) -> None:
        runs = [
            run("by-mail", "Ann@Acme.example", "new-hires"),
            run("by-id", "cust-1", "new-hires"),
            run("other-template", "cust-1", "price-list"),
            run("other-customer", "cust-2", "new-hires"),
            run("nobody-in-particular", None, "new-hires"),
            run("template-unknown", "cust-1", None),
        ]
        hint = Hint(frozenset({"cust-1", "ann@acme.example"}), "new-hires")
        meant = [run.key for run in runs if may_mean(hint, run)]
        assert meant == ["by-mail", "by-id", "nobody-in-particular", "template-unknown"]

    def test_without_a_customer_the_template_decides(self) -> None:
        runs = [run("a", "cust-1", "x"), run("b", None, "y"), run("c", None, "x")]
        assert [one.key for one in runs if may_mean(Hint(frozenset(), "x"), one)] == ["a", "c"]
