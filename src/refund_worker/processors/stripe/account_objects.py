"""Stripe's disputes, early fraud warnings and balance: their JSON is checked and converted to our types. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from typing import Any, Final

from refund_worker.domain.money import AMOUNT_MAX
from refund_worker.domain.processor_replies import BalanceRead, DisputeObject, FraudWarning
from refund_worker.processors.stripe.objects import CREATED_MAX, CURRENCY, OPAQUE_ID, payment_refs
from refund_worker.processors.wire import Unreadable, clean

WARNING: Final = "radar.early_fraud_warning"
# The balance of a whole account can be far above one payment. The bound keeps it inside a database's integers.
BALANCE_MAX: Final = 10**15
MOVEMENTS_MAX: Final = 1_000


def to_dispute(data: object) -> DisputeObject:
    """Return the dispute or inquiry that Stripe's JSON describes.

    Raises `Unreadable` if it is not a dispute or lacks a required field; an unknown status is passed on as it is.
    """
    dispute, identifier, created_at = _object(data, "dispute")
    amount, currency, status = (dispute.get(name) for name in ("amount", "currency", "status"))
    # type() and not isinstance(): True is an int to Python, and no amount.
    if type(amount) is not int or not 0 <= amount <= AMOUNT_MAX:
        raise Unreadable("a dispute whose amount is not a whole number of minor units")
    if not isinstance(currency, str) or not CURRENCY.fullmatch(currency):
        raise Unreadable("a dispute without a currency")
    if not isinstance(status, str | None):
        raise Unreadable("a dispute whose status is no text")
    evidence = dispute.get("evidence_details")
    return DisputeObject(
        dispute_id=identifier,
        status=None if status is None else clean(status),
        amount_minor=amount,
        currency=currency.upper(),
        payment_refs=payment_refs(dispute),
        reason=_text(dispute, "reason"),
        created_at=created_at,
        due_by=_time(evidence.get("due_by")) if isinstance(evidence, dict) else None,
        money_returned=money_returned(dispute.get("balance_transactions")),
        refundable=_flag(dispute, "is_charge_refundable"),
        live=_flag(dispute, "livemode"),
    )


def money_returned(movements: object) -> bool | None:
    """Return True if money was withdrawn and all of it came back, False if some is still gone.

    `movements` are the balance transactions of a dispute. Return None if they report nothing, or cannot be read.
    """
    if not isinstance(movements, list) or not movements or len(movements) > MOVEMENTS_MAX:
        return None
    amounts = [each.get("amount") if isinstance(each, dict) else None for each in movements]
    # The fee of a dispute is in `fee`, and stays gone after a win.
    known = [amount for amount in amounts if type(amount) is int and abs(amount) <= AMOUNT_MAX]
    if len(known) < len(amounts) or min(known) >= 0:
        return None
    return sum(known) >= 0


def to_warning(data: object) -> FraudWarning:
    """Return the early fraud warning that Stripe's JSON describes. Raises `Unreadable` for anything else."""
    warning, identifier, created_at = _object(data, WARNING)
    return FraudWarning(
        warning_id=identifier,
        payment_refs=payment_refs(warning),
        fraud_type=_text(warning, "fraud_type"),
        actionable=_flag(warning, "actionable"),
        created_at=created_at,
        live=_flag(warning, "livemode"),
    )


def to_balance(data: object) -> BalanceRead:
    """Return the account's money. Raises `Unreadable` for anything but a balance with its two sums.

    Money that was set aside for refunds and disputes (`refund_and_dispute_prefunding`) pays refunds too, so it counts.
    """
    if not isinstance(data, dict) or data.get("object") != "balance":
        raise Unreadable("not a balance")
    set_aside = data.get("refund_and_dispute_prefunding")
    parts = [data, set_aside] if isinstance(set_aside, dict) else [data]
    return BalanceRead(
        available=_sums(part.get("available") for part in parts),
        pending=_sums(part.get("pending") for part in parts),
        live=_flag(data, "livemode"),
    )


def _sums(lists: Iterable[object]) -> Mapping[str, int]:
    sums: dict[str, int] = {}
    for listed in lists:
        if not isinstance(listed, list):
            raise Unreadable("a balance without its sums")
        for each in listed:
            entry = each if isinstance(each, dict) else {}
            amount, currency = entry.get("amount"), entry.get("currency")
            if type(amount) is not int or abs(amount) > BALANCE_MAX:
                raise Unreadable("a balance whose amount is not a whole number of minor units")
            if not isinstance(currency, str) or not CURRENCY.fullmatch(currency):
                raise Unreadable("a balance without a currency")
            sums[currency.upper()] = sums.get(currency.upper(), 0) + amount
    return sums


def _object(data: object, kind: str) -> tuple[dict[str, Any], str, datetime]:
    if not isinstance(data, dict) or data.get("object") != kind:
        raise Unreadable(f"not a {kind}")
    identifier, created_at = data.get("id"), _time(data.get("created"))
    if not isinstance(identifier, str) or not OPAQUE_ID.fullmatch(identifier):
        raise Unreadable(f"a {kind} without a usable id")
    if created_at is None:
        raise Unreadable(f"a {kind} without a usable time of creation")
    return data, identifier, created_at


def _time(second: object) -> datetime | None:
    usable = type(second) is int and 0 <= second < CREATED_MAX
    return datetime.fromtimestamp(second, UTC) if usable and isinstance(second, int) else None


def _text(described: dict[str, Any], name: str) -> str | None:
    value = described.get(name)
    return clean(value) if isinstance(value, str) and value else None


def _flag(described: dict[str, Any], name: str) -> bool | None:
    value = described.get(name)
    return value if isinstance(value, bool) else None
