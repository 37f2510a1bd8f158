"""The running demo: short methods with which its scenes record payments, request refunds and check results."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any, TypeVar

from rich.console import Console

from refund_worker.api_schema import Refund
from refund_worker.cli.demo.api import Answer, Api
from refund_worker.cli.stack import PAYPAL, Stack
from refund_worker.domain.records import PaymentRecord, SpendRecord
from refund_worker.domain.refund import FINAL, Kind, RefundRequest, RefundStatus, To
from refund_worker.engine.accounts import corrections, payments, spends
from refund_worker.engine.context import Context
from refund_worker.engine.refunds import accept
from refund_worker.engine.views import api_objects
from refund_worker.errors import RefundWorkerError, Refusal
from refund_worker.processors.paypal.sandbox import PayPalSandbox
from refund_worker.runtime import Runtime

WAIT_SECONDS_MAX = 25.0
ENDED = (*FINAL, RefundStatus.NEEDS_ATTENTION)
T = TypeVar("T")


@dataclass(slots=True)
class Demo:
    """The console, the processes and the runtime of the running demo, and the results of its checks."""

    console: Console
    stack: Stack
    runtime: Runtime
    api: Api
    checks: list[dict[str, Any]] = field(default_factory=list)

    @property
    def context(self) -> Context:
        """The engine's context."""
        return self.runtime.context

    @property
    def paypal(self) -> PayPalSandbox:
        """PayPal's sandbox."""
        assert self.stack.paypal is not None
        return self.stack.paypal

    def title(self, text: str) -> None:
        """Print the title of a scene."""
        self.console.print(f"\n[bold]{text}[/bold]")

    def narrate(self, text: str) -> None:
        """Print a line of the story."""
        self.console.print(f"  {text}")

    def check(self, claim: str, ok: bool, seen: object) -> None:
        """Record and print one claim. If it is not true, print `seen` as well; the demo then fails."""
        self.checks.append({"claim": claim, "ok": ok, "seen": str(seen)})
        mark = "[green]✓[/green]" if ok else "[red]✗[/red]"
        self.console.print(f"  {mark} {claim}" + ("" if ok else f"  [red](saw: {seen})[/red]"))

    def refund(self, refund_id: str) -> Refund:
        """Return a refund as its HTTP object."""
        with self.context.database.read() as connection:
            return api_objects.refund_view(api_objects.find_refund(connection, refund_id))

    def balance(self, customer_id: str) -> int:
        """Return the credits of a customer."""
        with self.context.database.read() as connection:
            return int(api_objects.customer(connection, customer_id, self.context.policy)["balance"])

    def amounts_at_processor(self, charge: str) -> list[int]:
        """Return the succeeded refunds of a payment in the sandbox's records, in minor units."""
        refunds = self.stack.sandbox.refunds()
        return [r["amount"] for r in refunds if r["charge"] == charge and r["status"] == "succeeded"]

    def wait(
        self, refund_id: str, statuses: Sequence[str] = ENDED, activity: str = "working", *, blocked: bool = False
    ) -> Refund:
        """Wait until the refund has one of the statuses, and return it. Return it as it is after `WAIT_SECONDS_MAX`.

        With `blocked`, also wait until foreign refunds of its payment stop its leg.
        """
        return self.until(
            lambda: self.refund(refund_id),
            lambda refund: refund["status"] in statuses and (not blocked or bool(refund["legs"][0]["blocked_by"])),
            activity,
        )

    def until(self, read: Callable[[], T], done: Callable[[T], bool], activity: str) -> T:
        """Read until it is done, and return what was read. Return it as it is after `WAIT_SECONDS_MAX`."""
        end = time.monotonic() + WAIT_SECONDS_MAX
        with self.console.status(f"  {activity}…"):
            while not done(found := read()) and time.monotonic() < end:
                self.stack.check()
                time.sleep(0.05)
        return found

    def available(self, customer_id: str) -> int:
        """Return the credits of a customer that nothing holds, from the HTTP API."""
        return int(self.api.get(f"/v1/customers/{customer_id}")["available"])

    def outside_refund(self, customer_id: str, object_id: str) -> dict[str, Any]:
        """Wait until this refund of others is recorded and has paid, and return it from the HTTP API."""
        return self.until(
            lambda: with_object(self.api.get("/v1/outside-refunds", customer_id=customer_id), object_id),
            lambda found: found.get("status") == "posted",
            "the processor's report arrives",
        )

    def ask_refund(self, key: str, customer_id: str, credits: int, **more: Any) -> Answer:
        """Request credits of a customer back to the source over the HTTP API, and return the answer."""
        body = {"kind": "withdrawal", "to": "source", "customer_id": customer_id, "credits": credits}
        body |= {"reason": "requested_by_customer", **more}
        return self.api.ask("POST", "/v1/refunds", body, idempotency_key=key)

    def pay_in(self, customer_id: str, *bought: tuple[str, int, int], **options: Any) -> None:
        """Record payments of a customer: (the processor's id, minor units of USD, credits).

        The sandbox captures each payment first, with its `options` of a payment.
        """
        for number, amount, _ in bought:
            self.stack.sandbox.register_payment(number, amount, "USD", **options)
        self._record(customer_id, "stripe", bought)

    def pay_in_by_paypal(self, customer_id: str, amount_minor: int, credits: int) -> str:
        """Record a payment by PayPal in USD, newer than those by Stripe, and return the capture's id at PayPal."""
        capture_id = self.paypal.new_payment(str(Decimal(amount_minor).scaleb(-2)), "USD")
        self._record(customer_id, PAYPAL, [(capture_id, amount_minor, credits)], days=30)
        return capture_id

    def _record(self, customer_id: str, processor: str, bought: Sequence[tuple[str, int, int]], days: int = 0) -> None:
        """Record payments that were captured so many days after the demo's first day."""
        records = [
            PaymentRecord(
                payment_id=f"pay-{number}",
                customer_id=customer_id,
                processor=processor,
                processor_payment_id=number,
                amount_minor=amount,
                currency="USD",
                credits=credits,
                captured_at=1_790_000_000.0 + 86_400 * (days + place),
            )
            for place, (number, amount, credits) in enumerate(bought)
        ]
        _raise_first_error(payments.record_payments(self.context, records))

    def spend(self, customer_id: str, transaction_id: str, credits: int, description: str) -> None:
        """Record a spend of a customer."""
        record = SpendRecord(
            transaction_id=transaction_id,
            customer_id=customer_id,
            credits=credits,
            description=description,
            occurred_at=1_790_500_000.0,
        )
        _raise_first_error(spends.record_spends(self.context, [record]))

    def request(self, key: str, kind: Kind, to: To, customer_id: str, **more: Any) -> str:
        """Request a refund under an idempotency key, and return its id. Raises `Refusal` if it is refused."""
        request = RefundRequest(
            idempotency_key=key,
            kind=kind,
            to=to,
            customer_id=customer_id,
            reason="requested_by_customer",
            client="demo",
            actor="support",
            **more,
        )
        (answer,) = accept.request_refunds(self.context, [request])
        if isinstance(answer, Refusal):
            raise answer
        return answer.refund_id

    def correct(self, customer_id: str, credits: int, reason: str) -> str:
        """Correct a customer's balance, and return the id of the correction."""
        row, _ = corrections.correct(
            self.context,
            customer_id=customer_id,
            credits=credits,
            reason=reason,
            client="demo",
            idempotency_key=f"correct-{customer_id}",
            actor="support",
        )
        return str(row["transaction_id"])


def with_object(listed: dict[str, Any], object_id: str) -> dict[str, Any]:
    """Return the entry of a list of the API that has this object of the processor, or an empty one."""
    return next((item for item in listed["data"] if item["object_id"] == object_id), {})


def _raise_first_error(answers: Sequence[payments.Recorded | RefundWorkerError]) -> None:
    for answer in answers:
        if isinstance(answer, RefundWorkerError):
            raise answer
