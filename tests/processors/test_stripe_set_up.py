"""The events to subscribe to and the permissions of a restricted key: one table, which the docs show."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from refund_worker.processors.stripe import set_up
from refund_worker.processors.stripe.event_subjects import event_subject
from refund_worker.processors.stripe.payout_events import transfer_hint

DOCS = Path(__file__).parents[2] / "docs" / "operations.md"
IDS = {"refund": "re_1", "dispute": "du_1", "early_fraud_warning": "issfr_1", "charge": "ch_1"}


def test_operations_shows_the_table_of_events_and_permissions() -> None:
    text = DOCS.read_text("utf-8")
    shown = text.partition("<!-- stripe set-up -->\n")[2].partition("<!-- /stripe set-up -->")[0]
    assert shown == set_up.tables()


@pytest.mark.parametrize("kind", set_up.EVENT_TYPES)
def test_each_event_that_is_named_is_understood(kind: str) -> None:
    what = kind.split(".")[-2]
    event = {"id": "evt_1", "type": kind, "data": {"object": {"id": IDS[what], "payment_intent": "pi_1"}}}
    assert event_subject(kind, json.dumps(event)) is not None


def test_doctor_names_each_resource_once_with_its_strongest_access() -> None:
    expected = "Charges and Refunds: Write, PaymentIntents: Read, Disputes: Read, Balance: Read"
    payouts = "Transfers: Write, Payouts: Write, Accounts: Read"
    assert set_up.permissions_text() == f"{expected}; for payouts also {payouts}"


def test_page_of_stripe_shows_the_tables_of_payouts() -> None:
    text = (DOCS.parent / "paying-systems" / "stripe.md").read_text("utf-8")
    shown = text.partition("<!-- stripe payouts -->\n")[2].partition("<!-- /stripe payouts -->")[0]
    assert shown == set_up.payout_tables()


@pytest.mark.parametrize("kind", set_up.PAYOUT_EVENT_TYPES)
def test_each_event_about_payouts_is_understood(kind: str) -> None:
    described = {"transfer": {"id": "tr_1"}, "payout": {"id": "po_1"}}.get(kind.split(".")[0], {"id": "acct_1"})
    assert transfer_hint(kind, json.dumps({"id": "evt_1", "type": kind, "data": {"object": described}})) is not None
