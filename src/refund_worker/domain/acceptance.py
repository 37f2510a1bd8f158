"""Accept a refund request, or name the first check that refuses it. Pure functions.

The checks run in the order that the contract names: syntax, customer, transaction, refundable credits, balance,
payments, currency. A payee is checked after the transaction. Reservations of refunds in flight count as taken.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from refund_worker.domain.allocation import Allocation, RefundablePayment
from refund_worker.domain.credit_postings import reservation_of
from refund_worker.domain.decision import AccountDelta, Decision, Event
from refund_worker.domain.decision_builder import payment_deltas
from refund_worker.domain.ledger import EntryKind
from refund_worker.domain.legs import leg_id_of
from refund_worker.domain.money import AMOUNT_MAX, as_text
from refund_worker.domain.placement import RequestedPayee, all_credits, place, placeable
from refund_worker.domain.refund import Kind, Leg, Refund, RefundRequest, To
from refund_worker.domain.state_machine import first_leg_status, first_refund_status
from refund_worker.errors import (
    ChangedMeanwhile,
    ExceedsRefundable,
    InsufficientBalance,
    InvalidRequest,
    UnknownCustomer,
    UnknownPayee,
    UnknownTransaction,
)

UNAPPROVED = "no money is sent for it: it is beyond the limits, and no second person approved it"


@dataclass(frozen=True, slots=True, kw_only=True)
class CustomerAccount:
    """A customer's credits. `held` is reserved for accepted withdrawals.

    `withdrawn` includes `held`, reserved payouts of corrections, and credit refunds that went back as money.
    """

    customer_id: str
    balance: int = 0
    held: int = 0
    bought: int = 0
    net_spent: int = 0
    withdrawn: int = 0

    @property
    def available(self) -> int:
        """Return the credits of the balance that no accepted withdrawal reserves."""
        return self.balance - self.held

    def after(self, delta: AccountDelta) -> CustomerAccount:
        """Return the account after `delta` is applied."""
        return replace(
            self,
            balance=self.balance + delta.balance,
            held=self.held + delta.held,
            net_spent=self.net_spent + delta.net_spent,
            withdrawn=self.withdrawn + delta.withdrawn,
        )

    @property
    def payable_at_most(self) -> int:
        """Return the credits that can be paid out: those that were bought with money.

        Credits that were given for free are spent last and never paid out.
        """
        return max(0, self.bought - self.net_spent - self.withdrawn)

    @property
    def payable(self) -> int:
        """Return the credits that a withdrawal could pay out now: bought with money, and available on the balance."""
        return self.payable_besides(0)

    def payable_besides(self, credits: int) -> int:
        """Return what a withdrawal could pay out now if `credits` that corrections took off are still to be paid out.

        Without them, credits that were given for free would count in their place.
        """
        return max(0, min(self.available, self.payable_at_most - credits))


@dataclass(frozen=True, slots=True, kw_only=True)
class RefundableTransaction:
    """A spend or a negative correction. `credits` is a positive figure, of which refunds have taken `taken`."""

    transaction_id: str
    customer_id: str
    kind: EntryKind
    credits: int
    taken: int = 0
    reversed: bool = False

    @property
    def left(self) -> int:
        """Return the credits that refunds have not taken yet."""
        return self.credits - self.taken


def accept(
    request: RefundRequest,
    *,
    refund_id: str,
    customer: CustomerAccount | None,
    transaction: RefundableTransaction | None,
    payments: Sequence[RefundablePayment],
    now: float,
    allocation: str,
    payee: RequestedPayee | None = None,
) -> Refund:
    """Return the refund that this request becomes, with its legs planned. `now` is in epoch seconds.

    `transaction` is the one that the request names, or None. `allocation` is the order in which payments are used.
    `payee` is the customer's own one that the request names, or None: it gets what the payments cannot take back.
    Raises the `Refusal` of the first check that fails; `ChangedMeanwhile` if the transaction is not as its author saw.
    """
    customer = _checked(request, customer)
    _check_transaction(request, transaction)
    _check_payee(request, payee)
    credits = _credits_to_refund(request, customer, transaction, payments, allocation, payee)
    _check_available(request, customer, credits)
    shares = place(request, credits, payments, allocation, payee) if request.to is To.SOURCE else ()
    return Refund(
        refund_id=refund_id,
        client=request.client,
        idempotency_key=request.idempotency_key,
        kind=request.kind,
        to=request.to,
        customer_id=request.customer_id,
        transaction_id=request.transaction_id,
        credits=credits,
        currency=request.currency,
        reason=request.reason,
        note=request.note,
        metadata=request.metadata,
        status=first_refund_status(needs_approval=False),
        version=1,
        created_at=now,
        updated_at=now,
        requested_by=request.actor,
        requested_by_note=request.requested_by,
        of_correction=request.kind is Kind.WITHDRAWAL and request.transaction_id is not None,
        instructions_email=request.instructions_email,
        destinations=request.destinations,
        payee_id=request.payee_id,
        priority=1 if request.bulk else 0,
        due_at=now,
        legs=tuple(_planned(refund_id, number, share) for number, share in enumerate(shares, 1)),
    )


def _check_available(request: RefundRequest, customer: CustomerAccount, credits: int) -> None:
    of_balance = request.kind is Kind.WITHDRAWAL and request.transaction_id is None
    if of_balance and credits > customer.available:
        raise InsufficientBalance(f"{credits} credits requested, {customer.available} available on the balance")


def _checked(request: RefundRequest, customer: CustomerAccount | None) -> CustomerAccount:
    check_syntax(request)
    if customer is None:
        message = f"customer {request.customer_id} is not known: import a payment of theirs first"
        raise UnknownCustomer(message, field="customer_id")
    return customer


def accepted(refund: Refund, request_body: str, *, needs_approval: bool) -> Decision:
    """Return the decision to accept `refund`: what it reserves, and the first event of its timeline.

    `request_body` is the request's JSON. The same key with another body is recognized by it.
    """
    if needs_approval:
        refund = replace(refund, status=first_refund_status(needs_approval=True), due_at=None)
    reservation = reservation_of(refund)
    return Decision(
        before=None,
        after=refund,
        request_body=request_body,
        events=(_accepted_event(refund),),
        customer=reservation.customer,
        payments=payment_deltas((), refund.legs),
        transaction_credits=reservation.transaction_credits,
    )


def _accepted_event(refund: Refund) -> Event:
    money = ", ".join(f"{as_text(leg.amount_minor, leg.currency)} over {leg.payment_id}" for leg in refund.legs)
    return Event(
        "accepted",
        refund.requested_by,
        to_status=refund.status,
        reason=refund.reason,
        detail={"credits": refund.credits}
        | ({"money": money} if money else {})
        | ({"requested_by": refund.requested_by_note} if refund.requested_by_note else {})
        | ({"unapproved": UNAPPROVED} if refund.unapproved else {}),
    )


def check_syntax(request: RefundRequest) -> None:
    """Check what needs no stored data. Raises `InvalidRequest` if a check fails."""
    credits = request.credits
    if credits is not None and not 0 < credits <= AMOUNT_MAX:
        raise InvalidRequest(f"credits must be a positive integer up to {AMOUNT_MAX}", field="credits")
    if request.kind is Kind.WITHDRAWAL and request.to is To.BALANCE:
        raise InvalidRequest("a withdrawal always goes to source", field="to")
    if request.to is To.PAYOUT:
        raise InvalidRequest("a request to payout was not read by its schema", field="to")
    if request.instructions_email is not None and request.to is not To.SOURCE:
        raise InvalidRequest("instructions_email is only for a refund to source", field="instructions_email")
    if request.destinations is not None and request.to is not To.SOURCE:
        raise InvalidRequest("destinations is only for a refund to source", field="destinations")
    if request.kind is Kind.CREDIT_REFUND and request.transaction_id is None:
        raise InvalidRequest("a credit_refund needs the transaction_id of a spend", field="transaction_id")


def _check_transaction(request: RefundRequest, transaction: RefundableTransaction | None) -> None:
    if request.transaction_id is None:
        return
    wanted = EntryKind.SPEND if request.kind is Kind.CREDIT_REFUND else EntryKind.CORRECTION
    fits = (
        transaction is not None
        and transaction.customer_id == request.customer_id
        and transaction.kind is wanted
        and not transaction.reversed
    )
    if not fits:
        what = "a spend" if wanted is EntryKind.SPEND else "an unreversed negative correction with the purpose payout"
        message = f"{request.transaction_id} is not {what}, of customer {request.customer_id}"
        raise UnknownTransaction(message, field="transaction_id")
    _check_left_as_seen(request, transaction)


def _check_payee(request: RefundRequest, payee: RequestedPayee | None) -> None:
    if request.payee_id is not None and payee is None:
        raise UnknownPayee(f"payee {request.payee_id} is no payee of customer {request.customer_id}", field="payee_id")


def _check_left_as_seen(request: RefundRequest, transaction: RefundableTransaction | None) -> None:
    if request.left_seen is not None and transaction is not None and transaction.left != request.left_seen:
        raise ChangedMeanwhile(f"{transaction.left:,} credits are left to refund now, not {request.left_seen:,}")


def maximum_credits(
    request: RefundRequest,
    customer: CustomerAccount,
    transaction: RefundableTransaction | None,
    payments: Sequence[RefundablePayment],
    allocation: str = "newest_first",
    payee: RequestedPayee | None = None,
) -> int:
    """Return the most credits that the same request could ask for, by the transaction, the account and the payments.

    No larger request is accepted; one for exactly these credits can still fail a check of another kind. `transaction`,
    `allocation` and `payee` are as for `accept`.
    """
    if request.transaction_id is not None and transaction is None:
        return 0
    most = _most_by_account(request, customer, transaction)
    if request.to is To.SOURCE:
        most = placeable(most, payments, request.currency, allocation, payee)
    return max(0, most)


def _most_by_account(
    request: RefundRequest, customer: CustomerAccount, transaction: RefundableTransaction | None
) -> int:
    if transaction is None:
        return customer.payable
    if request.kind is Kind.CREDIT_REFUND:
        return transaction.left
    # A correction has already taken its credits off the balance.
    return min(transaction.left, customer.payable_at_most)


def _credits_to_refund(
    request: RefundRequest,
    customer: CustomerAccount,
    transaction: RefundableTransaction | None,
    payments: Sequence[RefundablePayment],
    allocation: str,
    payee: RequestedPayee | None,
) -> int:
    """Return the credits of the refund: those asked for, or all that are left. Raises a `Refusal` for too many."""
    if request.kind is Kind.CREDIT_REFUND:
        assert transaction is not None
        return _credits_of_spend(request, transaction)
    if transaction is not None:
        return _credits_of_correction(request, customer, transaction)
    return _credits_of_balance(request, customer, payments, allocation, payee)


def _credits_of_spend(request: RefundRequest, spend: RefundableTransaction) -> int:
    credits = spend.left if request.credits is None else request.credits
    if credits > spend.left or credits <= 0:
        raise ExceedsRefundable(f"{spend.left} of {spend.credits} credits of {spend.transaction_id} are left to refund")
    return credits


def _credits_of_correction(request: RefundRequest, customer: CustomerAccount, correction: RefundableTransaction) -> int:
    at_most = customer.payable_at_most
    credits = correction.credits if request.credits is None else request.credits
    if correction.taken:
        raise ExceedsRefundable(f"correction {correction.transaction_id} was paid out, or is about to be")
    if credits > _most_by_account(request, customer, correction):
        raise ExceedsRefundable(
            f"correction {correction.transaction_id} takes {correction.credits} credits, of which {at_most} were paid "
            f"for: delete it and correct by at most {at_most}"
        )
    if credits != correction.credits:
        raise InvalidRequest(f"a correction is paid out whole: {correction.credits} credits", field="credits")
    return credits


def _credits_of_balance(
    request: RefundRequest,
    customer: CustomerAccount,
    payments: Sequence[RefundablePayment],
    allocation: str,
    payee: RequestedPayee | None,
) -> int:
    at_most = customer.payable_at_most
    if at_most == 0 or (request.credits is not None and request.credits > at_most):
        raise ExceedsRefundable(f"only {at_most} credits can be paid out")
    asked = request.credits
    credits = asked if asked is not None else all_credits(request, customer.payable, payments, allocation, payee)
    if credits <= 0:
        raise InsufficientBalance("no credits are available on the balance")
    return credits


def _planned(refund_id: str, number: int, share: Allocation) -> Leg:
    payment = share.payment
    return Leg(
        leg_id=leg_id_of(refund_id, number),
        refund_id=refund_id,
        payment_id=payment.payment_id,
        processor=payment.processor,
        processor_payment_id=payment.processor_payment_id,
        amount_minor=share.amount_minor,
        currency=payment.currency,
        credits=share.credits,
        payment_credits=share.payment_credits,
        status=first_leg_status(share.amount_minor),
        attempt=1,
        unreturnable_minor=share.unreturnable_minor,
    )
