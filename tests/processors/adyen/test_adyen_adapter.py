"""The Adyen adapter against the local server: requests, lost answers, keys, amounts, and what cannot be asked."""

from __future__ import annotations

import asyncio
import json
import socket
from datetime import UTC, datetime
from typing import Any

import pytest
from aiohttp.test_utils import unused_port
from tests.processors.adyen.bench import INSTALLATION, LEG, Bench, order
from tests.processors.adyen.book import KEY_SECONDS, MERCHANT
from tests.processors.adyen.server import API_KEY

from refund_worker.domain.money import STRIPE_STEP, STRIPE_THREE_DECIMAL, STRIPE_ZERO_DECIMAL
from refund_worker.domain.processor_replies import (
    Answered,
    Busy,
    KeyConflict,
    Misconfigured,
    NotSent,
    PaymentUnreadable,
    Unanswered,
)
from refund_worker.processors.adyen.adapter import AdyenProcessor
from refund_worker.processors.adyen.objects import (
    THREE_DECIMAL,
    ZERO_DECIMAL,
    frozen_text,
    idempotency_key,
    marks_of,
    reference_of,
    thawed,
    to_adyen_value,
    to_our_minor,
    to_refund_object,
)
from refund_worker.processors.wire import Unreadable

# --- requests ---------------------------------------------------------------------------------------------------------


def test_request_has_the_published_form_and_our_ids(adyen: Bench) -> None:
    payment = adyen.payment()
    reply = adyen.send(payment)
    assert isinstance(reply, Answered)
    (exchange,) = adyen.server.state.exchanges
    assert exchange.request == {
        "merchantAccount": MERCHANT,
        "amount": {"value": 900, "currency": "GBP"},
        "reference": f"rw.{LEG}.1.{INSTALLATION}",
    }
    assert exchange.headers["Idempotency-Key"] == f"{LEG}:1"
    made = reply.object
    assert (made.status, made.amount_minor, made.currency, made.payment_refs) == ("pending", 900, "GBP", (payment,))
    assert (made.leg_id, made.attempt, made.installation, made.live) == (LEG, 1, INSTALLATION, False)
    assert not reply.replayed
    assert abs((datetime.now(UTC) - made.created_at).total_seconds()) < 60


def test_stored_request_is_sent_with_the_same_bytes_each_time(adyen: Bench) -> None:
    payment = adyen.payment()
    body = adyen.adapter.freeze(order(payment))
    assert json.loads(body)["paymentPspReference"] == payment
    for key in ("a", "b"):
        adyen.run(adyen.adapter.send(key, body))
    first, second = (each.body for each in adyen.server.book.keys.values())
    assert first == second


def test_longest_ids_fit_into_the_reference_and_come_back() -> None:
    leg = "rf_0199a2b3c4d50001a2b3c4d5e6-999"
    reference = reference_of(order("9913140798220028", leg_id=leg, attempt=999))
    assert len(reference) <= 80
    assert ":" not in reference
    marks = marks_of(reference)
    assert (marks.leg_id, marks.attempt, marks.installation) == (leg, 999, INSTALLATION)


@pytest.mark.parametrize("changes", [{"leg_id": "x" * 70}, {"leg_id": "a:b"}, {"leg_id": "a.b"}, {"leg_id": ""}])
def test_ids_that_do_not_fit_are_refused(adyen: Bench, changes: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="does not fit"):
        adyen.adapter.freeze(order("9913140798220028", **changes))


@pytest.mark.parametrize("amount", [0, -1, True, 1.5])
def test_amount_that_is_no_positive_integer_is_refused(adyen: Bench, amount: int) -> None:
    with pytest.raises(ValueError, match="positive integer"):
        adyen.adapter.freeze(order("9913140798220028", amount))


@pytest.mark.parametrize(
    "reference", ["order 4711", "rw.", "rw.a", "rw.a.b", "rw.a.1.", "xrw.a.1", 5, None, "rw.a.1.b.c"]
)
def test_reference_of_others_has_no_marks_of_ours(reference: object) -> None:
    assert marks_of(reference).leg_id is None


def test_key_that_is_too_long_or_no_header_value_is_hashed() -> None:
    assert idempotency_key(f"{LEG}:1") == f"{LEG}:1"
    assert len(f"{LEG}:1") < 64
    for key in ("k" * 65, "a b", "schlüssel", ""):
        hashed = idempotency_key(key)
        assert (len(hashed), hashed) == (64, idempotency_key(key))
        assert hashed != idempotency_key(key + "x")


