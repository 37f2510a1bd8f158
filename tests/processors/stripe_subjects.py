"""Stripe's adapter under contract, against our sandbox and against a server of a third party.

The sandbox is only useful if it behaves like Stripe, so it must pass the tests that code by others passes too.
"""

from __future__ import annotations

import itertools
import json
from datetime import UTC, datetime, timedelta
from typing import Any, ClassVar

import pytest
from tests.processors.contract import CURRENCY, Part, Subject
from tests.support.stripe_mock import ThirdPartyStripe

from refund_worker.domain.processor_replies import Busy, RefundObject
from refund_worker.processors.base import Processor
from refund_worker.processors.sandbox import Sandbox
from refund_worker.processors.sandbox.webhooks import signature_header
from refund_worker.processors.stripe.adapter import StripeProcessor
from refund_worker.processors.stripe.entry import CAPABILITIES, ENTRY
from refund_worker.processors.stripe.paging import PAGE_SIZE

API_KEY = "sk_test_contract"
_numbers = itertools.count(1)


class ClockedSandbox(Sandbox):
    """A sandbox that remembers how far its clock was moved."""

    clock_offset = 0.0

    def advance_clock(self, seconds: float) -> None:
        """Let time pass at the sandbox."""
        super().advance_clock(seconds)
        self.clock_offset += seconds


class OverStripe(Subject):
    """What all servers that speak Stripe's API have in common."""

    capabilities = CAPABILITIES
    entry = ENTRY
    page_size = PAGE_SIZE
    has_pages = True
    gives_request_ids = True
    wrong_secret = "sk_wrong_1234567890"
    wrong_payment_ids = ("PAYID-1", "re_1", "ch_1_secret_2")
    secret = "whsec_contract"
    url: str

    def adapter(self, *, timeout_seconds: float = 10) -> Processor:
        return StripeProcessor(API_KEY, base=self.url, timeout_seconds=timeout_seconds)

    def stranger(self) -> Processor:
        return StripeProcessor(self.wrong_secret, base=self.url, timeout_seconds=10)

    def refund_elsewhere(self, payment_id: str, amount_minor: int) -> None:
        async def refund() -> None:
            adapter = self.adapter()
            parameter = "payment_intent" if payment_id.startswith("pi_") else "charge"
            await adapter.send(
                f"dashboard-{next(_numbers)}", json.dumps({parameter: payment_id, "amount": amount_minor})
            )
            await adapter.close()

        self.run(refund())

    def event_about(self, refund_object: RefundObject) -> tuple[str, bytes]:
        data = {"id": refund_object.processor_refund_id, "object": "refund"}
        if refund_object.leg_id is not None:
            data |= {"metadata": {"refund_worker_leg": refund_object.leg_id}}  # type: ignore[dict-item]
        event_id = f"evt_{next(_numbers)}"
        return event_id, json.dumps({"id": event_id, "type": "refund.updated", "data": {"object": data}}).encode()

    def other_event(self) -> bytes:
        charge = {"id": "ch_1", "object": "charge"}
        return json.dumps({"id": "evt_1", "type": "charge.refunded", "data": {"object": charge}}).encode()

    def signed(self, body: bytes, *, secret: str, at: float) -> dict[str, str]:
        return {"stripe-signature": signature_header(secret, body, int(at))}


class SandboxCharge(OverStripe):
    """Charges at our sandbox."""

    name = "sandbox-charge"
    reads_payments = True
    errors_stick = True
    kind: ClassVar[str] = "ch"
    unknown_payment = "ch_nobodyKnows"
    connected_id: ClassVar[str | None] = None  # the connected account of the charges
    _LOST: ClassVar[dict[str, dict[str, Any]]] = {
        "timeout": {"timeout": {"effect": "now"}},
        "reset": {"reset": "after"},
        "reset in mid-body": {"reset": "mid_body"},
        "truncated": {"truncate": True},
    }
    _BUSY: ClassVar[dict[str, tuple[dict[str, Any], Busy]]] = {
        "key in use": ({"conflict": "key_in_use"}, Busy("idempotency_key_in_use")),
        "lock timeout, 409": ({"lock_timeout": 409}, Busy("lock_timeout")),
        "lock timeout, 429": ({"lock_timeout": 429}, Busy("lock_timeout")),
        "rate limit": ({"rate_limit": {"retry_after_seconds": 3}}, Busy("rate_limit", 3.0)),
    }
    _OTHERS: ClassVar[dict[str, dict[str, Any]]] = {
        "server error": {"server_error": {"status": 500, "effect": "now", "sticky": True}},
        "waits for the customer": {"lifecycle": [{"status": "requires_action"}]},
    }
    lost_answers = tuple(_LOST)
    busy = {name: reply for name, (_, reply) in _BUSY.items()}  # noqa: RUF012

    def __init__(self, request: pytest.FixtureRequest) -> None:
        super().__init__(request)
        self.sandbox: ClockedSandbox = request.getfixturevalue("sandbox")
        self.url = self.sandbox.url

    def close(self) -> None:
        self.sandbox.clear_faults()
        super().close()

    def now(self) -> datetime:
        return datetime.now(UTC) + timedelta(seconds=self.sandbox.clock_offset)

    def new_payment(self, amount_minor: int, *, disputed: bool = False) -> str:
        payment_id = f"{self.kind}_contract{next(_numbers)}"
        self.sandbox.register_payment(payment_id, amount_minor, CURRENCY, disputed=disputed, account=self.connected_id)
        return payment_id

    def booked(self, payment_id: str) -> list[int]:
        made = [each for each in self.sandbox.refunds() if each.get("account") == self.connected_id]
        return [each["amount"] for each in made if payment_id in (each["charge"], each["payment_intent"])]

    def open_dispute(self, payment_id: str, amount_minor: int) -> str:
        whose = {"account": self.connected_id} if self.connected_id else {}
        return str(self.sandbox.act("open_dispute", payment=payment_id, amount_minor=amount_minor, **whose)["id"])

    def change(self, processor_refund_id: str, status: str, failure_code: str | None) -> None:
        self.sandbox.advance_refund(processor_refund_id, status, failure_code, self.connected_id or "")

    def pass_time(self, seconds: float) -> None:
        self.sandbox.advance_clock(seconds)

    def break_next(self, fault: str, payment_id: str) -> None:
        faults = self._LOST | {name: how for name, (how, _) in self._BUSY.items()} | self._OTHERS
        self.sandbox.add_fault(faults[fault], match={"path_kind": "create", "payment": payment_id})


