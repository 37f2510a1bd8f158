"""Reading at Braintree: documents within limits, statuses, payments, lists, the search, and what no text may show."""

from __future__ import annotations

import asyncio
import contextlib
import json
from datetime import UTC, datetime, timedelta
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import SecretStr, ValidationError
from tests.processors.braintree.bench import INSTALLATION, LEG, Bench, answered
from tests.processors.braintree.book import Book
from tests.processors.braintree.server import MERCHANT, PRIVATE, PUBLIC
from tests.processors.braintree.xml_text import TRANSACTION_FIELDS, transaction_xml

from refund_worker.domain.processor_calls import RefundInstruction
from refund_worker.domain.processor_replies import (
    Answered,
    Blocked,
    Busy,
    Denied,
    Found,
    Misconfigured,
    NotSent,
    PaymentRead,
    Refused,
    Unanswered,
)
from refund_worker.processors.braintree import adapter as adapter_module
from refund_worker.processors.braintree import xml_documents
from refund_worker.processors.braintree.adapter import BraintreeProcessor
from refund_worker.processors.braintree.entry import ENTRY, SERVERS, BraintreeSettings
from refund_worker.processors.braintree.objects import CAPTURED, FAILED, STATUSES, to_refund_object, to_transaction
from refund_worker.processors.braintree.orders import Marks, read_body, read_order_id, to_body
from refund_worker.processors.braintree.xml_documents import parse_xml, text_of, to_xml
from refund_worker.processors.wire import Unreadable

# Transaction.Status of braintree_python 4.45.0.
PUBLISHED = {
    *("authorization_expired", "authorized", "authorizing", "failed", "gateway_rejected", "processor_declined"),
    *("settled", "settlement_confirmed", "settlement_declined", "settlement_failed", "settlement_pending", "settling"),
    *("submitted_for_settlement", "voided"),
}

# --- documents --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"not XML",
        b"<a>",
        b"<a></b>",
        b"\xff\xfe<\x00a\x00/\x00>\x00",
        '<?xml version="1.0" encoding="UTF-16"?><a/>'.encode("utf-16"),
        b'<?xml version="1.0" encoding="UTF-7"?><a/>',
        b'<!DOCTYPE a [<!ENTITY b "c">]><a>&b;</a>',
        b'<!doctype a SYSTEM "file:///etc/passwd"><a/>',
        b'<a><!ENTITY b "c"></a>',
        b"<a>&unknown;</a>",
        b"<a>\x00</a>",
        b"<a>" * 100 + b"</a>" * 100,
    ],
)
def test_document_that_is_no_plain_xml_is_unreadable(body: bytes) -> None:
    with pytest.raises(Unreadable):
        parse_xml(body)


def test_document_that_is_too_large_is_unreadable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(xml_documents, "XML_BYTES_MAX", 10)
    with pytest.raises(Unreadable, match="more than 10 bytes"):
        parse_xml(b"<a>123456</a>")


@given(st.binary(max_size=300))
def test_any_bytes_are_read_or_unreadable(body: bytes) -> None:
    with contextlib.suppress(Unreadable):
        parse_xml(body)


@given(st.text(st.characters(categories=["L", "N", "P", "S"]), min_size=1, max_size=50))
def test_written_text_is_read_again(text: str) -> None:
    assert text_of(parse_xml(to_xml("a", {"b": text})), "b") == text.strip() or None


def test_request_has_types_as_the_sdk_writes_them() -> None:
    written = to_xml("search", {"type": ("credit",), "refund": True, "created_at": {"min": "<&>"}}).decode()
    assert '<type type="array"><item>credit</item></type>' in written
    assert '<refund type="boolean">true</refund>' in written
    assert "<created_at><min>&lt;&amp;&gt;</min></created_at>" in written
    with pytest.raises(ValueError, match="printable"):
        to_xml("a", {"b": "\x00"})


# --- transactions -----------------------------------------------------------------------------------------------------


def described(book: Book, transaction_id: str) -> str:
    """Return the XML of a transaction in a book."""
    return transaction_xml(book.transactions[transaction_id])


