"""The PayPal sandbox as a separate process, controlled over its own endpoints (`control.py`)."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar

from refund_worker.processors.local_server.process import LocalServer, LocalServerError


class PayPalSandboxError(LocalServerError):
    """The sandbox did not start, or refused a control request. The message contains the reason."""


class PayPalSandbox(LocalServer):
    """A running PayPal sandbox: `with PayPalSandbox() as paypal: … paypal.url`.

    The process ends with the block, and also if the process that started it dies. Its book ends with it, unless `book`
    names a file for it. Faults, tokens, events and settings always end with it. `program` is a module with the
    sandbox's command line, `environment` its variables (default: ours).
    """

    TITLE: ClassVar = "the PayPal sandbox"
    FAULT: ClassVar = PayPalSandboxError

    def __init__(
        self,
        port: int = 0,
        *,
        book: Path | None = None,
        program: str = "refund_worker.processors.paypal.sandbox",
        environment: Mapping[str, str] | None = None,
    ) -> None:
        self.book_path = book
        super().__init__(program, port, [] if book is None else ["--book", str(book)], environment=environment)

    # -- the control endpoints ----------------------------------------------------------------------------------------

    def book(self) -> dict[str, Any]:
        """Return the sandbox's book: captures, refunds, payouts, keys, events and their answers."""
        return self._ask("GET", "/_control/book")

    def refunds(self) -> list[dict[str, Any]]:
        """Return the refunds in the book, oldest first, each with its `capture_id`."""
        refunds: list[dict[str, Any]] = self.book()["refunds"]
        return refunds

    def new_payment(self, amount: str, currency: str = "GBP", **more: Any) -> str:
        """Capture a payment of an amount such as "12.50" and return the capture's id. `control.py` has the options."""
        capture_id: str = self.control("orders", amount=amount, currency=currency, **more)["capture_id"]
        return capture_id

    def add_fault(self, fault: str, capture_id: str = "", times: int = 1) -> None:
        """Let the next refunds meet a fault of `FAULTS`, or a refusal (`issue:NAME`): of a capture, or of any."""
        self.control("faults", capture_id=capture_id, fault=fault, times=times)

    def expect_payouts(self, receiver: str, status: str, error: str | None = None) -> None:
        """Let the next payouts to a receiver get a status, such as UNCLAIMED with RECEIVER_UNREGISTERED."""
        self.control("receivers", receiver=receiver, status=status, error=error)

    def change_payout(self, item_id: str, status: str, error: str | None = None) -> None:
        """Give a payout another status."""
        self.control(f"items/{item_id}", status=status, error=error)

    def clear_faults(self) -> None:
        """End all faults, those by chance too."""
        self._ask("DELETE", "/_control/faults")

    def send_webhooks_to(self, url: str | None, webhook_id: str | None = None) -> None:
        """Send events from now on to `url`; without a url nothing is sent."""
        self.control("webhooks", url=url, **({"webhook_id": webhook_id} if webhook_id else {}))

    def control(self, name: str, **asked: Any) -> dict[str, Any]:
        """Send any request below /_control, and return its answer. Raise `PayPalSandboxError` if it is refused."""
        return self._ask("POST", f"/_control/{name}", asked)
