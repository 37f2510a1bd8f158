"""The receiver of our notifications: an admin backend that hangs, or that answers with a redirect (row 74)."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache

from sqlalchemy import RowMapping

from refund_worker.engine.context import Context
from refund_worker.engine.notifications.delivery import Deliverer
from refund_worker.engine.notifications.http_post import SECONDS_MAX
from refund_worker.settings import Settings
from tests.simulation.allowed_changes import ENDS
from tests.simulation.faults import Faults
from tests.simulation.kernel import Violation
from tests.simulation.observer import Watch

# The signing secret is another secret that no row may contain (I14).
PLANTED_SECRET = "c2lnbmVkIGJ5IHRoZSBzaW11bGF0aW9uIG9ubHk="


@cache
def _settings() -> Settings:
    return Settings(notify_url="http://127.0.0.1:9/", notify_secret=PLANTED_SECRET)  # type: ignore[arg-type]


class SimulatedDeliverer(Deliverer):
    """The production deliverer without the network. Nothing is sent, but a hanging receiver takes its time."""

    def __init__(self, faults: Faults) -> None:
        super().__init__(_settings())
        self._faults = faults
        self.received: set[str] = set()

    async def _post_all(self, rows: Sequence[RowMapping]) -> list[str | None]:
        return [self._post(row["message_id"]) for row in rows]

    def _post(self, message_id: str) -> str | None:
        if self._faults.strikes("receiver hangs"):
            return "no answer in time"
        if self._faults.strikes("receiver redirects"):
            return "answered 302"
        self.received.add(message_id)
        return None

    def deliver(self, context: Context) -> int:
        """Deliver what is due, and let the time of a hanging receiver pass."""
        delivered = super().deliver(context)
        self._faults.world.sleep(SECONDS_MAX if self._faults.on else 0)
        return delivered


def check_told(watch: Watch, receiver: SimulatedDeliverer) -> None:
    """Check L1 for notifications: each notification arrived, and each final status was notified."""
    told = set()
    for message_id, refund_id, kind, delivered_at in watch.connection.raw(
        "SELECT message_id, refund_id, type, delivered_at FROM outbox"
    ):
        told.add((refund_id, kind))
        if delivered_at is None or message_id not in receiver.received:
            raise Violation(f"L1 the notification {message_id} never arrived")
    for refund in watch.refunds.values():
        if refund["status"] in ENDS and (refund["refund_id"], f"refund.{refund['status']}") not in told:
            raise Violation(f"L5 nobody was told that {refund['refund_id']} is {refund['status']}")
