"""The weighted mix of faults of the heavy mode. The times are short, so that tests stay quick."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from typing import Any

Weighted = tuple[float, dict[str, Any]]

ON_THE_WIRE: tuple[Weighted, ...] = (
    (6, {"delay_seconds": 0.2}),
    (2, {"timeout": {"effect": "none"}}),
    (4, {"reset": "before"}),
    (4, {"reset": "after"}),
    (3, {"reset": "mid_body"}),
    (3, {"truncate": True}),
    (4, {"rate_limit": {}}),
    (2, {"rate_limit": {"retry_after_seconds": 1}}),
)
ON_CREATE: tuple[Weighted, ...] = (
    (3, {"timeout": {"effect": "now"}}),
    (3, {"timeout": {"effect": "later", "after_seconds": 2}}),
    (1, {"timeout": {"effect": "later", "after_seconds": 3, "holds_key": False}}),
    (3, {"conflict": "key_in_use"}),
    (1, {"lock_timeout": 409}),
    (1, {"lock_timeout": 429}),
    (3, {"server_error": {"effect": "none"}}),
    (3, {"server_error": {"effect": "now"}}),
    (3, {"server_error": {"effect": "later", "after_seconds": 2}}),
    (2, {"server_error": {"status": 503, "sticky": False}}),
    (2, {"refuse": {"code": "expired_or_canceled_card", "message": "The card can't take refunds any more."}}),
    (1, {"refuse": "balance_insufficient"}),
    (1, {"refuse": "insufficient_balance_for_refund"}),
    (4, {"lifecycle": [{"status": "pending"}, {"status": "succeeded", "after_seconds": 2}]}),
    (2, {"lifecycle": [{"status": "pending"}, {"status": "failed", "after_seconds": 2}]}),
    (2, {"lifecycle": [{"status": "succeeded"}, {"status": "failed", "after_seconds": 3}]}),
    (1, {"lifecycle": [{"status": "requires_action"}, {"status": "failed", "after_seconds": 3}]}),
    (1, {"lifecycle": [{"status": "pending"}, {"status": "canceled", "after_seconds": 2}]}),
    (1, {"lifecycle": [{"status": "clearing"}, {"status": "succeeded", "after_seconds": 2}]}),
    (1, {"lifecycle": [{"status": None}, {"status": "succeeded", "after_seconds": 2}]}),
    (0.5, {"answer": {"amount": 1}}),
)
# The faults of a create that say nothing about a refund, for transfers, reversals and payouts.
ON_SENT: tuple[Weighted, ...] = tuple(
    (weight, do) for weight, do in ON_CREATE if do.keys() & {"timeout", "conflict", "lock_timeout", "server_error"}
)
ON_TRANSFER: tuple[Weighted, ...] = (*ON_SENT, (1, {"refuse": "balance_insufficient"}))
ON_PAYOUT: tuple[Weighted, ...] = (
    *ON_TRANSFER,
    (4, {"lifecycle": [{"status": "pending"}, {"status": "paid", "after_seconds": 2}]}),
    (2, {"lifecycle": [{"status": "pending"}, {"status": "failed", "after_seconds": 2}]}),
    (2, {"lifecycle": [{"status": "paid"}, {"status": "failed", "after_seconds": 3}]}),
    (1, {"lifecycle": [{"status": "pending"}, {"status": "canceled", "after_seconds": 2}]}),
    (1, {"lifecycle": [{"status": "clearing"}, {"status": "paid", "after_seconds": 2}]}),
)
ON_LIST: tuple[Weighted, ...] = (
    (5, {"list_lag_seconds": 3}),
    (2, {"pages": "repeat"}),
    (2, {"pages": "shift"}),
)
ON_READING: tuple[Weighted, ...] = ((2, {"server_error": {"sticky": False}}),)
ON_WEBHOOK: tuple[Weighted, ...] = (
    (3, {"webhook": {"lose": True}}),
    (3, {"webhook": {"copies": 3}}),
    (2, {"webhook": {"delay_seconds": 2}}),
    (2, {"webhook": {"after_next": True}}),
)
OWN: Mapping[str, tuple[Weighted, ...]] = {
    "create": ON_CREATE,
    "create_transfer": ON_TRANSFER,
    "create_reversal": ON_TRANSFER,
    "create_payout": ON_PAYOUT,
    **dict.fromkeys(("list", "transfers", "reversals", "payouts"), ON_LIST + ON_READING),
}
DENIALS: tuple[Weighted, ...] = ((1, {"unauthorized": True}), (1, {"forbidden": True}))


@cache
def heavy_actions(path_kind: str, *, denials: bool) -> tuple[Weighted, ...]:
    """Return the faults that can affect a request of this kind, each with its weight."""
    if path_kind == "webhook":
        return ON_WEBHOOK
    own = OWN.get(path_kind, ON_READING)
    return ON_THE_WIRE + own + (DENIALS if denials else ())
