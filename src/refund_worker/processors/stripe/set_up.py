"""The events of Stripe to subscribe to, and the permissions that a restricted key needs.

The one table of both: `doctor` names them, and docs/operations.md shows them (a test compares).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Final

EVENT_TYPES: Final[Mapping[str, str]] = {
    "refund.created": "refunds, ours and those that others make",
    "refund.updated": "the status of refunds",
    "refund.failed": "refunds that fail, also weeks later",
    "charge.dispute.created": "disputes and inquiries",
    "charge.dispute.updated": "the status of disputes",
    "charge.dispute.closed": "disputes that are won or lost",
    "charge.dispute.funds_withdrawn": "the money of a dispute",
    "charge.dispute.funds_reinstated": "money that comes back after a loss",
    "radar.early_fraud_warning.created": "early fraud warnings",
    "radar.early_fraud_warning.updated": "warnings that need no answer any more",
    "charge.succeeded": "new payments, if REFUND_WORKER_PAYMENTS_FROM_WEBHOOKS is on",
    "charge.captured": "payments that are captured later, if REFUND_WORKER_PAYMENTS_FROM_WEBHOOKS is on",
}


PAYOUT_EVENT_TYPES: Final[Mapping[str, str]] = {
    "transfer.created": "transfers to payees' accounts",
    "transfer.updated": "transfers to payees' accounts",
    "transfer.reversed": "transfers that we or others take back",
    "payout.created": "payouts from payees' accounts",
    "payout.updated": "the status of payouts",
    "payout.paid": "payouts that arrived",
    "payout.failed": "payouts that fail, also after they were paid",
    "payout.canceled": "payouts that were called off",
    "account.updated": "what payees' accounts lack",
    "account.external_account.updated": "banks of payees that take no more payouts",
    "account.application.deauthorized": "payees' accounts that end their connection",
    "capability.updated": "accounts that can, or can no longer, receive transfers",
}


@dataclass(frozen=True, slots=True)
class Permission:
    """A permission of a restricted key, and the work that needs it; without an `optional` one refunds go on."""

    resource: str
    access: str
    needed_for: str
    optional: bool = True


PERMISSIONS: Final = (
    Permission("Charges and Refunds", "Write", "making, canceling, reading and listing refunds", optional=False),
    Permission("Charges and Refunds", "Read", "the check of a payment before its first refund; early fraud warnings"),
    Permission("PaymentIntents", "Read", "the same for payments that are named by a payment intent"),
    Permission("Disputes", "Read", "disputes and inquiries"),
    Permission("Balance", "Read", "funds, and the monthly statement"),
)
PAYOUT_PERMISSIONS: Final = (
    Permission("Transfers", "Write", "payouts: money for a payee's account, and taking it back", optional=False),
    Permission("Payouts", "Write", "payouts from a payee's account to its bank", optional=False),
    Permission("Accounts", "Read", "payouts: whether a payee's account can be paid", optional=False),
)


def events_text() -> str:
    """Return the events to subscribe to, for a person."""
    return f"{', '.join(EVENT_TYPES)}; for payouts also {', '.join(PAYOUT_EVENT_TYPES)}"


def permissions_text() -> str:
    """Return the permissions of a restricted key, for a person; Write includes Read."""
    strongest = {each.resource: each.access for each in reversed(PERMISSIONS)}
    strongest = {each.resource: strongest[each.resource] for each in PERMISSIONS}
    refunds = ", ".join(f"{resource}: {access}" for resource, access in strongest.items())
    return f"{refunds}; for payouts also {', '.join(f'{each.resource}: {each.access}' for each in PAYOUT_PERMISSIONS)}"


def tables() -> str:
    """Return the tables of refunds as docs/operations.md shows them."""
    return _tables(EVENT_TYPES, PERMISSIONS)


def payout_tables() -> str:
    """Return the tables of payouts as docs/paying-systems/stripe.md shows them."""
    return _tables(PAYOUT_EVENT_TYPES, PAYOUT_PERMISSIONS)


def _tables(kinds: Mapping[str, str], permissions: Iterable[Permission]) -> str:
    events = "".join(f"| `{name}` | {why} |\n" for name, why in kinds.items())
    needed = "".join(
        f"| {each.resource} | {each.access} | {each.needed_for} | {'no' if each.optional else 'yes'} |\n"
        for each in permissions
    )
    return (
        f"| event | what it tells |\n|---|---|\n{events}\n"
        f"| permission | access | needed for | required |\n|---|---|---|---|\n{needed}"
    )
