"""Requests, answers and events of the adapter and of the local server against Adyen's published descriptions."""

from __future__ import annotations

import json
from typing import Any

import pytest
from tests.processors.adyen.bench import WEBHOOKS, Bench, items_of, report_of
from tests.processors.adyen.book import as_body
from tests.processors.adyen.descriptions import CHECKOUT, HOOKS, REFUNDS, described, event_schema, example

from refund_worker.processors.adyen.errors import PAYMENT_NOT_CAPTURED, REFUND_REVERSED, REJECTED_BY_SCHEME


def test_requests_and_answers_fit_the_published_description(adyen: Bench) -> None:
    checkout = described(CHECKOUT)
    payment = adyen.payment()
    for key, to, amount in (("a", payment, 900), ("b", payment, 1), ("c", "NOSUCHPAYMENT000", 5)):
        adyen.send(to, amount, key=key)
    answered = set()
    for exchange in adyen.server.state.exchanges:
        assert checkout.faults(exchange.request, checkout.request(REFUNDS, "POST")) == []
        answer = checkout.answer(REFUNDS, "POST", exchange.status)
        assert answer is not None
        assert checkout.faults(exchange.answer, answer) == []
        answered.add(exchange.status)
    assert answered == {201, 422}


def test_the_check_finds_what_the_description_forbids(adyen: Bench) -> None:
    checkout = described(CHECKOUT)
    good: dict[str, Any] = {"merchantAccount": "a", "amount": {"value": 1, "currency": "EUR"}, "reference": "r"}
    assert checkout.faults(good, checkout.request(REFUNDS, "POST")) == []
    for wrong in (
        {"merchantAccount": "a"},
        {**good, "shopper": "x"},
        {**good, "amount": {"value": "1", "currency": "EUR"}},
        {**good, "amount": {"value": 1, "currency": "EURO"}},
        {**good, "merchantRefundReason": "BECAUSE"},
    ):
        assert checkout.faults(wrong, checkout.request(REFUNDS, "POST")) != []


def test_events_of_the_server_fit_the_published_description(adyen: Bench) -> None:
    hooks = described(HOOKS)
    payment = adyen.payment()
    made = adyen.made(payment)
    book, psp = adyen.server.book, made.processor_refund_id
    for event in (
        book.postpone(psp),
        book.process(psp),
        book.fail(psp),
        book.reverse(psp),
        book.authorisation(payment),
    ):
        (item,) = items_of(as_body(event))
        if item["eventCode"] == "POSTPONED_REFUND":
            # The description forbids the signature there, though its own example has one.
            assert hooks.faults(example(hooks, "POSTPONED_REFUND"), event_schema(hooks, "POSTPONED_REFUND")) != []
            del event["notificationItems"][0]["NotificationRequestItem"]["additionalData"]
        assert hooks.faults(event, event_schema(hooks, item["eventCode"])) == []


@pytest.mark.parametrize(
    ("code", "expected"),
    [
        ("REFUND", ("failed", PAYMENT_NOT_CAPTURED)),
        ("REFUND_FAILED", ("failed", REJECTED_BY_SCHEME)),
        ("REFUNDED_REVERSED", ("failed", REFUND_REVERSED)),
        ("POSTPONED_REFUND", ("pending", None)),
        ("CANCEL_OR_REFUND", None),  # its example is a cancellation
        ("VOID_PENDING_REFUND", None),
        ("REFUND_WITH_DATA", None),
    ],
)
def test_published_example_of_an_event_is_read(code: str, expected: tuple[str, str | None] | None) -> None:
    report = report_of(as_body(example(described(HOOKS), code)))
    assert (None if report is None else (report.status, report.failure_code)) == expected
    if report is not None:
        assert (report.processor_refund_id, report.payment_refs) == ("QFQTPCQ8HXSKGK82", ("9913140798220028",))
        assert (report.amount_minor, report.currency, report.leg_id, report.live) == (1000, "EUR", None, False)


def test_every_published_event_is_named_and_only_refunds_are_reported() -> None:
    hooks = described(HOOKS)
    reported = set()
    every = [value["value"] for value in hooks.document["components"]["examples"].values()]
    examples = [event for event in every if "notificationItems" in event]  # some kinds have none
    assert len(examples) > 35
    for event in examples:
        for part in WEBHOOKS.split(json.dumps(event).encode()):
            _, kind = WEBHOOKS.event_name(part)
            if WEBHOOKS.event_report(kind, part.decode()) is not None:
                reported.add(kind)
    assert reported == {"REFUND", "REFUND_FAILED", "REFUNDED_REVERSED", "POSTPONED_REFUND"}
