"""The records that the admin backend sends: money paid in and credits spent."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class PaymentRecord:
    """Money that was paid in once, and the credits it bought. Amounts are in minor units, times in epoch seconds.

    `captured_minor` is what the processor captured, if that is not the amount. `refunded_minor` is what was returned
    before the payment was recorded here. `recorded_by` is `import` or `webhook` if it was recorded from the processor's
    account, None if the admin backend sent it. `processor` is the name of its account once that is found;
    `asked_account` is the account that the request names, and is not stored. `connect_account` is the id of its
    connected account. A refund reverses the transfer to that account, or takes the application fee back, where
    `connect_reverse_transfer` or `connect_refund_application_fee` is True.
    """

    payment_id: str
    customer_id: str
    processor: str
    processor_payment_id: str
    amount_minor: int
    currency: str
    credits: int
    captured_at: float
    captured_minor: int | None = None
    refunded_minor: int = 0
    recorded_by: str | None = None
    connect_account: str | None = None
    connect_reverse_transfer: bool | None = None
    connect_refund_application_fee: bool | None = None
    asked_account: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class SpendRecord:
    """Credits that a customer spent. `credits` is a positive figure; `occurred_at` is in epoch seconds."""

    transaction_id: str
    customer_id: str
    credits: int
    description: str
    occurred_at: float
