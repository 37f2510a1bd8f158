"""The subject of a Stripe event: a refund, a dispute, an early fraud warning or a payment. Pure."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any, Final, Literal

from refund_worker.processors.base import EventSubject
from refund_worker.processors.stripe.events import refund_named
from refund_worker.processors.stripe.objects import OPAQUE_ID, payment_refs

Kind = Literal["refund", "dispute", "warning", "payment"]

# The object's own type, in `object` of the object itself or in `type` of a thin event's `related_object`.
_BY_TYPE: Final[Mapping[str, Kind]] = {
    "dispute": "dispute",
    "charge.dispute": "dispute",
    "radar.early_fraud_warning": "warning",
    "charge": "payment",
    "payment_intent": "payment",
}
# The kind of event and the beginning of the id, where the object does not name its type. Newer versions put `v1.` or
# more in front of a kind. The first pattern that matches counts: charge.dispute.created is about a dispute.
_BY_KIND: Final[tuple[tuple[re.Pattern[str], re.Pattern[str], Kind], ...]] = (
    (re.compile(r"(?:.*\.)?dispute\..+"), re.compile(r"(?:dp|du)_.+"), "dispute"),
    (re.compile(r"(?:.*\.)?early_fraud_warning\..+"), re.compile(r"issfr_.+"), "warning"),
    (re.compile(r"(?:.*\.)?charge\..+"), re.compile(r"(?:ch|py)_.+"), "payment"),
    (re.compile(r"(?:.*\.)?payment_intent\..+"), re.compile(r"pi_.+"), "payment"),
)

# Money was captured just now. Other events of a charge may be about one of years ago.
_NEW_PAYMENT: Final = re.compile(r"(?:.*\.)?(?:charge\.succeeded|charge\.captured|payment_intent\.succeeded)")


def event_subject(kind: str, body: str) -> EventSubject | None:
    """Return the object that an event is about, or None for an event about anything else."""
    try:
        event = json.loads(body)
        return _subject(kind, event) if isinstance(event, dict) else None
    except (ValueError, TypeError, RecursionError):
        return None


def _subject(kind: str, event: dict[str, Any]) -> EventSubject | None:
    if (refund := refund_named(event, kind)) is not None:
        return EventSubject("refund", refund[0], payment_refs(refund[1]))
    data = event.get("data")
    inner = data if isinstance(data, dict) else {}
    for described in (inner.get("object"), event.get("related_object"), inner.get("related_object"), inner):
        known = described if isinstance(described, dict) else {}
        identifier = known.get("id", described)
        if not isinstance(identifier, str) or not OPAQUE_ID.fullmatch(identifier):
            continue
        subject = _kind_of(kind, known, identifier)
        if subject is not None:
            is_new = subject == "payment" and _NEW_PAYMENT.fullmatch(kind) is not None
            return EventSubject(subject, identifier, _refs(subject, known, identifier), is_new_payment=is_new)
    return None


def _kind_of(kind: str, known: dict[str, Any], identifier: str) -> Kind | None:
    for name in (known.get("object"), known.get("type")):
        # A dispute has no `type`, and a charge no `type` of ours: only the names in the table count.
        if isinstance(name, str) and name in _BY_TYPE:
            return _BY_TYPE[name]
    for kinds, ids, subject in _BY_KIND:
        if kinds.fullmatch(kind):
            return subject if ids.fullmatch(identifier) else None
    return None


def _refs(subject: Kind, known: dict[str, Any], identifier: str) -> tuple[str, ...]:
    refs = payment_refs(known)
    if subject == "payment":
        latest = known.get("latest_charge")  # of a payment intent
        charge = latest.get("id") if isinstance(latest, dict) else latest
        found = (identifier, *refs, *((charge,) if isinstance(charge, str) and OPAQUE_ID.fullmatch(charge) else ()))
        return tuple(dict.fromkeys(found))
    return refs
