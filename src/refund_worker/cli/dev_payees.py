"""The payees of `refund-worker dev`: two with earnings and a payout each, so that their pages have something to show.

They are made at the first start, and only the sandboxes pay them: no money moves.
"""

from __future__ import annotations

import time
from typing import Final

from refund_worker.cli.options import acting_user
from refund_worker.cli.stack import PAYPAL, Stack
from refund_worker.domain.payouts.destination import Destination, DestinationKind
from refund_worker.domain.payouts.earnings import EarningRecord
from refund_worker.domain.payouts.payee import PayeeRecord
from refund_worker.domain.payouts.payout import PayoutRequest
from refund_worker.domain.payouts.transfers import Method
from refund_worker.engine.context import Context
from refund_worker.engine.payees.earnings import record_earnings
from refund_worker.engine.payees.payees import record_payee
from refund_worker.engine.payouts.accept import request_payouts
from refund_worker.errors import RefundWorkerError
from refund_worker.store.reporting.payee_sums import payees_after

CURRENCY: Final = "USD"
CONNECTED: Final = "acct_devAna"
FUNDS_MINOR: Final = 10_000_000
PAYEES: Final = (
    ("performer-ana", "stripe", Destination(kind=DestinationKind.STRIPE_ACCOUNT, account=CONNECTED)),
    ("performer-ben", PAYPAL, Destination(kind=DestinationKind.PAYPAL, email="ben@example.com")),
)
# Each with its amount in minor units, and whether it can be paid out at once.
EARNINGS: Final = {
    "performer-ana": ((12_000, True), (4_500, False)),
    "performer-ben": ((6_000, True),),
}
PAYOUTS: Final = {"performer-ana": 8_000, "performer-ben": 6_000}


def make_payees(context: Context, stack: Stack) -> bool:
    """Record the payees with their earnings and payouts, unless there is a payee. Return True if they were recorded.

    Raises the refusal of the first record that is refused.
    """
    with context.database.read() as connection:
        if payees_after(connection, None, 1):
            return False
    # The sandbox connects an account before anything is paid to it, as Stripe does.
    stack.sandbox.act("connect_account", account=CONNECTED)
    stack.sandbox.act("top_up", currency=CURRENCY.lower(), amount_minor=FUNDS_MINOR)
    for payee_id, processor, destination in PAYEES:
        record = PayeeRecord(
            payee_id=payee_id,
            customer_id=None,
            processor=processor,
            destination=destination,
            currency=CURRENCY,
            country="US",
            method=Method.STANDARD,
        )
        record_payee(context, record, actor=acting_user())
    for answer in record_earnings(context, _earnings(), actor=acting_user()):
        if isinstance(answer, RefundWorkerError):
            raise answer
    for paid in request_payouts(context, _payouts()):
        if isinstance(paid, RefundWorkerError):
            raise paid
    return True


def _earnings() -> list[EarningRecord]:
    now = time.time()
    return [
        EarningRecord(
            earning_id=f"{payee_id}-{number}",
            payee_id=payee_id,
            amount_minor=amount,
            currency=CURRENCY,
            available_at=now if at_once else None,
            description="Private chats",
        )
        for payee_id, earned in EARNINGS.items()
        for number, (amount, at_once) in enumerate(earned, start=1)
    ]


def _payouts() -> list[PayoutRequest]:
    return [
        PayoutRequest(
            idempotency_key=f"dev-{payee_id}",
            payee_id=payee_id,
            amount_minor=amount,
            currency=CURRENCY,
            description="First payout",
            client="dev",
            actor=acting_user(),
        )
        for payee_id, amount in PAYOUTS.items()
    ]
