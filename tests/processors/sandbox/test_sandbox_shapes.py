"""Every object has the fields that the official client's pinned API version publishes, and no others."""

from __future__ import annotations

from typing import Any

import pytest
import stripe

from refund_worker.processors.sandbox import Sandbox

Part = tuple[type[Any], dict[str, Any]]


def published(kind: type[Any]) -> tuple[set[str], set[str]]:
    """Return the fields that are always there, and all fields, of an object of the official client."""
    fields = {name: str(hint) for name, hint in kind.__annotations__.items() if name != "OBJECT_NAME"}
    return {name for name, hint in fields.items() if "Optional" not in hint and "None" not in hint}, set(fields)


def payout_parts(sandbox: Sandbox, client: stripe.StripeClient) -> tuple[dict[str, Any], ...]:
    """Return a transfer with a reversal, this reversal, a failed payout, and the account that was paid."""
    account = "acct_Shapes1"
    sandbox.act("connect_account", account=account)
    sandbox.act("set_balance", currency="usd", available_minor=1_000)
    made = client.v1.transfers.create({"amount": 100, "currency": "usd", "destination": account})
    reversal = client.v1.transfers.reversals.create(made.id, {"amount": 10}).to_dict()
    payout = client.v1.payouts.create({"amount": 50, "currency": "usd"}, {"stripe_account": account})
    failed = sandbox.act("move_payout", account=account, payout=payout.id, status="failed")
    transfer = client.v1.transfers.retrieve(made.id).to_dict()
    return transfer, reversal, failed, client.v1.accounts.retrieve(account).to_dict()


@pytest.fixture(scope="module")
def parts() -> list[Part]:
    """One object of each kind, and the objects within it."""
    with Sandbox() as sandbox:
        client = stripe.StripeClient("sk_test_shapes", base_addresses={"api": sandbox.url})
        sandbox.register_payment("pi_1", 1000, fee_minor=30)
        sandbox.register_payment("ch_2", 1000, customer_must_act=True)
        refund = client.v1.refunds.create({"payment_intent": "pi_1", "amount": 10}).to_dict()
        waiting = client.v1.refunds.create({"charge": "ch_2", "instructions_email": "mia@example.org"}).to_dict()
        dispute = sandbox.act("open_dispute", payment="pi_1")
        warning = sandbox.act("fraud_warning", payment="pi_1")
        balance = client.v1.balance.retrieve().to_dict()
        (charged,) = client.v1.balance_transactions.list({"source": "ch_1"}).data
        display = waiting["next_action"]["display_details"]
        transfer, reversal, payout, account = payout_parts(sandbox, client)
        return [
            (stripe.Refund, refund),
            (stripe.Refund, waiting),
            (stripe.Refund.NextAction, waiting["next_action"]),
            (stripe.Refund.NextAction.DisplayDetails, display),
            (stripe.Refund.NextAction.DisplayDetails.EmailSent, display["email_sent"]),
            (stripe.Refund.DestinationDetails.Card, refund["destination_details"]["card"]),
            (stripe.Dispute, dispute),
            (stripe.Dispute.EvidenceDetails, dispute["evidence_details"]),
            (stripe.Dispute.PaymentMethodDetails.Card, dispute["payment_method_details"]["card"]),
            (stripe.radar.EarlyFraudWarning, warning),
            (stripe.Charge, client.v1.charges.retrieve("ch_1").to_dict()),
            (stripe.PaymentIntent, client.v1.payment_intents.retrieve("pi_1").to_dict()),
            (stripe.Balance, balance),
            (stripe.Balance.Available, balance["available"][0]),
            (stripe.Balance.Pending, balance["pending"][0]),
            (stripe.BalanceTransaction, charged.to_dict()),
            (stripe.BalanceTransaction, dispute["balance_transactions"][0]),
            (stripe.BalanceTransaction.FeeDetail, charged.to_dict()["fee_details"][0]),
            (stripe.Transfer, transfer),
            (stripe.TransferReversal, reversal),
            (stripe.Payout, payout),
            (stripe.Payout.TraceId, payout["trace_id"]),
            (stripe.Account, account),
            (stripe.Account.Capabilities, account["capabilities"]),
            (stripe.Account.Requirements, account["requirements"]),
            (stripe.BankAccount, account["external_accounts"]["data"][0]),
        ]


def test_objects_have_the_published_fields(parts: list[Part]) -> None:
    for kind, shown in parts:
        required, known = published(kind)
        assert required <= set(shown), kind
        assert set(shown) <= known, kind


def test_words_of_statuses_and_types_are_published_ones(parts: list[Part]) -> None:
    for kind, shown in parts:
        for name in ("status", "type", "balance_type", "pending_reason", "reporting_category"):
            hint = str(kind.__annotations__.get(name, ""))
            words = hint.split("'")[1::2] if "Literal" in hint else []
            if words and isinstance(shown.get(name), str):
                assert shown[name] in words, (kind, name)
