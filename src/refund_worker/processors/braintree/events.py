"""Braintree's webhook events: the check of their signature, and the object that an event is about. Pure.

A request is a form with `bt_signature` and `bt_payload` (base64 of XML). The signature is a list of pairs
`public_key|digest`, joined by `&`; the digest is the HMAC-SHA1 of the payload with the SHA-1 of the private key as its
key (webhook_notification_gateway.py and util/crypto.py of braintree_python 4.45.0, read 2026-11). Braintree gives
events no ids, so their kind, object and time make one.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import json
import re
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, Final
from urllib.parse import parse_qsl

from refund_worker.processors.base import (
    EventFault,
    EventHint,
    EventSubject,
    InvalidEvent,
    checked_event_name,
    is_plain_id,
)
from refund_worker.processors.braintree.objects import TRANSACTION_ID
from refund_worker.processors.braintree.orders import read_order_id
from refund_worker.processors.braintree.xml_documents import child, name_of, parse_xml, text_of
from refund_worker.processors.wire import Unreadable
from refund_worker.processors.xml_reading import Element

HEADER: Final = "Content-Type"
FORM: Final = "application/x-www-form-urlencoded"
SIGNATURE, PAYLOAD = "bt_signature", "bt_payload"
# Not read, known: Braintree repeats an event for about a day. An old one that is sent again is the same event, and only
# a hint; it is refused after this time. Polling and the list find what is lost.
TOLERANCE_SECONDS: Final = 23 * 3_600.0
FUTURE_SECONDS: Final = 300.0
PAIRS_MAX: Final = 50
KINDS_ABOUT_REFUNDS: Final = frozenset({"refund_failed"})
EVENTS_TEXT: Final = (
    "refund_failed, transaction_settled, transaction_settlement_declined, dispute_opened, dispute_lost, dispute_won"
)

EVENT_SCHEMA: Final[Mapping[str, Any]] = {
    "type": "object",
    "required": [SIGNATURE, PAYLOAD],
    "properties": {
        SIGNATURE: {"type": "string", "description": "Pairs of a public key and a signature."},
        PAYLOAD: {"type": "string", "description": "The event: XML in base64."},
    },
}

_ILLEGAL = re.compile(r"[^A-Za-z0-9+/=\n]")
_CHALLENGE = re.compile(r"[a-f0-9]{20,32}")
_DISPUTE_ID = re.compile(r"[A-Za-z0-9_-]{1,100}")

KeyPair = tuple[str, str]


def key_pairs(secrets: Sequence[str]) -> tuple[KeyPair, ...]:
    """Return the pairs of a public and a private key in secrets of the form `PUBLIC:PRIVATE`.

    Raises ValueError, without the secret in it, for another form.
    """
    pairs = [secret.partition(":") for secret in secrets]
    if not all(public and private and ":" not in private for public, _, private in pairs):
        raise ValueError("must be the public key, a colon and the private key of one user, such as abc:def")
    return tuple((public, private) for public, _, private in pairs)


def digest(private_key: str, text: bytes) -> str:
    """Return Braintree's signature of a text."""
    key = hashlib.sha1(private_key.encode("utf-8")).digest()  # noqa: S324 -- Braintree's scheme
    return hmac.new(key, text, hashlib.sha1).hexdigest()


def answer_to_challenge(query: Mapping[str, str], pairs: Sequence[KeyPair]) -> str | None:
    """Return the answer to the GET by which Braintree checks the address, None for any other GET or without keys."""
    challenge = query.get("bt_challenge", "")
    if not pairs or not _CHALLENGE.fullmatch(challenge):
        return None
    public, private = pairs[0]
    return f"{public}|{digest(private, challenge.encode('ascii'))}"


def verify_event(headers: Mapping[str, str], body: bytes, pairs: Sequence[KeyPair], now: float) -> None:
    """Raise `InvalidEvent` unless one of our keys signed the event, and it is of the last hours before `now`."""
    if headers.get(HEADER.lower(), "").partition(";")[0].strip().lower() != FORM:
        raise InvalidEvent("the request is no form", EventFault.NO_SIGNATURE)
    signature, payload = _fields(body)
    told = [pair.partition("|") for pair in signature.split("&")[:PAIRS_MAX]]
    if not all(apart for _, apart, _ in told):
        raise InvalidEvent("bt_signature is missing or broken", EventFault.NO_SIGNATURE)
    good = False
    for public, private in pairs:
        expected = digest(private, payload).encode("ascii"), digest(private, payload + b"\n").encode("ascii")
        for name, _, theirs in told:
            # Do not stop early: the time must not show which key or which byte matched.
            match = [hmac.compare_digest(each, theirs.encode("utf-8", "replace")) for each in expected]
            good |= hmac.compare_digest(name.encode("utf-8", "replace"), public.encode("utf-8")) & any(match)
    if not good:
        raise InvalidEvent("no signature in bt_signature is ours", EventFault.BAD_SIGNATURE)
    made = _event_of(body)["at"]
    if not -FUTURE_SECONDS <= now - made <= TOLERANCE_SECONDS:
        why = "the event was not made in the last hours: is a clock wrong, or is it an old one sent again?"
        raise InvalidEvent(why, EventFault.NOT_RECENT)