def test_each_published_status_has_a_meaning() -> None:
    assert set(STATUSES) == PUBLISHED
    assert STATUSES["settled"] == "succeeded"
    assert STATUSES["voided"] == "canceled"
    assert {status for status, ours in STATUSES.items() if ours == "failed"} == FAILED
    assert {STATUSES[status] for status in CAPTURED - {"settled"}} == {"pending"}


@pytest.mark.parametrize("status", sorted(PUBLISHED | {"something_new"}))
def test_status_of_a_refund_is_translated_or_passed_on(status: str) -> None:
    book = Book()
    refund = book.refund(book.sale("10.00"), "10.00", f"rw1:{INSTALLATION}:rf_1:{LEG}:3")
    book.become(refund.id, status)
    seen = to_refund_object(to_transaction(parse_xml(described(book, refund.id).encode())))
    assert seen.status == STATUSES.get(status, status)
    assert (seen.leg_id, seen.attempt, seen.installation) == (LEG, 3, INSTALLATION)
    assert bool(seen.failure_code) == (seen.status in ("failed", "canceled"))
    assert (seen.details.trace_value, seen.details.statement) == ("74537604221222132710572", "credit")


@pytest.mark.parametrize(
    ("status", "code", "expected"),
    [
        ("processor_declined", "2004", "2004"),
        ("failed", "3000", "3000"),
        ("settlement_declined", "4001", "4001"),
        ("settlement_failed", None, "settlement_failed"),
        ("failed", None, "failed"),
        ("failed", "4111111111111111", "failed"),
    ],
)
def test_failed_refund_says_why(status: str, code: str | None, expected: str) -> None:
    book = Book()
    refund = book.refund(book.sale("10.00"), "10.00")
    book.become(refund.id, status, code)
    assert to_refund_object(to_transaction(parse_xml(described(book, refund.id).encode()))).failure_code == expected


def test_gateway_rejection_says_why() -> None:
    book = Book()
    refund = book.refund(book.sale("10.00"), "10.00")
    refund.rejection = "duplicate"
    book.become(refund.id, "gateway_rejected")
    assert to_refund_object(to_transaction(parse_xml(described(book, refund.id).encode()))).failure_code == "duplicate"


def test_server_describes_transactions_with_the_fields_of_the_sdk() -> None:
    book = Book()
    document = parse_xml(described(book, book.sale("10.00")).encode())
    assert set(TRANSACTION_FIELDS) <= {element.tag for element in document}


@pytest.mark.parametrize("field", ["id", "type", "amount", "currency-iso-code", "created-at"])
@pytest.mark.parametrize("value", ["", "nonsense!", None])
def test_transaction_without_a_required_field_is_unreadable(field: str, value: str | None) -> None:
    book = Book()
    text = described(book, book.sale("10.00"))
    begin, end = text.index(f"<{field}"), text.index(f"</{field}>") + len(field) + 3
    changed = text[:begin] + (f"<{field}>{value}</{field}>" if value is not None else "") + text[end:]
    with pytest.raises(Unreadable):
        to_transaction(parse_xml(changed.encode()))


@pytest.mark.parametrize(("text", "minor"), [("100", 10_000), ("100.00", 10_000), ("0.10", 10)])
def test_amount_is_read_with_and_without_decimals(text: str, minor: int) -> None:
    book = Book()
    sale = book.transactions[book.sale("1.00")]
    sale.amount = Decimal(text)
    assert to_transaction(parse_xml(transaction_xml(sale).encode())).amount_minor == minor


# --- requests ---------------------------------------------------------------------------------------------------------


def order(**changes: object) -> RefundInstruction:
    """Return an instruction."""
    fields = {
        "refund_id": "rf_1",
        "leg_id": LEG,
        "attempt": 2,
        "processor_payment_id": "abc123",
        "amount_minor": 600,
        "currency": "GBP",
        "reason": "asked",
        "installation": INSTALLATION,
    }
    return RefundInstruction(**{**fields, **changes})  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("currency", "amount"), [("GBP", "6.00"), ("JPY", "600"), ("ISK", "6"), ("UGX", "6"), ("KWD", "0.60")]
)
def test_amount_is_written_in_the_currencys_decimals(currency: str, amount: str) -> None:
    assert to_body(order(currency=currency), None)["amount"] == amount


