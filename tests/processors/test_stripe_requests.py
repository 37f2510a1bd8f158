"""The Stripe adapter's requests: the frozen body, its parameters, the key and the account."""

from __future__ import annotations

import json
from typing import Any

import pytest
from tests.processors.scripted_stripe import API_KEY, ORDER, Bench, answers, frozen, page, refund

from refund_worker.domain.processor_replies import Misconfigured


def test_adapter_has_the_name_that_it_was_given(bench: Bench) -> None:
    assert (bench.adapter("http://x").name, bench.adapter("http://x", name="stripe-eu").name) == ("stripe", "stripe-eu")


def test_frozen_body_is_sent_unchanged_with_the_given_key(bench: Bench) -> None:
    adapter = bench.play(answers(200, refund()))
    body = adapter.freeze(ORDER)
    assert body == (
        '{"amount":1500,"charge":"ch_1","metadata":{"refund_worker_attempt":"1","refund_worker_leg":"leg_1",'
        '"refund_worker_refund":"rf_1"},"reason":"requested_by_customer"}'
    )
    bench.run(adapter.send("key_1", body))
    bench.run(adapter.send("key_1", body))
    first, second = bench.server.requests
    assert first.headers["idempotency-key"] == "key_1"
    assert not any("key_1" in part for part in (first.target, first.body)), "the key must be in the header only"
    assert first.headers["authorization"] == f"Bearer {API_KEY}"
    assert first.form == {
        "amount": "1500",
        "charge": "ch_1",
        "metadata[refund_worker_attempt]": "1",
        "metadata[refund_worker_leg]": "leg_1",
        "metadata[refund_worker_refund]": "rf_1",
        "reason": "requested_by_customer",
    }
    assert (second.body, second.headers) == (first.body, first.headers), "a repeat must not differ in anything"
    assert "x-stripe-client-telemetry" not in second.headers
    assert "stripe-account" not in first.headers


def test_connected_account_is_sent_in_the_header(bench: Bench) -> None:
    bench.play(answers(200, refund()))
    bench.ask(bench.adapter(bench.server.url, account="acct_7"))
    assert bench.server.requests[0].headers["stripe-account"] == "acct_7"


@pytest.mark.parametrize(("payment", "parameter"), [("ch_1", "charge"), ("py_1", "charge"), ("pi_1", "payment_intent")])
def test_payment_is_sent_in_the_parameter_of_its_kind(payment: str, parameter: str) -> None:
    body = json.loads(frozen(processor_payment_id=payment))
    assert body[parameter] == payment
    assert {"charge", "payment_intent"} & set(body) == {parameter}


@pytest.mark.parametrize("payment", ["", "re_1", "cash-17", "CH_1", "ch_1/../x", "ch_1&amount=9", "ch_ü"])
def test_payment_id_that_is_not_stripes_is_refused(bench: Bench, payment: str) -> None:
    with pytest.raises(ValueError, match="begins with"):
        frozen(processor_payment_id=payment)
    adapter = bench.play(page())
    reply = bench.run(adapter.find(payment, "leg_1"))
    assert isinstance(reply, Misconfigured)
    assert (reply.code, "begins with" in reply.message) == ("bad_payment_id", True)
    assert not bench.server.requests


@pytest.mark.parametrize(
    ("reason", "expected"),
    [
        ("duplicate", "duplicate"),
        (" Duplicate payment. ", "duplicate"),
        ("not a duplicate", "requested_by_customer"),
        ("fraudulent", "requested_by_customer"),
        ("", "requested_by_customer"),
        ("x" * 5000, "requested_by_customer"),
    ],
)
def test_free_text_reason_is_mapped_and_never_to_fraudulent(reason: str, expected: str) -> None:
    assert json.loads(frozen(reason=reason))["reason"] == expected


@pytest.mark.parametrize(
    "changes",
    [
        {"amount_minor": 0},
        {"amount_minor": -5},
        {"amount_minor": True},
        {"amount_minor": 1.0},
        {"leg_id": ""},
        {"refund_id": "x" * 501},
    ],
)
def test_instruction_that_stripe_would_misread_is_not_frozen(changes: dict[str, Any]) -> None:
    with pytest.raises(ValueError):
        frozen(**changes)


@pytest.mark.parametrize("key", ["", "k" * 256, "a b", "a\r\nX: y", "schlüssel"])
def test_key_that_does_not_fit_a_header_is_not_sent(bench: Bench, key: str) -> None:
    adapter = bench.play(answers(200, refund()))
    with pytest.raises(ValueError, match="idempotency key"):
        bench.run(adapter.send(key, adapter.freeze(ORDER)))
    assert not bench.server.requests


@pytest.mark.parametrize("identifier", ["", "..", "re_1/cancel", "re_1?expand=x", "re 1", "re_1\n", "x" * 256])
def test_malformed_refund_id_is_not_sent(bench: Bench, identifier: str) -> None:
    adapter = bench.play(answers(200, refund()))
    assert isinstance(bench.run(adapter.fetch(identifier)), Misconfigured)
    assert isinstance(bench.run(adapter.cancel(identifier)), Misconfigured)
    assert not bench.server.requests
