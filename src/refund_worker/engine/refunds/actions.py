"""A person's actions on a refund: commands with actor, reason and preconditions, applied under the refund's lock."""

from __future__ import annotations

import json
from typing import Any

from sqlalchemy import Connection

from refund_worker.domain.claims.claim import ClaimKind
from refund_worker.domain.operator_action import apply_action
from refund_worker.domain.refund import Refund
from refund_worker.domain.state_machine import Action
from refund_worker.engine.accounts.claims import Terms, settle_named
from refund_worker.engine.context import Context
from refund_worker.engine.idempotency import Key, check_same_act
from refund_worker.engine.refunds.apply import apply
from refund_worker.errors import ActionNotAllowed, NotFound, StaleVersion
from refund_worker.store import claims, idempotency, refund_objects, refunds
from refund_worker.store.access import persons


def perform_action(
    context: Context,
    refund_id: str,
    action: Action,
    *,
    actor: str,
    reason: str,
    reference: str | None = None,
    version: int | None = None,
    client: str | None = None,
    key: Key | None = None,
    one_by_one: bool = True,
) -> Refund:
    """Apply `action` and return the refund as it is afterwards.

    For `resolve`, `reference` names a payment that was made manually; without one the credits go back to the balance.
    `version` is the version that the person saw; `one_by_one` is False if they act on many refunds together. With
    `client`, only that client's refunds are visible. The same act under the same `key` again changes nothing.

    Raises `NotFound` if the refund is unknown or not visible, `StaleVersion` if it has changed since `version`,
    `ActionNotAllowed` if the action is not allowed now, and `KeyReused` if the key was used for another act.
    """
    act = {"refund_id": refund_id, "action": str(action), "reason": reason, "reference": reference, "actor": actor}

    def work(connection: Connection) -> Refund:
        now = context.clock(connection)
        refund = _find(connection, refund_id, client)
        if key is not None and (earlier := idempotency.find_act(connection, *key)) is not None:
            check_same_act(key.idempotency_key, act, json.loads(earlier["body"]))
            return refund
        if version is not None and version != refund.version:
            raise StaleVersion(f"the refund is at version {refund.version} now: read it again first")
        # Read under the refund's lock: every link made by now counts, however long ago the refund was requested.
        links = persons.links(connection) if action is Action.APPROVE else ()
        terms: dict[str, Any] = {"actor": actor, "reason": reason, "reference": reference, "one_by_one": one_by_one}
        _check_reference(connection, refund, reference)
        # A person's action ends any lease: if an answer is still under way, the processor is asked for it again.
        decision = apply_action(refund, action, now, context.policy, links=links, **terms).released()
        apply(connection, [decision], now, money_went_out=reference is not None, notify=context.notify)
        _settle_named(connection, context, decision.after, reference, actor)
        if key is not None:
            idempotency.insert_act(connection, *key, json.dumps(act), refund_id, now)
        return decision.after

    refund = context.database.run(work)
    if refund.due_at is not None:
        context.publish([refund_id], False)
    return refund


def _find(connection: Connection, refund_id: str, client: str | None) -> Refund:
    found = refunds.load(connection, [refund_id], lock=True)
    if not found or (client is not None and found[0].client != client):
        raise NotFound(f"refund {refund_id} is not known")
    return found[0]


def _check_reference(connection: Connection, refund: Refund, reference: str | None) -> None:
    """Check that `reference` can have paid the refund, if it is an object at the processor that we know.

    Raises `ActionNotAllowed` if it has failed, is another refund of ours, or pays another refund with all its money.
    """
    if reference is None:
        return
    for processor in sorted({leg.processor for leg in refund.legs}):
        owner = refund_objects.find_leg(connection, processor=processor, processor_refund_id=reference)
        if owner is not None and refund.refund_id not in owner:
            raise ActionNotAllowed(f"{reference} is the processor's object of another refund: {' '.join(owner)}")
        claim = claims.claims_of_objects(connection, processor, ClaimKind.OUTSIDE_REFUND, [reference]).get(reference)
        if claim is None:
            continue
        if not claim.is_live:
            raise ActionNotAllowed(f"{reference} is {claim.object_status} at the processor: it paid nothing")
        elsewhere = claims.named_elsewhere(connection, claim, refund.refund_id)
        if elsewhere >= claim.amount_minor:
            raise ActionNotAllowed(f"all money of {reference} pays another refund already")


def _settle_named(connection: Connection, context: Context, refund: Refund, reference: str | None, actor: str) -> None:
    """Let a refund of others that pays these legs, by the person's word, take nothing beside them."""
    if reference is None:
        return
    paid = {leg.payment_id for leg in refund.legs if leg.manual_reference == reference}
    settle_named(connection, sorted(paid), reference, Terms.of(context, context.clock(connection), actor))
