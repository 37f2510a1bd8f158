"""Fixtures: the local PayPal, an adapter for it, and a loop to run its calls on."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine, Iterator
from dataclasses import dataclass, field
from typing import Any, TypeVar

import pytest
from tests.processors.paypal.signing import OPENSSL, WITHOUT_OPENSSL, signer

from refund_worker.domain.processor_calls import RefundInstruction
from refund_worker.processors.paypal import verification
from refund_worker.processors.paypal.adapter import PayPalProcessor
from refund_worker.processors.paypal.sandbox.credentials import CLIENT_ID, CLIENT_SECRET
from refund_worker.processors.paypal.sandbox.server import PayPalServer

T = TypeVar("T")
needs_openssl = pytest.mark.skipif(OPENSSL is None, reason=WITHOUT_OPENSSL)
INSTALLATION = "inst_0123456789abcdef0123456789abcdef"


@dataclass
class Bench:
    """An adapter with the local PayPal behind it."""

    server: PayPalServer
    loop: asyncio.AbstractEventLoop = field(default_factory=asyncio.new_event_loop)
    adapters: list[PayPalProcessor] = field(default_factory=list)

    def run(self, work: Coroutine[Any, Any, T]) -> T:
        """Run a coroutine to its end."""
        return self.loop.run_until_complete(work)

    def adapter(
        self, secret: str = CLIENT_SECRET, timeout_seconds: float = 5, base: str | None = None
    ) -> PayPalProcessor:
        """Return an adapter, which is closed at the end of the test."""
        made = PayPalProcessor(
            CLIENT_ID, secret, base=base or self.server.url, live=False, timeout_seconds=timeout_seconds
        )
        self.adapters.append(made)
        return made

    def close(self) -> None:
        """Close the adapters and the loop."""
        for adapter in self.adapters:
            self.run(adapter.close())
        self.loop.close()


def order(capture_id: str, amount_minor: int = 900, attempt: int = 1, currency: str = "GBP") -> RefundInstruction:
    """Return an instruction with ids as the engine makes them."""
    refund_id = "rf_019aafc2d1a05c1e7f00aa11b2"
    return RefundInstruction(
        refund_id, f"{refund_id}-1", attempt, capture_id, amount_minor, currency, "customer asked", INSTALLATION
    )


@pytest.fixture
def server() -> Iterator[PayPalServer]:
    """The local PayPal."""
    verification.forget()
    with PayPalServer(signer=signer) as server:
        yield server


@pytest.fixture
def bench(server: PayPalServer) -> Iterator[Bench]:
    """An adapter's bench."""
    bench = Bench(server)
    yield bench
    bench.close()
