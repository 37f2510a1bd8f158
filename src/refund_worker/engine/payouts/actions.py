"""A person's actions on a payout: commands with actor, reason and preconditions, applied under the locks."""

from __future__ import annotations

import json

from sqlalchemy import Connection

from refund_worker.domain.payouts.actions import apply_payout_action
from refund_worker.domain.payouts.builder import PayoutBuilder
from refund_worker.domain.payouts.decision import PayoutDecision
from refund_worker.domain.payouts.machine import PayoutAction, is_unsent
from refund_worker.domain.payouts.next_step import DESTINATION_CHANGED, call_off_unsent, cancel_unsent
from refund_worker.domain.payouts.payee import Payee
from refund_worker.domain.payouts.payout import PAYOUT_UNPOSTED, Payout
from refund_worker.engine.context import Context
from refund_worker.engine.idempotency import Key, check_same_act
from refund_worker.engine.payouts.apply import apply_payouts
from refund_worker.engine.payouts.locking import lock_payouts
from refund_worker.errors import ActionNotAllowed, NotFound, StaleVersion
from refund_worker.store import accounts, idempotency, refunds
from refund_worker.store.access import persons
from refund_worker.store.payouts import attempts, lists, payouts

# Why the credits of a withdrawal are not paid to a payee: it was given to another customer meanwhile.
NOT_THE_CUSTOMERS = "payee_of_another_customer"


def perform_payout_action(
    context: Context,
    payout_id: str,
    action: PayoutAction,
    *,
    actor: str,
    reason: str,
    reference: str | None = None,
    version: int | None = None,
    client: str | None = None,
    key: Key | None = None,
) -> Payout:
    """Apply `action` and return the payout as it is afterwards; the arguments are those of a refund's action.

    Raises `NotFound` if the payout is unknown or not visible, `StaleVersion` if it has changed since `version`,
    `ActionNotAllowed` if the action is not allowed now, and `KeyReused` if the key was used for another act.
    """
    act = {"payout_id": payout_id, "action": str(action), "reason": reason, "reference": reference, "actor": actor}

    def work(connection: Connection) -> Payout:
        locked = lock_payouts(connection, [payout_id]).payouts
        if not locked or not lists.is_visible(connection, payout_id, client):
            raise NotFound(f"payout {payout_id} is not known")
        payout, now = locked[0], context.clock(connection)
        if key is not None and (earlier := idempotency.find_act(connection, *key)) is not None:
            check_same_act(key.idempotency_key, act, json.loads(earlier["body"]))
            return payout
        _check_reference(connection, payout, reference)
        if version is not None and version != payout.version:
            raise StaleVersion(f"the payout is at version {payout.version} now: read it again first")
        links = persons.links(connection) if action is PayoutAction.APPROVE else ()
        # A person's action ends any lease: if an answer is still under way, the processor is asked for it again.
        decision = apply_payout_action(
            payout, action, now, context.payout_policy, actor=actor, reason=reason, reference=reference, links=links
        ).released()
        apply_payouts(connection, [decision], now, notify=context.notify)
        if key is not None:
            idempotency.insert_act(connection, *key, json.dumps(act), payout_id, now)
        return decision.after

    payout = context.database.run(work)
    if payout.due_at is not None:
        context.publish([payout_id], False)
    return payout


def _check_reference(connection: Connection, payout: Payout, reference: str | None) -> None:
    """Check that `reference` can have paid the payout. Raises `ActionNotAllowed` if it is an object of another one."""
    if reference is None:
        return
    owner = attempts.owners_of(connection, [(payout.processor, reference)]).get((payout.processor, reference))
    if owner is not None and owner[0] != payout.payout_id:
        raise ActionNotAllowed(f"{reference} is the processor's object of another payout: {owner[0]}")


def cancel_unsent_payouts(
    connection: Connection, context: Context, payee_id: str, actor: str, *, new_owner: Payee | None = None
) -> list[Payout]:
    """Cancel the payee's payouts of which nothing was sent yet, because the destination changed; return them.

    With `new_owner`, the payee as it is now, it belongs to another customer, and only the credits of others are called
    off. Call it under the payee's lock, in the transaction of the change.
    """
    now = context.clock(connection)
    why = DESTINATION_CHANGED if new_owner is None else NOT_THE_CUSTOMERS
    decisions: list[PayoutDecision] = []
    for payout in lock_payouts(connection, payouts.unsent_of(connection, payee_id)).payouts:
        if new_owner is not None and belongs_to_refund(connection, new_owner, payout.refund_id):
            continue
        builder = PayoutBuilder.open(payout, now, context.payout_policy, actor)
        if payout.status in PAYOUT_UNPOSTED:
            cancel_unsent(builder, why, code=why)
        elif is_unsent(payout):
            call_off_unsent(builder, why, code=why)
        else:
            continue
        decisions.append(builder.build().released())
    apply_payouts(connection, decisions, now, notify=context.notify)
    return [decision.after for decision in decisions]


def belongs_to_refund(connection: Connection, payee: Payee, refund_id: str | None) -> bool:
    """Return True if the payee belongs to the customer of the refund, after merges. No refund is a payout of earnings.

    The payee is locked, so that it stays so until the transaction ends.
    """
    if refund_id is None:
        return True
    ids = {payee.customer_id, refunds.customer_of(connection, refund_id)}
    known = {customer for customer in ids if customer is not None}
    merged = accounts.survivors(connection, known)
    return None not in ids and len({merged.get(customer, customer) for customer in known}) == 1
