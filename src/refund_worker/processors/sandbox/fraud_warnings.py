"""Early fraud warnings: a bank suspects a payment, and a refund now usually avoids its dispute. Pure decisions."""

from __future__ import annotations

from refund_worker.processors.sandbox.account_book import AccountBook
from refund_worker.processors.sandbox.answers import JsonObject
from refund_worker.processors.sandbox.decisions import Decision, Notice
from refund_worker.processors.sandbox.records import FraudWarning, Payment

# https://docs.stripe.com/api/radar/early_fraud_warnings/object, API 2026-10-28.
FRAUD_TYPES = frozenset(
    {
        *("card_never_received", "fraudulent_card_application", "made_with_counterfeit_card"),
        *("made_with_lost_card", "made_with_stolen_card", "misc", "unauthorized_use_of_card"),
    }
)


def decide_warning(
    book: AccountBook,
    payment: Payment,
    *,
    fraud_type: str = "made_with_stolen_card",
    created: int | None = None,
    actionable: bool = True,
) -> Decision:
    """Send an early fraud warning about a payment. With `actionable` False it never is."""
    warning_id = book.new_id("issfr", payment.id, len(payment.warnings))
    warning: JsonObject = {
        "id": warning_id,
        "object": "radar.early_fraud_warning",
        "actionable": actionable,
        "charge": payment.charge_id,
        "created": int(book.now()) if created is None else created,
        "fraud_type": fraud_type,
        "livemode": payment.livemode,
        "payment_intent": payment.payment_intent_id,
    }
    shown = {**warning, "actionable": actionable and payment.actionable}
    notice = Notice("radar.early_fraud_warning.created", warning_id)
    return Decision(({"kind": "warning", "warning": warning},), shown, (notice,))


def warning_object(book: AccountBook, warning: FraudWarning) -> JsonObject:
    """Return the warning as Stripe shows it: `actionable` until the payment is disputed or refunded in full."""
    return {**warning.object, "actionable": warning.object["actionable"] and book.payment_of(warning).actionable}
