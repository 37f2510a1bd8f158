"""The events of Stripe to subscribe to, and the permissions that a restricted key needs.

The one table of both: `doctor` names them, and docs/operations.md shows them (a test compares).
"""

from __future__ import annotations

from collections.abc import Mapping
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


def events_text() -> str:
    """Return the events to subscribe to, for a person."""
    return ", ".join(EVENT_TYPES)


def permissions_text() -> str:
    """Return the permissions of a restricted key, for a person; Write includes Read."""
    strongest = {each.resource: each.access for each in reversed(PERMISSIONS)}
    strongest = {each.resource: strongest[each.resource] for each in PERMISSIONS}
    return ", ".join(f"{resource}: {access}" for resource, access in strongest.items())


def tables() -> str:
    """Return both tables as docs/operations.md shows them."""
    events = "".join(f"| `{name}` | {why} |\n" for name, why in EVENT_TYPES.items())
    needed = "".join(
        f"| {each.resource} | {each.access} | {each.needed_for} | {'no' if each.optional else 'yes'} |\n"
        for each in PERMISSIONS
    )
    return (
        f"| event | what it tells |\n|---|---|\n{events}\n"
        f"| permission | access | needed for | required |\n|---|---|---|---|\n{needed}"
    )
