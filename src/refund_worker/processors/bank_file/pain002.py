"""pain.002 (CustomerPaymentStatusReport): the bank's word on a file and on each payment in it.

Statuses: ExternalPaymentTransactionStatus1Code and ExternalPaymentGroupStatus1Code of ISO 20022. Of the names, those of
ACCC, ACCP, ACSC, ACSP, ACTC, ACWC and ACWP were read 2026-11 as docs.electrumsoftware.com repeats them; PDNG, RCVD,
RJCT, PART, CANC, ACFC and PATC are not read, known.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import date
from typing import Final

from refund_worker.processors.bank_file.answer_rows import (
    BadAnswer,
    BankAnswer,
    BankAnswerRow,
    BankFileStatus,
    Word,
    clean_reason,
    judged,
    read_day,
)
from refund_worker.processors.bank_file.iso_xml import amount_of, at, children, needed_text, text_at
from refund_worker.processors.bank_file.payments import is_end_to_end_id
from refund_worker.processors.xml_reading import Element

# A status that is not here is unknown, BLCK among them: such money is neither posted nor returned.
WORDS: Final = {
    **dict.fromkeys(("ACCP", "ACFC", "ACSP", "ACTC", "ACWC", "ACWP", "PATC", "PDNG", "RCVD"), Word.SENT),
    **dict.fromkeys(("ACCC", "ACSC"), Word.PAID),
    "CANC": Word.CANCELED,
    "RJCT": Word.REJECTED,
}
IN_PART: Final = "PART"  # the payments of the file have statuses of their own
STATUS_LENGTH_MAX: Final = 35


def read_pain002(message: Element) -> BankAnswer:
    """Return the statuses of the file and of its payments. Raises `BadAnswer` with the element."""
    day = read_day(needed_text(message, "GrpHdr/CreDtTm"))
    if day is None:
        raise BadAnswer("the element GrpHdr/CreDtTm is no time")
    group = at(message, "OrgnlGrpInfAndSts")
    if group is None:
        raise BadAnswer("the element CstmrPmtStsRpt has no OrgnlGrpInfAndSts")
    message_id = needed_text(group, "OrgnlMsgId").lower()
    of_group = _reasons(group)
    files = list(_file_status(message_id, group, "GrpSts", of_group, day))
    rows: dict[BankAnswerRow, None] = {}
    others = 0
    for part in children(message, "OrgnlPmtInfAndSts"):
        of_part = _reasons(part) or of_group
        files += _file_status(message_id, part, "PmtInfSts", of_part, day)
        for transaction in children(part, "TxInfAndSts"):
            row = _row(transaction, of_part, day)
            if row is None:
                others += 1
            else:
                rows[row] = None
    return BankAnswer(form="pain.002", rows=tuple(rows), files=tuple(dict.fromkeys(files)), others=others)


def _file_status(
    message_id: str, element: Element, name: str, reasons: tuple[str, ...], day: date
) -> Iterator[BankFileStatus]:
    """Yield the status of the whole file, unless the element has none or says that it differs by payment."""
    status = text_at(element, name)
    if status is not None and status != IN_PART:
        verdict = judged(WORDS.get(status), reasons)
        yield BankFileStatus(
            message_id=message_id,
            status=clean_reason(status),
            state=verdict.state,
            failure_code=verdict.failure_code,
            fault=verdict.fault,
            day=day,
        )


def _row(transaction: Element, reasons: tuple[str, ...], day: date) -> BankAnswerRow | None:
    """Return the status of one payment, or None for a payment of others."""
    ours = (text_at(transaction, "OrgnlEndToEndId") or "").lower()
    if not is_end_to_end_id(ours):
        return None
    status = text_at(transaction, "TxSts")
    verdict = judged(WORDS.get(status or ""), _reasons(transaction) or reasons)
    amount = amount_of(at(transaction, "OrgnlTxRef/Amt/InstdAmt"), "TxInfAndSts")
    return BankAnswerRow(
        end_to_end_id=ours,
        status=clean_reason(status or "") or "none",
        state=verdict.state,
        failure_code=verdict.failure_code,
        fault=verdict.fault,
        amount_minor=amount and amount[0],
        currency=amount and amount[1],
        day=day,
    )


def _reasons(element: Element) -> tuple[str, ...]:
    """Return the codes of the reasons, those of the bank's own included. Free texts are not read."""
    found = []
    for information in children(element, "StsRsnInf"):
        code = text_at(information, "Rsn/Cd") or text_at(information, "Rsn/Prtry")
        if code is not None:
            found.append(clean_reason(code))
    return tuple(found)
