"""The texts about payouts: complete for every status, hold and code, and silent about compliance."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

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
