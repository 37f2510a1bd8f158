"""The Stripe adapter of a connected account: its header on every call, and refusals that concern only this account."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest
from tests.processors.scripted_stripe import CARD_ERROR, INVALID, MESSAGE, Bench, answers, error, frozen, page, refund

from refund_worker.domain.processor_calls import SharesBack
from refund_worker.domain.processor_replies import (
    AlreadyRefunded,
    Blocked,
    Denied,
    Misconfigured,
    NotReadable,
    PaymentUnreadable,
    Refused,
)

ACCOUNT = "acct_Seller1"
NAMED = f"connected account {ACCOUNT}: {MESSAGE}"
NO_ACCESS = (
    "The provided key 'sk_test_***' does not have access to account 'acct_Seller1' (or that account does not exist)."
)
SINCE = datetime(2026, 11, 1, tzinfo=UTC)
REJECTED = "Your account has been rejected. Please contact us."


def connected(bench: Bench, *acts: Any) -> Any:
    """Return the adapter of the connected account at a server with this script."""
    return bench.play(*acts).connected(ACCOUNT, f"stripe/{ACCOUNT}")


def test_every_call_names_the_account_and_shares_the_connection(bench: Bench) -> None:
    charge = {"id": "ch_1", "object": "charge", "amount": 5, "amount_captured": 5, "currency": "eur", "created": 1}
    shown = answers(200, {**charge, "livemode": False, "disputed": True, "amount_refunded": 0, "captured": True})
    adapter = connected(
        bench, answers(200, refund()), page(), answers(200, refund()), answers(200, refund()), shown, page()
    )
    calls = [
        adapter.send("k", frozen()),
        adapter.find("ch_1", "leg_1"),
        adapter.fetch("re_1"),
        adapter.cancel("re_1"),
        adapter.find_payment("ch_1"),  # and its disputes
        adapter.recent(SINCE),
        adapter.page(SINCE, None, ""),
        adapter.disputes_of("ch_1"),
        adapter.recent_disputes(SINCE),
        adapter.recent_warnings(SINCE),
        adapter.fetch_dispute("dp_1"),
        adapter.fetch_warning("issfr_1"),
        adapter.balance(),
        adapter.recent_payments(SINCE, SINCE, None),
        adapter.fetch_payment("ch_1"),
        adapter.balance_transactions(SINCE, SINCE, None),
        adapter.balance_transactions_of("re_1"),
    ]
    for call in calls:
        bench.run(call)
    assert len(bench.server.requests) >= len(calls)
    assert {each.headers.get("stripe-account") for each in bench.server.requests} == {ACCOUNT}
    assert bench.server.connections == 1
    assert adapter.name == f"stripe/{ACCOUNT}"


@pytest.mark.parametrize(
    ("act", "own", "of_connected"),
    [
        (error(403, INVALID, "account_invalid"),
         Denied("account_invalid", MESSAGE), Misconfigured("account_invalid", NAMED, "req_1")),
        (error(400, INVALID, "account_invalid"),
         Denied("account_invalid", MESSAGE, maybe_kept=True), Misconfigured("account_invalid", NAMED, "req_1")),
        (error(403, INVALID), Denied("http_403", MESSAGE), Misconfigured("http_403", NAMED, "req_1")),
        (error(400, INVALID, "platform_account_required"),
         Denied("platform_account_required", MESSAGE, maybe_kept=True),
         Misconfigured("platform_account_required", NAMED, "req_1")),
        (error(400, INVALID, "testmode_charges_only", Idempotent_Replayed="true"),
         Denied("testmode_charges_only", MESSAGE, maybe_kept=True, replayed=True),
         Misconfigured("testmode_charges_only", NAMED, "req_1", replayed=True)),
        (error(400, INVALID, message=REJECTED),
         Denied(INVALID, REJECTED, maybe_kept=True),
         Misconfigured(INVALID, f"connected account {ACCOUNT}: {REJECTED}", "req_1")),
        (error(400, INVALID, "balance_insufficient"),
         Blocked("balance_insufficient", MESSAGE, "req_1"), Blocked("balance_insufficient", NAMED, "req_1")),
        (error(402, CARD_ERROR, message_code="insufficient_balance_for_refund"),
         Blocked("insufficient_balance_for_refund", MESSAGE, "req_1"),
         Blocked("insufficient_balance_for_refund", NAMED, "req_1")),
    ],
)  # fmt: skip
def test_refusal_of_a_connected_account_concerns_it_alone(bench: Bench, act: Any, own: Any, of_connected: Any) -> None:
    platform = bench.play(act)
    assert bench.ask(platform) == own
    assert bench.ask(platform.connected(ACCOUNT, f"stripe/{ACCOUNT}")) == of_connected


@pytest.mark.parametrize(
    ("act", "reply"),
    [
        (error(401, INVALID), Denied("http_401", MESSAGE)),
        (error(401, INVALID, "account_invalid"), Denied("account_invalid", MESSAGE)),
        (error(400, INVALID, "parameter_unknown", param="x"), Denied("parameter_unknown", MESSAGE, maybe_kept=True)),
        (error(400, INVALID, message="Invalid Stripe API version: 1"),
         Denied(INVALID, "Invalid Stripe API version: 1", maybe_kept=True)),
        (error(400, INVALID, "charge_already_refunded"), AlreadyRefunded(MESSAGE, "req_1")),
        (error(404, INVALID, "resource_missing", param="charge"), Misconfigured("resource_missing", MESSAGE, "req_1")),
        (error(402, CARD_ERROR, "expired_card"), Refused("expired_card", MESSAGE, "req_1")),
    ],
)  # fmt: skip
def test_other_refusals_mean_the_same_for_both(bench: Bench, act: Any, reply: Any) -> None:
    platform = bench.play(act)
    assert bench.ask(platform) == bench.ask(platform.connected(ACCOUNT, "stripe/x")) == reply


def test_lists_of_an_account_without_access_pause_nothing(bench: Bench) -> None:
    adapter = connected(bench, error(403, INVALID, "account_invalid", message=NO_ACCESS))
    shown = NO_ACCESS.replace("sk_test_***", "[key removed]")
    refused = Misconfigured("account_invalid", f"connected account {ACCOUNT}: {shown}", "req_1")
    assert bench.run(adapter.find("ch_1", "leg_1")) == refused
    assert bench.run(adapter.recent(SINCE)) == refused
    assert bench.run(adapter.page(SINCE, None, "")) == refused
    assert bench.run(adapter.fetch("re_1")) == refused
    assert isinstance(bench.run(adapter.find_payment("ch_1")), PaymentUnreadable)
    for reading in (adapter.balance(), adapter.recent_disputes(SINCE), adapter.recent_warnings(SINCE)):
        assert isinstance(bench.run(reading), NotReadable)


def test_shares_are_in_the_frozen_body_and_sent_as_it_is(bench: Bench) -> None:
    both = frozen(shares=SharesBack(transfer=True, application_fee=False, destination=ACCOUNT))
    assert '"refund_application_fee":false' in both
    assert '"reverse_transfer":true' in both
    assert ACCOUNT not in both
    assert "reverse_transfer" not in frozen()
    kept = frozen(shares=SharesBack(transfer=False))
    assert '"reverse_transfer":false' in kept
    assert "refund_application_fee" not in kept
    adapter = bench.play(answers(200, refund()))
    bench.run(adapter.send("k", both))
    form = bench.server.requests[0].form
    assert (form["reverse_transfer"], form["refund_application_fee"]) == ("true", "false")
