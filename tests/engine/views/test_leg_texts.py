"""The texts for customers and staff: complete for every status and code, in English and in a file's language."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest
from tests.domain.builders import START, a_leg

from refund_worker.domain.account_names import PAYOUT
from refund_worker.domain.claims.displace import CHARGED_BACK, PAYMENT_CLOSED
from refund_worker.domain.outside_refunds import REFUNDED_ELSEWHERE
from refund_worker.domain.processor_replies import RefundDetails
from refund_worker.domain.refund import Canceling, KnownRefundObject, Leg, LegStatus, ObjectReport, ObjectState
from refund_worker.engine.views.failure_codes import CODES_OF_GROUPS
from refund_worker.engine.views.leg_messages import CODE_MESSAGES, DETAIL_MESSAGES, STATUS_MESSAGES
from refund_worker.engine.views.leg_texts import LegTexts, business_days_after, status_key
from refund_worker.engine.views.message_file import completed, placeholders, read_messages
from refund_worker.errors import BadSettings

GERMAN = Path(__file__).parents[3] / "docs" / "examples" / "messages.de.toml"
DETAILS = RefundDetails(
    pending_reason="insufficient_funds",
    method="card",
    statement="credit",
    trace_kind="acquirer_reference_number",
    trace_value="7453",
    emailed_to="j***@example.com",
    act_by=START,
)
OBJECT = (KnownRefundObject("re_1", ObjectState.CANCELED),)


def german() -> LegTexts:
    return LegTexts(**completed(read_messages(str(GERMAN))), days={"stripe": (5, 10)})


# The leg of a payout is over the payment of the leg that it replaces.
PAID_OUT = replace(
    a_leg(processor=PAYOUT, processor_payment_id="maria", processor_refund_id="po_1.1", replaces="r-1"), leg_id="r-2"
)


def payout_legs() -> Iterator[tuple[Leg, tuple[Leg, ...]]]:
    """Yield a payout leg for every status and way to end, and legs that a payout replaces."""
    for status in LegStatus:
        yield replace(PAID_OUT, status=status), ()
    failed = replace(PAID_OUT, status=LegStatus.FAILED, reallocated=True)
    for reversed_credits in (0, 60, 100):
        yield replace(failed, reversed_credits=reversed_credits), ()
    refused = a_leg(status=LegStatus.FAILED, reallocated=True)
    yield refused, (PAID_OUT,)
    yield refused, (a_leg(3, replaces="r-1"), PAID_OUT)
    for leg in (refused, failed):
        yield leg, (a_leg(3, replaces=leg.leg_id), rest_of(leg))


def rest_of(leg: Leg) -> Leg:
    """Return the leg over the same payment that is left to a person."""
    return a_leg(4, status=LegStatus.BLOCKED, payment_id=leg.payment_id, processor="manual", replaces=leg.leg_id)


def legs() -> Iterator[Leg]:
    """Yield a leg for every status, way to end and code."""
    report = ObjectReport("re_1", "succeeded", START, START, DETAILS)
    known = a_leg(processor_refund_id="re_1", reports=(report,))
    for status in LegStatus:
        yield replace(known, status=status)
        yield a_leg(status=status)
    yield replace(known, status=LegStatus.SUCCEEDED, processor_refund_id="manual:4711")
    yield a_leg(status=LegStatus.SUCCEEDED, amount_minor=0)
    vanishes = replace(report, details=replace(DETAILS, statement="vanishes"))
    yield replace(known, status=LegStatus.SUCCEEDED, reports=(vanishes,))
    yield replace(known, status=LegStatus.PENDING, reports=(replace(report, details=NO_MONEY_YET),))
    for status in (LegStatus.FAILED, LegStatus.CANCELED):
        yield replace(known, status=status, objects=OBJECT, reallocated=True)
        yield replace(known, status=status, objects=OBJECT, reallocated=True, reversed_credits=100)
        yield replace(known, status=status, objects=OBJECT, reallocated=True, reversed_credits=60)
    for code in (*CODES_OF_GROUPS, "a_code_of_next_year"):
        yield a_leg(status=LegStatus.BLOCKED, attention_code=code)
        yield a_leg(status=LegStatus.FAILED, failure_code=code)


NO_MONEY_YET = RefundDetails(pending_reason="charge_pending")


@pytest.mark.parametrize("texts", [LegTexts(days={"stripe": (5, 10)}), german()], ids=["english", "german"])
def test_every_leg_has_both_texts(texts: LegTexts) -> None:
    for leg in legs():
        message = texts.of(leg)
        for text in (message.customer, message.staff):
            assert len(text) > 20
            assert not {"{", "}", "  ", "None"} & set(text.split(" ")), text
            assert not placeholders(text)
        assert "stripe" not in message.customer, "the customer does not know our processors"


def test_every_message_is_used() -> None:
    used = {status_key(leg) for leg in legs()} | {status_key(*each) for each in payout_legs()}
    assert used == set(STATUS_MESSAGES)
    assert set(CODE_MESSAGES) == set(CODES_OF_GROUPS)


def texts_of(leg: Leg, *replacements: Leg) -> tuple[str, str]:
    message = LegTexts().of(leg, replacements)
    return message.customer, message.staff


@pytest.mark.parametrize("texts", [LegTexts(), german()], ids=["english", "german"])
def test_payout_legs_have_both_texts(texts: LegTexts) -> None:
    for leg, replacements in payout_legs():
        message = texts.of(leg, replacements)
        assert not placeholders(message.customer + message.staff)
        assert "  " not in message.customer + message.staff
        assert "po_1" not in message.customer
        assert "you paid" not in message.customer


def test_texts_of_a_payout_name_it_and_where_the_money_went() -> None:
    customer, staff = texts_of(replace(PAID_OUT, status=LegStatus.SUCCEEDED))
    assert customer == "Your refund of 10.00 USD was paid to the account that you named for your payouts."
    assert "paid out to the payee maria by the payout po_1." in staff
    customer, staff = texts_of(replace(PAID_OUT, status=LegStatus.PENDING))
    assert "account that you named for your payouts" in customer
    assert "the payout po_1 is not final yet" in staff


def test_leg_that_a_payout_replaced_is_sent_over_no_other_payment() -> None:
    refused = a_leg(status=LegStatus.FAILED, reallocated=True)
    customer, staff = texts_of(refused, PAID_OUT)
    assert "another payment" not in (customer + staff).lower()
    assert "account that you named for your payouts" in customer
    assert "payee maria" in staff
    assert "A part is sent over another payment" in texts_of(refused, PAID_OUT, a_leg(3, replaces="r-1"))[0]
    assert "over another payment of yours" in texts_of(refused, a_leg(3, replaces="r-1"))[0]


def test_rest_that_a_person_decides_about_has_its_own_text() -> None:
    refused = a_leg(status=LegStatus.FAILED, reallocated=True)
    failed_payout = replace(PAID_OUT, status=LegStatus.FAILED, reallocated=True)
    for leg in (refused, failed_payout):
        customer, staff = texts_of(leg, a_leg(3, replaces=leg.leg_id), rest_of(leg))
        assert customer.endswith(
            "A part is sent over another payment of yours. For the rest we are looking for another way."
        )
        assert staff.endswith("used for a part, and a person decides about the rest.")
        customer, staff = texts_of(leg, rest_of(leg))
        assert "another payment" not in (customer + staff).lower()


def test_code_of_a_payout_speaks_of_the_payees_account() -> None:
    failed = replace(PAID_OUT, status=LegStatus.FAILED, failure_code="account_closed")
    assert "paid from" not in texts_of(failed)[0]
    assert "Please name another account for your payouts." in texts_of(failed)[0]
    of_a_refund = texts_of(replace(failed, failure_code="payee_not_payable"))[1]
    assert CODE_MESSAGES["payee_not_payable"].staff in of_a_refund


@pytest.mark.parametrize("code", ["manual_payout", "outcome_unknown", "balance_insufficient", "canceled"])
def test_ended_payout_of_a_refund_promises_nothing_more(code: str) -> None:
    customer, staff = texts_of(replace(PAID_OUT, status=LegStatus.FAILED, failure_code=code))
    for promise in ("It is paid by", "We send it", "We have to check", "ask for it again"):
        assert promise not in customer
    assert "pay it, then resolve" not in staff
    assert customer == customer.strip()
    waits, _ = texts_of(replace(PAID_OUT, status=LegStatus.BLOCKED, attention_code="manual_payout"))
    assert "It is paid by a person." in waits


def test_german_is_complete() -> None:
    found = read_messages(str(GERMAN))
    assert found["status"].keys() == STATUS_MESSAGES.keys()
    assert found["detail"].keys() == DETAIL_MESSAGES.keys()
    assert found["code"].keys() == set(CODES_OF_GROUPS.values())
    everything = completed(found)
    for section, english in (("status", STATUS_MESSAGES), ("detail", DETAIL_MESSAGES), ("code", CODE_MESSAGES)):
        for key, message in everything[section].items():
            assert message.customer != english[key].customer, key
            assert message.staff != english[key].staff, key


def test_customer_is_not_told_that_the_card_was_stolen() -> None:
    text = LegTexts().of(a_leg(status=LegStatus.FAILED, failure_code="lost_or_stolen_card"))
    assert "stolen" not in text.customer
    assert "stolen" in text.staff


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("[state.planned]\ncustomer='a'\nstaff='b'", "[state] is not known"),
        ("[status.plannned]\ncustomer='{amount}'\nstaff='b'", "[status.plannned] is not known"),
        ("[code.no_such_code]\ncustomer='a'\nstaff='b'", "[code.no_such_code] is not known"),
        ("[status.planned]\ncustomer='soon'\nstaff='{amount} {payment}'", "customer lacks {amount}"),
        ("[status.planned]\ncustomer='{amount} {iban}'\nstaff='{amount} {payment}'", "cannot have {iban}"),
        ("[status.planned]\ncustomer='{amount'\nstaff='{amount} {payment}'", "brace"),
        ("[status.planned]\ncustomer='{amount.__class__}'\nstaff='b'", "brace"),
        ("[status.planned]\ncustomer='{amount}'", "needs customer and staff"),
        ("[status.planned]\ncustomer='{amount}'\nstaff='  '", "must be a text"),
        ("status = 5", "must be a table"),
        ("language = 5", "language"),
        ("[status", "not TOML"),
        ("\udcff", "not UTF-8"),
    ],
)
def test_wrong_file_is_refused_with_its_place(tmp_path: Path, text: str, fault: str) -> None:
    path = tmp_path / "messages.toml"
    path.write_bytes(text.encode("utf-8", "surrogateescape"))
    with pytest.raises(BadSettings) as error:
        read_messages(str(path))
    assert fault in str(error.value)
    assert "MESSAGES_FILE" in str(error.value)


def test_missing_file_is_named() -> None:
    with pytest.raises(BadSettings, match="cannot read the file"):
        read_messages("/no/such/file")


def test_one_message_can_be_replaced_and_the_rest_stays() -> None:
    found = {"status": {}, "detail": {}, "code": {"expired_card": STATUS_MESSAGES["planned"]}}
    everything = completed(found)
    assert everything["code"]["expired_or_canceled_card"] == STATUS_MESSAGES["planned"]
    assert everything["code"]["lost_or_stolen_card"] == CODE_MESSAGES["lost_or_stolen_card"]
    assert everything["status"] == STATUS_MESSAGES


def test_expected_days_are_business_days_of_the_method_or_processor() -> None:
    friday = datetime(2026, 11, 27, 12, tzinfo=UTC)
    assert business_days_after(friday, 1) == datetime(2026, 11, 30, 12, tzinfo=UTC)
    assert business_days_after(friday, 5) == datetime(2026, 12, 4, 12, tzinfo=UTC)
    report = ObjectReport("re_1", "pending", friday.timestamp(), friday.timestamp(), RefundDetails(method="card"))
    leg = a_leg(status=LegStatus.PENDING, processor_refund_id="re_1", reports=(report,))
    by_method = LegTexts(days={"stripe": (5, 10), "stripe/card": (1, 2)})
    assert LegTexts(days={"stripe": (0, 5)}).expected_by(leg) == (friday, datetime(2026, 12, 4, 12, tzinfo=UTC))
    assert by_method.expected_by(leg) == (
        datetime(2026, 11, 30, 12, tzinfo=UTC),
        datetime(2026, 12, 1, 12, tzinfo=UTC),
    )
    assert LegTexts(days={"paypal": (0, 5)}).expected_by(leg) is None
    for status in (LegStatus.FAILED, LegStatus.REQUIRES_ACTION, LegStatus.UNKNOWN):
        assert by_method.expected_by(replace(leg, status=status)) is None


@pytest.mark.parametrize(
    ("reason", "dated"),
    [("processing", True), ("charge_pending", False), ("insufficient_funds", False), ("a_reason_of_next_year", False)],
)
def test_no_days_are_expected_while_the_money_waits(reason: str, dated: bool) -> None:
    report = ObjectReport("re_1", "pending", START, START, RefundDetails(pending_reason=reason))
    leg = a_leg(status=LegStatus.PENDING, processor_refund_id="re_1", reports=(report,))
    texts = LegTexts(days={"stripe": (5, 10)})
    assert (texts.expected_by(leg) is not None) is dated
    assert ("Expected" in texts.of(leg).customer) is dated


DISPLACED = a_leg(status=LegStatus.CANCELED, failure_code="payment_closed")


def test_leg_that_left_its_payment_says_where_the_money_goes() -> None:
    replaced = LegTexts().of(replace(DISPLACED, reallocated=True))
    assert "sent over another payment of yours" in replaced.customer
    assert "Another payment of the customer is used." in replaced.staff
    returned = LegTexts().of(replace(DISPLACED, reallocated=True, reversed_credits=100))
    assert "credits are back on your balance" in returned.customer
    assert "100 credits go back" in returned.staff
    for text in (replaced, returned):
        assert "canceled" not in text.customer + text.staff
    unsent = LegTexts().of(a_leg(status=LegStatus.CANCELED))
    assert "canceled before anything was sent" in unsent.customer


@pytest.mark.parametrize("code", [REFUNDED_ELSEWHERE, CHARGED_BACK, PAYMENT_CLOSED])
def test_leg_that_left_its_payment_says_why(code: str) -> None:
    text = LegTexts().of(replace(DISPLACED, failure_code=code, reallocated=True))
    assert "without an entry" not in text.staff
    assert "check something on our side" not in text.customer


def test_part_that_goes_back_is_told_from_the_part_that_is_sent() -> None:
    leg = a_leg(status=LegStatus.FAILED, failure_code="expired_card", reallocated=True, reversed_credits=60)
    assert leg.credits == 100
    text = LegTexts().of(leg)
    assert "A part is sent over another payment of yours" in text.customer
    assert "60 credits go back" in text.staff


@pytest.mark.parametrize("status", [LegStatus.SENDING, LegStatus.UNKNOWN])
def test_later_send_without_an_answer_is_not_said_to_pay_nothing(status: LegStatus) -> None:
    for code in ("insufficient_funds", "charge_disputed"):
        leg = a_leg(status=status, attention_code=code, failure_code=code)
        assert LegTexts().of(leg) == LegTexts().of(replace(leg, attention_code=None))
    unreachable = LegTexts().of(a_leg(status=status, attention_code="processor_unreachable"))
    assert "does not answer" in unreachable.staff


@pytest.mark.parametrize("status", [LegStatus.PLANNED, LegStatus.WAITING])
def test_stopped_leg_is_not_said_to_be_sent_soon(status: LegStatus) -> None:
    for code in ("charge_disputed", "payment_mismatch"):
        text = LegTexts().of(a_leg(status=status, attention_code=code))
        assert "delayed" in text.customer
        assert "not sent now" in text.staff
        assert "soon" not in text.customer


def test_customer_is_not_asked_to_answer_what_is_being_canceled() -> None:
    report = ObjectReport("re_1", "requires_action", START, START, DETAILS)
    leg = a_leg(status=LegStatus.REQUIRES_ACTION, processor_refund_id="re_1", reports=(report,))
    assert "Please answer" in LegTexts().of(leg).customer
    canceling = LegTexts().of(replace(leg, canceling=Canceling.CALLED))
    assert "being canceled" in canceling.customer
    assert "answer it by" not in canceling.customer
    assert "can act until" not in canceling.staff
