"""A bench for the adapter: the local server, an adapter, and instructions for one leg."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from dataclasses import replace
from typing import Any, TypeVar

from tests.processors.braintree.server import MERCHANT, PRIVATE, PUBLIC, BraintreeServer

from refund_worker.domain.processor_calls import RefundInstruction
from refund_worker.domain.processor_replies import Answered, Found, RefundObject, Reply, SearchReply
from refund_worker.processors.braintree.adapter import BraintreeProcessor

T = TypeVar("T")
LEG, INSTALLATION = "rf_1-1", "inst_1"


class Bench:
    """Calls of one adapter to one server; `new_adapter` is what a crash leaves: nothing is remembered."""

    def __init__(self, server: BraintreeServer) -> None:
        self.server, self.book = server, server.book
        self._loop = asyncio.new_event_loop()
        self.adapter = self.new_adapter()

    def new_adapter(self, **options: Any) -> BraintreeProcessor:
        """Return another adapter, with a short deadline unless `options` say otherwise."""
        base = options.pop("base", self.server.url)
        return BraintreeProcessor(MERCHANT, PUBLIC, PRIVATE, base=base, **{"timeout_seconds": 0.8, **options})

    def run(self, work: Coroutine[Any, Any, T]) -> T:
        """Run a coroutine to its end."""
        return self._loop.run_until_complete(work)

    def order(self, payment_id: str, amount_minor: int = 1_250, attempt: int = 1, leg: str = LEG) -> RefundInstruction:
        """Return the instruction of an attempt."""
        return RefundInstruction("rf_1", leg, attempt, payment_id, amount_minor, "GBP", "asked", INSTALLATION)

    def send(self, payment_id: str, amount_minor: int = 1_250, attempt: int = 1, leg: str = LEG) -> Reply:
        """Send an attempt under the key that the engine gives it."""
        order = self.order(payment_id, amount_minor, attempt, leg)
        return self.run(self.adapter.send(f"{leg}:{attempt}", self.adapter.freeze(order)))

    def found(self, payment_id: str) -> tuple[RefundObject, ...]:
        """Return the list of the payment."""
        reply: SearchReply = self.run(self.adapter.find(payment_id, LEG))
        assert isinstance(reply, Found), reply
        return reply.objects

    def close(self) -> None:
        """Close the adapter; the server must have had no fault to find."""
        self.run(self.adapter.close())
        self._loop.close()
        assert self.server.violations == []


def answered(reply: Reply) -> RefundObject:
    """Return the object of a reply that describes one."""
    assert isinstance(reply, Answered), reply
    return reply.object


def without_marks(refund_object: RefundObject) -> RefundObject:
    """Return the object as a list shows it that does not know whose it is."""
    return replace(refund_object, leg_id=None, attempt=None, installation=None)
