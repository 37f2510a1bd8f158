"""The texts about payouts: complete for every status, hold and code, and silent about compliance."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from refund_worker.domain.payouts.destination import Destination, DestinationKind
from refund_worker.domain.payouts.holds import HoldCode
from refund_worker.domain.payouts.payout import Payout, PayoutLeg, PayoutSource, PayoutStatus
from refund_worker.domain.payouts.transfers import Fault, Method, Step
from refund_worker.domain.refund import LegStatus
from refund_worker.engine.views.failure_codes import CODES_OF_GROUPS
from refund_worker.engine.views.message_file import completed_payouts, placeholders, read_messages
from refund_worker.engine.views.payout_codes import FIRST_OF_PAYOUT_CODES
from refund_worker.engine.views.payout_messages import (
    PAYOUT_CODE_MESSAGES,
    PAYOUT_DETAIL_MESSAGES,
    PAYOUT_HOLD_MESSAGES,
    PAYOUT_STATUS_MESSAGES,
)
from refund_worker.engine.views.payout_texts import PayoutTexts, Reported, code_key
from refund_worker.processors import registry

GERMAN = Path(__file__).parents[3] / "docs" / "examples" / "messages.de.toml"
START = 1_793_000_000.0
LEG = PayoutLeg(
    leg_id="po_1-1",
    payout_id="po_1",
    number=1,
    step=Step.PAYOUT,
    processor="stripe",
    amount_minor=5_000,
    currency="EUR",
    object_id="tr_1",
)
PAYOUT = Payout(
    payout_id="po_1",
    client="backend",
    idempotency_key="k",
    payee_id="p",
    processor="stripe",
    amount_minor=5_000,
    currency="EUR",
    description="",
    source=PayoutSource.EARNINGS,
    method=Method.STANDARD,
    country=None,
    destination_id="d",
    destination_box="",
    destination_masked="bank DE•• •••• 3000",
    connected_account=None,
    status=PayoutStatus.QUEUED,
    version=1,
    created_at=START,
    updated_at=START,
    requested_by="ann",
    settles_at=START,
    legs=(LEG,),
)
CODES = sorted({*FIRST_OF_PAYOUT_CODES, *CODES_OF_GROUPS, *registry.explained_by(), "a_code_of_next_year"})


def payouts() -> Iterator[Payout]:
    """Yield a payout for every status, hold, code and fault."""
    for status in PayoutStatus:
        yield replace(PAYOUT, status=status)
    for code in HoldCode:
        yield replace(PAYOUT, status=PayoutStatus.HELD, hold_code=code, hold_until=START)
    yield replace(PAYOUT, hold_until=START)
    for code in CODES:
        for fault in (None, *Fault):
            for status in (PayoutStatus.FAILED, PayoutStatus.NEEDS_ATTENTION, PayoutStatus.RECIPIENT_ACTION):
                yield replace(PAYOUT, status=status, failure_code=code, fault=fault, act_by=START)
    manual = replace(LEG, object_id="manual:4711", manual_reference="4711", status=LegStatus.SUCCEEDED)
    yield replace(PAYOUT, status=PayoutStatus.PAID, legs=(manual,))
    yield replace(PAYOUT, status=PayoutStatus.RETURNED, lost_minor=35)
    yield replace(PAYOUT, status=PayoutStatus.RECIPIENT_ACTION, legs=(replace(LEG, canceling=True),))


def german() -> PayoutTexts:
    return PayoutTexts(**completed_payouts(read_messages(str(GERMAN))))


@pytest.mark.parametrize("texts", [PayoutTexts(), german()], ids=["english", "german"])
def test_every_payout_has_both_texts(texts: PayoutTexts) -> None:
    for payout in payouts():
        for reported in (None, Reported(arrives_at=START, trace="7453")):
            message = texts.of(payout, reported)
            for text in (message.customer, message.staff):
                assert text == text.strip()
                assert len(text) > 20
                assert not {"{", "}", "  ", "None"} & set(text.split(" ")), text
                assert not placeholders(text)
            assert "stripe" not in message.customer, "the payee does not know our processors"


def test_tables_name_every_status_and_hold() -> None:
    assert set(PAYOUT_STATUS_MESSAGES) == set(PayoutStatus)
    assert set(PAYOUT_HOLD_MESSAGES) == {*HoldCode, "paused"}


def test_german_is_complete() -> None:
    found = read_messages(str(GERMAN))
    for section, english in (
        ("payout", PAYOUT_STATUS_MESSAGES),
        ("payout_hold", PAYOUT_HOLD_MESSAGES),
        ("payout_detail", PAYOUT_DETAIL_MESSAGES),
        ("payout_code", PAYOUT_CODE_MESSAGES),
    ):
        assert found[section].keys() == english.keys()
        for key, message in found[section].items():
            assert message.customer != english[key].customer, key
            assert message.staff != english[key].staff, key


def test_payee_learns_what_to_do_and_until_when() -> None:
    waits = replace(
        PAYOUT, status=PayoutStatus.RECIPIENT_ACTION, failure_code="RECEIVER_UNREGISTERED", fault=Fault.PAYEE
    )
    text = PayoutTexts().of(replace(waits, act_by=START))
    assert "Please open one" in text.customer
    assert "by 2026-10-26" in text.customer
    called_off = PayoutTexts().of(replace(waits, act_by=START, legs=(replace(LEG, canceling=True),)))
    assert "being canceled" in called_off.customer
    assert "2026-10-26" not in called_off.customer


def test_compliance_is_told_in_one_way() -> None:
    for code in CODES:
        payout = replace(PAYOUT, status=PayoutStatus.FAILED, fault=Fault.COMPLIANCE, failure_code=code)
        other = replace(payout, failure_code="REGULATORY_BLOCKED")
        assert PayoutTexts().of(payout) == PayoutTexts().of(other)
        assert code_key(payout) == "refused_by_processor"


def test_loss_is_ours_and_not_the_payees() -> None:
    text = PayoutTexts().of(replace(PAYOUT, status=PayoutStatus.RETURNED, lost_minor=35))
    assert "0.35 EUR less" in text.staff
    assert "0.35" not in text.customer


ENDS = (PayoutStatus.FAILED, PayoutStatus.RETURNED, PayoutStatus.CANCELED)
MANUAL = replace(
    PAYOUT,
    processor="manual",
    destination_masked=Destination(kind=DestinationKind.MANUAL, text="cash").masked,
    legs=(replace(LEG, processor="manual", object_id=None, failure_code="manual_payout"),),
)
BOTH = pytest.mark.parametrize("texts", [PayoutTexts(), german()], ids=["english", "german"])


def paid_with(payout: Payout, reference: str, status: PayoutStatus = PayoutStatus.PAID) -> Payout:
    """Return the payout as a person paid it, under this reference."""
    leg = replace(
        payout.legs[-1], object_id=f"manual:{reference}", manual_reference=reference, status=LegStatus.SUCCEEDED
    )
    return replace(payout, status=status, legs=(leg,))


@BOTH
def test_manual_route_reads_as_a_sentence(texts: PayoutTexts) -> None:
    for status in PayoutStatus:
        message = texts.of(replace(MANUAL, status=status))
        for text in (message.customer, message.staff):
            assert "paid by a person" not in text, "the label of a list is no place"
    paid = PayoutTexts().of(paid_with(MANUAL, "4711"))
    assert paid.customer == ("Your payout of 50.00 EUR was paid to the place that you named. It was paid by a person.")
    assert paid.staff.endswith("A person paid it (4711).")
    waits = PayoutTexts().of(replace(MANUAL, status=PayoutStatus.NEEDS_ATTENTION, failure_code="manual_payout"))
    assert "delayed" not in waits.customer, "a person is the ordinary way"
    assert "It is paid by a person." in waits.customer


@pytest.mark.parametrize("status", ENDS)
@pytest.mark.parametrize("source", PayoutSource)
def test_ended_payout_promises_nothing_more(status: PayoutStatus, source: PayoutSource) -> None:
    for code in CODES:
        payout = replace(PAYOUT, status=status, failure_code=code, source=source, refund_id="rf_1")
        message = PayoutTexts().of(payout)
        for promise in (
            "It is paid by",
            "We send it",
            "We have to check",
            "still processing",
            "looking for a solution",
        ):
            assert promise not in message.customer, code
        for promise in ("tried again", "keeps trying", "keeps asking", "pay it, then resolve", "It waits for"):
            assert promise not in message.staff, code
        if source is PayoutSource.WITHDRAWAL:
            assert "ask for" not in message.customer, "its refund decides what follows"


@BOTH
@pytest.mark.parametrize("status", [*ENDS, PayoutStatus.REJECTED])
def test_amount_is_said_to_be_back_once(texts: PayoutTexts, status: PayoutStatus) -> None:
    for lost_minor in (0, 35):
        message = texts.of(replace(PAYOUT, status=status, lost_minor=lost_minor))
        for text, balance in ((message.customer, "your balance"), (message.staff, "the payee's balance")):
            back = balance if texts.detail["ended"].customer.startswith("You") else "Guthaben"
            assert text.count(back) == 1, text


def test_clawed_back_amount_is_not_said_to_be_on_the_balance() -> None:
    text = PayoutTexts().of(replace(PAYOUT, status=PayoutStatus.CANCELED, failure_code="earnings_clawed_back"))
    assert "is back on" not in text.customer + text.staff
    assert "too little is left" in text.customer


@BOTH
@pytest.mark.parametrize("status", [*ENDS, PayoutStatus.REJECTED])
def test_withdrawal_goes_back_to_credits_and_to_no_balance(texts: PayoutTexts, status: PayoutStatus) -> None:
    for lost_minor in (0, 35):
        withdrawal = replace(
            PAYOUT, status=status, source=PayoutSource.WITHDRAWAL, refund_id="rf_1", lost_minor=lost_minor
        )
        text = texts.of(withdrawal)
        assert "credits" in text.customer.casefold()
        assert "rf_1" in text.staff
        for word in ("balance", "Guthaben"):
            assert word not in text.customer + text.staff


def test_called_off_payout_is_not_said_to_have_waited_too_long() -> None:
    for code in ("RECEIVER_UNREGISTERED", "payee_refused", "canceled"):
        for status in (PayoutStatus.CANCELED, PayoutStatus.RECIPIENT_ACTION):
            text = PayoutTexts().of(replace(PAYOUT, status=status, failure_code=code, fault=Fault.PAYEE))
            assert "in time" not in text.customer + text.staff
            assert "not accept" not in text.customer + text.staff


@pytest.mark.parametrize(
    "status", [PayoutStatus.PAID, PayoutStatus.SETTLED, PayoutStatus.RETURNING, PayoutStatus.NEEDS_ATTENTION]
)
def test_paid_in_another_way_is_said_once_and_nothing_against_it(status: PayoutStatus) -> None:
    text = PayoutTexts().of(paid_with(PAYOUT, "4711", status), Reported(trace="7453"))
    assert text.customer.startswith("Your payout of 50.00 EUR was paid in another way.")
    for word in ("delayed", "could not be paid", "bank", "7453"):
        assert word not in text.customer
    assert "A person paid it in another way (4711)." in text.staff


def test_manual_payment_that_came_back_is_not_said_to_be_paid() -> None:
    back = paid_with(PAYOUT, "4711", PayoutStatus.RETURNED)
    for returned in (back, replace(back, failure_code="manual_payment_returned")):
        text = PayoutTexts().of(returned)
        assert "came back to us. The amount is back on your balance." in text.customer
        assert "was paid in another way." not in text.customer
        assert text.customer.count("came back") == 1


def test_payment_that_came_twice_is_not_delayed() -> None:
    twice = replace(
        PAYOUT,
        status=PayoutStatus.NEEDS_ATTENTION,
        failure_code="paid_twice",
        legs=(replace(LEG, status=LegStatus.SUCCEEDED),),
    )
    assert "was paid to" in PayoutTexts().of(twice).customer
    assert "delayed" not in PayoutTexts().of(twice).customer


@BOTH
@pytest.mark.parametrize("code", [HoldCode.DESTINATION_COOLDOWN, HoldCode.INTERVAL])
def test_wait_names_day_and_time(texts: PayoutTexts, code: HoldCode) -> None:
    held = texts.of(replace(PAYOUT, status=PayoutStatus.HELD, hold_code=code, hold_until=START))
    alone = texts.of_hold(code, START, "stripe")
    for text in (held.customer, held.staff, alone.customer, alone.staff):
        assert "2026-10-26 07:33 UTC" in text