def test_order_id_carries_our_ids_and_nothing_else_is_ours() -> None:
    body = to_body(order(), "shop_gbp")
    assert body["order_id"] == f"rw1:{INSTALLATION}:rf_1:{LEG}:2"
    assert body["merchant_account_id"] == "shop_gbp"
    assert read_body(json.dumps(body)).marks == Marks(LEG, 2, INSTALLATION)
    assert read_order_id(to_body(order(installation=""), None)["order_id"]) == Marks(LEG, 2, None)
    for text in (None, "", "ORDER-1", "rw1:a:b:c", "rw1:a:b:c:x", "rw1:a:b::1", "rw2:a:b:c:1", "rw1:a:b:c:1:2"):
        assert read_order_id(text) == Marks()


@pytest.mark.parametrize(
    "changes",
    [
        {"amount_minor": 0},
        {"amount_minor": True},
        {"leg_id": "a:b"},
        {"leg_id": ""},
        {"refund_id": "ü"},
        {"installation": "x" * 121},
        {"leg_id": "x" * 120, "refund_id": "y" * 120, "installation": "z" * 40},
        {"currency": "KWD", "amount_minor": 1},
    ],
)
def test_instruction_that_braintree_cannot_take_is_refused(changes: dict[str, object]) -> None:
    with pytest.raises(ValueError, match=r"\w"):
        to_body(order(**changes), None)


@pytest.mark.parametrize("key", ["", "x" * 256, "ü", "a\nb"])
def test_key_that_braintree_cannot_take_is_refused_unsent(braintree: Bench, key: str) -> None:
    body = braintree.adapter.freeze(order())
    with pytest.raises(ValueError, match="idempotency key"):
        braintree.run(braintree.adapter.send(key, body))
    assert braintree.server.requests == []


def test_merchant_account_goes_with_the_refund(braintree: Bench) -> None:
    braintree.adapter = braintree.new_adapter(merchant_account_id="shop_gbp")
    payment = braintree.book.sale("12.50")
    answered(braintree.send(payment))
    assert json.loads(braintree.adapter.freeze(order()))["merchant_account_id"] == "shop_gbp"


# --- answers of a send ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("fault", ["drop", "503", "proxy", "garbage", "error"])
def test_answer_without_braintrees_own_error_is_unanswered(braintree: Bench, fault: str) -> None:
    payment = braintree.book.sale("12.50")
    braintree.server.break_next(payment, fault)
    assert isinstance(braintree.send(payment), Unanswered)
    assert answered(braintree.send(payment)).leg_id == LEG
    assert braintree.book.given_back(payment) == [Decimal("12.50")]


def test_refused_connection_is_not_sent(braintree: Bench) -> None:
    payment = braintree.book.sale("12.50")
    braintree.adapter = braintree.new_adapter(base="http://127.0.0.1:9")
    assert isinstance(braintree.send(payment), NotSent)
    assert isinstance(braintree.run(braintree.adapter.find(payment, LEG)), NotSent)


def test_refund_that_lands_late_is_found_under_its_key(braintree: Bench) -> None:
    payment = braintree.book.sale("12.50")
    braintree.server.break_next(payment, "late")
    assert isinstance(braintree.send(payment), Unanswered)
    assert braintree.found(payment) == ()
    made = answered(braintree.send(payment))
    braintree.server.land()
    assert braintree.found(payment) == (made,)


def test_part_whose_answer_was_lost_is_returned_once(braintree: Bench) -> None:
    """Braintree would take an equal part again: only the key shows that it is the same one."""
    payment = braintree.book.sale("12.50")
    braintree.server.break_next(payment, "garbage")
    assert isinstance(braintree.send(payment, amount_minor=500), Unanswered)
    assert answered(braintree.send(payment, amount_minor=500)).amount_minor == 500
    assert braintree.book.given_back(payment) == [Decimal("5.00")]


