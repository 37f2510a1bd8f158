"""Learn the names of payments from what processors report: a charge and its payment intent are one payment."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping, Sequence

from sqlalchemy import Connection

from refund_worker.domain.decision import AskedReading
from refund_worker.domain.processor_replies import PaymentRead
from refund_worker.store import payment_refs
from refund_worker.store.database import after_commit

log = logging.getLogger(__name__)


def learn_names(connection: Connection, processor: str, names: Iterable[Sequence[str]]) -> None:
    """Keep which ids at this processor name the same payment; each of `names` has all ids of one payment.

    Ids that name two of our payments change nothing: the same money was recorded twice, which only a person can undo.
    """
    twice = payment_refs.add_refs(connection, processor, names)
    if twice:
        told = ", ".join(f"{ref} is payment {payment_id}" for ref, payment_id in sorted(twice.items()))
        after_commit(connection, lambda: log.warning("one payment at %s is recorded twice: %s", processor, told))


def learn_from_readings(
    connection: Connection, readings: Mapping[str, AskedReading], processors: Mapping[str, str]
) -> None:
    """Keep the names in these readings, by payment_id; `processors` are the payments' processors."""
    for processor in sorted({processors[payment_id] for payment_id in readings if payment_id in processors}):
        names = [
            asked.answer.payment_refs
            for payment_id, asked in sorted(readings.items())
            if isinstance(asked.answer, PaymentRead) and processors.get(payment_id) == processor
        ]
        learn_names(connection, processor, names)
