"""Erase the addresses for instructions: from refunds, the frozen bodies of their attempts, reports and events."""

from __future__ import annotations

import json
import re

from sqlalchemy import Connection, func, select, update

from refund_worker.domain.refund import FINAL
from refund_worker.store.tables import attempts, events, legs, refund_objects, refunds

ERASED = "[erased]"
# The fields of a processor's event that have the address; the last one has that of a payee (PayPal's payouts).
FIELDS = ("instructions_email", "email_sent_to", "receiver")
_FIELD = re.compile(rf'("(?:{"|".join(FIELDS)})"\s*:\s*)"[^"\\]*(?:\\.[^"\\]*)*"')


def erase_ended_before(connection: Connection, before: float, limit: int) -> int:
    """Erase the addresses of at most `limit` refunds that ended before `before` (epoch seconds); return how many.

    A frozen body keeps everything but the address. By then no key is alive under which it could be sent again.
    """
    r, e = refunds.c, events.c
    ended_at = (
        select(func.max(e.at)).where(e.refund_id == r.refund_id, e.leg_id.is_(None), e.to_status == r.status)
    ).scalar_subquery()
    query = (
        select(r.refund_id, r.instructions_email)
        .where(r.instructions_email.is_not(None), r.created_at < before, r.status.in_(FINAL))
        .where(func.coalesce(ended_at, r.updated_at) < before)
        .order_by(r.created_at, r.refund_id)
        .limit(limit)
    )
    found = {row.refund_id: row.instructions_email for row in connection.execute(query)}
    if not found:
        return 0
    a, its_legs = attempts.c, select(legs.c.leg_id).where(legs.c.refund_id.in_(found))
    bodies = (
        select(a.leg_id, a.number, a.body, legs.c.refund_id)
        .join(legs, legs.c.leg_id == a.leg_id)
        .where(legs.c.refund_id.in_(found))
    )
    for leg_id, number, body, refund_id in connection.execute(bodies).all():
        clean = without_address(body, found[refund_id])
        if clean != body:
            connection.execute(update(attempts).where(a.leg_id == leg_id, a.number == number).values(body=clean))
    connection.execute(update(refund_objects).where(refund_objects.c.leg_id.in_(its_legs)).values(emailed_to=None))
    gone = {"instructions_email": None, "version": r.version + 1}
    connection.execute(update(refunds).where(r.refund_id.in_(found)).values(**gone))
    return len(found)


def without_address(body: str, address: str) -> str:
    """Return the JSON text of a body without the address: `ERASED` replaces it."""
    return body.replace(json.dumps(address)[1:-1], ERASED)


def without_fields(body: str) -> str:
    """Return the JSON text of an event with `ERASED` as the value of each of `FIELDS`; the rest stays as it came."""
    return _FIELD.sub(rf'\1"{ERASED}"', body)