def test_stored_text_of_another_form_is_not_sent(adyen: Bench) -> None:
    for body in ("", "[]", "{}", '{"paymentPspReference": "a/b", "request": {}}', "[" * 100_000):
        reply = adyen.run(adyen.adapter.send("k", body))
        assert isinstance(reply, Misconfigured)
        assert reply.code == "bad_body"


# --- lost answers -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("fault", ["timeout", "reset", "cut", "error", "garbage", "proxy"])
def test_lost_answer_is_unanswered_and_its_key_finds_the_refund(adyen: Bench, fault: str) -> None:
    payment = adyen.payment()
    adyen.server.break_next(payment, fault)
    lost = adyen.send(payment)
    assert isinstance(lost, Unanswered), lost
    assert not lost.server_error, "a server error is not kept under its key, as far as anything says"
    (made,) = adyen.server.book.refunds_of(payment)
    again = adyen.send(payment)
    assert isinstance(again, Answered), again
    assert again.object.processor_refund_id == made.psp
    assert adyen.server.book.paid(payment) == [900]


@pytest.mark.parametrize("fault", ["drop", "503", "704", "429", "blocked", "error_before"])
def test_request_that_was_not_executed_is_made_by_its_key_later(adyen: Bench, fault: str) -> None:
    payment = adyen.payment()
    adyen.server.break_next(payment, fault)
    reply = adyen.send(payment)
    assert isinstance(reply, Busy if fault == "429" else Unanswered), reply
    assert adyen.server.book.paid(payment) == []
    assert isinstance(adyen.send(payment), Answered)
    assert adyen.server.book.paid(payment) == [900]


def test_request_that_lands_late_is_the_one_that_its_key_made(adyen: Bench) -> None:
    payment = adyen.payment()
    adyen.server.break_next(payment, "held")
    assert isinstance(adyen.send(payment), Unanswered)
    again = adyen.send(payment)
    assert isinstance(again, Answered)
    assert adyen.server.land() == 1
    assert adyen.server.book.paid(payment) == [900]


def test_key_in_progress_is_unanswered_not_busy(adyen: Bench) -> None:
    """Its first request was executed, or will be: that is no proof that nothing was."""
    payment = adyen.payment()
    adyen.server.break_next(payment, "slow")

    async def both() -> list[object]:
        body = adyen.adapter.freeze(order(payment))
        first = asyncio.create_task(adyen.adapter.send("k", body))
        await asyncio.sleep(0.1)
        return [await adyen.adapter.send("k", body), await first]

    second, first = adyen.run(both())
    assert isinstance(second, Unanswered)
    assert isinstance(first, Answered)
    assert adyen.server.book.paid(payment) == [900]


def test_refused_connection_proves_that_nothing_was_sent() -> None:
    adapter = AdyenProcessor(API_KEY, MERCHANT, base=f"http://127.0.0.1:{unused_port()}", live=False, timeout_seconds=2)

    async def send() -> object:
        reply = await adapter.send("k", adapter.freeze(order("9913140798220028")))
        await adapter.close()
        return reply

    assert isinstance(asyncio.run(send()), NotSent)


def test_server_that_never_answers_is_left_in_time() -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        port = silent.getsockname()[1]
        adapter = AdyenProcessor(API_KEY, MERCHANT, base=f"http://127.0.0.1:{port}", live=False, timeout_seconds=0.2)

        async def send() -> object:
            reply = await adapter.send("k", adapter.freeze(order("9913140798220028")))
            await adapter.close()
            return reply

        assert isinstance(asyncio.run(send()), Unanswered)


# --- keys -------------------------------------------------------------------------------------------------------------


def test_answer_about_another_refund_is_a_key_conflict(adyen: Bench) -> None:
    first, second = adyen.payment(), adyen.payment()
    assert isinstance(adyen.send(first, 900), Answered)
    for payment, amount in ((second, 900), (first, 901)):
        assert isinstance(adyen.send(payment, amount), KeyConflict)
    other_leg = adyen.adapter.freeze(order(first, 900, leg_id="rf_another-1"))
    assert isinstance(adyen.run(adyen.adapter.send(f"{LEG}:1", other_leg)), KeyConflict)
    adyen.server.break_next(second, "other_payment")
    assert isinstance(adyen.send(second, key="another"), KeyConflict)