def test_refund_declined_at_once_is_a_failed_refund(braintree: Bench) -> None:
    payment = braintree.book.sale("12.50", instrument="paypal_account")
    braintree.book.transactions[payment].disputes.append(("chargeback", "open"))
    refund = answered(braintree.send(payment))
    assert (refund.status, refund.failure_code, refund.leg_id) == ("failed", "4019", LEG)
    assert braintree.found(payment) == (refund,)
    assert braintree.book.given_back(payment) == []


@pytest.mark.parametrize("stick", [False, True])
@pytest.mark.parametrize(("code", "kind"), [("915200", Refused), ("91521", Refused), ("91538", Blocked)])
def test_refusal_with_a_lost_answer_creates_nothing(braintree: Bench, code: str, kind: type, stick: bool) -> None:
    """If Braintree then says only that the key is used up, the refusal comes again under the next key."""
    braintree.book.failed_keys_stick = stick
    payment = braintree.book.sale("12.50")
    braintree.server.break_next(payment, f"refuse-{code}")
    first = braintree.send(payment)
    assert isinstance(first, kind)
    again = braintree.send(payment)
    if stick:
        assert isinstance(again, Blocked)
        assert again.code == "earlier_request_failed"
    else:
        assert answered(again).status == "pending"
    assert len(braintree.book.given_back(payment)) == (0 if stick else 1)


def test_payment_that_is_a_refund_goes_to_a_person(braintree: Bench) -> None:
    payment = braintree.book.sale("12.50")
    refund = answered(braintree.send(payment))
    reply = braintree.send(refund.processor_refund_id, attempt=2)
    assert isinstance(reply, Misconfigured)
    assert reply.code == "91505"
    assert isinstance(braintree.run(braintree.adapter.find(refund.processor_refund_id, LEG)), Misconfigured)


# --- payments and lists -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("status", "captured"),
    [
        *((status, 1_250) for status in sorted(CAPTURED)),
        *(("authorized", 0), ("processor_declined", 0), ("settlement_declined", 0), ("something_new", None)),
    ],
)
def test_captured_amount_follows_the_status(braintree: Bench, status: str, captured: int | None) -> None:
    payment = braintree.book.sale("12.50", "GBP", status)
    read = braintree.run(braintree.adapter.find_payment(payment))
    assert isinstance(read, PaymentRead)
    assert (read.reading.captured_minor, read.reading.refunded_minor, read.reading.currency) == (captured, 0, "GBP")


def test_voided_authorization_was_never_captured(braintree: Bench) -> None:
    payment = braintree.book.sale("12.50", "GBP", "authorized")
    braintree.book.void(payment)
    read = braintree.run(braintree.adapter.find_payment(payment))
    assert isinstance(read, PaymentRead)
    assert read.reading.captured_minor == 0


@pytest.mark.parametrize(
    ("kind", "status", "disputed"),
    [
        *(("chargeback", status, True) for status in ("open", "under_review", "disputed", "something_new")),
        *(("chargeback", status, False) for status in ("won", "lost", "accepted", "auto_accepted", "expired")),
        *(("pre_arbitration", "open", True), ("retrieval", "open", False)),
    ],
)
def test_open_dispute_of_a_payment_is_reported(braintree: Bench, kind: str, status: str, disputed: bool) -> None:
    payment = braintree.book.sale("12.50")
    braintree.book.transactions[payment].disputes.append((kind, status))
    read = braintree.run(braintree.adapter.find_payment(payment))
    assert isinstance(read, PaymentRead)
    assert read.reading.disputed is disputed


def test_failed_refunds_are_not_money_that_went_back(braintree: Bench) -> None:
    payment = braintree.book.sale("12.50")
    first, second = (answered(braintree.send(payment, 500, attempt)) for attempt in (1, 2))
    braintree.book.become(first.processor_refund_id, "settlement_declined", "4001")
    read = braintree.run(braintree.adapter.find_payment(payment))
    assert isinstance(read, PaymentRead)
    assert read.reading.refunded_minor == 500
    assert {each.status for each in braintree.found(payment)} == {"failed", "pending"}
    assert second.status == "pending"


