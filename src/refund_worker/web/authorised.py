"""The acts of API callers and console users, each behind one permission check.

Routes and pages call these functions and not the engine's own (a test reads their imports). Each function checks the
act in `engine/access/permissions.py`, reaches only the data its caller sees, and records the act under its caller's
name. All raise `Forbidden` if the role may not do the act, and the errors of the engine's function of that name.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import replace
from typing import Any

from sqlalchemy import RowMapping

from refund_worker.api_schema import Batch
from refund_worker.domain.claims.claim import Claim, ClaimKind, ShortfallRule
from refund_worker.domain.payouts.earnings import EarningRecord
from refund_worker.domain.payouts.machine import PayoutAction
from refund_worker.domain.payouts.payee import Payee, PayeeRecord
from refund_worker.domain.payouts.payout import Payout
from refund_worker.domain.payouts.runs import PayoutRun
from refund_worker.domain.refund import Refund, RefundRequest
from refund_worker.domain.state_machine import Action
from refund_worker.engine.access import api_keys, console_users
from refund_worker.engine.access.api_keys import Identity
from refund_worker.engine.access.console_users import ConsoleSession
from refund_worker.engine.access.permissions import ACT_OF, ACT_OF_PAYOUTS, Act, may, why_not
from refund_worker.engine.accounts import corrections, merge
from refund_worker.engine.accounts import split_correction as splitting
from refund_worker.engine.audit import erase_customer as erasing
from refund_worker.engine.audit import hash_chain
from refund_worker.engine.audit.hash_chain import Report
from refund_worker.engine.claims import close as closing
from refund_worker.engine.claims import decide as deciding
from refund_worker.engine.claims import link as linking
from refund_worker.engine.claims import link_dispute as linking_disputes
from refund_worker.engine.context import Context
from refund_worker.engine.idempotency import Key
from refund_worker.engine.intake import batches
from refund_worker.engine.intake.payee_schemas import PayoutSchema
from refund_worker.engine.intake.payout_run_schemas import PayoutRunSchema
from refund_worker.engine.intake.schemas import CorrectionSchema, RefundSchema
from refund_worker.engine.notifications import outbox
from refund_worker.engine.payees import earnings as recording_earnings
from refund_worker.engine.payees import payees as recording_payees
from refund_worker.engine.payees.earnings import StoredEarning
from refund_worker.engine.payouts import accept as accepting_payouts
from refund_worker.engine.payouts import actions as payout_actions
from refund_worker.engine.payouts import destination_changes
from refund_worker.engine.payouts import runs as payout_runs
from refund_worker.engine.processor_sync import pause
from refund_worker.engine.processor_sync import sync_payout as asking_about_payouts
from refund_worker.engine.processor_sync import sync_refund as asking
from refund_worker.engine.processor_sync.reconciliation import actions as differences
from refund_worker.engine.processor_sync.reconciliation import run as reconciliations
from refund_worker.engine.processor_sync.reconciliation.asking import with_processors
from refund_worker.engine.processor_sync.sync_refund import Access
from refund_worker.engine.refunds import accept, actions, bulk_retry
from refund_worker.engine.refunds.bulk_retry import Retried
from refund_worker.errors import RefundWorkerError, Refusal
from refund_worker.web.problems import Forbidden


def check(who: Identity, act: Act) -> None:
    """Check that the role of `who` may do `act`. Raises `Forbidden` otherwise."""
    if not may(who.role, act):
        raise Forbidden(why_not(who.role, act))


def request_refund(
    context: Context, who: Identity, body: RefundSchema, *, idempotency_key: str, left_seen: int | None = None
) -> accept.Accepted:
    """Request a refund as `who`, of a transaction that has `left_seen` credits left. Raises a `Refusal`."""
    check(who, Act.REQUEST)
    request = body.request(idempotency_key=idempotency_key, client=who.client, actor=who.actor)
    request = replace(request, left_seen=left_seen)
    (answer,) = accept.request_refunds(context, [request])
    if isinstance(answer, Refusal):
        raise answer
    return answer


def accept_batch(
    context: Context, who: Identity, requests: Iterable[RefundRequest | Refusal], *, body_sha256: str
) -> Batch:
    """Accept a batch of requests as `who` and return the batch as the API shows it."""
    check(who, Act.REQUEST)
    return batches.accept_batch(context, requests, client=who.client, actor=who.actor, body_sha256=body_sha256)


def correct(
    context: Context,
    who: Identity,
    customer_id: str,
    body: CorrectionSchema,
    *,
    idempotency_key: str,
    payable_only: bool = False,
    seen: str | None = None,
) -> tuple[RowMapping, bool]:
    """Add credits to a balance, or remove them. Return (the entry, True if it is new)."""
    check(who, Act.CORRECT)
    return corrections.correct(
        context,
        customer_id=customer_id,
        credits=body.credits,
        reason=body.reason,
        purpose=body.wanted,
        client=who.client,
        idempotency_key=idempotency_key,
        actor=who.actor,
        payable_only=payable_only,
        seen=seen,
    )


def merge_customers(context: Context, who: Identity, customer_id: str, *, into: str, reason: str) -> str:
    """Merge a customer into another, and return the id of the surviving one."""
    check(who, Act.MERGE)
    return merge.merge_customers(context, customer_id, into=into, reason=reason, actor=who.actor)


def erase_customer(context: Context, who: Identity, customer_id: str, *, reason: str) -> str:
    """Erase the texts of a customer, and return the id of the account."""
    check(who, Act.ERASE)
    return erasing.erase_customer(context, customer_id, reason=reason, actor=who.actor)


def split_correction(
    context: Context, who: Identity, transaction_id: str, *, first: str, shown: str, reason: str, idempotency_key: str
) -> RowMapping:
    """Replace a correction that `who` sees by parts that can be paid out. Return the first of them."""
    check(who, Act.CORRECT)
    check(who, Act.DELETE)
    return splitting.split_correction(
        context,
        transaction_id,
        first=first,
        shown=shown,
        reason=reason,
        key=Key(who.client, idempotency_key),
        actor=who.actor,
        client=who.sees,
    )


def delete_transaction(
    context: Context, who: Identity, transaction_id: str, *, reason: str | None = None, seen: str | None = None
) -> RowMapping:
    """Reverse an entry that `who` sees, once, and return the linked reversal."""
    check(who, Act.DELETE)
    return corrections.reverse_transaction(
        context, transaction_id, actor=who.actor, reason=reason, client=who.sees, seen=seen
    )


def act_on_refund(
    context: Context,
    who: Identity,
    refund_id: str,
    action: Action,
    *,
    reason: str,
    reference: str | None = None,
    version: int | None = None,
    key: Key | None = None,
    one_by_one: bool = True,
) -> Refund:
    """Do `action` on a refund that `who` sees, and return the changed refund.

    `one_by_one` is False if the person decides about many refunds together.
    """
    check(who, ACT_OF[action])
    return actions.perform_action(
        context,
        refund_id,
        action,
        actor=who.actor,
        reason=reason,
        reference=reference,
        version=version,
        client=who.sees,
        key=key,
        one_by_one=one_by_one,
    )


def sync_refund(context: Context, who: Identity, refund_id: str, *, access: Access) -> Refund:
    """Ask the processors about a refund that `who` sees, and return the refund."""
    check(who, Act.SYNC)
    return asking.sync_refund(context, access, refund_id, client=who.sees)


def retry_all(
    context: Context, who: Identity, failure_code: str | None, *, expected: int, mark: str, reason: str, key: Key
) -> Retried:
    """Retry the refunds of all clients that stopped for one cause.

    Raises `Forbidden` also if `who` sees only the refunds of one client.
    """
    check(who, Act.RETRY)
    if who.sees is not None:
        raise Forbidden("this retries the refunds of all clients")
    return bulk_retry.retry_all(
        context, failure_code, expected=expected, mark=mark, actor=who.actor, reason=reason, key=key
    )


def verify_audit(context: Context, who: Identity, *, latest: int) -> Report:
    """Verify the latest rows against their seals; the engine records the result and the actor."""
    check(who, Act.VERIFY)
    return hash_chain.verify(context, actor=who.actor, latest=latest)


def redeliver(context: Context, who: Identity, message_ids: Collection[str] | None) -> int:
    """Send these notifications again, or with None all that were abandoned; return how many.

    Raises `NotFound` if one of them is not known.
    """
    check(who, Act.REDELIVER)
    return outbox.redeliver(context, message_ids)


def change_own_password(context: Context, session: ConsoleSession, *, current: str, new: str) -> None:
    """Change the password of the person of this session, who gives the current one."""
    check(session.identity, Act.RENEW)
    console_users.change_own_password(context, session, current=current, new=new)


def set_role(context: Context, who: Identity, name: str, role: str) -> dict[str, Any]:
    """Give a user another role, and return the user. The last admin keeps the role."""
    check(who, Act.MANAGE)
    return console_users.set_role(context, name, role, actor=who.actor, keep_an_admin=True)


def disable_user(context: Context, who: Identity, name: str) -> dict[str, Any]:
    """Disable a user, but not the last admin, and return the user."""
    check(who, Act.MANAGE)
    return console_users.disable_user(context, name, actor=who.actor, keep_an_admin=True)


def enable_user(context: Context, who: Identity, name: str) -> dict[str, Any]:
    """Let a disabled user sign in again, and return the user."""
    check(who, Act.MANAGE)
    return console_users.enable_user(context, name, actor=who.actor)


def unlock_user(context: Context, who: Identity, name: str) -> dict[str, Any]:
    """Forget the wrong passwords of a user, and return the user."""
    check(who, Act.MANAGE)
    return console_users.unlock_user(context, name, actor=who.actor)


def revoke_key(context: Context, who: Identity, key_id: str) -> dict[str, Any]:
    """Revoke an API key, and return it without its secrets."""
    check(who, Act.MANAGE)
    return api_keys.revoke_key(context, key_id, actor=who.actor)


def pause_processor(context: Context, who: Identity, name: str, *, reason: str, key: Key | None = None) -> None:
    """Pause a processor: nothing more is sent to it."""
    check(who, Act.PAUSE)
    pause.pause_processor(context, name, actor=who.actor, reason=reason, key=key)


def resume_processor(
    context: Context, who: Identity, name: str, *, reason: str | None = None, key: Key | None = None
) -> bool:
    """Resume a processor. Return False if it was not paused."""
    check(who, Act.RESUME)
    return pause.resume_processor(context, name, actor=who.actor, reason=reason, key=key)


def decide_claim(
    context: Context, who: Identity, claim_id: str, kind: ClaimKind, *, decision: str, reason: str
) -> Claim:
    """Write the missing credits of a claim off, or make them a debt. Return the claim."""
    check(who, Act.DECIDE)
    rule = ShortfallRule(decision)
    return deciding.decide_claim(context, claim_id, kind=kind, decision=rule, actor=who.actor, reason=reason)


def link_outside_refund(
    context: Context,
    who: Identity,
    claim_id: str,
    *,
    refund_id: str | None,
    transaction_id: str | None,
    reason: str,
) -> Claim:
    """Link a refund that others made to a refund, a spend or a correction. Return its claim."""
    check(who, Act.LINK)
    return linking.link_outside_refund(
        context, claim_id, refund_id=refund_id, transaction_id=transaction_id, actor=who.actor, reason=reason
    )


def link_dispute(context: Context, who: Identity, claim_id: str, *, transaction_id: str, reason: str) -> Claim:
    """Link a lost dispute to the spend that it charged back. Return its claim."""
    check(who, Act.LINK)
    return linking_disputes.link_dispute(
        context, claim_id, transaction_id=transaction_id, actor=who.actor, reason=reason
    )


def close_payment(context: Context, who: Identity, payment_id: str, *, reason: str) -> None:
    """Close a payment whose money never came, or that was recorded wrong."""
    check(who, Act.CLOSE)
    closing.close_payment(context, payment_id, actor=who.actor, reason=reason)


def record_payee(context: Context, who: Identity, record: PayeeRecord) -> tuple[Payee, bool]:
    """Record a payee. Return it, and True if it is new."""
    check(who, Act.PAYEES)
    return recording_payees.record_payee(context, record, actor=who.actor)


def change_payee(context: Context, who: Identity, record: PayeeRecord) -> Payee:
    """Replace what is stored of a payee, and return it."""
    check(who, Act.PAYEES)
    return destination_changes.change_payee(context, record, actor=who.actor)


def reveal_destination(context: Context, who: Identity, payee_id: str) -> dict[str, str]:
    """Return the whole destination of a payee. The read is noted in the payee's timeline."""
    check(who, Act.REVEAL)
    return recording_payees.reveal_destination(context, payee_id, actor=who.actor)


