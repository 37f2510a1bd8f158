"""camt.053 and camt.054 (account statement and notification): what was booked on our account at the bank.

A booked debit with our id is a payment that went out. A booked credit with our id and the details of a return is money
that came back. Entries that are not booked yet are left out: they come again when they are.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final, Literal

from refund_worker.processors.bank_file.answer_rows import (
    BadAnswer,
    BankAnswer,
    BankAnswerRow,
    Word,
    clean_reason,
    judged,
    read_day,
)
from refund_worker.processors.bank_file.iso_xml import amount_of, at, children, name_of, needed_text, text_at
from refund_worker.processors.bank_file.payments import is_end_to_end_id
from refund_worker.processors.xml_reading import Element

STATEMENTS: Final = {"camt.053": ("BkToCstmrStmt", "Stmt"), "camt.054": ("BkToCstmrDbtCdtNtfctn", "Ntfctn")}
BOOKED: Final = "BOOK"
DEBIT, CREDIT = "DBIT", "CRDT"
RETURN: Final = "RRTN"  # the sub-family of a bank transaction code for returns; not read, known
TRACE_LENGTH_MAX: Final = 35


def read_camt(form: Literal["camt.053", "camt.054"], message: Element) -> BankAnswer:
    """Return the booked payments and returns. Raises `BadAnswer` with the number of the entry."""
    outer, inner = STATEMENTS[form]
    if name_of(message) != outer:
        raise BadAnswer(f"the element Document has no {outer}")
    rows: dict[BankAnswerRow, None] = {}
    others = 0
    number = 0
    for statement in children(message, inner):
        for entry in children(statement, "Ntry"):
            number += 1
            for row in _rows(entry, f"Ntry {number}"):
                if row is None:
                    others += 1
                else:
                    rows[row] = None
    return BankAnswer(form=form, rows=tuple(rows), others=others)


def _rows(entry: Element, place: str) -> Iterator[BankAnswerRow | None]:
    """Yield the payments of an entry; a payment of others is None."""
    if (text_at(entry, "Sts/Cd") or text_at(entry, "Sts")) != BOOKED:
        return
    details = [each for group in children(entry, "NtryDtls") for each in children(group, "TxDtls")]
    for detail in details:
        ours = (text_at(detail, "Refs/EndToEndId") or "").lower()
        yield _row(ours, entry, detail, place, is_alone=len(details) == 1) if is_end_to_end_id(ours) else None


def _row(ours: str, entry: Element, detail: Element, place: str, *, is_alone: bool) -> BankAnswerRow:
    side = text_at(detail, "CdtDbtInd") or needed_text(entry, "CdtDbtInd")
    status, word = _status(entry, detail, side)
    reason = text_at(detail, "RtrInf/Rsn/Cd") or text_at(detail, "RtrInf/Rsn/Prtry")
    verdict = judged(word, (clean_reason(reason),) if reason else ())
    amount = _amount(entry, detail, place, is_alone=is_alone)
    booked = text_at(entry, "BookgDt/Dt") or text_at(entry, "BookgDt/DtTm")
    day = None if booked is None else read_day(booked)
    if booked is not None and day is None:
        raise BadAnswer(f"the element {place}/BookgDt is no day")
    reference = text_at(detail, "Refs/AcctSvcrRef") or text_at(entry, "AcctSvcrRef")
    return BankAnswerRow(
        end_to_end_id=ours,
        status=status,
        state=verdict.state,
        failure_code=verdict.failure_code,
        fault=verdict.fault,
        amount_minor=amount[0] if amount and side == DEBIT else None,
        currency=amount and amount[1],
        returned_minor=amount[0] if amount and word is Word.RETURNED else None,
        day=day,
        trace=None if reference is None else clean_reason(reference),
    )


def _status(entry: Element, detail: Element, side: str) -> tuple[str, Word | None]:
    """Return what happened, and its meaning, or None for neither a payment nor a return."""
    is_return = at(detail, "RtrInf") is not None or RETURN in (
        text_at(detail, "BkTxCd/Domn/Fmly/SubFmlyCd"),
        text_at(entry, "BkTxCd/Domn/Fmly/SubFmlyCd"),
    )
    if text_at(entry, "RvslInd") in ("true", "1"):
        return "reversed", None
    match side, is_return:
        case ("DBIT", False):
            return "booked", Word.PAID
        case ("CRDT", True):
            return "returned", Word.RETURNED
        case ("CRDT", False):
            return "credited", None
        case _:
            return "reversed", None


def _amount(entry: Element, detail: Element, place: str, *, is_alone: bool) -> tuple[int, str] | None:
    """Return the amount of one payment: its own, or that of an entry that has no other."""
    found = at(detail, "Amt") if at(detail, "Amt") is not None else at(detail, "AmtDtls/TxAmt/Amt")
    if found is None and is_alone:
        found = at(entry, "Amt")
    return amount_of(found, place)
