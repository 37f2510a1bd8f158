"""The engine's adapter for the silent processor: it can send and nothing else. Its events carry the object itself."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Never

from refund_worker.domain.processor_calls import RefundInstruction
from refund_worker.domain.processor_replies import PaymentReply, RefundObject, Reply, SearchReply
from refund_worker.processors.accounts import Account
from refund_worker.processors.base import (
    AccountSettings,
    Capabilities,
    EventHint,
    Processor,
    ProcessorEntry,
    Webhooks,
)
from tests.simulation.bank_records import SILENT, SilentRules
from tests.simulation.kernel import Violation
from tests.simulation.simulated_processor import SimulatedProcessor

KIND = "refund.changed"


class SilentProcessor(SimulatedProcessor):
    """The engine's adapter for the silent bank. Every question is a broken promise: its capabilities say so."""

    name = SILENT
    reads_payments = False
    reads_disputes = False

    def freeze(self, order: RefundInstruction) -> str:
        """Return the instruction as JSON."""
        body = json.loads(super().freeze(order)) | {"currency": order.currency}
        return json.dumps(body, sort_keys=True)

    def _no_such_call(self, what: str) -> Never:
        raise Violation(f"I16 {SILENT} is asked to {what}, which it cannot do")

    async def fetch(self, processor_refund_id: str) -> Reply:
        """Raise `Violation`."""
        self._no_such_call(f"fetch {processor_refund_id}")

    async def find(self, processor_payment_id: str, leg_id: str) -> SearchReply:
        """Raise `Violation`."""
        self._no_such_call(f"find {leg_id}")

    async def find_payment(self, processor_payment_id: str) -> PaymentReply:
        """Raise `Violation`."""
        self._no_such_call(f"read the payment {processor_payment_id}")

    async def recent(self, created_gte: datetime) -> SearchReply:
        """Raise `Violation`."""
        self._no_such_call("list its refunds")

    async def page(self, created_gte: datetime, created_lt: datetime | None, after: str) -> Never:
        """Raise `Violation`."""
        self._no_such_call("list its refunds")

    async def cancel(self, processor_refund_id: str) -> Reply:
        """Raise `Violation`."""
        self._no_such_call(f"cancel {processor_refund_id}")


def event_body(told: RefundObject) -> str:
    """Return the body of an event that carries the object."""
    fields = {
        "id": told.processor_refund_id,
        "status": told.status,
        "amount": told.amount_minor,
        "currency": told.currency,
        "payment": told.payment_refs[0],
        "leg": told.leg_id,
        "attempt": told.attempt,
        "installation": told.installation,
        "failure": told.failure_code,
        "created": told.created_at.timestamp(),
    }
    return json.dumps(fields, sort_keys=True)


def read_report(kind: str, body: str) -> RefundObject | None:
    """Return the object that an event carries, None for an event of another kind."""
    if kind != KIND:
        return None
    told = json.loads(body)
    return RefundObject(
        processor_refund_id=told["id"],
        status=told["status"],
        amount_minor=told["amount"],
        currency=told["currency"],
        payment_refs=(told["payment"],),
        leg_id=told["leg"],
        attempt=told["attempt"],
        failure_code=told["failure"],
        created_at=datetime.fromtimestamp(told["created"], UTC),
        live=None,
        installation=told["installation"],
    )


def _read_hint(kind: str, body: str) -> EventHint | None:
    report = read_report(kind, body)
    return None if report is None else EventHint(report.processor_refund_id, report.leg_id)


def silent_account(rules: SilentRules) -> Account:
    """Return the account: its adapter's entry with the capabilities that this schedule draws."""
    webhooks = Webhooks(
        verify_event=lambda _settings, _headers, _body, _now: None,
        event_name=lambda body: (json.loads(body)["id"], KIND),
        event_hint=_read_hint,
        event_subject=lambda _kind, _body: None,
        event_report=read_report,
        signature_header="x-signature",
        signature_example="",
        event_schema={},
    )
    entry = ProcessorEntry(name=SILENT, capabilities=capabilities(rules), make=_made_by_the_wiring, webhooks=webhooks)
    return Account(name=SILENT, entry=entry, settings=AccountSettings())


def _made_by_the_wiring(name: str, settings: AccountSettings, timeout_seconds: float) -> Processor:
    raise AssertionError("the schedule makes the adapter itself")


def capabilities(rules: SilentRules) -> Capabilities:
    """Return the capability table of the silent processor."""
    return Capabilities(
        key_seconds=rules.key_seconds,
        key_use_seconds=rules.key_use_seconds,
        finds_refunds=False,
        lists_refunds=False,
        list_proves_absence=False,
        answers_are_outcomes=False,
        answers_are_final=False,
        reads_refunds=False,
        report_seconds=rules.report_seconds,
        partial_refunds=rules.partial_refunds,
        cancels=False,
        refund_window_seconds=rules.window_seconds,
        rate_per_second=0,
        unfunded_codes=frozenset({"insufficient_funds"}),
        sources={"all": "this simulation"},
    )
