"""Stripe's transfers, reversals, payouts and accounts: their JSON is checked and converted to our types. Pure.

A transfer and a reversal have no status at Stripe, so their statuses are words of ours. A reversal took effect once it
exists. A transfer took effect too, and then:

- what we reverse ourselves is another step, with an object of its own: it does not change the transfer;
- a transfer that others reversed in full was undone: it is canceled;
- a transfer that others reversed in part has no state that we know, and neither has one whose reversals are not all
  shown: a person decides.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final

from refund_worker.domain.money import AMOUNT_MAX
from refund_worker.domain.payouts.transfers import PayeeRead, PayeeState, Step, TransferObject
from refund_worker.domain.refund import ObjectState
from refund_worker.processors.stripe.objects import CREATED_MAX, CURRENCY, OPAQUE_ID, moment, our_marks, reference
from refund_worker.processors.stripe.payout_errors import FAILURE_FAULTS
from refund_worker.processors.stripe.payout_requests import METADATA_PAYOUT
from refund_worker.processors.wire import Unreadable, clean

TRANSFERRED, REVERSED, PARTLY_REVERSED = "transferred", "reversed", "partly_reversed"
PAYOUT_STATES: Final[Mapping[str, ObjectState]] = {
    "pending": ObjectState.PENDING,
    "in_transit": ObjectState.PENDING,
    "paid": ObjectState.SUCCEEDED,
    "failed": ObjectState.FAILED,
    "canceled": ObjectState.CANCELED,
}
OBJECT_OF_STEP: Final[Mapping[Step, str]] = {
    Step.TRANSFER: "transfer",
    Step.PAYOUT: "payout",
    Step.REVERSAL: "transfer_reversal",
}
# The account's holder must act; Stripe checks. Of any other reason nothing is said.
INCOMPLETE_REASONS: Final = frozenset({"action_required.requested_capabilities", "requirements.past_due"})
REVIEW_REASONS: Final = frozenset({"requirements.pending_verification", "under_review"})
NEEDS_MAX, NEED_LENGTH_MAX = 50, 200


@dataclass(frozen=True, slots=True)
class Listed:
    """One object of a list. `transfer` is None for a payout that takes money from a bank: we make none."""

    object_id: str
    transfer: TransferObject | None


def to_transfer_object(step: Step, data: object) -> TransferObject:
    """Return the transfer, payout or reversal that Stripe's JSON describes.

    Raises `Unreadable` if it is another object or lacks a required field; an unknown status is passed on.
    """
    found = to_listed(step, data).transfer
    if found is None:
        raise Unreadable("a payout with an amount below zero")
    return found


def to_listed(step: Step, data: object) -> Listed:
    """Return one object of a list. Raises `Unreadable` as `to_transfer_object` does."""
    kind = OBJECT_OF_STEP[step]
    if not isinstance(data, dict) or data.get("object") != kind:
        raise Unreadable(f"not a {kind}")
    identifier, amount, created, currency = (data.get(name) for name in ("id", "amount", "created", "currency"))
    if not isinstance(identifier, str) or not OPAQUE_ID.fullmatch(identifier):
        raise Unreadable(f"a {kind} without a usable id")
    # type() and not isinstance(): True is an int to Python, and no amount.
    if type(amount) is not int or abs(amount) > AMOUNT_MAX:
        raise Unreadable(f"a {kind} whose amount is not a whole number of minor units")
    if type(created) is not int or not 0 <= created < CREATED_MAX:
        raise Unreadable(f"a {kind} without a usable time of creation")
    if not isinstance(currency, str) or not CURRENCY.fullmatch(currency):
        raise Unreadable(f"a {kind} without a currency")
    if amount < 0:
        if step is not Step.PAYOUT:
            raise Unreadable(f"a {kind} with an amount below zero")
        return Listed(identifier, None)
    leg_id, attempt, installation = our_marks(data.get("metadata"))
    live = data.get("livemode")
    transfer = TransferObject(
        object_id=identifier,
        step=step,
        amount_minor=amount,
        currency=currency.upper(),
        leg_id=leg_id,
        attempt=attempt,
        installation=installation,
        created_at=datetime.fromtimestamp(created, UTC),
        live=live if isinstance(live, bool) else None,
        **_DETAILS[step](data),
    )
    return Listed(identifier, transfer)


def _of_transfer(data: Mapping[str, Any]) -> dict[str, Any]:
    amount, back = data["amount"], data.get("amount_reversed")
    if type(back) is not int or not 0 <= back <= amount:
        raise Unreadable("a transfer that does not say how much of it was reversed")
    ours = _reversed_by_us(data, back)
    if back == 0 or back == ours:
        status, state = TRANSFERRED, ObjectState.SUCCEEDED
    elif back == amount and ours == 0:
        status, state = REVERSED, ObjectState.CANCELED
    else:
        return {"status": PARTLY_REVERSED, "state": None, "refs": _refs(data, "destination_payment")}
    return {"status": status, "state": state, "refs": _refs(data, "destination_payment")}


def _reversed_by_us(data: Mapping[str, Any], back: int) -> int | None:
    """Return how much of the transfer our own reversals took back, or None if not all reversals are shown."""
    listed = data.get("reversals")
    reversals = listed.get("data") if isinstance(listed, dict) else None
    shown = [each for each in reversals if isinstance(each, dict)] if isinstance(reversals, list) else []
    payout_id, ours, all_shown = _payout_mark(data), 0, 0
    for each in shown:
        amount = each.get("amount")
        if type(amount) is not int or amount < 1:
            return None
        all_shown += amount
        ours += amount if payout_id is not None and _payout_mark(each) == payout_id else 0
    return ours if all_shown == back else None


def _payout_mark(data: Mapping[str, Any]) -> str | None:
    metadata = data.get("metadata")
    mark = metadata.get(METADATA_PAYOUT) if isinstance(metadata, dict) else None
    return mark if isinstance(mark, str) and mark else None


def _of_reversal(data: Mapping[str, Any]) -> dict[str, Any]:
    return {"status": REVERSED, "state": ObjectState.SUCCEEDED, "refs": _refs(data, "transfer")}


def _of_payout(data: Mapping[str, Any]) -> dict[str, Any]:
    status, code = data.get("status"), data.get("failure_code")
    if not isinstance(status, str | None):
        raise Unreadable("a payout whose status is no text")
    state = PAYOUT_STATES.get(status or "")
    # A payout that another one takes back: if that arrives is not known.
    if data.get("reversed_by") is not None and state is ObjectState.SUCCEEDED:
        status, state = REVERSED, None
    failure = clean(code) if isinstance(code, str) and code and state is ObjectState.FAILED else None
    trace = data.get("trace_id")
    return {
        "status": None if status is None else clean(status),
        "state": state,
        "failure_code": failure,
        "fault": FAILURE_FAULTS.get(failure or ""),
        "arrives_at": moment(data.get("arrival_date")),
        "trace": reference(trace.get("value")) if isinstance(trace, dict) else None,
    }


def _refs(data: Mapping[str, Any], name: str) -> tuple[str, ...]:
    value = data.get(name)
    if isinstance(value, dict):
        value = value.get("id")
    return (value,) if isinstance(value, str) and OPAQUE_ID.fullmatch(value) else ()


_DETAILS: Final = {Step.TRANSFER: _of_transfer, Step.PAYOUT: _of_payout, Step.REVERSAL: _of_reversal}


def to_payee(data: object, account_id: str) -> PayeeRead:
    """Return Stripe's verdict on a connected account.

    Raises `Unreadable` for anything else than this account, or if it does not say whether payouts are enabled.
    """
    if not isinstance(data, dict) or data.get("object") != "account" or data.get("id") != account_id:
        raise Unreadable("not the account that was asked for")
    enabled, found = data.get("payouts_enabled"), data.get("requirements")
    if not isinstance(enabled, bool):
        raise Unreadable("an account that does not say whether payouts are enabled")
    requirements = found if isinstance(found, dict) else {}
    reason = requirements.get("disabled_reason")
    needs = tuple(dict.fromkeys((*_needs(requirements, "past_due"), *_needs(requirements, "currently_due"))))
    act_by = moment(requirements.get("current_deadline"))
    if enabled:
        return _enabled(data, needs, act_by)
    if reason in INCOMPLETE_REASONS or (not reason and needs):
        return PayeeRead(PayeeState.INCOMPLETE, reason or None, needs, act_by)
    if reason in REVIEW_REASONS or (not reason and _needs(requirements, "pending_verification")):
        return PayeeRead(PayeeState.UNDER_REVIEW, reason or None)
    return PayeeRead(PayeeState.REFUSED)


def _enabled(account: Mapping[str, Any], needs: tuple[str, ...], act_by: float | None) -> PayeeRead:
    """Return the verdict on an account with payouts: it must also be able to receive transfers."""
    capabilities = account.get("capabilities")
    states = capabilities if isinstance(capabilities, dict) else {}
    transfers = states.get("transfers")
    if states.get("legacy_payments") == "active" or transfers not in ("inactive", "pending"):
        return PayeeRead(PayeeState.READY, needs=needs, act_by=act_by)
    if transfers == "pending":
        return PayeeRead(PayeeState.UNDER_REVIEW, "transfers_pending")
    return PayeeRead(PayeeState.INCOMPLETE, "transfers_inactive", needs, act_by)


def _needs(requirements: Mapping[str, Any], name: str) -> tuple[str, ...]:
    listed = requirements.get(name)
    found = listed[:NEEDS_MAX] if isinstance(listed, list) else []
    return tuple(clean(each)[:NEED_LENGTH_MAX] for each in found if isinstance(each, str) and each)
