"""Count requests by kind and outcome. The counts are in memory and restart at zero with the process."""

from __future__ import annotations

from collections import Counter, defaultdict

from refund_worker.processors.sandbox.answers import JsonObject
from refund_worker.processors.sandbox.calls import Route


class Counts:
    """Requests by method and kind, and by status. `unanswered` counts the requests that got no complete answer."""

    def __init__(self) -> None:
        self._by_kind: defaultdict[tuple[str, str], Counter[str]] = defaultdict(Counter)

    def add(self, route: Route, status: int | None, headers: tuple[tuple[str, str], ...], account: str) -> None:
        """Count a request. `status` must be None without a complete answer. A replay is also counted as `replayed`."""
        counter = self._by_kind[account, f"{route.method} {route.path_kind}"]
        counter["unanswered" if status is None else str(status)] += 1
        if ("Idempotent-Replayed", "true") in headers:
            counter["replayed"] += 1

    def summary(self) -> dict[str, dict[str, int]]:
        """Return the counts, such as {"POST create": {"200": 3, "replayed": 1, "unanswered": 1}}."""
        found: defaultdict[str, Counter[str]] = defaultdict(Counter)
        for (_, kind), counter in self._by_kind.items():
            found[kind] += counter
        return {kind: dict(counter) for kind, counter in found.items()}

    def by_account(self) -> JsonObject:
        """Return the counts by the account in the header Stripe-Account; "" is the platform itself."""
        found: defaultdict[str, JsonObject] = defaultdict(dict)
        for (account, kind), counter in self._by_kind.items():
            found[account][kind] = dict(counter)
        return found
