"""How often each kind of request was answered, and how. In memory: it starts anew with the process."""

from __future__ import annotations

from collections import Counter, defaultdict

from refund_worker.processors.sandbox.calls import Route


class Counts:
    """Requests by method and kind and by status; `unanswered` are those that got no whole answer."""

    def __init__(self) -> None:
        self._by_kind: defaultdict[str, Counter[str]] = defaultdict(Counter)

    def add(self, route: Route, status: int | None, headers: tuple[tuple[str, str], ...]) -> None:
        """Count a request; `status` None if no whole answer left. Replays are also counted by themselves."""
        counter = self._by_kind[f"{route.method} {route.path_kind}"]
        counter["unanswered" if status is None else str(status)] += 1
        if ("Idempotent-Replayed", "true") in headers:
            counter["replayed"] += 1

    def summary(self) -> dict[str, dict[str, int]]:
        """Plain numbers: {"POST create": {"200": 3, "replayed": 1, "unanswered": 1}}."""
        return {kind: dict(counter) for kind, counter in self._by_kind.items()}
