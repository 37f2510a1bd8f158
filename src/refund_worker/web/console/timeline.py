"""History on a refund's page: the three progress lights, the timeline's details, and the result of each attempt."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from typing import Any

from sqlalchemy import RowMapping

from refund_worker.api_schema import Event
from refund_worker.domain.payouts.payout import Payout, PayoutStatus
from refund_worker.domain.refund import ENDED_UNSENT, FINAL, Kind, Leg, LegStatus, Refund, RefundStatus, To
from refund_worker.domain.state_machine import UNPAID_FINAL
from refund_worker.engine.views.money_format import money
from refund_worker.redaction import to_redacted, without_emails
from refund_worker.web.console.durations import span
from refund_worker.web.console.labels import OUTCOME_LABELS, PAYOUT_OUTCOME_LABELS

Json = dict[str, Any]
NOT_ON_ITS_WAY = UNPAID_FINAL | {LegStatus.BLOCKED, LegStatus.WAITING}
TAKEN_BACK = ("none", "taken back later")
NEVER = ("none", "will not happen")
# Attempts without an answer: their stored time is when the worker stopped waiting.
UNANSWERED = frozenset({"Unanswered", "NotSent"})
# The reason is shown as `why`, the currency with its amount, and the page is that of the payout, payee or run.
_SAID_BEFORE = frozenset({"reason", "currency", "payout_id", "payee_id", "run_id"})
# The status of a payout whose label says more than that of its step.
_OF_PAYOUTS: Mapping[str | None, str] = {LegStatus.REQUIRES_ACTION: PayoutStatus.RECIPIENT_ACTION}
# Old entries say `600 EUR` in minor units; new ones say `6.00 EUR`, which this pattern does not match.
_BARE = re.compile(r"(?<![0-9.,])([0-9]+) ([A-Z]{3})(?= over | paid: | came back: )")


def in_money(text: str) -> str:
    """Return a stored text with its amounts formatted as money."""
    return _BARE.sub(lambda found: money(int(found[1]), found[2]), text)


def lights(refund: Refund, *, taken_back: bool = False) -> list[tuple[str, str, str]]:
    """Return the three progress lights: (label, "on", "part", "off" or "none", text)."""
    here = ("on", "yes") if refund.ledger_posted else ("off", "not yet")
    if refund.status in ENDED_UNSENT:
        here = NEVER
    if taken_back:
        here = TAKEN_BACK
    if refund.to is To.BALANCE:
        return [("Credited here", *here), ("Money sent", "none", "credits only"), ("Confirmed", *here)]
    if refund.reversed_credits and here[0] == "on":
        here = ("part", f"{refund.reversed_credits:,} credits given back")
    what = "Taken off here" if refund.kind is Kind.WITHDRAWAL else "Credited here"
    return [(what, *here), ("Money sent", *_sent(refund)), ("Confirmed", *_confirmed(refund))]


def is_not_known(leg: Leg) -> bool:
    """Return True if the leg was sent and its result is unknown."""
    return leg.status is LegStatus.UNKNOWN or (
        leg.status is LegStatus.BLOCKED and leg.failure_code == "outcome_unknown"
    )


def _sent(refund: Refund) -> tuple[str, str]:
    tried = [leg for leg in refund.legs if leg.last_sent_at is not None]
    if not tried:
        return NEVER if refund.status in FINAL else ("off", "not yet")
    if any(is_not_known(leg) for leg in tried):
        return ("part", "unknown")
    # Refused legs, and those proved not executed, are not on their way.
    refused = [leg for leg in tried if leg.status in NOT_ON_ITS_WAY]
    if len(refused) == len(tried):
        return ("off", _refused({leg.status for leg in refused}))
    live = [leg for leg in refund.legs if leg.status not in UNPAID_FINAL]
    on_its_way = len(tried) - len(refused)
    if on_its_way >= len(live):
        return ("on", "yes")
    return ("part", f"{on_its_way} of {len(live)} payments")


def _refused(statuses: set[LegStatus]) -> str:
    if LegStatus.BLOCKED in statuses:
        return "stopped"
    return "will be sent again" if LegStatus.WAITING in statuses else "refused"


def _confirmed(refund: Refund) -> tuple[str, str]:
    if refund.status is RefundStatus.SUCCEEDED:
        return ("on", "yes")
    if refund.status is RefundStatus.PARTIALLY_SUCCEEDED:
        return ("part", "in part")
    if refund.status is RefundStatus.FAILED:
        return ("none", "failed")
    if refund.status in ENDED_UNSENT:
        return NEVER
    paid = sum(leg.status is LegStatus.SUCCEEDED for leg in refund.legs)
    return ("part", f"{paid} of {len(refund.legs)} payments") if paid else ("off", "not yet")


def event_views(events: Iterable[Event], of: Refund | Payout | None) -> list[Json]:
    """Return the timeline with details as (name, text): empty ones are left out, and amounts are formatted as money.

    Each has the `account` of its leg, or None. The timeline of a payee has no legs: `of` is None.
    """
    legs = {leg.leg_id: (leg.currency, leg.processor) for leg in of.legs} if of is not None else {}
    usual = of.currency if isinstance(of, Payout) else None
    views = []
    for event in events:
        currency, account = legs.get(event["leg_id"] or "", (usual, None))
        currency = event["detail"].get("currency", currency)
        view: Json = {**event, "detail": _details(event["detail"], currency), "account": account}
        if isinstance(of, Payout):  # its step waits for the payee; that of a refund for the customer
            view |= {end: _OF_PAYOUTS.get(event[end], event[end]) for end in ("from", "to")}
        views.append(view)
    return views


def _details(detail: Mapping[str, Any], currency: str | None) -> list[tuple[str, str]]:
    found = []
    for name, value in detail.items():
        if value is None or name in _SAID_BEFORE:
            continue
        if name.endswith("_seconds") and isinstance(value, int | float):
            found.append((name.removesuffix("_seconds").replace("_", " "), span(value)))
        elif name == "minor" and currency:
            found.append(("money", money(value, currency)))
        elif name.endswith("_minor") and currency:
            found.append((name.removesuffix("_minor").replace("_", " "), money(value, currency)))
        else:
            found.append((name.replace("_", " "), in_money(f"{value:,}" if isinstance(value, int) else str(value))))
    return found


def attempt_view(row: RowMapping) -> Json:
    """Return one attempt for the page: the request, and everything stored about the answer."""
    body = without_emails(to_redacted(json.dumps(json.loads(row["body"]), indent=2)))
    return dict(row) | {"step": None, "body": body} | _answer(row, "Refund at the processor", OUTCOME_LABELS)


def payout_attempt_view(row: RowMapping) -> Json:
    """Return one attempt of a payout for the page, without its request: that is sealed, as the destination in it is."""
    return dict(row) | {"body": None} | _answer(row, "Object at the processor", PAYOUT_OUTCOME_LABELS)


def _answer(row: RowMapping, object_name: str, labels: Mapping[str, str]) -> Json:
    outcome, code, message = row["outcome"], row["outcome_code"], row["outcome_message"]
    answered: list[tuple[str, str]] = []
    if outcome in ("Answered", "TransferAnswered"):
        answered = [(object_name, code), ("Status", message)]
    elif outcome:
        answered = [("Code", code), ("Message", message)]
    answered.append(("Request id", row["request_id"]))
    return {
        "outcome_label": labels.get(outcome, outcome) if outcome else "no answer yet",
        "unanswered": outcome in UNANSWERED,
        "answered": [(name, value) for name, value in answered if value],
    }
