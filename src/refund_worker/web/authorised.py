"""What callers of the API and users of the console do: each act behind one check.

Routes and pages call these functions and not the engine's own (a test reads their imports): the act is looked up in
`engine/access/permissions.py`, it reaches only what its caller sees, and it is recorded under its caller's own name.
All raise `Forbidden` where the caller's role may not do the act, beside what the engine's function of that name raises.
"""

from __future__ import annotations

from collections.abc import Iterable

from sqlalchemy import RowMapping

from refund_worker.api_schema import Batch
from refund_worker.domain.refund import Refund, RefundRequest
from refund_worker.domain.state_machine import Action
from refund_worker.engine.access.api_keys import Identity
from refund_worker.engine.access.permissions import ACT_OF, Act, may
from refund_worker.engine.accounts import corrections
from refund_worker.engine.audit import hash_chain
from refund_worker.engine.audit.hash_chain import Report
from refund_worker.engine.context import Context
from refund_worker.engine.idempotency import Key
from refund_worker.engine.intake import batches
from refund_worker.engine.intake.schemas import RefundSchema
from refund_worker.engine.processor_sync import pause
from refund_worker.engine.refunds import accept, actions, bulk_retry
from refund_worker.engine.refunds.bulk_retry import Retried
from refund_worker.errors import Refusal
from refund_worker.web.problems import Forbidden


def check(who: Identity, act: Act) -> None:
    """Raises `Forbidden` where the role of `who` may not do `act`."""
    if not may(who.role, act):
        raise Forbidden(f"the role {who.role} may not do this")


def request_refund(context: Context, who: Identity, body: RefundSchema, *, idempotency_key: str) -> accept.Accepted:
    """Ask for a refund as `who`. Raises a `Refusal`."""
    check(who, Act.REQUEST)
    request = body.request(idempotency_key=idempotency_key, client=who.client, actor=who.actor)
    (answer,) = accept.request_refunds(context, [request])
    if isinstance(answer, Refusal):
        raise answer
    return answer


def accept_batch(
    context: Context, who: Identity, requests: Iterable[RefundRequest | Refusal], *, body_sha256: str
) -> Batch:
    """Take in many requests as `who`; returns the batch's view."""
    check(who, Act.REQUEST)
    return batches.accept_batch(context, requests, client=who.client, actor=who.actor, body_sha256=body_sha256)


def correct(
    context: Context, who: Identity, customer_id: str, *, credits: int, reason: str, idempotency_key: str
) -> tuple[RowMapping, bool]:
    """Put credits on a balance, or take them off; returns the entry, and whether it is new."""
    check(who, Act.CORRECT)
    return corrections.correct(
        context,
        customer_id=customer_id,
        credits=credits,
        reason=reason,
        client=who.client,
        idempotency_key=idempotency_key,
        actor=who.actor,
    )


def delete_transaction(
    context: Context, who: Identity, transaction_id: str, *, reason: str | None = None
) -> RowMapping:
    """The linked reversal of an entry that `who` sees, made once."""
    check(who, Act.DELETE)
    return corrections.reverse_transaction(context, transaction_id, actor=who.actor, reason=reason, client=who.sees)


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
) -> Refund:
    """Do `action` on a refund that `who` sees, and return it as it is then."""
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
    )


def retry_all(
    context: Context, who: Identity, failure_code: str | None, *, expected: int, mark: str, reason: str, key: Key
) -> Retried:
    """Retry all that stopped for one cause, of every client. Raises `Forbidden` also to who sees only one client's."""
    check(who, Act.RETRY)
    if who.sees is not None:
        raise Forbidden("this retries the refunds of all clients")
    return bulk_retry.retry_all(
        context, failure_code, expected=expected, mark=mark, actor=who.actor, reason=reason, key=key
    )


def verify_audit(context: Context, who: Identity, *, latest: int) -> Report:
    """Hold the latest rows against their seals; who did and what came of it is noted."""
    check(who, Act.VERIFY)
    return hash_chain.verify(context, actor=who.actor, latest=latest)


def pause_processor(context: Context, who: Identity, name: str, *, reason: str, key: Key | None = None) -> None:
    """Stop sending there."""
    check(who, Act.PAUSE)
    pause.pause_processor(context, name, actor=who.actor, reason=reason, key=key)


def resume_processor(
    context: Context, who: Identity, name: str, *, reason: str | None = None, key: Key | None = None
) -> bool:
    """Send there again; False where it was not paused."""
    check(who, Act.RESUME)
    return pause.resume_processor(context, name, actor=who.actor, reason=reason, key=key)
