"""Payouts as a processor of refunds: a leg that no payment takes back is paid to the customer's payee.

So a leg over it has all that a leg has: an intent before the call, a frozen key, look-ups, and a late failure when the
payout is returned. The attempt's key is the payout's idempotency key: a repeated call finds the same payout.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import UTC, datetime

from sqlalchemy import Connection

from refund_worker.domain.account_names import PAYOUT
from refund_worker.domain.payouts.acceptance import accepted_payout, planned_payout
from refund_worker.domain.payouts.machine import PayoutAction
from refund_worker.domain.payouts.payout import (
    PAYOUT_ENDS,
    PAYOUT_PAID,
    Payout,
    PayoutSource,
    PayoutStatus,
    object_id_of,
    payout_of_object,
)
from refund_worker.domain.processor_calls import RefundInstruction
from refund_worker.domain.processor_replies import (
    Answered,
    Found,
    KeyConflict,
    Misconfigured,
    PaymentReply,
    PaymentUnreadable,
    RefundObject,
    Refused,
    Reply,
    SearchReply,
)
from refund_worker.domain.refund import ObjectState
from refund_worker.engine.context import Context
from refund_worker.engine.payouts.actions import NOT_THE_CUSTOMERS, belongs_to_refund, perform_payout_action
from refund_worker.engine.payouts.apply import apply_payouts
from refund_worker.engine.views.payout_texts import failure_code_of
from refund_worker.errors import ActionNotAllowed
from refund_worker.processors.base import RefundsOnly
from refund_worker.store.installation import installation_id
from refund_worker.store.payouts import payees, payouts

# The client of the payouts that refunds ask for. No API key can have it, so no caller can take one of their keys.
CLIENT = ":withdrawals"
NOT_PAYABLE = "payee_not_payable"


class PayoutsAsProcessor(RefundsOnly):
    """Implements `Processor` within the database. `context` returns the context of this process."""

    name = PAYOUT
    reads_payments = False

    def __init__(self, context: Callable[[], Context]) -> None:
        self._context = context

    def freeze(self, order: RefundInstruction) -> str:
        """Return the payout to make, as canonical JSON."""
        body = {
            "amount": order.amount_minor,
            "currency": order.currency,
            "payee": order.processor_payment_id,
            "attempt": order.attempt,
            "leg": order.leg_id,
            "refund": order.refund_id,
            "description": order.reason,
        }
        return json.dumps(body, sort_keys=True, separators=(",", ":"))

    async def send(self, key: str, body: str) -> Reply:
        """Make the payout, or return the one that this key made. `Refused` if the payee cannot be paid by one."""
        context = self._context()
        return context.database.run(lambda connection: _make(connection, context, key, json.loads(body)))

    async def fetch(self, processor_refund_id: str) -> Reply:
        """Return the payout as a refund object."""
        with self._context().database.read() as connection:
            found = payouts.load(connection, [payout_of_object(processor_refund_id)])
            own = installation_id(connection)
        return Answered(_object(found[0], own)) if found else Misconfigured("not_found", "there is no such payout")

    async def find(self, processor_payment_id: str, leg_id: str) -> SearchReply:
        """Return the payouts of this leg."""
        with self._context().database.read() as connection:
            found = payouts.load(connection, payouts.of_refund_leg(connection, leg_id))
            own = installation_id(connection)
        return Found(tuple(_object(payout, own) for payout in found))

    async def find_payment(self, processor_payment_id: str) -> PaymentReply:
        """Return `PaymentUnreadable`: a payee is no payment."""
        return PaymentUnreadable("a payee is no payment")

    async def recent(self, created_gte: datetime) -> SearchReply:
        """Return an empty `Found`: all payouts are our own."""
        return Found(())

    async def cancel(self, processor_refund_id: str) -> Reply:
        """Cancel the payout while it is not sent, or waits for the payee."""
        try:
            perform_payout_action(
                self._context(),
                payout_of_object(processor_refund_id),
                PayoutAction.CANCEL,
                actor=CLIENT,
                reason="the refund is canceled",
            )
        except ActionNotAllowed as error:
            return Refused(error.code, error.message)
        return await self.fetch(processor_refund_id)

    async def close(self) -> None:
        """Do nothing: the database belongs to the process."""


def _make(connection: Connection, context: Context, key: str, order: dict[str, object]) -> Reply:
    payee_id = str(order["payee"])
    payee = payees.load(connection, [payee_id], lock=True).get(payee_id)
    earlier = payouts.find_by_keys(connection, CLIENT, [key]).get(key)
    if earlier is not None:
        known = payouts.load(connection, [earlier["payout_id"]])[0]
        if (known.refund_leg_id, known.payee_id, known.amount_minor) != (order["leg"], payee_id, order["amount"]):
            return KeyConflict(f"the key belongs to {known.payout_id}, which is another payout")
        return Answered(_object(known, installation_id(connection)), replayed=True)
    if payee is None or payee.currency != order["currency"]:
        return Refused(NOT_PAYABLE, f"payee {payee_id} cannot be paid in {order['currency']}")
    if not belongs_to_refund(connection, payee, str(order["refund"])):
        return Misconfigured(NOT_THE_CUSTOMERS, f"payee {payee_id} is no longer a payee of the refund's customer")
    policy, amount = context.payout_policy, int(str(order["amount"]))
    maximum = policy.maximum_for(payee.processor, payee.currency)
    if amount < policy.minimum_for(payee.processor, payee.currency) or (maximum is not None and amount > maximum):
        return Refused(NOT_PAYABLE, "the amount is outside of the limits on payouts")
    if amount % policy.step_for(payee.processor, payee.currency):
        return Refused(NOT_PAYABLE, "the amount is in no step of the currency")
    payout = planned_payout(
        payee,
        policy,
        payout_id=context.new_id("po"),
        client=CLIENT,
        idempotency_key=key,
        amount_minor=amount,
        description=str(order["description"]),
        source=PayoutSource.WITHDRAWAL,
        actor=CLIENT,
        now=context.clock(connection),
        refund=(str(order["refund"]), str(order["leg"])),
    )
    decision = accepted_payout(payout, json.dumps(order, sort_keys=True), needs_approval=False)
    apply_payouts(connection, [decision], payout.created_at, notify=context.notify)
    return Answered(_object(decision.after, installation_id(connection)))


def _object(payout: Payout, installation: str) -> RefundObject:
    """Return the payout as the object of its leg. It is pending until it is paid or has ended.

    An object that failed stays failed. So a payout that is paid after all, once its amount was given back, is a further
    object of the leg: its credits are taken again.
    """
    returns = payout.return_count - payout.given_back
    state = ObjectState.PENDING
    if payout.status in PAYOUT_PAID:
        state = ObjectState.SUCCEEDED
    elif payout.status is PayoutStatus.CANCELED and payout.failure_code is None:
        state = ObjectState.CANCELED
    elif payout.status in PAYOUT_ENDS:
        state = ObjectState.FAILED
    return RefundObject(
        processor_refund_id=object_id_of(payout.payout_id, returns),
        status=state.value,
        amount_minor=payout.amount_minor,
        currency=payout.currency,
        payment_refs=(payout.payee_id,),
        leg_id=payout.refund_leg_id,
        installation=installation,
        attempt=None,
        failure_code=failure_code_of(payout),  # of a compliance outcome, a refund shows no more than its payout
        created_at=datetime.fromtimestamp(payout.created_at, UTC),
    )
