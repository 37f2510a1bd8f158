"""The facts about Stripe's payouts to connected accounts. Imports no SDK."""

from __future__ import annotations

from typing import Final

from refund_worker.domain.money import STRIPE_STEP
from refund_worker.domain.payouts.destination import DestinationKind
from refund_worker.domain.payouts.transfers import Method, Step
from refund_worker.processors.payout_routes import PayoutCapabilities
from refund_worker.processors.stripe.payout_errors import EMPTY, REFUSAL_FAULTS

DAY: Final = 86_400.0
# Payouts in these have two decimals that must both be zero, besides the currencies in which that holds for refunds too.
PAYOUT_STEPS: Final = STRIPE_STEP | dict.fromkeys(("HUF", "TWD"), 100)

PAYOUT_CAPABILITIES: Final = PayoutCapabilities(
    kinds=frozenset({DestinationKind.STRIPE_ACCOUNT}),
    steps=(Step.TRANSFER, Step.PAYOUT),
    methods=frozenset({Method.STANDARD, Method.INSTANT}),
    key_seconds=DAY,
    finds=True,
    list_proves_absence=True,
    reads_payees=True,
    return_window_seconds=7 * DAY,
    currency_steps=PAYOUT_STEPS,
    low_balance_codes=EMPTY,
    refusal_faults=REFUSAL_FAULTS,
    sources={
        "kinds": "docs.stripe.com/api/transfers/create, read 2026-11: destination is a connected account",
        "steps": "docs.stripe.com/connect/separate-charges-and-transfers, /api/payouts/create, read 2026-11",
        "methods": "docs.stripe.com/api/payouts/create, read 2026-11",
        "moves_money": "docs.stripe.com/api/payouts, read 2026-11",
        "key_seconds": "docs.stripe.com/api/idempotent_requests, read 2026-11: at least 24 hours",
        "key_use_seconds": "our choice: KEY_LIFE_SECONDS",
        "finds": "docs.stripe.com/api/transfers/list, /api/payouts/list, /api/transfer_reversals/list, read 2026-11: by"
        " transfer_group, by time of creation, and all",
        "list_proves_absence": "no source: we assume that lists lag by less than QUIET_SECONDS",
        "reads_payees": "docs.stripe.com/api/accounts/object, read 2026-11: payouts_enabled and requirements",
        "return_window_seconds": "docs.stripe.com/api/payouts/object, read 2026-11: paid can turn to failed, within 5"
        " business days, which are at most 7 days without holidays",
        "minimum_minor": "no source by currency: Stripe has minimums by country, and refuses what is below",
        "maximum_minor": "no source",
        "refusal_faults": "our reading of docs.stripe.com/error-codes, read 2026-11",
        "currency_steps": "docs.stripe.com/currencies, read 2026-11: payouts in HUF, ISK, TWD and UGX are whole units",
        "low_balance_codes": "github stripe/stripe-node#1147 and antiwork/gumroad#5479, read 2026-11",
        "cancels": "no payout waits for the payee; docs.stripe.com/api/payouts/cancel, read 2026-11: only pending ones",
    },
)