def pause_payee(context: Context, who: Identity, payee_id: str, *, reason: str) -> Payee:
    """Pause a payee: nothing is paid to it. Return it."""
    check(who, Act.PAUSE_PAYEE)
    return recording_payees.pause_payee(context, payee_id, actor=who.actor, reason=reason)


def resume_payee(context: Context, who: Identity, payee_id: str, *, reason: str) -> Payee:
    """Resume a payee, and return it."""
    check(who, Act.RESUME_PAYEE)
    return recording_payees.resume_payee(context, payee_id, actor=who.actor, reason=reason)


def record_earning(context: Context, who: Identity, record: EarningRecord) -> StoredEarning:
    """Record an earning. Return it, and if it is new. Raises its refusal."""
    check(who, Act.RECORD)
    (answer,) = recording_earnings.record_earnings(context, [record], actor=who.actor)
    if isinstance(answer, RefundWorkerError):
        raise answer
    return answer


def request_payout(
    context: Context, who: Identity, body: PayoutSchema, *, idempotency_key: str
) -> accepting_payouts.AcceptedPayout:
    """Request a payout of earnings as `who`. Raises a `Refusal`."""
    check(who, Act.REQUEST)
    request = body.request(idempotency_key=idempotency_key, client=who.client, actor=who.actor)
    (answer,) = accepting_payouts.request_payouts(context, [request])
    if isinstance(answer, Refusal):
        raise answer
    return answer