def split(body: bytes) -> Sequence[bytes]:
    """Return the event reduced to its names: the XML has the customer's data, which we do not store."""
    return (json.dumps(_event_of(body), sort_keys=True).encode("ascii"),)


def event_name(body: bytes) -> tuple[str, str]:
    """Return the event's id and kind. Raises `InvalidEvent` if the body is neither a form nor what `split` makes."""
    event = _event_of(body)
    return checked_event_name(event.get("id"), event.get("kind"))


def event_hint(kind: str, body: str) -> EventHint | None:
    """Return the refund that an event is about, or None for any other event."""
    event = _quietly(body)
    refund_id = event.get("refund_id")
    if not isinstance(refund_id, str) or not TRANSACTION_ID.fullmatch(refund_id):
        return None
    order_id = event.get("order_id")
    marks = read_order_id(order_id) if isinstance(order_id, str) else None
    return EventHint(refund_id, marks.leg_id if marks else None)


def event_subject(kind: str, body: str) -> EventSubject | None:
    """Return the refund or the dispute that an event is about, or None for any other event."""
    event = _quietly(body)
    payment_id = event.get("payment_id")
    refs = (payment_id,) if isinstance(payment_id, str) and TRANSACTION_ID.fullmatch(payment_id) else ()
    hint = event_hint(kind, body)
    if hint is not None:
        return EventSubject("refund", hint.processor_refund_id, refs)
    dispute_id = event.get("dispute_id")
    if isinstance(dispute_id, str) and _DISPUTE_ID.fullmatch(dispute_id):
        return EventSubject("dispute", dispute_id, refs)
    return None


def _quietly(body: str) -> Mapping[str, Any]:
    try:
        return _event_of(body.encode("utf-8"))
    except (InvalidEvent, ValueError):
        return {}


def _fields(body: bytes) -> tuple[str, bytes]:
    """Return the signature and the payload of a form. Raises `InvalidEvent`."""
    try:
        pairs = parse_qsl(body.decode("ascii"), keep_blank_values=True, strict_parsing=True, max_num_fields=20)
    except ValueError:
        raise InvalidEvent("the body is no form", EventFault.NO_EVENT) from None
    found = {name: [value for each, value in pairs if each == name] for name in (SIGNATURE, PAYLOAD)}
    if any(len(values) != 1 for values in found.values()):
        raise InvalidEvent("the form has no bt_signature or no bt_payload", EventFault.NO_SIGNATURE)
    (signature,), (payload,) = found[SIGNATURE], found[PAYLOAD]
    if _ILLEGAL.search(payload):
        raise InvalidEvent("bt_payload has characters that base64 has not", EventFault.BAD_SIGNATURE)
    return signature, payload.encode("ascii")


def _event_of(body: bytes) -> dict[str, Any]:
    """Return the names in an event: those that `split` wrote, or those in the form. Raises `InvalidEvent`."""
    try:
        if body.startswith(b"{"):
            event = json.loads(body.decode("utf-8"))
            return event if isinstance(event, dict) else {}
        _, payload = _fields(body)
        return _names_in(base64.b64decode(payload.replace(b"\n", b""), validate=True))
    except (ValueError, RecursionError, binascii.Error) as error:
        if isinstance(error, InvalidEvent):
            raise
        raise InvalidEvent("the body is no event", EventFault.NO_EVENT) from None


def _names_in(document: bytes) -> dict[str, Any]:
    """Return what an event's XML names. Raises ValueError."""
    root = parse_xml(document)
    kind, timestamp, subject = text_of(root, "kind"), text_of(root, "timestamp"), child(root, "subject")
    if name_of(root) != "notification" or not is_plain_id(kind) or timestamp is None or subject is None:
        raise Unreadable("no notification")
    at = datetime.fromisoformat(timestamp)
    made = (at.replace(tzinfo=UTC) if at.tzinfo is None else at).timestamp()
    names = _subject_names(kind, subject)
    # The same event again has the same XML. An object that we do not know is named by a digest of it.
    about = names.get("refund_id") or names.get("dispute_id") or names.get("payment_id")
    about = about or hashlib.sha256(document).hexdigest()[:32]
    return {"id": f"{kind}:{about}:{timestamp}", "kind": kind, "at": made, **names}


def _subject_names(kind: str, subject: Element) -> dict[str, str]:
    transaction, dispute = child(subject, "transaction"), child(subject, "dispute")
    names: dict[str, str | None] = {}
    if transaction is not None:
        is_refund = kind in KINDS_ABOUT_REFUNDS or text_of(transaction, "type") == "credit"
        names["refund_id" if is_refund else "payment_id"] = text_of(transaction, "id")
        if is_refund:
            names["payment_id"] = text_of(transaction, "refunded_transaction_id")
            names["order_id"] = text_of(transaction, "order_id")
    elif dispute is not None:
        paid = child(dispute, "transaction")
        names["dispute_id"] = text_of(dispute, "id")
        names["payment_id"] = text_of(paid, "id") if paid is not None else None
    return {name: value for name, value in names.items() if is_plain_id(value)}
