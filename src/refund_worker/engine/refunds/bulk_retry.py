"""Retrying all that stopped for one cause, in one go; refused where it is no longer what the person saw."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import astuple, dataclass

from sqlalchemy import Connection

from refund_worker.domain.operator_action import apply_action
from refund_worker.domain.refund import RefundStatus
from refund_worker.domain.state_machine import Action
from refund_worker.engine.context import Context
from refund_worker.engine.idempotency import Key, check_same_act
from refund_worker.engine.refunds.apply import apply
from refund_worker.errors import Conflict
from refund_worker.store import idempotency, refunds
from refund_worker.store.reporting import console_queries

# What one press retries: all of it is one transaction.
PRESS_MAX = 500


class SetChanged(Conflict):
    """Other refunds wait for this retry than the person saw; nothing was retried."""

    code = "set_changed"


@dataclass(frozen=True, slots=True)
class Stuck:
    """The oldest refunds that need a person for one cause, at most `PRESS_MAX`, and a mark that names exactly them."""

    ids: tuple[str, ...]

    @property
    def mark(self) -> str:
        return hashlib.sha256("\n".join(self.ids).encode()).hexdigest()[:32]


@dataclass(frozen=True, slots=True)
class Retried:
    """How many were retried; `first_event` and `last_event` bound their lines in the timelines."""

    refunds: int
    first_event: int
    last_event: int


def stuck_for(connection: Connection, failure_code: str | None) -> Stuck:
    needs_attention = RefundStatus.NEEDS_ATTENTION
    return Stuck(tuple(console_queries.ids_by_failure(connection, needs_attention, failure_code, limit=PRESS_MAX)))


def retry_all(
    context: Context,
    failure_code: str | None,
    *,
    expected: int,
    mark: str | None = None,
    actor: str,
    reason: str,
    key: Key | None = None,
) -> Retried:
    """Retry all that `stuck_for` names, all or none. Each is looked up at the processor before anything is sent.

    What others refunded stops each of them again: that a person looks at one by one.

    `mark` is that of the refunds the person saw; without one the number alone is held to. The same act under the same
    `key` again changes nothing and tells of the first. Raises `SetChanged` where they are not the `expected` ones with
    this mark any more, `LostRace` where a worker was faster with one of them, `KeyReused`.
    """
    act = {"failure_code": failure_code, "expected": expected, "mark": mark, "reason": reason, "actor": actor}

    def work(connection: Connection) -> tuple[Retried, Sequence[str]]:
        now = context.clock(connection)
        stuck = stuck_for(connection, failure_code)
        found = refunds.load(connection, stuck.ids, lock=True)
        # Only now, under the locks: the first of a double click may have held them.
        if key is not None and (earlier := idempotency.find_act(connection, *key)) is not None:
            check_same_act(key.idempotency_key, act, json.loads(earlier["body"]))
            return Retried(*json.loads(earlier["result_id"])), ()
        still = [refund for refund in found if refund.status is RefundStatus.NEEDS_ATTENTION]
        if len(still) != expected or mark not in (None, stuck.mark):
            raise SetChanged(f"you saw {expected} refunds, now there are {len(still)}: check the list, then retry")
        decisions = [
            apply_action(refund, Action.RETRY, now, context.policy, actor=actor, reason=reason, one_by_one=False)
            for refund in still
        ]
        # A person's act ends whatever lease there is: an answer that is still under way is asked for again.
        free = [decision.released() for decision in decisions]
        before = console_queries.last_event(connection)
        apply(connection, free, now, notify=context.notify)
        retried = Retried(len(still), before + 1, console_queries.last_event(connection))
        if key is not None:
            idempotency.insert_act(connection, *key, json.dumps(act), json.dumps(astuple(retried)), now)
        return retried, stuck.ids

    retried, ids = context.database.run(work)
    if ids:
        context.wake(list(ids), True)
    return retried