def act_on_payout(
    context: Context,
    who: Identity,
    payout_id: str,
    action: PayoutAction,
    *,
    reason: str,
    reference: str | None = None,
    version: int | None = None,
    key: Key | None = None,
) -> Payout:
    """Do `action` on a payout that `who` sees, and return the changed payout."""
    check(who, ACT_OF_PAYOUTS[action])
    return payout_actions.perform_payout_action(
        context,
        payout_id,
        action,
        actor=who.actor,
        reason=reason,
        reference=reference,
        version=version,
        client=who.sees,
        key=key,
    )


def sync_payout(context: Context, who: Identity, payout_id: str, *, access: Access) -> Payout:
    """Ask the processors about a payout that `who` sees, and return the payout."""
    check(who, Act.SYNC)
    return asking_about_payouts.sync_payout(context, access, payout_id, client=who.sees)


def start_reconciliation(
    context: Context, who: Identity, processor: str, *, since: float | None, until: float | None
) -> str:
    """Begin a comparison with a processor's records; the scheduler runs it. Return its id."""
    check(who, Act.RECONCILE)
    return reconciliations.start_reconciliation(context, processor, since=since, until=until, actor=who.actor)


def apply_difference(
    context: Context, who: Identity, reconciliation_id: str, n: int, *, reason: str, access: Access
) -> RowMapping:
    """Apply the action of a difference, after the processor was asked again. Return the difference."""
    check(who, Act.SETTLE)
    with with_processors(context, access) as asking_context:
        return differences.apply_difference(asking_context, reconciliation_id, n, actor=who.actor, reason=reason)


