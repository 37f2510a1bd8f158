"""The Stripe adapter reads disputes, early fraud warnings and the balance.

A server that speaks Stripe's API may have none of these paths, and a restricted key may not read them. Refunds do not
need them: an answer that says so is `NotReadable`, never a fault of the set-up that would stop all refunds.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from typing import Final, TypeVar

from refund_worker.domain.processor_replies import (
    BalanceRead,
    BalanceReply,
    DisputeObject,
    DisputeRead,
    DisputeReply,
    DisputesFound,
    DisputesReply,
    FraudWarning,
    Misconfigured,
    NotReadable,
    WarningRead,
    WarningReply,
    WarningsFound,
    WarningsReply,
)
from refund_worker.processors.stripe.account_objects import to_balance, to_dispute, to_warning
from refund_worker.processors.stripe.answers import ListFailure
from refund_worker.processors.stripe.objects import OPAQUE_ID, payment_parameter
from refund_worker.processors.stripe.paging import Listing, Pages
from refund_worker.processors.wire import Unreadable

DISPUTES: Final[Listing[DisputeObject]] = Listing("/v1/disputes", to_dispute, lambda dispute: dispute.dispute_id)
WARNINGS: Final[Listing[FraudWarning]] = Listing(
    "/v1/radar/early_fraud_warnings", to_warning, lambda warning: warning.warning_id
)
T = TypeVar("T")


class ReadsAccount:
    """The part of the Stripe adapter that reads disputes, early fraud warnings and the balance.

    `_failure` returns the meaning of a failed call.
    """

    reads_disputes = True
    reads_balance = True
    _pages: Pages
    _failure: Callable[[Exception], NotReadable | ListFailure]

    async def fetch_dispute(self, dispute_id: str) -> DisputeReply:
        """GET one dispute."""
        if not OPAQUE_ID.fullmatch(dispute_id):
            return Misconfigured("bad_dispute_id", "this is no Stripe dispute id; nothing was asked")
        try:
            return DisputeRead(await self._described(DISPUTES, dispute_id))
        except Exception as error:  # noqa: BLE001 -- whatever a server can cause is an answer
            return self._failure(error)

    async def disputes_of(self, processor_payment_id: str) -> DisputesReply:
        """Return all disputes and inquiries of this payment, within one deadline.

        A payment id that is no charge or payment intent is `Misconfigured`, without a call.
        """
        try:
            where = {payment_parameter(processor_payment_id): processor_payment_id}
        except ValueError as error:
            return Misconfigured("bad_payment_id", str(error))
        try:
            return DisputesFound(await self._pages.of_payment(DISPUTES, where))
        except Exception as error:  # noqa: BLE001 -- as above
            return self._failure(error)

    async def recent_disputes(self, created_gte: datetime) -> DisputesReply:
        """Return all disputes of the account opened since `created_gte`. Raises ValueError for a naive datetime."""
        where = created_since(created_gte)
        try:
            return DisputesFound(await self._pages.recent(DISPUTES, where))
        except Exception as error:  # noqa: BLE001 -- as above
            return self._failure(error)

    async def fetch_warning(self, warning_id: str) -> WarningReply:
        """GET one early fraud warning."""
        if not OPAQUE_ID.fullmatch(warning_id):
            return Misconfigured("bad_warning_id", "this is no Stripe id of an early fraud warning; nothing was asked")
        try:
            return WarningRead(await self._described(WARNINGS, warning_id))
        except Exception as error:  # noqa: BLE001 -- as above
            return self._failure(error)

    async def recent_warnings(self, created_gte: datetime) -> WarningsReply:
        """Return all early fraud warnings made since `created_gte`. Raises ValueError for a naive datetime."""
        where = created_since(created_gte)
        try:
            return WarningsFound(await self._pages.recent(WARNINGS, where))
        except Exception as error:  # noqa: BLE001 -- as above
            return self._failure(error)

    async def balance(self) -> BalanceReply:
        """GET the balance of the account."""
        try:
            read: BalanceRead = to_balance(await self._pages.ask("get", "/v1/balance", {}))
        except Exception as error:  # noqa: BLE001 -- as above
            return self._failure(error)
        return read

    async def _described(self, listing: Listing[T], object_id: str) -> T:
        found = listing.read(await self._pages.ask("get", f"{listing.path}/{object_id}", {}))
        if listing.id_of(found) != object_id:
            raise Unreadable("another object than the one that was asked for")
        return found


def created_since(created_gte: datetime) -> dict[str, dict[str, int]]:
    """Return the parameter of a list for objects made since then. Raises ValueError for a naive datetime."""
    if created_gte.tzinfo is None:
        raise ValueError("created_gte needs a time zone")
    return {"created": {"gte": int(created_gte.timestamp())}}
