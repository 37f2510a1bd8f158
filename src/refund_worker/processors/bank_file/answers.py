"""The bank's answer to a file: our own CSV form, pain.002, camt.053 or camt.054. Nothing is read by halves."""

from __future__ import annotations

from refund_worker.processors.bank_file.answer_rows import BadAnswer, BankAnswer, BankAnswerRow, BankFileStatus
from refund_worker.processors.bank_file.camt import read_camt
from refund_worker.processors.bank_file.csv_answers import read_csv
from refund_worker.processors.bank_file.iso_xml import XML_BYTES_MAX, read_message
from refund_worker.processors.bank_file.pain002 import read_pain002

__all__ = ["BadAnswer", "BankAnswer", "BankAnswerRow", "BankFileStatus", "read_answer"]


def read_answer(body: bytes) -> BankAnswer:
    """Return the content of the bank's file. The same bytes always give the same answer.

    Raises `BadAnswer`, with the line or the element, for any other file and for a damaged one.
    """
    if len(body) > XML_BYTES_MAX:
        raise BadAnswer(f"the file has more than {XML_BYTES_MAX} bytes")
    if not body.removeprefix(b"\xef\xbb\xbf").lstrip().startswith(b"<"):
        return read_csv(body)
    kind, message = read_message(body)
    match kind:
        case "pain.002":
            return read_pain002(message)
        case "camt.053" | "camt.054":
            return read_camt(kind, message)
        case _:
            raise BadAnswer(f"the element Document: a message {kind} is no answer to payments")
