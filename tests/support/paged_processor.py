"""A scripted processor whose lists are read page by page, and that can show payments, their metadata and disputes."""

from __future__ import annotations

from datetime import datetime

from refund_worker.domain.processor_replies import (
    ChargedPayment,
    ChargedRead,
    ChargedReply,
    DisputeObject,
    DisputeRead,
    DisputeReply,
    DisputesFound,
    DisputesReply,
    Misconfigured,
    Page,
    PageReply,
    PaymentReply,
    PaymentsPage,
    PaymentsReply,
    RefundObject,
    SearchReply,
)
from tests.support.scripted_processor import ScriptedProcessor

_NONE = Misconfigured("resource_missing", "no such object")


class PagedProcessor(ScriptedProcessor):
    """Lists newest first, `page_size` objects a page.

    `payments` are the answers about single payments, and `charged` are those of the account's list. A payment in `gone`
    is not known. `asked_until` are the times up to which the list of payments was asked for.
    """

    reads_payments = True
    reads_disputes = True

    def __init__(self, page_size: int = 3) -> None:
        super().__init__()
        self.page_size = page_size
        self.disputes: dict[str, DisputeObject] = {}
        self.charged: dict[str, ChargedPayment] = {}
        self.gone: set[str] = set()
        self.pages = 0
        self.asked_until: list[datetime] = []

    async def page(self, created_gte: datetime, created_lt: datetime | None, after: str) -> PageReply:
        """Return the page after the object `after`."""
        self.pages += 1
        self.while_listing()
        found = [
            o
            for o in self.objects.values()
            if o.created_at >= created_gte and not (created_lt and o.created_at >= created_lt)
        ]
        found.sort(key=_by_time, reverse=True)
        start = 1 + [o.processor_refund_id for o in found].index(after) if after else 0
        shown = found[start : start + self.page_size]
        more = start + self.page_size < len(found)
        return Page(tuple(shown), shown[-1].processor_refund_id if more else None)

    async def find(self, processor_payment_id: str, leg_id: str) -> SearchReply:
        """Return all refund objects of the payment, unless it is not known."""
        if processor_payment_id in self.gone:
            return _NONE
        return await super().find(processor_payment_id, leg_id)

    async def find_payment(self, processor_payment_id: str) -> PaymentReply:
        """Return the payment's reading."""
        return _NONE if processor_payment_id in self.gone else await super().find_payment(processor_payment_id)

    async def recent_payments(self, created_gte: datetime, created_lt: datetime, after: str | None) -> PaymentsReply:
        """Return a page of the payments of the account."""
        self.asked_until.append(created_lt)
        found = sorted((p for p in self.charged.values() if created_gte <= p.created_at < created_lt), key=_by_id)
        start = 1 + [p.processor_payment_id for p in found].index(after) if after else 0
        shown = found[start : start + self.page_size]
        more = start + self.page_size < len(found)
        return PaymentsPage(tuple(shown), shown[-1].processor_payment_id if more else None)

    async def fetch_payment(self, processor_payment_id: str) -> ChargedReply:
        """Return one payment with its metadata."""
        payment = self.charged.get(processor_payment_id)
        return _NONE if payment is None else ChargedRead(payment)

    async def fetch_dispute(self, dispute_id: str) -> DisputeReply:
        """Return one dispute."""
        return DisputeRead(self.disputes[dispute_id])

    async def disputes_of(self, processor_payment_id: str) -> DisputesReply:
        """Return the disputes of the payment."""
        return DisputesFound(tuple(d for d in self.disputes.values() if processor_payment_id in d.payment_refs))

    async def recent_disputes(self, created_gte: datetime) -> DisputesReply:
        """Return all disputes."""
        return DisputesFound(tuple(self.disputes.values()))


def _by_time(item: RefundObject) -> tuple[datetime, str]:
    return item.created_at, item.processor_refund_id


def _by_id(payment: ChargedPayment) -> str:
    return payment.processor_payment_id