class SandboxIntent(SandboxCharge):
    """Payment intents at our sandbox."""

    name = "sandbox-payment-intent"
    kind = "pi"
    unknown_payment = "pi_nobodyKnows"


class ConnectedSandbox(SandboxCharge):
    """Direct charges of a connected account at our sandbox, through the adapter of its platform.

    The platform has equal charges of its own, which must never be meant.
    """

    name = "sandbox-connected-account"
    connected_id: ClassVar[str] = "acct_Contract1"

    def __init__(self, request: pytest.FixtureRequest) -> None:
        super().__init__(request)
        self.sandbox.act("connect_account", account=self.connected_id)
        self._equal_ids: set[str] = set()

    def adapter(self, *, timeout_seconds: float = 10) -> Processor:
        return self._of(API_KEY, timeout_seconds)

    def stranger(self) -> Processor:
        return self._of(self.wrong_secret, 10)

    def _of(self, api_key: str, timeout_seconds: float) -> Processor:
        platform = StripeProcessor(api_key, base=self.url, timeout_seconds=timeout_seconds)
        return platform.connected(self.connected_id, f"stripe/{self.connected_id}")

    def new_payment(self, amount_minor: int, *, disputed: bool = False) -> str:
        payment_id = super().new_payment(amount_minor, disputed=disputed)
        self.sandbox.register_payment(payment_id, amount_minor, CURRENCY)
        self._equal_ids.add(payment_id)
        return payment_id

    def close(self) -> None:
        own = [each["charge"] for each in self.sandbox.refunds() if "account" not in each]
        super().close()
        assert self._equal_ids.isdisjoint(own)


class ThirdParty(OverStripe):
    """stripe-stateful-mock. Where it is known to differ from Stripe, `lacks` says how."""

    name = "stripe-stateful-mock"
    reads_payments = True
    unknown_payment = "ch_nobodyKnows"
    lacks = {  # noqa: RUF012
        Part.LISTS_UNKNOWN: "answers with an empty list instead of 404 resource_missing",
        Part.PAGES: "ignores the condition on the time of creation when listing",
        Part.RECENT: "ignores the condition on the time of creation when listing",
        Part.READS_DISPUTES: "has no such paths",
        Part.READS_BALANCE: "has no such path",
        Part.KEY_LIFE: "its keys never expire, and its clock cannot be moved",
        Part.CHANGES: "has no asynchronous refunds",
        Part.FAILURE_CODES: "has no asynchronous refunds",
        Part.CANCELS: "has no such endpoint",
        Part.CANCEL_REFUSED: "has no such endpoint",
        Part.LOST_ANSWER: "has no faults",
        Part.BUSY: "has no faults",
        Part.SERVER_ERROR: "has no faults",
        Part.WEBHOOKS: "sends no webhooks about refunds",
    }

    def __init__(self, request: pytest.FixtureRequest) -> None:
        super().__init__(request)
        self._server: ThirdPartyStripe = request.getfixturevalue("third_party_stripe")
        self.url = self._server.base_url

    def new_payment(self, amount_minor: int, *, disputed: bool = False) -> str:
        make = self._server.create_disputed_charge if disputed else self._server.create_charge
        return make(amount_minor)

    def booked(self, payment_id: str) -> list[int]:
        return [each["amount"] for each in self._server.refunds(payment_id)]  # type: ignore[misc]