def acknowledge_difference(
    context: Context, who: Identity, reconciliation_id: str, n: int, *, reason: str
) -> RowMapping:
    """Acknowledge a difference without changing anything else. Return it."""
    check(who, Act.SETTLE)
    return differences.acknowledge_difference(context, reconciliation_id, n, actor=who.actor, reason=reason)


def create_payout_run(
    context: Context, who: Identity, body: PayoutRunSchema, *, idempotency_key: str
) -> tuple[PayoutRun, bool]:
    """Make a payout run as `who`. Return it, and False if the key had made it before."""
    check(who, Act.RUN_PAYOUTS)
    request = body.request(idempotency_key=idempotency_key, client=who.client, actor=who.actor)
    return payout_runs.create_run(context, request)


def approve_payout_run(
    context: Context, who: Identity, run_id: str, *, reason: str, version: int | None = None
) -> PayoutRun:
    """Let a payout run pay that `who` sees and that awaits approval, and return it."""
    check(who, Act.APPROVE)
    return payout_runs.approve_run(context, run_id, actor=who.actor, reason=reason, version=version, client=who.sees)


def cancel_payout_run(
    context: Context, who: Identity, run_id: str, *, reason: str, version: int | None = None
) -> PayoutRun:
    """Cancel a payout run that `who` sees, and return it."""
    check(who, Act.CANCEL_RUN)
    return payout_runs.cancel_run(context, run_id, actor=who.actor, reason=reason, version=version, client=who.sees)
