"""Retry all refunds that stopped for one cause. The retry is refused if they are no longer those the person saw."""

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

# Most refunds that one bulk retry changes: all of them are changed in one transaction.
PRESS_MAX = 500


class SetChanged(Conflict):
    """The refunds that wait for this retry are not those that the person saw; nothing was retried."""

    code = "set_changed"


@dataclass(frozen=True, slots=True)
class Stuck:
    """The oldest refunds that need a person for one cause, at most `PRESS_MAX`; `mark` identifies exactly this set."""

    ids: tuple[str, ...]

    @property
    def mark(self) -> str:
        """Return a hash of the ids (32 hex digits)."""
        return hashlib.sha256("\n".join(self.ids).encode()).hexdigest()[:32]


@dataclass(frozen=True, slots=True)
class Retried:
    """The number of retried refunds; `first_event` and `last_event` (`seq`) bound their events in the timelines."""

    refunds: int
    first_event: int
    last_event: int


def stuck_for(connection: Connection, failure_code: str | None) -> Stuck:
    """Return the oldest refunds that need attention with this failure code (None: those without a code)."""
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
    """Retry all refunds that `stuck_for` returns, all or none. Each is looked up at the processor before a send.

    A refund stops again if others refunded over its payment: a person checks such refunds one by one.

    `expected` is the number of refunds that the person saw, and `mark` their mark; without a mark only the number is
    compared. The same act under the same `key` again changes nothing and returns the first result.

    Raises `SetChanged` if the refunds no longer have this number and mark, `LostRace` if a worker changed one of them
    first, and `KeyReused` if the key was used for another act.
    """
    act = {"failure_code": failure_code, "expected": expected, "mark": mark, "reason": reason, "actor": actor}

    def work(connection: Connection) -> tuple[Retried, Sequence[str]]:
        now = context.clock(connection)
        stuck = stuck_for(connection, failure_code)
        found = refunds.load(connection, stuck.ids, lock=True)
        # Only now, under the locks: the first press of a double click may have held them.
        if key is not None and (earlier := idempotency.find_act(connection, *key)) is not None:
            check_same_act(key.idempotency_key, act, json.loads(earlier["body"]))
            return Retried(*json.loads(earlier["result_id"])), ()
        still = [refund for refund in found if refund.status is RefundStatus.NEEDS_ATTENTION]
        if len(still) != expected or mark not in (None, stuck.mark):
            raise _set_changed(expected, len(still))
        decisions = [
            apply_action(refund, Action.RETRY, now, context.policy, actor=actor, reason=reason, one_by_one=False)
            for refund in still
        ]
        # A person's action ends any lease: if an answer is still under way, the processor is asked for it again.
        free = [decision.released() for decision in decisions]
        before = console_queries.last_event(connection)
        apply(connection, free, now, notify=context.notify)
        retried = Retried(len(still), before + 1, console_queries.last_event(connection))
        if key is not None:
            idempotency.insert_act(connection, *key, json.dumps(act), json.dumps(astuple(retried)), now)
        return retried, stuck.ids

    retried, ids = context.database.run(work)
    if ids:
        context.publish(list(ids), True)
    return retried


def _set_changed(expected: int, found: int) -> SetChanged:
    most = f" (at most {PRESS_MAX} are retried at once)" if found == PRESS_MAX else ""
    return SetChanged(f"you saw {expected} refunds, now there are {found}{most}: check the list, then retry")