def test_half_a_list_of_a_payment_is_unanswered(braintree: Bench) -> None:
    payment = braintree.book.sale("12.50")
    refunds = [answered(braintree.send(payment, 100, attempt)) for attempt in range(1, 8)]
    assert len(braintree.found(payment)) == 7
    for fault in ("503", "garbage", "drop"):
        braintree.server.break_next(refunds[3].processor_refund_id, f"get:{fault}")
        assert isinstance(braintree.run(braintree.adapter.find(payment, LEG)), Unanswered)
    braintree.server.break_next(refunds[3].processor_refund_id, "get:429")
    assert isinstance(braintree.run(braintree.adapter.find(payment, LEG)), Busy)
    del braintree.book.transactions[refunds[2].processor_refund_id]
    assert isinstance(braintree.run(braintree.adapter.find(payment, LEG)), Unanswered)


def test_payment_without_its_list_of_refunds_is_unanswered(braintree: Bench) -> None:
    payment = braintree.book.sale("12.50")
    braintree.server.break_next(payment, "get:unlisted")
    assert isinstance(braintree.run(braintree.adapter.find(payment, LEG)), Unanswered)
    assert braintree.found(payment) == ()


def test_list_with_the_refund_of_another_payment_is_unanswered(braintree: Bench) -> None:
    payment, other = braintree.book.sale("12.50"), braintree.book.sale("12.50")
    refund = braintree.book.refund(other, "12.50")
    braintree.book.transactions[payment].refund_ids.append(refund.id)
    assert isinstance(braintree.run(braintree.adapter.find(payment, LEG)), Unanswered)


def test_payment_with_too_many_refunds_is_unanswered(braintree: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(adapter_module, "REFUNDS_OF_PAYMENT_MAX", 1)
    payment = braintree.book.sale("12.50")
    for attempt in (1, 2):
        answered(braintree.send(payment, 100, attempt))
    assert isinstance(braintree.run(braintree.adapter.find(payment, LEG)), Unanswered)
    assert isinstance(braintree.run(braintree.adapter.find_payment(payment)), Unanswered)


def recent(braintree: Bench, seconds: float = 3_600) -> object:
    """Return the list of the refunds made in the last seconds."""
    since = datetime.fromtimestamp(braintree.book.now(), UTC) - timedelta(seconds=seconds)
    return braintree.run(braintree.adapter.recent(since))


def test_search_is_read_from_all_its_pages(braintree: Bench) -> None:
    payment = braintree.book.sale("12.50")
    made = {answered(braintree.send(payment, 100, attempt)) for attempt in range(1, 9)}
    found = recent(braintree)
    assert isinstance(found, Found)
    assert set(found.objects) == made
    assert len(found.objects) == 8
    braintree.book.clock_offset += 7_200
    assert recent(braintree) == Found(())


def test_refund_missing_in_a_page_is_read_by_its_id(braintree: Bench) -> None:
    payment = braintree.book.sale("12.50")
    made = {answered(braintree.send(payment, 100, attempt)) for attempt in (1, 2, 3)}
    braintree.server.faults["page "].append("short")
    found = recent(braintree)
    assert isinstance(found, Found)
    assert set(found.objects) == made


def test_search_that_ends_early_is_no_list(braintree: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    braintree.server.faults["search "].append("timeout")
    assert isinstance(recent(braintree), Unanswered)
    braintree.server.faults["search "].append("429")
    assert isinstance(recent(braintree), Busy)
    braintree.server.faults["search "].append("422")
    assert isinstance(recent(braintree), Unanswered)
    payment = braintree.book.sale("12.50")
    for attempt in (1, 2):
        answered(braintree.send(payment, 100, attempt))
    monkeypatch.setattr(adapter_module, "SEARCH_IDS_MAX", 2)
    assert isinstance(recent(braintree), Unanswered), "there may be more than the search can find"


def test_payments_own_list_does_not_lag_as_the_search_does(braintree: Bench) -> None:
    braintree.book.lag_seconds = 120
    payment = braintree.book.sale("12.50")
    made = answered(braintree.send(payment))
    assert recent(braintree) == Found(())
    assert braintree.found(payment) == (made,)


def test_time_of_a_list_must_be_aware(braintree: Bench) -> None:
    with pytest.raises(ValueError, match="aware"):
        braintree.run(braintree.adapter.recent(datetime(2026, 11, 1)))  # noqa: DTZ001


@pytest.mark.parametrize("refund_id", ["", "../x", "void-", "void-../x", "UPPER", "void-void-abc123", "a" * 300])
def test_id_that_no_refund_has_is_not_asked_for(braintree: Bench, refund_id: str) -> None:
    assert isinstance(braintree.run(braintree.adapter.fetch(refund_id)), Misconfigured)
    assert braintree.server.requests == []


def test_payment_is_no_refund_and_no_void(braintree: Bench) -> None:
    payment = braintree.book.sale("12.50")
    for refund_id in (payment, f"void-{payment}"):
        assert isinstance(braintree.run(braintree.adapter.fetch(refund_id)), Misconfigured)


def test_nothing_can_be_canceled(braintree: Bench) -> None:
    assert isinstance(braintree.run(braintree.adapter.cancel("abc123")), Misconfigured)


# --- settings and secrets ---------------------------------------------------------------------------------------------

KEYS = {"merchant_id": "m1", "public_key": "pub", "private_key": "prv_secret", "environment": "sandbox"}


def test_environment_decides_the_server_and_the_mode() -> None:
    assert ENTRY.live(BraintreeSettings()) is None
    for environment, live in (("sandbox", False), ("production", True)):
        settings = BraintreeSettings(**{**KEYS, "environment": environment})
        assert ENTRY.live(settings) is live
        assert ENTRY.address(settings) == SERVERS[environment]
        assert settings.has_access
    assert not BraintreeSettings(**{**KEYS, "environment": None}).has_access
    assert ENTRY.address(BraintreeSettings(**KEYS, api_base="http://127.0.0.1:1/")) == "http://127.0.0.1:1"


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("merchant_id", "../x"),
        ("public_key", "a:b"),
        ("private_key", "prv secret"),
        ("environment", "test"),
        ("merchant_account_id", "a/b"),
        ("void_unsettled", "yes"),
        ("unknown", "x"),
    ],
)
def test_setting_of_another_form_is_refused(field: str, value: str) -> None:
    with pytest.raises(ValidationError) as refused:
        BraintreeSettings(**{**KEYS, field: value})
    assert "prv" not in str(refused.value)


