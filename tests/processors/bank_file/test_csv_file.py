"""The CSV file for a bank's portal: one line for each payment, exact amounts, and no formula."""

from __future__ import annotations

import csv
import dataclasses
import io

import pytest
from tests.processors.bank_file.payments_for_tests import IBANS, PAID_ON, id_of, payment

from refund_worker.domain.payouts.destination import read_destination
from refund_worker.processors.bank_file.csv_file import COLUMNS, csv_file
from refund_worker.processors.bank_file.payments import BadFile, BadPayment


def rows(document: bytes) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(document.decode(), newline="")))


def test_each_payment_is_a_line_with_all_that_the_bank_needs() -> None:
    payments = [
        payment(1, 12_50, bic="COBADEFFXXX", holder="陈伟"),
        payment(2, 1_000, currency="JPY", account="00012345", routing="021000021"),
        payment(3, 1_005, currency="KWD"),
    ]
    document = csv_file(payments, PAID_ON)
    assert document == csv_file(payments, PAID_ON)
    assert document.splitlines()[0].decode().split(",") == list(COLUMNS)
    first, second, third = rows(document)
    assert first == {
        "end_to_end_id": id_of(1),
        "holder": "陈伟",
        "iban": IBANS[1],
        "account": "",
        "routing": "",
        "bic": "COBADEFFXXX",
        "amount": "12.50",
        "currency": "EUR",
        "description": "Payout 1",
        "execution_date": "2026-12-01",
    }
    assert (second["account"], second["routing"], second["iban"]) == ("00012345", "021000021", "")
    assert [row["amount"] for row in (second, third)] == ["1000", "1.005"]


@pytest.mark.parametrize("text", ["=1+1", "@SUM(A1)", "-cmd|' /C calc'!A0", '"=HYPERLINK(1)'])
def test_no_cell_is_a_formula(text: str) -> None:
    (row,) = rows(csv_file([payment(holder=text, description=f"{text}\r\n{text}")], PAID_ON))
    assert row["holder"].startswith("'")
    assert row["description"].startswith("'")
    assert "\n" not in row["description"]


def test_payment_that_cannot_be_in_the_file_is_named() -> None:
    with pytest.raises(BadPayment, match=f"{id_of(1)}: it is in the file twice"):
        csv_file([payment(1), payment(1)], PAID_ON)
    with pytest.raises(BadPayment, match="not positive"):
        csv_file([payment(1, 0)], PAID_ON)
    cash = read_destination({"kind": "manual", "text": "cash"})
    with pytest.raises(BadPayment, match="no bank account"):
        csv_file([dataclasses.replace(payment(1), destination=cash)], PAID_ON)
    with pytest.raises(BadFile):
        csv_file([], PAID_ON)
