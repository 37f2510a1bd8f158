"""The facts about PayPal's payouts. Imports no HTTP client."""

from __future__ import annotations

from typing import Final

from refund_worker.domain.payouts.destination import DestinationKind
from refund_worker.domain.payouts.transfers import Fault, Step
from refund_worker.processors.payout_routes import PayoutCapabilities
from refund_worker.processors.paypal.payout_errors import EMPTY, FAULTS, INVALID_RECEIVER
from refund_worker.processors.paypal.payout_objects import CLAIM_SECONDS, CURRENCY_STEPS, MAXIMUM_MINOR

DAY: Final = 86_400.0
_SPEC: Final = "payments_payouts_batch_v1.json 1.9 (github paypal/paypal-rest-api-specifications), read 2026-11"
_FEES: Final = "developer.paypal.com/payouts/fees, read 2026-11"

PAYOUT_CAPABILITIES: Final = PayoutCapabilities(
    kinds=frozenset({DestinationKind.PAYPAL}),
    steps=(Step.PAYOUT,),
    key_seconds=30 * DAY,
    key_use_seconds=25 * DAY,
    finds=False,
    list_proves_absence=False,
    reads_payees=False,
    return_window_seconds=CLAIM_SECONDS,
    maximum_minor=MAXIMUM_MINOR,
    currency_steps=CURRENCY_STEPS,
    low_balance_codes=EMPTY,
    refusal_faults={**FAULTS, INVALID_RECEIVER: Fault.PAYEE},
    cancels=True,
    sources={
        "kinds": f"{_SPEC}: recipient_type EMAIL and PAYPAL_ID. Phones and user handles are not implemented",
        "steps": f"{_SPEC}: one item of a batch is the whole payout",
        "methods": f"{_SPEC}: no field for the speed",
        "moves_money": f"{_SPEC}: POST /v1/payments/payouts",
        "key_seconds": f"{_SPEC}: sender_batch_id and PayPal-Request-Id, 30 days each. Only the first counts here",
        "key_use_seconds": "our choice: five days less than PayPal keeps a key",
        "finds": f"{_SPEC}: no call finds a batch by an id of the sender's; a refused repeat links to the first batch",
        "list_proves_absence": "there is no list",
        "reads_payees": f"{_SPEC}: no such call",
        "return_window_seconds": "developer.paypal.com/payouts/use-payouts/handle-unclaimed-payouts, read 2026-11: "
        "unclaimed money returns after 30 days. No source says how long a paid item can be refunded or reversed",
        "minimum_minor": "no source: PayPal refuses an amount of 0",
        "maximum_minor": f"{_FEES}: 20,000 USD an item, and in other currencies their equivalent, which PayPal judges",
        "currency_steps": "as for refunds: HUF, JPY and TWD have no decimals",
        "low_balance_codes": "developer.paypal.com/payouts/view-transactions, read 2026-11: 1002 and 3078",
        "refusal_faults": "our reading of the names in developer.paypal.com/payouts/reference, read 2026-11",
        "cancels": f"{_SPEC}: POST /v1/payments/payouts-item/ID/cancel, only UNCLAIMED",
    },
)