def test_key_that_adyen_has_forgotten_would_refund_again(adyen: Bench) -> None:
    """The table's shorter use of a key keeps the engine away from this."""
    payment = adyen.payment()
    adyen.send(payment)
    adyen.server.book.clock_offset += KEY_SECONDS + 1
    adyen.send(payment)
    assert adyen.server.book.paid(payment) == [900, 900]


@pytest.mark.parametrize("status", ["succeeded", "failed", "refused"])
def test_status_that_adyen_does_not_publish_is_none_of_ours(status: str) -> None:
    sent = thawed(frozen_text(order("9913140798220028"), MERCHANT))
    answer = {"pspReference": "QFQTPCQ8HXSKGK82", "paymentPspReference": sent.payment, "status": status}
    described = {**answer, "amount": sent.request["amount"]}
    made = to_refund_object(described, sent, now=datetime.now(UTC), live=False)
    assert (made.status, made.leg_id) == (f"adyen_{status}", LEG), "without a reference, it is the one that was sent"
    for name in (*answer, "amount"):
        with pytest.raises(Unreadable):
            to_refund_object({**described, name: None}, sent, now=datetime.now(UTC), live=False)


# --- amounts ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("currency", "ours", "theirs"),
    [
        ("EUR", 1234, 1234),
        ("JPY", 600, 600),
        ("CLP", 600, 60_000),  # no decimals in our books, two at Adyen
        ("ISK", 60_000, 60_000),  # two at both
        ("UGX", 60_000, 600),
        ("KWD", 1230, 1230),
        ("LYD", 123, 1230),  # two in our books, three at Adyen
        ("IDR", 60_000, 600),
    ],
)
def test_amounts_are_in_adyens_minor_units(currency: str, ours: int, theirs: int) -> None:
    assert to_adyen_value(ours, currency) == theirs
    assert to_our_minor({"value": theirs, "currency": currency}) == (ours, currency)


def test_every_currency_of_our_table_keeps_its_amount() -> None:
    for currency in sorted(STRIPE_ZERO_DECIMAL | STRIPE_THREE_DECIMAL | ZERO_DECIMAL | THREE_DECIMAL | {"EUR"}):
        if currency in ("BIF", "MGA"):
            with pytest.raises(ValueError, match="not known"):
                to_adyen_value(100, currency)
            continue
        minor = 100 * STRIPE_STEP.get(currency, 1)
        assert to_our_minor({"value": to_adyen_value(minor, currency), "currency": currency}) == (minor, currency)


def test_amount_that_adyen_cannot_hold_is_refused() -> None:
    with pytest.raises(ValueError, match="fewer decimals"):
        to_adyen_value(150, "IDR")


@pytest.mark.parametrize(
    "amount",
    [
        None,
        {},
        {"value": 1.0, "currency": "EUR"},
        {"value": True, "currency": "EUR"},
        {"value": "1", "currency": "EUR"},
        {"value": -1, "currency": "EUR"},
        {"value": 1, "currency": "eur"},
        {"value": 1, "currency": "MGA"},
        {"value": 10**18, "currency": "EUR"},
        {"value": 1, "currency": "LYD"},
        {"value": 150, "currency": "CLP"},
    ],
)
def test_amount_that_our_books_cannot_hold_is_unreadable(amount: object) -> None:
    with pytest.raises(Unreadable):
        to_our_minor(amount)


# --- what cannot be asked ---------------------------------------------------------------------------------------------


def test_nothing_that_cannot_be_asked_is_reported_as_absent(adyen: Bench) -> None:
    adapter, payment = adyen.adapter, adyen.payment()
    made = adyen.made(payment)
    assert isinstance(adyen.run(adapter.find(payment, LEG)), Misconfigured)
    assert isinstance(adyen.run(adapter.recent(datetime.now(UTC))), Misconfigured)
    fetched = adyen.run(adapter.fetch(made.processor_refund_id))
    assert isinstance(fetched, Misconfigured)
    assert fetched.code == "not_readable"
    assert isinstance(adyen.run(adapter.cancel(made.processor_refund_id)), Misconfigured)
    assert isinstance(adyen.run(adapter.find_payment(payment)), PaymentUnreadable)


def test_no_secret_is_in_a_reply_or_a_repr(adyen: Bench) -> None:
    payment = adyen.payment()
    replies = [adyen.send(payment), adyen.send("NOSUCHPAYMENT000")]
    for fault in ("reset", "garbage", "error"):
        adyen.server.break_next(payment, fault)
        replies.append(adyen.send(payment, key=fault))
    assert API_KEY not in repr((replies, adyen.adapter))
