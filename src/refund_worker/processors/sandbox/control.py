"""The sandbox's own endpoints: book, payments, actions of others, faults, refund statuses, clock, webhook receiver.

They need no key, because the server is for tests only.
"""

from __future__ import annotations

import csv
import json
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from refund_worker.processors.sandbox.account_book import PLATFORM
from refund_worker.processors.sandbox.actions import FaultFileError
from refund_worker.processors.sandbox.answers import Answer, JsonObject, StripeError, answer_of
from refund_worker.processors.sandbox.calls import Request
from refund_worker.processors.sandbox.charges import options_of
from refund_worker.processors.sandbox.endpoints import refund_named
from refund_worker.processors.sandbox.fields import ACCOUNT, CURRENCY
from refund_worker.processors.sandbox.fraud_warnings import warning_object
from refund_worker.processors.sandbox.outside import actions_as_json, decide_action
from refund_worker.processors.sandbox.refunds import Step, decide_move
from refund_worker.processors.sandbox.service import Service
from refund_worker.processors.sandbox.webhooks import Webhooks


class PaymentError(Exception):
    """A payment that cannot be registered: malformed, or already known with another amount or currency."""


def register(service: Service, payments: list[JsonObject]) -> int:
    """Register payments: `processor_payment_id`, `amount_minor`, `currency`, and `disputed` (default false).

    The other optional fields are those of `charges.py`, and `account`: the connected account that took the payment.
    Registering a known payment changes only `disputed`. Returns how many payments were sent. Raises `PaymentError`, and
    then registers none.
    """
    records = [payment_record(payment) for payment in payments]
    names = [(record.get("account", PLATFORM), record["id"]) for record in records]
    known: dict[tuple[str, str], tuple[int, str]] = {
        (account, payment_id): (found.amount, found.currency)
        for account, payment_id in names
        if (found := service.book.of(account).payments.get(payment_id)) is not None
    }
    for name, record in zip(names, records, strict=True):
        terms = (record["amount"], record["currency"])
        if known.setdefault(name, terms) != terms:
            raise PaymentError(f"{record['id']} is known with another amount or currency")
    if records:
        second = int(service.book.now())
        service.book.commit(*({"created": second, **record} for record in records))
    return len(records)


def payment_record(payment: Any) -> JsonObject:
    """Return the book's record of a payment to register.

    Raise `PaymentError`, which names the fault, if it is malformed.
    """
    if not isinstance(payment, dict):
        raise PaymentError("a payment must be an object")
    reference, amount = payment.get("processor_payment_id"), payment.get("amount_minor")
    currency, disputed = payment.get("currency"), payment.get("disputed", False)
    if not isinstance(reference, str) or not 1 <= len(reference) <= 255 or "/" in reference:
        raise PaymentError("processor_payment_id must be a text of 1 to 255 characters without a slash")
    if not isinstance(amount, int) or isinstance(amount, bool) or amount <= 0:
        raise PaymentError(f"{reference}: amount_minor must be a positive integer")
    if not isinstance(currency, str) or not CURRENCY.match(currency) or not isinstance(disputed, bool):
        raise PaymentError(f"{reference}: currency must have three letters, disputed must be true or false")
    account = payment.get("account")
    if account is not None and not ACCOUNT.accepts(account):
        raise PaymentError(f"{reference}: account must be {ACCOUNT.takes}")
    record = {
        "kind": "payment",
        **({"account": account} if account else {}),
        "id": reference,
        "amount": amount,
        "currency": currency.lower(),
        "disputed": disputed,
    }
    more = options_of({name: value for name, value in payment.items() if value is not None}, amount)
    return {**record, "more": more} if more else record


def payments_in(path: Path) -> list[JsonObject]:
    """Return the payments of a CSV file in the format of a payments import. Raise `PaymentError` or `OSError`."""
    with path.open(encoding="utf-8", newline="") as file:
        try:
            return [
                {
                    "processor_payment_id": row["processor_payment_id"],
                    "amount_minor": int(row["amount_minor"]),
                    "currency": row["currency"],
                    **_creation(row.get("captured_at")),
                    **_connection(row),
                }
                for row in csv.DictReader(file)
                if row.get("processor", "stripe") != "manual"
            ]
        except (KeyError, ValueError, TypeError, csv.Error) as wrong:
            raise PaymentError(f"{path.name} is not a payments file") from wrong


def _connection(row: Mapping[str, str]) -> JsonObject:
    account = row.get("connect_account")
    if not account:
        return {}
    return {"destination" if row.get("connect_reverse_transfer") == "true" else "account": account}


