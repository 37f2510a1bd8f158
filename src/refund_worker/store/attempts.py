"""Attempts of legs: each has its own idempotency key, the body frozen for it, and the outcome of its call."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any

from sqlalchemy import Connection, bindparam, select, update

from refund_worker.domain.processor_calls import Send
from refund_worker.domain.refund import Leg
from refund_worker.store.tables import attempts, legs, refunds


def begin_attempts(connection: Connection, sends: Sequence[tuple[Send, Leg, str]]) -> None:
    """Insert first sends as new attempts and count one more send for the others.

    Takes (send, leg, body). A new attempt freezes its key and body.
    """
    new, again = [], []
    for send, leg, body in sends:
        at = leg.last_sent_at
        if leg.sends == 1:
            new.append(
                {
                    "leg_id": leg.leg_id,
                    "number": send.attempt,
                    "key": send.key,
                    "body": body,
                    "sends": 1,
                    "first_sent_at": at,
                    "last_sent_at": at,
                }
            )
        else:
            again.append({"id": leg.leg_id, "attempt": send.attempt, "sends": leg.sends, "last_sent_at": at})
    if new:
        connection.execute(attempts.insert(), new)
    if again:
        connection.execute(_SEND_AGAIN, again)


_BODIES = select(attempts.c.leg_id, attempts.c.number, attempts.c.body).where(
    attempts.c.leg_id.in_(bindparam("leg_ids", expanding=True))
)


def frozen_bodies(connection: Connection, wanted: Collection[tuple[str, int]]) -> dict[tuple[str, int], str]:
    """Return the stored bodies by (leg_id, attempt); other attempts of these legs may be included."""
    leg_ids = sorted({leg_id for leg_id, _ in wanted})
    return {(leg_id, number): body for leg_id, number, body in connection.execute(_BODIES, {"leg_ids": leg_ids})}


def end_attempts(connection: Connection, answers: Sequence[Mapping[str, Any]]) -> None:
    """Store how sends ended.

    Takes rows of id (the leg's), attempt, outcome, outcome_code, outcome_message, request_id, answered_at.
    """
    if answers:
        connection.execute(_ANSWER, list(answers))


def was_ever_sent(connection: Connection, customer_id: str, transaction_id: str) -> bool:
    """Return True if an intent to send was ever committed for a refund of this transaction of the customer."""
    query = (
        select(attempts.c.leg_id)
        .join(legs, legs.c.leg_id == attempts.c.leg_id)
        .join(refunds, refunds.c.refund_id == legs.c.refund_id)
        .where(refunds.c.customer_id == customer_id, refunds.c.transaction_id == transaction_id)
        .limit(1)
    )
    return connection.execute(query).first() is not None


def last_codes(connection: Connection, refund_id: str) -> dict[str, str]:
    """Return the code of the last answer about each leg of the refund, by leg_id, for the answers that have one."""
    query = (
        select(attempts.c.leg_id, attempts.c.outcome_code)
        .join(legs, legs.c.leg_id == attempts.c.leg_id)
        .where(legs.c.refund_id == refund_id)
        .order_by(attempts.c.number)
    )
    last = {row[0]: row[1] for row in connection.execute(query)}
    return {leg_id: code for leg_id, code in last.items() if code}


_SEND_AGAIN = (
    update(attempts)
    .where(attempts.c.leg_id == bindparam("id"), attempts.c.number == bindparam("attempt"))
    .values(sends=bindparam("sends"), last_sent_at=bindparam("last_sent_at"))
)


_ANSWER = (
    update(attempts)
    .where(attempts.c.leg_id == bindparam("id"), attempts.c.number == bindparam("attempt"))
    .values(
        outcome=bindparam("outcome"),
        outcome_code=bindparam("outcome_code"),
        outcome_message=bindparam("outcome_message"),
        request_id=bindparam("request_id"),
        answered_at=bindparam("answered_at"),
    )
)
