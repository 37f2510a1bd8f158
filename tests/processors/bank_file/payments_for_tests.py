"""Payments and a debtor for the tests of bank files."""

from __future__ import annotations

from datetime import UTC, date, datetime
from typing import Any

from refund_worker.domain.payouts.destination import read_destination
from refund_worker.processors.bank_file.payments import BankPayment, Debtor, end_to_end_id, message_id

IBANS = ("DE89370400440532013000", "FR1420041010050500013M02606", "GB29NWBK60161331926819", "NL91ABNA0417164300")
DEBTOR = Debtor(name="Beispiel & Söhne GmbH", iban="AT611904300234573201", bic="BKAUATWW")
FILE = message_id("bf_019aafc2d1a05c1e7f00aa11b2")
MADE_AT = datetime(2026, 11, 29, 10, 30, tzinfo=UTC)
PAID_ON = date(2026, 12, 1)


def id_of(number: int, attempt: int = 1) -> str:
    """Return the id of the payment with this number."""
    return end_to_end_id(f"po_{number:026x}-1:{attempt}")


def payment(number: int = 1, amount_minor: int = 12_50, **others: Any) -> BankPayment:
    """Return a payment; `holder`, `iban`, `bic`, `account` and `routing` are of its destination."""
    parts = {"holder": "Mia Example", "iban": IBANS[number % len(IBANS)]}
    parts |= {name: others.pop(name) for name in ("holder", "iban", "bic", "account", "routing") if name in others}
    if "account" in parts:
        del parts["iban"]
    fields = {"currency": "EUR", "description": f"Payout {number}", "end_to_end_id": id_of(number)} | others
    return BankPayment(destination=read_destination({"kind": "bank", **parts}), amount_minor=amount_minor, **fields)
