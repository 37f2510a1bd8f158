"""docs/paying-systems/bank-file.md: its settings, columns, statuses and reasons are those of the program."""

from __future__ import annotations

import re

from tests.support.pages import DOCS, sections_of, tables_of

from refund_worker.domain.payouts.transfers import Fault
from refund_worker.engine.context import new_id
from refund_worker.processors.bank_file import csv_answers, csv_file, pain001, pain002
from refund_worker.processors.bank_file.answer_rows import Word
from refund_worker.processors.bank_file.entry import BankFileSettings
from refund_worker.processors.bank_file.payments import end_to_end_id
from refund_worker.processors.bank_file.reasons import DUPLICATES, FAULT_OF
from refund_worker.processors.base import AccountSettings

PAGE = (DOCS / "paying-systems" / "bank-file.md").read_text("utf-8")
NAMES = {
    "the payee": Fault.PAYEE,
    "we": Fault.OURS,
    "a bank": Fault.PROCESSOR,
    "compliance": Fault.COMPLIANCE,
    "not said": None,
}


def codes_of(text: str) -> set[str]:
    return set(re.findall(r"`([A-Z0-9]{4})`", text))


def test_each_setting_of_its_own_is_explained() -> None:
    (table,) = tables_of(sections_of(PAGE, 2)["The account"])
    named = {name for row in table for name in re.findall(r"`([a-z_]+)`", row[0])}
    assert set(BankFileSettings.model_fields) - set(AccountSettings.model_fields) <= named
    assert named <= set(BankFileSettings.model_fields) | {"adapter"}


def test_example_of_an_id_is_the_one_of_that_payout() -> None:
    example = re.search(r"`(\S+)` is the first try of the first leg of the payout `(po_\S+)`", PAGE)
    assert example is not None
    payout_id = example[2]
    assert len(payout_id) == len(new_id("po"))
    assert example[1] == end_to_end_id(f"{payout_id}-1:1")


def test_columns_of_both_files_are_on_the_page() -> None:
    for columns in (csv_file.COLUMNS, csv_answers.COLUMNS):
        assert f"`{','.join(columns)}`" in PAGE
    assert all(f"`{word}`" in PAGE for word in csv_answers.WORDS)
    assert f"{pain001.PAYMENTS_MAX:,} payments" in PAGE
    assert pain001.SCHEMA in PAGE


def test_statuses_of_the_page_are_those_that_are_known() -> None:
    (table,) = tables_of(sections_of(PAGE, 3)["Statuses"])
    meanings = {"sent": Word.SENT, "paid": Word.PAID, "failed": Word.REJECTED, "canceled": Word.CANCELED}
    named = {code: meanings[row[0]] for row in table for code in codes_of(row[1])}
    assert named == pain002.WORDS


def test_reasons_of_the_page_are_those_that_are_known() -> None:
    section = sections_of(PAGE, 3)["Reasons"]
    (table,) = tables_of(section)
    assert {code: NAMES[row[0]] for row in table for code in codes_of(row[1])} == FAULT_OF
    assert codes_of(section.rpartition("|")[2]) - set(FAULT_OF) == DUPLICATES