def test_entry_makes_an_adapter_that_shows_no_secret() -> None:
    settings = BraintreeSettings(**KEYS)
    processor = ENTRY.make("braintree:shop", settings, 5.0)
    assert isinstance(processor, BraintreeProcessor)
    assert repr(processor) == "BraintreeProcessor(name='braintree:shop')"
    assert "prv_secret" not in repr(settings)
    asyncio.run(processor.close())
    with pytest.raises(ValueError, match="no key has"):
        BraintreeProcessor(MERCHANT, PUBLIC, "a\nb", base="http://127.0.0.1:1")


def test_no_reply_shows_a_secret_or_the_customer(braintree: Bench) -> None:
    payment, unsettled = braintree.book.sale("12.50"), braintree.book.sale("12.50", "GBP", "submitted_for_settlement")
    braintree.server.break_next(payment, "refuse-99999")
    replies = [
        braintree.send(payment),
        braintree.send(payment),
        braintree.send(unsettled),
        braintree.run(braintree.adapter.find(payment, LEG)),
        braintree.run(braintree.adapter.find_payment(payment)),
        recent(braintree),
    ]
    assert isinstance(replies[1], Answered)
    shown = repr((replies, braintree.adapter))
    for hidden in (PRIVATE, "jane", "Jane", "411111"):
        assert hidden not in shown


def test_wrong_keys_are_denied_and_hidden(braintree: Bench) -> None:
    stranger = BraintreeProcessor(MERCHANT, PUBLIC, "wrong_secret", base=braintree.server.url)
    reply = braintree.run(stranger.find_payment("abc123"))
    braintree.run(stranger.close())
    assert isinstance(reply, Denied)
    assert "wrong_secret" not in repr((reply, SecretStr("wrong_secret")))
