"""Stripe's balance, and what others do to it: top-ups, and a balance that a test sets. Pure decisions."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from refund_worker.processors.sandbox.account_book import AccountBook
from refund_worker.processors.sandbox.answers import JsonObject, StripeError
from refund_worker.processors.sandbox.connect import OFF, POLICIES, needs_of
from refund_worker.processors.sandbox.decisions import Decision
from refund_worker.processors.sandbox.ledger import OWN_CURRENCY
from refund_worker.processors.sandbox.refunds import INSUFFICIENT_FUNDS, Step, decide_move


def balance_object(book: AccountBook, limits: Mapping[str, int]) -> JsonObject:
    """Return the account's balance as Stripe shows it. `limits` are the amounts for all refunds of a fault file."""
    now = book.now()
    available = {currency: book.ledger.available(currency, now) for currency in book.ledger.currencies()}
    pending = {currency: book.ledger.pending(currency, now) for currency in book.ledger.currencies()}
    for currency, limit in limits.items():
        if currency not in book.ledger.policies:
            available[currency] = limit - book.refunded.get(currency, 0)
    return {
        "object": "balance",
        "available": _sums(available),
        "livemode": False,
        "pending": _sums(pending),
    }


def _sums(amounts: Mapping[str, int]) -> list[JsonObject]:
    return [
        {"amount": amount, "currency": currency, "source_types": {"card": amount}}
        for currency, amount in sorted((amounts or {OWN_CURRENCY: 0}).items())
    ]


def decide_set_balance(book: AccountBook, fields: JsonObject) -> Decision:
    """Set the available or pending sum of a currency, or what happens to refunds beyond it (`policy`).

    Raises `StripeError` (400) for an unknown policy.
    """
    currency, now = fields["currency"].lower(), book.now()
    policy = fields.get("policy")
    if policy is not None and policy not in POLICIES:
        raise StripeError(400, f"policy must be one of: {', '.join(sorted(POLICIES))}.", param="policy")
    available, pending = book.ledger.available(currency, now), book.ledger.pending(currency, now)
    shown = {
        "currency": currency,
        "available_minor": fields.get("available_minor", available),
        "pending_minor": fields.get("pending_minor", pending),
        "policy": policy or book.ledger.policies.get(currency, "off"),
    }
    record = {
        "kind": "balance",
        "currency": currency,
        "available": shown["available_minor"] - available,
        "pending": shown["pending_minor"] - pending,
        "policy": shown["policy"],
    }
    return _with_released(book, Decision((record,), shown), currency, shown["available_minor"])


def decide_top_up(book: AccountBook, fields: JsonObject) -> Decision:
    """Add money to the balance; the held refunds that it pays go out, oldest first."""
    currency, now = fields["currency"].lower(), book.now()
    source = book.new_id("tu", currency, *_number(book))
    record = _transaction(book, "topup", fields["amount_minor"], currency, source)
    shown = {"id": source, "object": "topup", "amount": fields["amount_minor"], "currency": currency}
    shown |= {"created": int(now), "status": "succeeded"}
    available = book.ledger.available(currency, now) + fields["amount_minor"]
    return _with_released(book, Decision((record,), shown), currency, available)


def _number(book: AccountBook) -> tuple[int]:
    return (len(book.ledger.transactions),)


def _transaction(book: AccountBook, type: str, amount: int, currency: str, source: str) -> JsonObject:
    return {
        "kind": "transaction",
        "id": book.new_id("txn", source),
        "type": type,
        "amount": amount,
        "currency": currency,
        "source": source,
        "created": int(book.now()),
    }


def _with_released(book: AccountBook, decision: Decision, currency: str, available: int) -> Decision:
    """Return the decision with the held refunds that the money now pays, oldest first.

    A refund on the platform's account can wait for the money of a connected account, its destination.
    """
    records, notices = list(decision.records), list(decision.notices)
    left = {book.account: available}
    for holder in dict.fromkeys((book, book.whole)):
        for refund in holder.refunds.values():
            held = refund.object["status"] == "pending" and refund.object["pending_reason"] == INSUFFICIENT_FUNDS
            if not held or refund.object["currency"] != currency:
                continue
            needs = needs_of(holder, holder.payment_of(refund), refund.object["amount"], refund.shares)
            if book.account in needs and _are_paid(book, currency, needs, left):
                moved = decide_move(holder, refund, Step("succeeded"))
                records += ({"account": holder.account, **record} for record in moved.records)
                notices += (replace(notice, account=holder.account) for notice in moved.notices)
    return Decision(tuple(records), decision.object, tuple(notices))


def _are_paid(book: AccountBook, currency: str, needs: Mapping[str, int], left: dict[str, int]) -> bool:
    """Return True if all accounts have what is needed, and take it from what is `left`."""
    for account in needs:
        its = book.whole.of(account)
        left.setdefault(account, its.ledger.available(currency, its.now()))
    for account, amount in needs.items():
        is_limited = account == book.account or book.whole.of(account).ledger.policies.get(currency, OFF) != OFF
        if is_limited and amount > left[account]:
            return False
    for account, amount in needs.items():
        left[account] -= amount
    return True
