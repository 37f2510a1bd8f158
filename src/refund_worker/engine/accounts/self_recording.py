"""Payments that record themselves, from what their processor says of them."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

from sqlalchemy import Connection

from refund_worker.domain.processor_replies import ChargedPayment
from refund_worker.domain.records import PaymentRecord
from refund_worker.domain.self_recording import RecordingKeys, Skipped, record_of
from refund_worker.engine.accounts.payments import Recorded, answers_to_known_ids, record_payments
from refund_worker.engine.context import Context
from refund_worker.errors import AlreadyRecorded, RefundWorkerError
from refund_worker.store import payment_refs

# How one payment ends: recorded now, recorded before, skipped with a reason, or refused.
Outcome = Recorded | Skipped | RefundWorkerError


def record_charged(
    context: Context,
    processor: str,
    charged: Sequence[ChargedPayment],
    keys: RecordingKeys,
    *,
    recorded_by: str,
    dry_run: bool = False,
) -> list[Outcome]:
    """Record the captured payments that are not recorded yet. Return one outcome for each, in order.

    One that is recorded is left as it is; only the names that the processor has for it are learned. With `dry_run`
    nothing is stored.
    """
    names = [payment.payment_refs for payment in charged]
    with context.database.read() as connection:
        refs = [ref for group in names for ref in group]
        known = known_refs(connection, processor, refs)
        news = payment_refs.has_new_refs(connection, processor, names)
    if news and not dry_run:
        context.database.run(partial(_learn, processor=processor, names=names))
    outcomes: list[Outcome | None] = [
        Recorded(new=False) if any(ref in known for ref in payment.payment_refs) else None for payment in charged
    ]
    new: dict[int, PaymentRecord] = {}
    for place, payment in enumerate(charged):
        if outcomes[place] is None:
            found = record_of(payment, keys, processor, recorded_by)
            if isinstance(found, Skipped):
                outcomes[place] = found
            else:
                new[place] = found
    if dry_run:
        foreseen = answers_to_known_ids(context, list(new.values()))
        answers: Sequence[Outcome] = [foreseen.get(r.payment_id, Recorded(new=True)) for r in new.values()]
    else:
        its_names = {record.payment_id: charged[place].payment_refs for place, record in new.items()}
        answers = record_payments(context, list(new.values()), its_names) if new else []
    for place, answer in zip(new, answers, strict=True):
        outcomes[place] = answer
        if isinstance(answer, AlreadyRecorded):  # perhaps by a backend, after we looked
            with context.database.read() as connection:
                if known_refs(connection, processor, charged[place].payment_refs):
                    outcomes[place] = Recorded(new=False)
    return [outcome for outcome in outcomes if outcome is not None]


def known_refs(connection: Connection, processor: str, refs: Sequence[str]) -> set[str]:
    """Return those of the processor's ids under which a payment is or was recorded.

    A closed payment has no names any more. It does not record itself again: only a person or a backend records it.
    """
    open_ones = payment_refs.payments_of_refs(connection, processor, refs)
    return set(open_ones) | payment_refs.recorded_under(connection, processor, refs)


def _learn(connection: Connection, *, processor: str, names: Sequence[Sequence[str]]) -> None:
    payment_refs.add_refs(connection, processor, names)
