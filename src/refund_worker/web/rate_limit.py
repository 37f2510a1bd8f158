"""The headers RateLimit and RateLimit-Policy, as draft-ietf-httpapi-ratelimit-headers describes them.

They tell a caller of the velocity limits before it meets one. Each of the two limits has a policy of its own.
"""

from __future__ import annotations

import math
from collections.abc import Iterable

from refund_worker.domain.limits import Limits
from refund_worker.errors import Quota

# Names of the policies: the number of refunds, and their amount in each currency.
COUNT, AMOUNT = "refunds", "amount"
# No unit of the draft fits money, which an extension may name.
AMOUNT_UNIT = ';qu="minor-units"'


def policy_headers(limits: Limits) -> dict[str, str]:
    """Return the header with the limits that are set: `q` within `w` seconds. It is empty without a limit."""
    window = math.ceil(limits.window_seconds)
    found = []
    if limits.velocity_count is not None:
        found.append(f'"{COUNT}";q={limits.velocity_count};w={window}')
    if limits.velocity_amount_minor is not None:
        found.append(f'"{AMOUNT}";q={limits.velocity_amount_minor};w={window}{AMOUNT_UNIT}')
    return {"RateLimit-Policy": ", ".join(found)} if found else {}


def quota_headers(quotas: Iterable[Quota]) -> dict[str, str]:
    """Return both headers: the policies, and the `r` that are left until after `t` seconds some are free again."""
    policies, left = [], []
    for quota in quotas:
        name, unit = (AMOUNT, AMOUNT_UNIT) if quota.is_money else (COUNT, "")
        policies.append(f'"{name}";q={quota.limit};w={math.ceil(quota.window_seconds)}{unit}')
        left.append(f'"{name}";r={quota.remaining};t={quota.reset_seconds}')
    return {"RateLimit-Policy": ", ".join(policies), "RateLimit": ", ".join(left)} if left else {}
