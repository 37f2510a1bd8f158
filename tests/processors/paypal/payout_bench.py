"""A route for payouts with the local PayPal behind it."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from dataclasses import dataclass, field
from typing import Any, TypeVar

from refund_worker.domain.payouts.destination import Destination, DestinationKind
from refund_worker.domain.payouts.transfers import Step, TransferInstruction, TransferObject, TransferReply
from refund_worker.processors.paypal.payouts import PayPalPayouts
from refund_worker.processors.paypal.sandbox.credentials import CLIENT_ID, CLIENT_SECRET
from refund_worker.processors.paypal.sandbox.payouts import Item
from refund_worker.processors.paypal.sandbox.server import PayPalServer

T = TypeVar("T")
EMAIL = "ann.payee+x@example.com"
PAYER = "QYR5Z8XDVJNXQ"
LEG = "po_019aafc2d1a05c1e7f00aa11b2-1"
INSTALLATION = "inst_0123456789abcdef0123456789abcdef"


def to_email(email: str = EMAIL) -> Destination:
    """Return a destination by its address."""
    return Destination(kind=DestinationKind.PAYPAL, email=email)


def instruction(
    amount_minor: int = 900,
    currency: str = "USD",
    *,
    attempt: int = 1,
    leg_id: str = LEG,
    destination: Destination | None = None,
    **more: Any,
) -> TransferInstruction:
    """Return an instruction with ids as the engine makes them."""
    fields: dict[str, Any] = {"step": Step.PAYOUT, "description": "October", "installation": INSTALLATION}
    return TransferInstruction(
        payout_id=leg_id.rpartition("-")[0],
        leg_id=leg_id,
        attempt=attempt,
        destination=destination or to_email(),
        amount_minor=amount_minor,
        currency=currency,
        end_to_end_id=f"{leg_id}:{attempt}",
        **fields | more,
    )


@dataclass
class PayoutBench:
    """Routes for payouts of one server."""

    server: PayPalServer
    loop: asyncio.AbstractEventLoop = field(default_factory=asyncio.new_event_loop)
    routes: list[PayPalPayouts] = field(default_factory=list)

    def run(self, work: Coroutine[Any, Any, T]) -> T:
        """Run a coroutine to its end."""
        return self.loop.run_until_complete(work)

    def route(self, secret: str = CLIENT_SECRET, timeout_seconds: float = 5, base: str | None = None) -> PayPalPayouts:
        """Return a route, which is closed at the end of the test."""
        made = PayPalPayouts(
            CLIENT_ID, secret, base=base or self.server.url, live=False, timeout_seconds=timeout_seconds
        )
        self.routes.append(made)
        return made

    def send(self, route: PayPalPayouts, order: TransferInstruction | None = None) -> TransferReply:
        """Freeze and send an instruction under its key."""
        order = order or instruction()
        return self.run(route.send(order.end_to_end_id, route.freeze(order)))

    def fetch(self, route: PayPalPayouts, sent: TransferObject, order: TransferInstruction | None = None) -> Any:
        """Read the payout of an instruction."""
        return self.run(route.fetch(sent.object_id, route.freeze(order or instruction())))

    @property
    def items(self) -> list[Item]:
        """The payouts in the server's book."""
        return list(self.server.book.payouts.items.values())

    def close(self) -> None:
        """Close the routes and the loop."""
        for route in self.routes:
            self.run(route.close())
        self.loop.close()
