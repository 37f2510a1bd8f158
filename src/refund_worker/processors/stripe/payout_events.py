"""Stripe's webhook events about payouts: the transfer, the payout or the account that an event is about. Pure."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any, Final

from refund_worker.domain.account_names import CONNECTED_ID
from refund_worker.processors.payout_routes import TransferHint
from refund_worker.processors.stripe.objects import OPAQUE_ID, our_marks

# Newer versions put `v1.` or more in front of a kind.
_ABOUT_MONEY: Final = re.compile(r"(?:v[0-9]+\.)?(?:transfer|payout)\.[a-z_]+")
_ABOUT_AN_ACCOUNT: Final = re.compile(
    r"(?:v[0-9]+\.)?(?:account\.(?:updated|external_account\.[a-z_]+|application\.deauthorized)|capability\.updated)"
)
_OBJECT_ID: Final = re.compile(r"(?:tr|po)_[A-Za-z0-9_]+")
_ACCOUNT_ID: Final = re.compile(CONNECTED_ID)
OBJECTS: Final = frozenset({"transfer", "payout"})


def transfer_hint(kind: str, body: str) -> TransferHint | None:
    """Return the transfer, payout or account that an event is about, or None for any other event.

    A reversal changes its transfer: there is no event about the reversal itself.
    """
    about_money = _ABOUT_MONEY.fullmatch(kind) is not None
    if not about_money and _ABOUT_AN_ACCOUNT.fullmatch(kind) is None:
        return None
    event = _event(body)
    data = event.get("data")
    inner = data if isinstance(data, dict) else {}
    for found in (inner.get("object"), event.get("related_object"), inner.get("related_object")):
        described = found if isinstance(found, dict) else {}
        hint = _money(described) if about_money else _account(described, event)
        if hint is not None:
            return hint
    return None


def _money(described: Mapping[str, Any]) -> TransferHint | None:
    identifier = described.get("id")
    known = OBJECTS & {kind for kind in (described.get("object"), described.get("type")) if isinstance(kind, str)}
    if not isinstance(identifier, str) or not (OPAQUE_ID if known else _OBJECT_ID).fullmatch(identifier):
        return None
    return TransferHint(identifier, our_marks(described.get("metadata"))[0])


def _account(described: Mapping[str, Any], event: Mapping[str, Any]) -> TransferHint | None:
    """Return the account: the object itself, the one that it names, or that of the whole event."""
    for identifier in (described.get("id"), described.get("account"), event.get("account")):
        if isinstance(identifier, str) and _ACCOUNT_ID.fullmatch(identifier):
            return TransferHint(identifier, None, is_payee=True)
    return None


def _event(body: str) -> Mapping[str, Any]:
    try:
        event = json.loads(body)
    except (ValueError, TypeError, RecursionError):
        return {}
    return event if isinstance(event, dict) else {}