def _creation(captured_at: str | None) -> JsonObject:
    if not captured_at:
        return {}
    return {"created": int(datetime.fromisoformat(captured_at).replace(tzinfo=UTC).timestamp())}


class Control:
    """Answers the requests with a path that begins with `/_`."""

    def __init__(self, service: Service, webhooks: Webhooks) -> None:
        self.service = service
        self.webhooks = webhooks

    def handle(self, request: Request) -> Answer:
        """Answer one request. A malformed request gets a 400.

        Raises `OSError` if the book cannot be written.
        """
        try:
            if request.oversized:
                raise StripeError(413, "The request body is too large.")
            self.service.run_due()
            return answer_of(self._dispatch(request))
        except StripeError as refused:
            return refused.answer()
        except (FaultFileError, PaymentError) as wrong:
            return StripeError(400, str(wrong)).answer()

    def _dispatch(self, request: Request) -> JsonObject:
        match request.method, request.path.split("/")[1:]:
            case "GET", ["_health"]:
                return {"status": "ok"}
            case "GET", ["_book"]:
                return self._summary()
            case "GET", ["_requests"]:
                return self.service.counts.by_account()
            case "POST", ["_payments"]:
                sent = _json(request)
                return {"registered": register(self.service, sent if isinstance(sent, list) else [sent])}
            case "POST", ["_faults"]:
                self.service.faults.add(_json(request))
                return {"rules": len(self.service.faults.rules)}
            case "DELETE", ["_faults"]:
                self.service.faults.clear()
                return {"rules": 0}
            case "GET", ["_actions"]:
                return actions_as_json()
            case "POST", ["_actions"]:
                return self._act(_json(request))
            case "POST", ["_refunds", refund_id]:
                return self._move(refund_id, _fields(request, {"status", "failure_reason", "account"}))
            case "POST", ["_clock"]:
                return self._advance(_fields(request, {"advance_seconds"}))
            case "POST", ["_webhook"]:
                return self._set_receiver(_fields(request, {"url", "secret", "connect_secret"}))
        raise StripeError(404, "The sandbox has no such endpoint.")

    def _summary(self) -> JsonObject:
        book = self.service.book
        warnings = [warning_object(its, warning) for its in book.every() for warning in its.warnings.values()]
        requests = self.service.counts.summary()
        return {**book.summary(), "early_fraud_warnings": warnings, "requests": requests}

    def _act(self, sent: Any) -> JsonObject:
        account = sent.get("account", PLATFORM) if isinstance(sent, dict) else PLATFORM
        book = self.service.book.of(account if ACCOUNT.accepts(account) else PLATFORM)
        return self.service.commit(decide_action(book, sent), book.account)

    def _move(self, refund_id: str, fields: JsonObject) -> JsonObject:
        account = fields.get("account", PLATFORM)
        book = self.service.book.of(account if ACCOUNT.accepts(account) else PLATFORM)
        refund = refund_named(book, refund_id)
        status, reason = fields.get("status"), fields.get("failure_reason")
        if "status" not in fields or not isinstance(status, str | None) or not isinstance(reason, str | None):
            raise StripeError(400, "Send a status (a text or null), and optionally a failure_reason.")
        return self.service.commit(decide_move(book, refund, Step(status, failure_reason=reason)), book.account)

    def _advance(self, fields: JsonObject) -> JsonObject:
        seconds = fields.get("advance_seconds")
        if not isinstance(seconds, int | float) or isinstance(seconds, bool) or not 0 <= seconds <= 10**9:
            raise StripeError(400, "advance_seconds must be a number from 0 to 1,000,000,000.")
        book = self.service.book
        book.commit({"kind": "clock", "offset_seconds": book.clock_offset + seconds})
        self.service.run_due()
        return {"now": book.now()}

    def _set_receiver(self, fields: JsonObject) -> JsonObject:
        url, secret, connect_secret = fields.get("url"), fields.get("secret"), fields.get("connect_secret")
        if url is None:
            self.webhooks.set_receiver(None, "")
            return {"url": None}
        if not isinstance(url, str) or not isinstance(secret, str) or not secret:
            raise StripeError(400, "Send a url and the secret to sign with, or null as the url.")
        self.webhooks.set_receiver(url, secret, connect_secret if isinstance(connect_secret, str) else None)
        return {"url": url}


def _json(request: Request) -> Any:
    try:
        return json.loads(request.body)
    except (ValueError, RecursionError) as wrong:
        raise StripeError(400, "The request body is not JSON in UTF-8.") from wrong


def _fields(request: Request, known: set[str]) -> JsonObject:
    sent = _json(request)
    if not isinstance(sent, dict) or sent.keys() - known:
        raise StripeError(400, f"Send an object with some of: {', '.join(sorted(known))}.")
    return sent
