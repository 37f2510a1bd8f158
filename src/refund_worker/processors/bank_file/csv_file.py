"""Transfers as a CSV file, for a bank's portal that reads one or for a person: any currency and any account.

No cell is calculated by a spreadsheet: a text that looks like a formula begins with an apostrophe. A spreadsheet still
drops the zeros that an account number begins with, unless it imports the file as text.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from datetime import date
from typing import Final

from refund_worker.domain.payouts.destination import DestinationKind
from refund_worker.domain.spreadsheet_cells import harmless
from refund_worker.processors.bank_file.payments import BadFile, BadPayment, BankPayment, decimal_text

COLUMNS: Final = (
    "end_to_end_id",
    "holder",
    "iban",
    "account",
    "routing",
    "bic",
    "amount",
    "currency",
    "description",
    "execution_date",
)


def csv_file(payments: Sequence[BankPayment], execution_date: date) -> bytes:
    """Return the file: UTF-8, commas, a line of names, and one line for each payment.

    The same arguments always give the same bytes. Raises `BadPayment` for a payment that is not to a bank account, has
    no amount, or is in the file twice, and `BadFile` for no payments.
    """
    if not payments:
        raise BadFile("a file has at least one payment")
    written = io.StringIO()
    rows = csv.writer(written, lineterminator="\r\n")
    rows.writerow(COLUMNS)
    seen: set[str] = set()
    for payment in payments:
        _check(payment, seen)
        rows.writerow([harmless(cell) for cell in _cells(payment, execution_date)])
        seen.add(payment.end_to_end_id)
    return written.getvalue().encode()


def _check(payment: BankPayment, seen: set[str]) -> None:
    if payment.end_to_end_id in seen:
        raise BadPayment(payment.end_to_end_id, "it is in the file twice")
    if payment.destination.kind is not DestinationKind.BANK:
        raise BadPayment(payment.end_to_end_id, "its destination is no bank account")
    if payment.amount_minor <= 0:
        raise BadPayment(payment.end_to_end_id, "its amount is not positive")


def _cells(payment: BankPayment, execution_date: date) -> tuple[str | None, ...]:
    to = payment.destination
    return (
        payment.end_to_end_id,
        to.holder,
        to.iban,
        to.account_number,
        to.routing,
        to.bic,
        decimal_text(payment.amount_minor, payment.currency),
        payment.currency,
        " ".join(payment.description.split()),
        execution_date.isoformat(),
    )
