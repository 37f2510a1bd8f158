"""The account's balance and balance transactions add up to what charges, refunds, disputes and payouts moved."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import stripe

from refund_worker.processors.sandbox import Sandbox, SandboxError
from refund_worker.processors.sandbox.ledger import Ledger, Transaction

Connect = Callable[..., stripe.StripeClient]


def balance(client: stripe.StripeClient, currency: str = "gbp") -> tuple[int, int]:
    """Return the available and the pending sum of a currency."""
    shown = client.v1.balance.retrieve()
    return (
        sum(each.amount for each in shown.available if each.currency == currency),
        sum(each.amount for each in shown.pending if each.currency == currency),
    )


def moved(client: stripe.StripeClient, **params: Any) -> list[tuple[str, int]]:
    """Return type and amount of each balance transaction that is listed, newest first."""
    listed = client.v1.balance_transactions.list(params or None)  # type: ignore[arg-type]
    return [(each.type, each.amount) for each in listed.auto_paging_iter()]


@pytest.fixture
def stripe_client(own_sandbox: Sandbox, connect: Connect) -> stripe.StripeClient:
    """An official client of a sandbox with one payment of 10.00 GBP, for one test only."""
    own_sandbox.register_payment("ch_1", 1000, created=100, fee_minor=30)
    return connect(own_sandbox)


def test_every_movement_is_a_transaction_and_the_balance_their_sum(
    own_sandbox: Sandbox, stripe_client: stripe.StripeClient
) -> None:
    client = stripe_client
    own_sandbox.register_payment("ch_2", 500)
    returned = client.v1.refunds.create({"charge": "ch_1", "amount": 400})
    failed = client.v1.refunds.create({"charge": "ch_2", "amount": 200})
    own_sandbox.act("move_refund", refund=failed.id, status="failed")
    lost = own_sandbox.act("open_dispute", payment="ch_2", amount_minor=100, fee_minor=15)["id"]
    own_sandbox.act("reinstate_funds", dispute=lost)
    own_sandbox.act("open_dispute", payment="ch_1", amount_minor=50)
    assert moved(client)[-1] == ("charge", 1000)
    assert sorted(moved(client)) == sorted(
        [
            *(("charge", 1000), ("charge", 500), ("refund", -400), ("refund", -200), ("refund_failure", 200)),
            *(("adjustment", -100), ("adjustment", 100), ("adjustment", -50)),
        ]
    )
    everything = list(client.v1.balance_transactions.list({"limit": 3}).auto_paging_iter())
    assert (
        balance(client) == (sum(each.net for each in everything), 0) == (1000 - 30 + 500 - 400 - 100 + 100 - 50 - 15, 0)
    )
    assert {each.status for each in everything} == {"available"}
    shown = client.v1.balance_transactions.retrieve(str(returned.balance_transaction))
    assert (shown.source, shown.type, shown.reporting_category) == (returned.id, "refund", "refund")
    assert set(shown.to_dict()) <= set(stripe.BalanceTransaction.__annotations__)
    categories = [each.reporting_category for each in everything if each.source == lost]
    assert sorted(categories) == ["dispute", "dispute_reversal"]
    assert client.v1.charges.retrieve("ch_1").balance_transaction == everything[-1].id
    before = own_sandbox.book(), [each.to_dict() for each in everything]
    own_sandbox.kill()
    own_sandbox.start()
    again = [each.to_dict() for each in client.v1.balance_transactions.list({"limit": 100}).data]
    assert ({**own_sandbox.book(), "requests": None}, again) == ({**before[0], "requests": None}, before[1])


def test_transactions_are_listed_by_type_source_currency_and_time(
    own_sandbox: Sandbox, stripe_client: stripe.StripeClient
) -> None:
    client = stripe_client
    own_sandbox.register_payment("pi_2", 700, "EUR", created=200)
    refund = client.v1.refunds.create({"charge": "ch_1", "amount": 5})
    assert moved(client, type="charge") == [("charge", 700), ("charge", 1000)]
    assert moved(client, currency="eur") == [("charge", 700)]
    assert moved(client, currency="eur", type="refund") == []
    assert moved(client, source=refund.id) == [("refund", -5)]
    assert moved(client, source="ch_2") == [("charge", 700)]
    assert moved(client, created={"lte": 150}) == [("charge", 1000)]
    assert moved(client, type="charge", created={"gt": 100}, limit=1) == [("charge", 700)]
    assert moved(client, source="ch_of_nobody") == []
    with pytest.raises(stripe.InvalidRequestError):
        client.v1.balance_transactions.retrieve("txn_of_nobody")
    with pytest.raises(stripe.InvalidRequestError):
        moved(client, starting_after="txn_of_nobody")


def test_money_is_pending_until_it_is_available(own_sandbox: Sandbox, connect: Connect) -> None:
    client = connect(own_sandbox)
    assert [(each.currency, each.amount) for each in client.v1.balance.retrieve().available] == [("usd", 0)]
    now = own_sandbox.act("new_charge", amount_minor=300, currency="gbp")["created"]
    own_sandbox.act("new_charge", payment="ch_2", amount_minor=500, currency="gbp", available_on=now + 1000)
    assert balance(client) == (300, 500)
    assert [each.status for each in client.v1.balance_transactions.list({"source": "ch_2"})] == ["pending"]
    own_sandbox.advance_clock(1001)
    assert balance(client) == (800, 0)
    assert [each.status for each in client.v1.balance_transactions.list({"source": "ch_2"})] == ["available"]


def test_bank_debit_earns_when_it_succeeds_and_loses_when_it_fails(own_sandbox: Sandbox, connect: Connect) -> None:
    client = connect(own_sandbox)
    debit: dict[str, Any] = {"amount_minor": 500, "currency": "gbp", "payment_method": "bacs_debit"}
    own_sandbox.act("new_charge", payment="ch_1", status="pending", **debit)
    waiting = client.v1.refunds.create({"charge": "ch_1", "amount": 100})
    assert waiting.balance_transaction is None
    assert (moved(client), balance(client)) == ([], (0, 0))
    own_sandbox.act("move_charge", payment="ch_1", status="succeeded")
    assert moved(client, type="payment_refund") == [("payment_refund", -100)]
    assert balance(client) == (400, 0)
    own_sandbox.act("move_charge", payment="ch_1", status="failed")
    assert moved(client, source="ch_1")[0] == ("payment_failure_refund", -500)
    assert balance(client) == (-100, 0)


# -- set, enforced, topped up, paid out -------------------------------------------------------------------------------


def test_set_balance_refuses_what_it_cannot_pay(own_sandbox: Sandbox, stripe_client: stripe.StripeClient) -> None:
    client = stripe_client
    own_sandbox.act("set_balance", currency="GBP", available_minor=250, pending_minor=70)
    assert balance(client) == (250, 70)
    assert client.v1.refunds.create({"charge": "ch_1", "amount": 100}).status == "succeeded"
    assert balance(client) == (150, 70)
    own_sandbox.act("set_balance", currency="gbp", policy="refuse")
    with pytest.raises(stripe.InvalidRequestError) as refused:
        client.v1.refunds.create({"charge": "ch_1", "amount": 151})
    assert refused.value.code == "balance_insufficient"
    with pytest.raises(SandboxError, match="balance is too small"):
        own_sandbox.act("dashboard_refund", payment="ch_1", amount_minor=151)
    own_sandbox.restart()
    assert balance(client) == (150, 70)
    assert client.v1.refunds.create({"charge": "ch_1", "amount": 150}).status == "succeeded"
    own_sandbox.act("top_up", currency="gbp", amount_minor=20)
    assert client.v1.refunds.create({"charge": "ch_1", "amount": 20}).status == "succeeded"
    own_sandbox.act("set_balance", currency="gbp", available_minor=0, policy="off")
    assert client.v1.refunds.create({"charge": "ch_1", "amount": 1}).status == "succeeded"
    assert balance(client) == (-1, 70)


def test_held_refunds_go_out_after_a_top_up_oldest_first(
    own_sandbox: Sandbox, stripe_client: stripe.StripeClient
) -> None:
    client = stripe_client
    own_sandbox.act("set_balance", currency="gbp", available_minor=10, policy="hold")
    held = [client.v1.refunds.create({"charge": "ch_1", "amount": amount}) for amount in (300, 200, 100)]
    assert {(each.status, each.pending_reason) for each in held} == {("pending", "insufficient_funds")}
    assert balance(client) == (10, 0)  # no money has left
    own_sandbox.act("top_up", currency="gbp", amount_minor=400)
    assert [client.v1.refunds.retrieve(each.id).status for each in held] == ["succeeded", "pending", "succeeded"]
    assert balance(client) == (10, 0)
    own_sandbox.act("set_balance", currency="gbp", available_minor=200)
    assert client.v1.refunds.retrieve(held[1].id).status == "succeeded"
    assert balance(client) == (0, 0)


def test_balance_of_a_fault_file_is_what_is_left_of_it(own_sandbox: Sandbox, connect: Connect) -> None:
    own_sandbox.register_payment("ch_1", 1000)
    own_sandbox.change_faults({"balance": {"gbp": 500}})
    client = connect(own_sandbox)
    client.v1.refunds.create({"charge": "ch_1", "amount": 400})
    assert balance(client) == (100, 0)


def test_automatic_payout_contains_what_was_available(own_sandbox: Sandbox, stripe_client: stripe.StripeClient) -> None:
    client = stripe_client
    now = own_sandbox.act("new_charge", payment="ch_2", amount_minor=70, currency="eur")["created"]
    own_sandbox.act("new_charge", payment="ch_3", amount_minor=50, currency="gbp", available_on=now + 1000)
    client.v1.refunds.create({"charge": "ch_1", "amount": 100})
    with pytest.raises(SandboxError, match="870 is available"):
        own_sandbox.act("payout", currency="gbp", amount_minor=871)
    first = own_sandbox.act("payout", currency="gbp")
    assert (first["amount"], first["automatic"], first["id"][:3]) == (870, True, "po_")
    assert sorted(moved(client, payout=first["id"])) == [("charge", 1000), ("payout", -870), ("refund", -100)]
    assert moved(client, payout=first["id"], type="refund") == [("refund", -100)]
    assert moved(client, payout=first["id"], source="ch_2") == []
    assert balance(client) == (0, 50)
    own_sandbox.advance_clock(1001)
    own_sandbox.restart()
    second = own_sandbox.act("payout", currency="gbp")
    assert sorted(moved(client, payout=second["id"])) == [("charge", 50), ("payout", -50)]
    assert sorted(moved(client, payout=first["id"])) == [("charge", 1000), ("payout", -870), ("refund", -100)]
    assert own_sandbox.act("payout", currency="eur", amount_minor=60)["automatic"] is False
    assert balance(client, "eur") == (10, 0)


def test_transaction_is_counted_once() -> None:
    ledger = Ledger()
    for _ in range(2):
        ledger.add(Transaction("txn_1", "charge", 100, "gbp", "ch_1", 5, fee=3))
    assert (ledger.available("gbp", 10), len(ledger.listed(None, None))) == (97, 1)


def test_unknown_policy_is_refused(sandbox: Sandbox) -> None:
    with pytest.raises(SandboxError, match="policy must be one of: hold, off, refuse"):
        sandbox.act("set_balance", currency="gbp", policy="perhaps")
